"""Work of one operator as the cost models count it (``cim.cost.workload``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from cim.cost.workload import Shape3, WorkKind


class WorkForm(NamedTuple):
    """Kind of a layer, the window that it moves over its input, and its operations where they are counted."""

    kind: WorkKind
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    operations: int = 0


def of_each(kind: WorkKind, after: Sequence[int]) -> WorkForm:
    """One operation a number of the output."""
    return WorkForm(kind, operations=math.prod(after))


def of_whole(kind: WorkKind, inputs: Sequence[Sequence[int]], operations: int = 0) -> WorkForm:
    """A layer that waits for the whole of its input."""
    size = as_map(inputs[0])[1:]
    return WorkForm(kind, size, size, operations=operations)


def as_map(shape: Sequence[int]) -> Shape3:
    """A shape of any rank as (channels, height, width)."""
    padded = (*shape, 1, 1)[: max(3, len(shape))]
    return padded[0], math.prod(padded[1:-1]), padded[-1]
