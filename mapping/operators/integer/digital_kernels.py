"""The digital operations of ``mapping.operators.integer.digital_ops`` as fused numba kernels, with the same bits.

Sixteen numbers at a time go from 32-bit sums to codes in registers (``rescaling_lanes``). numba would not vectorise
such a loop by itself (``cim.simd.vectors``). What a rule says of sixteen channels is loaded once for many places.
Imports numba: import this module late.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cim.simd.floats import LANES, add_i, load_i, mul_i, splat_i
from cim.simd.integers import vmax, vmin
from cim.simd.vectors import prefetch, store
from mapping.operators.integer.rescaling_lanes import (
    RULE_WORDS,
    carried,
    keep_rule,
    kept_rule,
    rescaled,
    rescaled_one,
    rescaling,
)

ROWS = 8  # places that share loaded parameters


@njit(cache=True, nogil=True)
def finish_last(
    sums: NDArray[np.int32],
    places: int,
    bias: NDArray[np.int32],
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int32],
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of flat sums whose channels lie side by side, each with ``places`` neighbours; arrays are (channels,)."""
    length = len(bias) * places
    rows = len(sums) // length
    if length < LANES:
        for at in range(len(sums)):
            j = at % length // places
            out[at] = rescaled_one(sums[at], bias[j], multiplier[j], shift[j], low, high)
        return
    blocks = (length + LANES - 1) // LANES
    rules, starts = np.empty(blocks * RULE_WORDS, np.int64), np.empty(blocks * LANES, np.int32)
    factors, shifts = np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    for block in range(blocks):
        j = min(block * LANES, length - LANES)  # the last sixteen overlap those before
        for lane in range(LANES):
            channel = (j + lane) // places
            starts[block * LANES + lane] = bias[channel]
            factors[lane], shifts[lane] = multiplier[channel], shift[channel]
        keep_rule(rules, block * RULE_WORDS, rescaling(load_i(factors, 0), load_i(shifts, 0), low, high, out))
    for top in range(0, rows, ROWS):
        ahead = (top + ROWS) * length  # the next places are asked for in the order of memory, which is fastest
        for block in range(blocks):
            j = min(block * LANES, length - LANES)
            start, rule = load_i(starts, block * LANES), kept_rule(rules, block * RULE_WORDS, out)
            for row in range(top, min(top + ROWS, rows)):
                at = row * length + j
                prefetch(sums, ahead)
                ahead += LANES
                store(out, at, rescaled(load_i(sums, at), start, rule))


@njit(cache=True, nogil=True)
def finish_first(
    sums: NDArray[np.int32],
    length: int,
    bias: NDArray[np.int32],
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int32],
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of flat sums in rows of ``length`` of one channel each, channel after channel."""
    channels = len(bias)
    for row in range(len(sums) // length):
        p, first = row % channels, row * length
        whole = length - length % LANES
        if whole:
            start, rule = splat_i(bias[p]), rescaling(multiplier[p], shift[p], low, high, out)
            for at in range(first, first + whole, LANES):
                store(out, at, rescaled(load_i(sums, at), start, rule))
        for at in range(first + whole, first + length):
            out[at] = rescaled_one(sums[at], bias[p], multiplier[p], shift[p], low, high)


@njit(cache=True, nogil=True)
def add_maps(
    first: NDArray[np.int16],
    second: NDArray[np.int16],
    one: tuple[int, int, int, int],
    two: tuple[int, int, int, int],
    last: tuple[int, int, int, int],
    out: NDArray[np.int16],
) -> None:
    """Codes of a sum of two flat maps of one scale each: rescaled, clamped, added, requantised.

    Args:
        one, two, last: multiplier, shift and ends of first, second and sum.
    """
    size = len(first)
    rule_first, rule_second = rescaling(*one, first), rescaling(*two, second)
    rule_sum, none = rescaling(*last, out), splat_i(0)
    whole = size - size % LANES
    for at in range(0, whole, LANES):
        a, b = carried(load_i(first, at), none, rule_first), carried(load_i(second, at), none, rule_second)
        store(out, at, rescaled(a, b, rule_sum))
    for at in range(whole, size):
        total = rescaled_one(first[at], 0, *one) + rescaled_one(second[at], 0, *two)
        out[at] = rescaled_one(total, 0, *last)


@njit(cache=True, nogil=True)
def product_maps(
    few: NDArray[np.int16],
    many: NDArray[np.int16],
    channels: int,
    places: int,
    multiplier: int,
    shift: int,
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of flat maps (images, …, channels, places) times one number a channel of each image (images, channels)."""
    rule, none, length = rescaling(multiplier, shift, low, high, out), splat_i(0), channels * places
    line = np.empty(length, np.int16)
    each = len(many) // max(1, len(few) // channels)
    for image in range(len(few) // channels):
        for c in range(channels):
            line[c * places : (c + 1) * places] = few[image * channels + c]
        whole = length - length % LANES
        for at in range(image * each, (image + 1) * each, length):
            for j in range(0, whole, LANES):
                store(out, at + j, rescaled(mul_i(load_i(line, j), load_i(many, at + j)), none, rule))
            for j in range(whole, length):
                out[at + j] = rescaled_one(np.int64(line[j]) * many[at + j], 0, multiplier, shift, low, high)


@njit(cache=True, nogil=True)
def affine_rows(
    codes: NDArray[np.int16],
    weight: NDArray[np.int32],
    below: NDArray[np.int32],
    offset: NDArray[np.int32],
    multiplier: int,
    shift: int,
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of x · weight + offset, with ``below`` where x < 0; flat, weights repeat; the sum fits 32 bits."""
    length, rule, none = len(weight), rescaling(multiplier, shift, low, high, out), splat_i(0)
    for first in range(0, len(codes), length):
        size = min(length, len(codes) - first)
        whole = size - size % LANES
        for j in range(0, whole, LANES):
            x = load_i(codes, first + j)
            total = add_i(mul_i(vmax(x, none), load_i(weight, j)), mul_i(vmin(x, none), load_i(below, j)))
            store(out, first + j, rescaled(total, load_i(offset, j), rule))
        for j in range(whole, size):
            x_one = np.int64(codes[first + j])
            total_one = x_one * (below[j] if x_one < 0 else weight[j])
            out[first + j] = rescaled_one(total_one, offset[j], multiplier, shift, low, high)


@njit(cache=True, nogil=True)
def sum_places(codes: NDArray[np.int16], places: int, channels: int, out: NDArray[np.int32]) -> None:
    """Sums over the places of flat maps (images, places, channels); of (images · channels, places) with one channel."""
    if channels == 1:
        for row in range(len(out)):
            line, total = codes[row * places : (row + 1) * places], np.int32(0)
            for code in line:
                total += np.int32(code)
            out[row] = total
        return
    whole = channels - channels % LANES
    for image in range(len(out) // channels):
        first, at = image * channels, image * places * channels
        for j in range(0, whole, LANES):
            total = load_i(codes, at + j)
            for place in range(1, places):
                total = add_i(total, load_i(codes, at + place * channels + j))
            store(out, first + j, total)
        for j in range(whole, channels):
            last = 0
            for place in range(places):
                last += codes[at + place * channels + j]
            out[first + j] = last
