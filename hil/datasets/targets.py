"""Kinds of targets, and how each is held as one array, whatever file it came from."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.errors import FileError

MOST_BOXES = 256  # of one sample
NO_BOX = -1.0
IGNORED = 255  # pixel of a mask
UNKNOWN = -1  # step of a sequence
MOST_CLASSES = 65536


class TargetKind(enum.StrEnum):
    """Kinds of labels: a class, masks of pixels, boxes, values, classes by step, or no labels."""

    CLASSES = "classes"  # int64 (n,)
    MASKS = "masks"  # uint8 (n, height, width), 255: ignored
    BOXES = "boxes"  # float32 (n, most, 5): class and x1, y1, x2, y2 in pixels; class −1: no box
    VALUES = "values"  # float32 (n, …)
    STEPS = "steps"  # int64 (n, steps), −1: unknown
    NONE = "none"  # float32 (n, 0)


def padded_boxes(
    corners: NDArray[Any], classes: NDArray[Any], counts: NDArray[Any], source: str
) -> NDArray[np.float32]:
    """Boxes of all samples one after the other, (m, 4) and (m,), of ``counts`` (n,) each, as (n, most, 5).

    Raises:
        FileError: counts that do not add up, corners that are not finite or not in order, classes below 0.
    """
    counts = counts.astype(np.int64)
    if counts.size == 0 or counts.min() < 0 or counts.max() > MOST_BOXES or int(counts.sum()) != len(corners):
        what = f"{len(corners)} boxes, but counts of {len(counts)} samples add up to {int(counts.sum())}"
        raise FileError(what, where=source, hint=f"0 to {MOST_BOXES} boxes a sample")
    if not np.isfinite(corners).all() or (corners[:, 2:] <= corners[:, :2]).any():
        raise FileError("boxes whose corners are not x1 < x2 and y1 < y2", where=source)
    if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < MOST_CLASSES:
        raise FileError(f"classes of boxes from {int(classes.min())} to {int(classes.max())}", where=source)
    found = np.zeros((len(counts), max(1, int(counts.max())), 5), np.float32)
    found[:, :, 0] = NO_BOX
    sample = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(corners)) - np.repeat(np.cumsum(counts) - counts, counts)
    found[sample, place] = np.column_stack([classes, corners])
    return found


def checked_targets(kind: TargetKind, values: NDArray[Any], count: int, source: str) -> NDArray[Any]:
    """Targets of ``count`` samples in the type of their kind (boxes come from ``padded_boxes``).

    Raises:
        FileError: another number of samples, shape or range.
    """
    if len(values) != count:
        raise FileError(f"{count} samples but {len(values)} {kind}", where=source)
    low, high = (0, 0) if values.size == 0 else (values.min(), values.max())
    match kind:
        case TargetKind.CLASSES:
            good, found = values.ndim == 1 and low >= 0 and high < MOST_CLASSES, values.astype(np.int64)
        case TargetKind.MASKS:
            good, found = values.ndim == 3 and low >= 0 and high <= IGNORED, values.astype(np.uint8)
        case TargetKind.STEPS:
            known = values.ndim == 2 and values.shape[1] > 0 and bool((values != UNKNOWN).any(axis=1).all())
            good, found = known and low >= UNKNOWN and high < MOST_CLASSES, values.astype(np.int64)
        case TargetKind.VALUES:
            good, found = values.ndim <= 4 and bool(np.isfinite(values).all()), values.astype(np.float32)
            good = good and bool(np.isfinite(found).all())
        case _:
            good, found = values.ndim in (2, 3), values
    if not good:
        raise FileError(
            f"{kind}: {values.dtype} {values.shape} from {low} to {high}", where=source, likely=LIKELY[kind]
        )
    return found


LIKELY = {
    TargetKind.CLASSES: "labels are whole numbers (n,) from 0",
    TargetKind.MASKS: "masks are whole numbers (n, height, width) from 0, 255 where a pixel has no class",
    TargetKind.STEPS: "steps are whole numbers (n, steps) from 0, −1 where a step has no class, one known in each row",
    TargetKind.VALUES: "values are finite numbers (n, …) of at most four axes",
    TargetKind.BOXES: "boxes are (n, most, 5)",
    TargetKind.NONE: "no targets",
}
