"""Scores of single samples: pixels, values and steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

IGNORED_PIXEL = 255  # of a mask: no class
IGNORED_STEP = -1  # of a sequence: no class


def pixel_classes(maps: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Class of every pixel, (n, height, width), of maps (n, classes, h, w), or of one map that is above 0 or not.

    Maps that are smaller than ``size`` by whole numbers are repeated.

    Example: one map with the values −1 and 2 → classes 0 and 1.
    """
    found = maps.argmax(axis=1) if maps.shape[1] > 1 else (maps[:, 0] > 0).astype(np.int64)
    down, across = size[0] // found.shape[1], size[1] // found.shape[2]
    return found if down == across == 1 else found.repeat(down, axis=1).repeat(across, axis=2)


def class_overlaps(found: NDArray[Any], masks: NDArray[Any], classes: int) -> tuple[Floats, Floats]:
    """Pixels of each class in both and in either of (n, height, width), each (n, classes); ignored pixels count not."""
    known = masks != IGNORED_PIXEL
    both, either = (np.zeros((len(masks), classes)) for _ in range(2))
    for k in range(classes):
        here, there = (found == k) & known, masks == k
        both[:, k] = (here & there).sum(axis=(1, 2))
        either[:, k] = (here | there).sum(axis=(1, 2))
    return both, either


def mean_overlap(both: Floats, either: Floats) -> Floats:
    """Mean over the classes that there are of their intersection over union, (…, classes) → (…)."""
    there = either > 0
    shares = np.divide(both, either, out=np.zeros_like(both), where=there)
    count = there.sum(axis=-1)
    mean: Floats = shares.sum(axis=-1) / np.maximum(count, 1)
    return mean


def pixel_accuracy(found: NDArray[Any], masks: NDArray[Any]) -> Floats:
    """Share of right pixels of each sample, (n,)."""
    known = masks != IGNORED_PIXEL
    right = ((found == masks) & known).sum(axis=(1, 2))
    return np.asarray(right / np.maximum(known.sum(axis=(1, 2)), 1), np.float64)


def step_accuracy(steps: NDArray[Any], targets: Whole) -> Floats:
    """Share of right steps of each sample, (n,): logits (n, steps, classes) and classes (n, steps)."""
    known = targets != IGNORED_STEP
    right = ((steps.argmax(axis=-1) == targets) & known).sum(axis=1)
    return np.asarray(right / np.maximum(known.sum(axis=1), 1), np.float64)


def squared_error(values: NDArray[Any], targets: NDArray[Any]) -> Floats:
    """Mean squared error of each sample, (n,), of (n, k) and (n, k)."""
    return np.asarray(np.square(values - targets, dtype=np.float64).mean(axis=1), np.float64)


def absolute_error(values: NDArray[Any], targets: NDArray[Any]) -> Floats:
    return np.asarray(np.abs(np.asarray(values, np.float64) - targets).mean(axis=1), np.float64)


def in_parts(count: int, each: int, most: int) -> Iterator[slice]:
    """Slices of ``count`` samples of ``each`` numbers, so that about ``most`` numbers are worked on at a time."""
    step = max(1, most // max(each, 1))
    yield from (slice(at, at + step) for at in range(0, count, step))
