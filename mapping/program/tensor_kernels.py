"""Loops of ``mapping.program.tensor_ops`` that numpy has no fast words for. Imports numba: import this module late."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cim.simd.floats import LANES, add_i, load_i, mul_i, splat_i
from cim.simd.vectors import store
from mapping.program.rescaling_lanes import clamped, narrowed, rescaling, scaled


@njit(cache=True, nogil=True)
def look_up(codes: NDArray[np.int16], first: int, entries: NDArray[np.int16], out: NDArray[np.int16]) -> None:
    """out = entries[clamp(code, first, last) − first], all flat; clamped once for every code, not for every number."""
    if not len(codes):
        return
    low, high = codes[0], codes[0]
    for i in range(len(codes)):  # a loop that vectorises
        low, high = min(low, codes[i]), max(high, codes[i])
    every, least = np.empty(high - low + 1, entries.dtype), np.int64(low)
    for i in range(len(every)):
        at = int(i + least - first)
        every[i] = entries[0 if at < 0 else min(at, len(entries) - 1)]
    for i in range(len(codes)):
        out[i] = every[np.uint64(codes[i] - least)]  # without a sign there is no test for places from the end


@njit(cache=True, nogil=True)
def pixel_codes(pixels: NDArray[np.uint8], table: NDArray[np.int16], out: NDArray[np.int16]) -> None:
    """out = table[channel, pixel] of flat pixels whose channels lie side by side; table (channels, 256)."""
    channels = len(table)
    for at in range(0, len(pixels), channels):
        for c in range(channels):
            out[at + c] = table[c, pixels[at + c]]


@njit(cache=True, nogil=True)
def products(
    first: NDArray[np.int16],
    second: NDArray[np.int16],
    multiplier: int,
    shift: int,
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of matrix products (matrices, rows, columns) whose sums fit 32 bits; the inputs may lie in any order."""
    count, rows, inner = first.shape
    columns = second.shape[2]
    width = (columns + LANES - 1) // LANES * LANES
    other, line, flat = np.zeros(inner * width, np.int32), np.zeros(width, out.dtype), out.ravel()
    rule = rescaling(multiplier, shift)
    for i in range(count):
        for k in range(inner):
            for j in range(columns):
                other[k * width + j] = second[i, k, j]
        for row in range(rows):
            at = (i * rows + row) * columns
            for block in range(0, width, LANES):
                total = splat_i(0)
                for k in range(inner):
                    total = add_i(total, mul_i(splat_i(first[i, row, k]), load_i(other, k * width + block)))
                value = clamped(scaled(total, rule), low, high)
                if block + LANES <= columns:
                    store(flat, at + block, value)
                else:
                    store(line, 0, value)
                    for j in range(block, columns):
                        flat[at + j] = line[j - block]


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
    e, flat = np.empty(width + LANES, np.int32), out.ravel()
    down = reciprocal_bits - share_bits
    out_rule = rescaling(multiplier, shift)
    whole = width - width % LANES
    for r in range(len(rows)):
        largest = rows[r, 0]
        for i in range(1, width):
            largest = max(largest, rows[r, i])
        total = np.int64(0)
        for i in range(width):
            distance = np.uint64(np.int64(largest) - rows[r, i])
            e[i] = entries[distance] if distance < np.uint64(size) else np.int32(0)
            total += e[i]
        reciprocal = (np.int64(1) << reciprocal_bits) // total
        share_rule = rescaling(reciprocal, down)
        for i in range(0, whole, LANES):
            share = narrowed(scaled(load_i(e, i), share_rule))
            store(flat, r * width + i, clamped(scaled(share, out_rule), low, high))
        for i in range(whole, width):
            last = (e[i] * reciprocal + ((np.int64(1) << down) >> 1)) >> down
            out[r, i] = min(max((last * multiplier + ((np.int64(1) << shift) >> 1)) >> shift, low), high)


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
