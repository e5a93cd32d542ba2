"""Loops of ``mapping.operators.integer.tensor_ops`` that numpy has no fast words for.

Imports numba: import this module late.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cim.simd.floats import (
    LANES,
    add_i,
    equal_i,
    gather,
    largest_of,
    load_i,
    mul_i,
    shift_left,
    splat_i,
    sub_i,
    sum_of,
)
from cim.simd.integers import vmax, vmin
from cim.simd.pairs import dot_pairs, load_pairs, splat_pair
from cim.simd.vectors import store
from mapping.operators.integer.limits import CODE_HIGH, NORM_BITS, ROOT_BITS, ROOT_HIGH
from mapping.operators.integer.rescaling_lanes import (
    NUDGE,
    add_squares,
    carried,
    no_doubles,
    rescaled,
    rescaled_one,
    rescaling,
    sum_of_doubles,
    times,
    with_factor,
)

BLOCK = 512  # codes that go through a loop before the next one takes them
SHORTS = np.empty(0, np.int16)  # says to a rule that its results, or values, are as narrow
TOGETHER = 8  # rows of a softmax whose exponentials are known before the first is divided
SUMMED = 1 << 18  # numbers of at most 2^16 whose sum in sixteen parts is below 2^31


@njit(cache=True, nogil=True)
def ends(entries: NDArray[np.int32]) -> tuple[int, int]:
    """The least and the largest entry."""
    low = high = entries[0]
    for entry in entries:
        low, high = min(low, entry), max(high, entry)
    return low, high


@njit(cache=True, nogil=True)
def look_up(codes: NDArray[np.int16], first: int, entries: NDArray[np.int32], out: NDArray[np.int16]) -> None:
    """out = entries[clamp(code, first, last) − first], all flat."""
    least, last, places = np.int32(first), np.int32(len(entries) - 1), np.empty(BLOCK, np.int32)
    for start in range(0, len(codes), BLOCK):
        given, found = codes[start : start + BLOCK], out[start : start + BLOCK]
        for i in range(len(given)):  # a loop that vectorises
            place = np.int32(np.int32(given[i]) - least)
            place = place if place > 0 else np.int32(0)
            places[i] = place if place < last else last
        for i in range(len(given)):
            found[i] = entries[np.uint64(places[i])]  # without a sign there is no test for places from the end


@njit(cache=True, nogil=True)
def pixel_codes(pixels: NDArray[np.uint8], table: NDArray[np.int16], out: NDArray[np.int16]) -> None:
    """out = table[channel, pixel] of flat pixels whose channels lie side by side; table (channels, 256)."""
    channels = len(table)
    for start in range(0, len(pixels), BLOCK * channels):
        end = min(start + BLOCK * channels, len(pixels))
        for c in range(channels):
            line = table[c]
            for at in range(start + c, end, channels):
                out[at] = line[pixels[at]]


@njit(cache=True, nogil=True)
def _largest(rows: NDArray[np.int16]) -> int:
    """The largest magnitude of a matrix."""
    size = rows.shape[1]
    if size < LANES:
        return int(np.abs(rows.astype(np.int32)).max())
    low = high = splat_i(0)
    for r in range(len(rows)):
        line = rows[r]
        for i in range(0, size, LANES):
            given = load_i(line, min(i, size - LANES))  # the last sixteen overlap those before
            low, high = vmin(low, given), vmax(high, given)
    return int(max(largest_of(high), largest_of(sub_i(splat_i(0), low))))


@njit(cache=True, nogil=True)
def products(
    first: NDArray[np.int16],
    second: NDArray[np.int16],
    multiplier: int,
    shift: int,
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> bool:
    """Codes of matrix products (many, matrices, rows, columns); False where a sum may leave 32 bits.

    Args:
        first: (many, matrices, rows, inner); inner is even, its numbers are neighbours.
        second: (many, matrices, inner, columns), in any order of memory.
    """
    many, count, rows, inner = first.shape
    columns = second.shape[3]
    width = max(columns, LANES)
    other, line, flat = np.zeros((inner // 2, width, 2), np.int16), np.empty(LANES, out.dtype), out.ravel()
    pairs = other.ravel()
    rule, none = rescaling(multiplier, shift, low, high, out), splat_i(0)
    for m in range(many * count):
        given, right = first[m // count, m % count], second[m // count, m % count]
        for k in range(inner // 2):
            for j in range(columns):
                other[k, j, 0], other[k, j, 1] = right[2 * k, j], right[2 * k + 1, j]
        if _largest(given) * _largest(other.reshape(1, -1)) * inner >= 1 << 31:
            return False
        for top in range(0, rows, 4):  # rows past the last are the last one again
            i, j, k, n = top, min(top + 1, rows - 1), min(top + 2, rows - 1), min(top + 3, rows - 1)
            one, two, three, four = given[i], given[j], given[k], given[n]
            for block in range(0, width, LANES):
                column = min(block, width - LANES)  # the last sixteen overlap those before
                a = b = c = d = none
                for p in range(0, inner, 2):
                    weights = load_pairs(pairs, p * width + 2 * column)
                    a = dot_pairs(a, splat_pair(one, p), weights)
                    b = dot_pairs(b, splat_pair(two, p), weights)
                    c = dot_pairs(c, splat_pair(three, p), weights)
                    d = dot_pairs(d, splat_pair(four, p), weights)
                for row, total in ((i, a), (j, b), (k, c), (n, d)):
                    at = (m * rows + row) * columns + column
                    if columns >= LANES:
                        store(flat, at, rescaled(total, none, rule))
                    else:
                        store(line, 0, rescaled(total, none, rule))
                        flat[at : at + columns] = line[:columns]
    return True


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
    width, down = rows.shape[1], reciprocal_bits - share_bits
    whole, most, last = width - width % LANES, 1 << share_bits, len(entries) - 1
    e, totals = np.empty((TOGETHER, width), np.int32), np.empty(TOGETHER, np.int64)
    final, none = splat_i(last), splat_i(0)
    unit, rule = rescaling(1, 0, 0, most, SHORTS), rescaling(multiplier, shift, low, high, out)
    for first in range(0, len(rows), TOGETHER):
        count = min(TOGETHER, len(rows) - first)
        for r in range(count):
            codes, line = rows[first + r], e[r]
            top = splat_i(codes[0])
            for i in range(0, whole, LANES):
                top = vmax(top, load_i(codes, i))
            largest, total = np.int64(largest_of(top)), np.int64(0)
            for i in range(whole, width):
                largest = max(largest, np.int64(codes[i]))
            top = splat_i(largest)
            for start in range(0, whole, SUMMED):
                part = none
                for i in range(start, min(start + SUMMED, whole), LANES):
                    distance = sub_i(top, load_i(codes, i))
                    place = vmin(distance, final)
                    value = mul_i(gather(entries, place), equal_i(place, distance))  # 0 beyond the table
                    part = add_i(part, value)
                    store(line, i, value)
                total += sum_of(part)
            for i in range(whole, width):
                distance_one = largest - codes[i]
                line[i] = entries[distance_one] if distance_one <= last else 0
                total += line[i]
            totals[r] = total
        for r in range(count):
            line, found = e[r], out[first + r]
            reciprocal = (np.int64(1) << reciprocal_bits) // totals[r]
            share = with_factor(unit, np.float64(reciprocal) * (NUDGE / (1 << down)))  # products stay below 2^47
            for i in range(0, whole, LANES):
                store(found, i, rescaled(carried(load_i(line, i), none, share), none, rule))
            for i in range(whole, width):
                one = rescaled_one(line[i], 0, reciprocal, down, 0, most)
                found[i] = rescaled_one(one, 0, multiplier, shift, low, high)


@njit(cache=True, nogil=True)
def norm_rows(
    rows: NDArray[np.int16],
    centre: bool,
    fraction: int,
    eps: int,
    weights: NDArray[np.int32],
    offsets: NDArray[np.int32],
    multiplier: int,
    shift: int,
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of a norm of each row; weights and offsets repeat after their last row."""
    n = rows.shape[1]
    means, roots, downs = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    for r in range(len(rows)):
        total, square = _moments(rows[r])
        mean = np.int64(0)
        if centre:
            size = (2 * abs(total << fraction) + n) // (2 * n)
            mean = -size if total < 0 else size
        squares = (square << 2 * fraction) - ((mean * total) << (fraction + 1)) + n * mean * mean
        roots[r], half = _inverse_root(max(squares // n + eps, 1))
        means[r], downs[r] = mean, ROOT_BITS - NORM_BITS - half
    unit, rule = rescaling(1, 0, -CODE_HIGH, CODE_HIGH, SHORTS), rescaling(multiplier, shift, low, high, out)
    for r in range(len(rows)):
        codes, found, weight, offset = rows[r], out[r], weights[r % len(weights)], offsets[r % len(offsets)]
        factor = math.ldexp(np.float64(roots[r]) * NUDGE, -downs[r])  # products stay below 2^47
        start, by_row = splat_i(-means[r]), with_factor(unit, factor)
        for block in range(0, n if n >= LANES else 0, LANES):
            i = min(block, n - LANES)  # the last sixteen overlap those before
            z = carried(shift_left(load_i(codes, i), np.int32(fraction)), start, by_row)
            store(found, i, rescaled(times(z, load_i(weight, i)), load_i(offset, i), rule))
        for i in range(0 if n >= LANES else n):
            one = rescaled_one(np.int64(codes[i]) << fraction, -means[r], roots[r], downs[r], -CODE_HIGH, CODE_HIGH)
            found[i] = rescaled_one(one * weight[i], offset[i], multiplier, shift, low, high)


@njit(cache=True, nogil=True)
def _moments(codes: NDArray[np.int16]) -> tuple[int, int]:
    """Σ x and Σ x²."""
    total, square, whole = np.int64(0), np.int64(0), len(codes) - len(codes) % LANES
    for start in range(0, whole, SUMMED):
        part, squares = splat_i(0), no_doubles(0.0)
        for i in range(start, min(start + SUMMED, whole), LANES):
            given = load_i(codes, i)
            part, squares = add_i(part, given), add_squares(squares, given)
        total += sum_of(part)
        square += sum_of_doubles(squares)
    for i in range(whole, len(codes)):
        x = np.int64(codes[i])
        total += x
        square += x * x
    return int(total), int(square)


@njit(cache=True, nogil=True)
def _inverse_root(value: int) -> tuple[int, int]:
    """R and h of 1 / √value ≈ R · 2^(h − 31), as ``mapping.operators.integer.tensor_ops.inverse_root``."""
    bits, rest = 0, value
    for step in (32, 16, 8, 4, 2, 1):
        if rest >= np.int64(1) << step:
            bits += step
            rest >>= step
    half = (ROOT_HIGH - 1 - bits) >> 1
    w = value << 2 * half if half >= 0 else value >> -2 * half
    return int(math.sqrt(np.float64((np.int64(1) << 2 * ROOT_BITS) // w))), half
