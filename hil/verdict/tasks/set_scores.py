"""Metrics of a whole set, from evidence (n, k) and weights (draws, n) of the samples: (draws,)."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from hil.verdict.tasks.boxes import MOST_BOXES, THRESHOLDS
from hil.verdict.tasks.per_sample import mean_overlap

Floats = NDArray[np.float64]
RECALLS = np.linspace(0.0, 1.0, 101)  # at which a precision is taken (COCO)


def set_overlap(evidence: Floats, weights: Floats) -> Floats:
    """Mean IoU of the classes over all pixels; evidence: pixels in both, then in either, of each class."""
    both, either = np.split(evidence, 2, axis=1)
    return mean_overlap(weights @ both, weights @ either)


def area_under_curve(evidence: Floats, weights: Floats) -> Floats:
    """Chance that an odd sample has the larger score than an ordinary one, equal scores counted half (Hanley 1982).

    Evidence: score, and 1 for odd or 0 for ordinary. 0.5 where a draw has one kind only.

    Example: scores 1, 3 of ordinary and 2, 4 of odd samples → 3 of 4 pairs, 0.75.
    """
    order = np.argsort(evidence[:, 0], kind="stable")
    scores, odd = evidence[order, 0], evidence[order, 1] > 0.5
    drawn = weights[:, order]
    ends = np.flatnonzero(np.append(np.diff(scores) > 0, True))  # the last of equal scores
    high, low = (np.diff(np.cumsum(drawn * part, axis=1)[:, ends], axis=1, prepend=0.0) for part in (odd, ~odd))
    below = np.cumsum(low, axis=1) - low
    wins = (high * (below + low / 2)).sum(axis=1)
    pairs = high.sum(axis=1) * low.sum(axis=1)
    return np.where(pairs > 0, wins / np.maximum(pairs, 1e-300), 0.5)


def mean_average_precision(evidence: Floats, weights: Floats, *, classes: int, thresholds: int) -> Floats:
    """Mean of the average precisions of classes and IoU thresholds, as COCO defines it (101 recalls).

    Evidence: of each of ``MOST_BOXES`` boxes its class (−1: none), score and the thresholds at which it is right as
    bits; then how many boxes of each class there should be.
    """
    boxes = evidence[:, : 3 * MOST_BOXES].reshape(len(evidence), MOST_BOXES, 3)
    wanted = weights @ evidence[:, 3 * MOST_BOXES :]  # (draws, classes)
    total, counted = np.zeros(len(weights)), np.zeros(len(weights))
    for k in range(classes):
        sample, place = np.nonzero(boxes[:, :, 0] == k)
        order = np.argsort(-boxes[sample, place, 1], kind="stable")
        bits = boxes[sample, place, 2].astype(np.int64)[order]
        drawn = weights[:, sample[order]]
        seen = np.cumsum(drawn, axis=1)
        there = wanted[:, k] > 0
        counted += there
        for t in range(thresholds):
            right = np.flatnonzero(bits >> t & 1)
            average = _average(drawn[:, right], seen[:, right], wanted[:, k])
            total += np.where(there, average / thresholds, 0.0)
    return total / np.maximum(counted, 1)


def _average(drawn: Floats, seen: Floats, wanted: Floats) -> Floats:
    """Average precision of each draw, of the right boxes alone: how often each was drawn, and boxes seen up to it.

    Between two right boxes precision only falls, so wrong boxes never hold the best precision from a recall on.
    """
    if drawn.shape[1] == 0:
        return np.zeros(len(drawn))
    right = np.cumsum(drawn, axis=1)
    precision = right / np.maximum(seen, 1e-300)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = right / np.maximum(wanted, 1e-300)[:, None]
    found = np.zeros(len(drawn))
    for n in range(len(drawn)):
        at = recall[n].searchsorted(RECALLS)
        found[n] = best[n, at[at < recall.shape[1]]].sum()
    return found / len(RECALLS)


def precision_of(classes: int, *, loose: bool) -> functools.partial[Floats]:
    """``mean_average_precision`` of so many classes, at an IoU of 0.5 alone if ``loose``."""
    return functools.partial(mean_average_precision, classes=classes, thresholds=1 if loose else len(THRESHOLDS))
