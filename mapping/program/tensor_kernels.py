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
def exponentials(
    rows: NDArray[np.int16], entries: NDArray[np.int32], out: NDArray[np.int32], sums: NDArray[np.int64]
) -> None:
    """out = entries[largest of the row − x], 0 beyond them; and the sum of each row."""
    size = len(entries)
    for r in range(len(rows)):
        largest = np.int64(rows[r, 0])
        for i in range(1, rows.shape[1]):
            largest = max(largest, np.int64(rows[r, i]))
        total = np.int64(0)
        for i in range(rows.shape[1]):
            distance = largest - rows[r, i]
            e = entries[distance] if distance < size else np.int32(0)
            out[r, i] = e
            total += e
        sums[r] = total
