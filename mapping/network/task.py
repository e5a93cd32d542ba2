"""What a network is for: which kind of answer its outputs hold, by its file or by their shapes."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence


class TaskKind(enum.StrEnum):
    """Kinds of answers, as ``--task`` names them."""

    CLASSIFY = "classify"  # one logit a class
    SEGMENT = "segment"  # a class for every pixel
    DETECT = "detect"  # boxes with a class and a score
    REGRESS = "regress"  # numbers
    AUTOENCODE = "autoencode"  # the input again
    SEQUENCE = "sequence"  # a class for every step


LEAST_GRID = 6  # channels of a grid of boxes: four numbers, a score and a class


def default_task(image: tuple[int, int, int], outputs: Sequence[tuple[int, ...]]) -> TaskKind:
    """The task that the shapes of the outputs suggest; ``--task`` and net.pt may say another.

    Args:
        image: (channels, height, width) of the input.
        outputs: shape of each output without the batch; none for a network with classes.

    Example: an image of (3, 64, 64) and one output (5, 64, 64) → segment.
    """
    if not outputs:
        return TaskKind.CLASSIFY
    if len(outputs) > 1:
        pair = len(outputs) == 2 and all(len(shape) == 2 for shape in outputs) and outputs[0][0] == outputs[1][0]
        return TaskKind.DETECT if pair and 4 in (outputs[0][1], outputs[1][1]) else TaskKind.REGRESS
    shape = outputs[0]
    if math.prod(shape) == math.prod(image):
        return TaskKind.AUTOENCODE
    if len(shape) in (2, 3) and shape[-2:] == image[1:]:
        return TaskKind.SEGMENT
    if len(shape) == 3:
        return TaskKind.DETECT if shape[0] >= LEAST_GRID else TaskKind.REGRESS
    return TaskKind.SEQUENCE if len(shape) == 2 else TaskKind.REGRESS
