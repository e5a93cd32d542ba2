"""Loops of ``mapping.program.tensor_ops`` that numpy has no fast words for. Imports numba: import this module late."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def look_up(codes: NDArray[np.int16], first: int, entries: NDArray[np.int16], out: NDArray[np.int16]) -> None:
    """out = entries[clamp(code, first, last) − first], all flat."""
    last = len(entries) - 1
    for i in range(len(codes)):
        at = np.int64(codes[i]) - first
        out[i] = entries[0 if at < 0 else last if at > last else at]


@njit(cache=True, nogil=True)
def moments(rows: NDArray[np.int16], sums: NDArray[np.int64], squares: NDArray[np.int64]) -> None:
    """Σ x and Σ x² of each row."""
    for r in range(len(rows)):
        total, square = np.int64(0), np.int64(0)
        for i in range(rows.shape[1]):
            x = np.int64(rows[r, i])
            total += x
            square += x * x
        sums[r], squares[r] = total, square


@njit(cache=True, nogil=True)
def softmax_rows(
    rows: NDArray[np.int16],
    entries: NDArray[np.int32],
    reciprocal_bits: int,
    share_bits: int,
    multiplier: int,
    shift: int,
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of a softmax of each row, its exponentials from a table."""
    size, width = len(entries), rows.shape[1]
    e = np.empty(width, np.int32)
    half, down = (1 << shift) >> 1, reciprocal_bits - share_bits
    middle = (1 << down) >> 1
    for r in range(len(rows)):
        largest = np.int64(rows[r, 0])
        for i in range(1, width):
            largest = max(largest, np.int64(rows[r, i]))
        total = np.int64(0)
        for i in range(width):
            distance = largest - rows[r, i]
            e[i] = entries[distance] if distance < size else np.int32(0)
            total += e[i]
        reciprocal = (np.int64(1) << reciprocal_bits) // total
        for i in range(width):
            share = (e[i] * reciprocal + middle) >> down
            out[r, i] = min(max((share * multiplier + half) >> shift, low), high)


@njit(cache=True, nogil=True)
def norm_rows(
    rows: NDArray[np.int16],
    fraction: int,
    means: NDArray[np.int64],
    roots: NDArray[np.int32],
    shifts: NDArray[np.int64],
    weights: NDArray[np.int32],
    offsets: NDArray[np.int32],
    multiplier: int,
    shift: int,
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of a norm once mean and root of each row are known; weights and offsets repeat after their last row."""
    half = (1 << shift) >> 1
    for r in range(len(rows)):
        mean, root, down = means[r], np.int64(roots[r]), shifts[r]
        middle = np.int64(1) << (down - 1)
        weight, offset = weights[r % len(weights)], offsets[r % len(offsets)]
        for i in range(rows.shape[1]):
            t = ((np.int64(rows[r, i]) << fraction) - mean) * root
            t = (t + middle + (t >> 63)) >> down
            t = min(max(t, -32767), 32767)
            a = (t * weight[i] + offset[i]) * multiplier
            if shift > 0:
                a = (a + half + (a >> 63)) >> shift
            out[r, i] = min(max(a, low), high)
