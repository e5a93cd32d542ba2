"""Input vectors of a layer on cells, of the calibration images: a sample, and the mean of all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cim.chip.windows import Window
from mapping.operators.fused import MatrixOp

SAMPLE_VECTORS = 8192  # input vectors of a layer that its rounding looks at
SAMPLE_ELEMENTS = 1 << 24  # and of their elements
SUM_VALUES = 1 << 20  # of sums of the float network, for some of these vectors, by layer
PADDED_BYTES = 1 << 24  # of maps whose windows are looked at together


def vector_step(images: int, op: MatrixOp) -> int:
    """Every which input vector of a layer is in the sample, over images and positions."""
    if op.window is None:
        return 1
    most = max(1, min(SAMPLE_VECTORS, SAMPLE_ELEMENTS // op.window.rows))
    return -(-images * op.window.positions // most) | 1  # odd, so that every column of the map has its turn


def sum_step(images: int, op: MatrixOp) -> int:
    """Every which vector of the sample the sums of the float network are kept for."""
    vectors = images * (1 if op.window is None else op.window.positions) // vector_step(images, op)
    return max(1, -(-vectors * len(op.bias) // SUM_VALUES))


def input_vectors(codes: NDArray[np.int16], op: MatrixOp) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """An even sample of a layer's input vectors, (groups, inputs, vectors), and the mean of all, (groups, inputs)."""
    groups, _, inputs = op.stored.shape
    if op.window is None:
        columns = codes.T.astype(np.float32)
        return columns.reshape(groups, inputs, -1), columns.mean(1, dtype=np.float64).reshape(groups, inputs)
    window = op.window
    take = vector_step(len(codes), op)
    total = np.zeros((window.channels, *window.kernel))
    kept = np.empty(
        (window.rows, -(-len(codes) * window.positions // take)), np.float32
    )  # whole: the largest array here
    images, done = max(1, PADDED_BYTES // codes[:1].nbytes), 0
    for first in range(0, len(codes), images):
        seen = _windows(codes[first : first + images], window)  # (images, channels, height, width, kernel)
        for y, x in np.ndindex(window.kernel):
            total[:, y, x] += seen[:, :, :, :, y, x].sum((0, 2, 3), dtype=np.int64)
        chosen = np.arange(-first * window.positions % take, len(seen) * window.positions, take)
        image, place = np.divmod(chosen, window.positions)
        row, column = np.divmod(place, window.out_width)
        kept[:, done : done + len(chosen)] = seen[image, :, row, column].reshape(len(chosen), window.rows).T
        done += len(chosen)
    total /= len(codes) * window.positions
    return kept.reshape(groups, inputs, -1), total.reshape(groups, inputs)


def _windows(codes: NDArray[np.int16], window: Window) -> NDArray[np.int16]:
    """A view of every window of maps, (n, channels, height, width, kernel height, kernel width)."""
    (pad_h, pad_w), (step_h, step_w), (gap_h, gap_w) = window.padding, window.stride, window.dilation
    padded = np.pad(codes, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
    reach = tuple(gap * (k - 1) + 1 for gap, k in zip(window.dilation, window.kernel, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(padded, reach, (2, 3))
    return view[:, :, ::step_h, ::step_w, ::gap_h, ::gap_w]
