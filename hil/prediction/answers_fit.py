"""Whether answers fit the images that they claim to answer: refusals and notes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hil.datasets.image_set import Dataset
from hil.datasets.seen_images import seen_images
from hil.errors import FileError, UsageError
from hil.pages.tables import duration
from hil.prediction.measured_answers import AnswersOrigin, MeasuredAnswers
from mapping.program.conductance import ConductanceProgram

MOST_BY_CHANCE = 4.0  # standard deviations of the answers that agree with the ideal network by chance
MOST_SPREAD = 2.0  # of the ages of answers, oldest by youngest, above which it is said
SET = "hil judge --data names the set whose images were measured"


def images_of(found: MeasuredAnswers, data: Dataset, program: ConductanceProgram, classes: int) -> NDArray[np.int64]:
    """Numbers of the answered images in the set, in run order.

    Raises:
        FileError: the first row whose image is not in the set, has another label there, has a class that the network
            lacks, or that calibrated or trained the network (decision 0008).
    """
    order, source = found.images, found.origin.source
    if found.classes not in (0, classes):
        raise FileError(f"{found.classes} logits an image, of a network with {classes} classes", where=source)
    if (beyond := order >= len(data)).any():
        at = int(np.argmax(beyond))
        raise FileError(
            f"image {order[at]} of a set of {len(data):,} images",
            where=found.place(at),
            hint=f"{SET} (now {data.name})",
        )
    if (wrong := data.labels[order] != found.labels).any():
        at = int(np.argmax(wrong))
        raise FileError(
            f"image {order[at]} has label {found.labels[at]} in the file and {data.labels[order[at]]} in {data.name}; "
            f"so have {int(wrong.sum()):,} of {len(order):,} rows",
            where=found.place(at),
            likely="rows in another order than the images, or another data set",
            hint=f"number the images (images, column image); {SET}",
        )
    if (outside := (found.answers >= classes).any(axis=0)).any():
        at = int(np.argmax(outside))
        raise FileError(f"class {found.answers[:, at].max()} of {classes}, from 0", where=found.place(at))
    inputs = None if data.inputs is None else data.inputs[order]
    if (seen := np.logical_or(*seen_images(data.images[order], program, inputs))).any():
        at = int(np.argmax(seen))
        raise FileError(
            f"image {order[at]} calibrated or trained the network, and so did {int(seen.sum()) - 1} other rows",
            where=found.place(at),
            likely="the training split was measured",
            hint="leave these rows out, or measure images that the network has not seen",
        )
    return order


def plan_of(looks: Sequence[int], count: int) -> tuple[int, ...]:
    """Image counts of the planned interim analyses, which must include ``count``; without a plan: ``count`` alone.

    Raises:
        UsageError: ``count`` is not among ``looks``, or these do not rise.
    """
    plan = tuple(looks) or (count,)
    if count not in plan or plan[0] < 2 or any(b <= a for a, b in pairwise(plan)):
        planned = ", ".join(f"{n:,}" for n in plan)
        raise UsageError(
            f"answers to {count:,} images, planned to be looked at after {planned}",
            hint="hil judge --looks 500,1000,2000: rising, the images of the file among them",
        )
    return plan


def order_notes(found: MeasuredAnswers, ideal_logits: NDArray[np.int32]) -> tuple[str, ...]:
    """A note if answers agree with the ideal network no better than in random order.

    Labels in the right order beside answers in another are not seen otherwise. A chip that lost everything does the
    same, so that it is no error. Chance e = Σ_c p_c q_c, p and q the shares of class c among both; sd √(e (1 − e) / n).
    """
    ideal, n = ideal_logits.argmax(axis=-1), len(found.images)
    classes = ideal_logits.shape[1]
    shares = (
        np.bincount(found.answers.ravel(), minlength=classes) / found.answers.size,
        np.bincount(ideal, minlength=classes) / n,
    )
    chance, same = float(shares[0] @ shares[1]), float((found.answers == ideal).mean())
    if same > chance + MOST_BY_CHANCE * (chance * (1 - chance) / n) ** 0.5:
        return ()
    return (
        f"answers are those of the quantised network on {same:.1%} of images, {chance:.1%} in a random order of rows: "
        "rows in another order than their labels, another network, or a chip that lost everything",
    )


def age_notes(origin: AnswersOrigin, age_s: float) -> tuple[str, ...]:
    """A note if the file does not give the age of the cells, or if ages differ widely."""
    if origin.age_s is None or origin.age_range_s is None:
        return (f"the file does not say how old the cells were: virtual chips are {duration(age_s)} old",)
    young, old = origin.age_range_s
    if old <= MOST_SPREAD * young:
        return ()
    return (
        f"answers from {duration(young)} to {duration(old)} after programming: virtual chips are {duration(age_s)} old",
    )
