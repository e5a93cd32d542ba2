"""Boxes: decoded from the outputs of a detector, thinned out, and matched with those that should be there.

A box is (x1, y1, x2, y2) in pixels. Outputs are of one of two kinds:

* two tensors, boxes (N, 4) and logits (N, classes);
* a grid (5 + classes, h, w): of each cell tx, ty, tw, th, a logit of there being a box, and logits of its class:

      x = (j + σ(tx)) · W/w,  y = (i + σ(ty)) · H/h,  width = e^tw · W/w,  height = e^th · H/h
      score = σ(object) · softmax(classes)        (Redmon and Farhadi 2017, doi:10.1109/CVPR.2017.690, one box a cell)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # IoU at which a box is right (COCO)
MOST_BOXES = 64  # of a sample, the likeliest
LEAST_SCORE = 0.05
OVERLAP = 0.5  # of two boxes of one class: the less likely one is dropped
LARGEST_LOG = 8.0  # of a box's size in cells: beyond it e^x means nothing


def from_grid(grid: NDArray[Any], size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Boxes (n, cells, 4) and scores (n, cells, classes) of a grid (n, 5 + classes, h, w), for images of ``size``."""
    x = np.asarray(grid, np.float64)
    rows, columns = x.shape[2:]
    down, across = size[0] / rows, size[1] / columns
    i, j = np.mgrid[:rows, :columns]
    centre_x, centre_y = (j + _sigmoid(x[:, 0])) * across, (i + _sigmoid(x[:, 1])) * down
    width, height = (np.exp(np.minimum(x[:, k], LARGEST_LOG)) * step for k, step in ((2, across), (3, down)))
    ends = (centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)
    boxes = np.stack(ends, axis=-1).reshape(len(x), -1, 4)
    logits = x[:, 5:] - x[:, 5:].max(axis=1, keepdims=True)
    kinds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores: Floats = _sigmoid(x[:, 4:5]) * kinds
    return boxes, scores.reshape(len(x), scores.shape[1], -1).transpose(0, 2, 1)


def from_pair(boxes: NDArray[Any], logits: NDArray[Any]) -> tuple[Floats, Floats]:
    """Boxes (n, N, 4) as they are and scores (n, N, classes) of logits."""
    return np.asarray(boxes, np.float64), _sigmoid(np.asarray(logits, np.float64))


def likeliest(boxes: Floats, scores: Floats) -> Floats:
    """The boxes of one sample that stay, likeliest first: (k, 6) of corners, class and score; k at most MOST_BOXES.

    Of two boxes of one class that overlap by more than ``OVERLAP`` the likelier one stays.
    """
    kinds, best = scores.argmax(axis=1), scores.max(axis=1)
    order = np.argsort(-best, kind="stable")
    order = order[best[order] >= LEAST_SCORE][:MOST_BOXES]
    found = np.column_stack([boxes[order], kinds[order], best[order]])
    close = (overlaps(found[:, :4], found[:, :4]) > OVERLAP) & (found[:, None, 4] == found[None, :, 4])
    stays = np.ones(len(found), bool)
    for k in range(len(found)):
        if stays[k]:
            stays[k + 1 :] &= ~close[k, k + 1 :]
    return found[stays]


def overlaps(a: Floats, b: Floats) -> Floats:
    """Intersection over union of boxes (k, 4) and (l, 4), (k, l).

    Example: (0, 0, 2, 2) and (1, 0, 3, 2) → 2 / 6.
    """
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both: Floats = np.clip(high - low, 0.0, None).prod(axis=2)
    area_a, area_b = (np.clip(x[:, 2:] - x[:, :2], 0.0, None).prod(axis=1) for x in (a, b))
    either = area_a[:, None] + area_b[None] - both
    shared: Floats = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return shared


def evidence_of(found: Floats, wanted: Floats, classes: int) -> Floats:
    """One sample as ``hil.verdict.tasks.set_scores.mean_average_precision`` reads it.

    Args:
        found: (k, 6) as ``likeliest`` gives them; ``wanted`` (l, 5) of class and corners, class −1: none.
    """
    row = np.zeros(3 * MOST_BOXES + classes)
    boxes = row[: 3 * MOST_BOXES].reshape(MOST_BOXES, 3)
    boxes[:, 0] = -1
    wanted = wanted[wanted[:, 0] >= 0]
    row[3 * MOST_BOXES :] = np.bincount(wanted[:, 0].astype(np.int64), minlength=classes)[:classes]
    boxes[: len(found), :2] = found[:, 4:]
    for k in np.unique(found[:, 4]):
        mine, theirs = np.flatnonzero(found[:, 4] == k), wanted[wanted[:, 0] == k]
        shared = overlaps(found[mine, :4], theirs[:, 1:])
        free = np.ones((len(THRESHOLDS), len(theirs)), bool)
        for place, row_of in zip(mine, shared, strict=True):
            if not len(theirs):
                break
            fits = np.where(free & (row_of >= THRESHOLDS[:, None]), row_of, -1.0)
            best = fits.argmax(axis=1)
            right = np.flatnonzero(fits[np.arange(len(THRESHOLDS)), best] >= 0)
            free[right, best[right]] = False
            boxes[place, 2] = float((1 << right).sum())
    return row


def _sigmoid(x: NDArray[Any]) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -60.0, 60.0))), np.float64)
