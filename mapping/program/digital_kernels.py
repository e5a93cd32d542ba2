"""The digital operations of ``mapping.program.digital_ops`` as fused numba kernels, with the same bits.

Sixteen numbers at a time go from 32-bit sums to codes in registers (``rescaling_lanes``). numba would not vectorise
such a loop by itself (``cim.simd.vectors``). What a rule says of sixteen channels is loaded once for many places.
Imports numba: import this module late.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cim.simd.floats import LANES, add_i, load_i, mul_i, splat_i
from cim.simd.integers import add_saturated
from cim.simd.vectors import store
from mapping.program.rescaling_lanes import clamped, narrowed, rescaled, rescaling, scaled

ROWS = 16  # places that share loaded parameters; their sums stay in the first-level cache


@njit(cache=True, nogil=True)
def finish_last(
    sums: NDArray[np.int32],
    bias: NDArray[np.int32],
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int32],
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of flat sums whose channels lie side by side; arrays of a rule are (channels,)."""
    length = len(bias)
    rows = len(sums) // length
    if length < LANES:
        for at in range(len(sums)):
            j = at % length
            out[at] = rescaled(sums[at], bias[j], multiplier[j], shift[j], low, high)
        return
    for top in range(0, rows, ROWS):
        for block in range(0, length, LANES):
            j = min(block, length - LANES)  # the last sixteen overlap those before
            start, rule = load_i(bias, j), rescaling(load_i(multiplier, j), load_i(shift, j))
            for row in range(top, min(top + ROWS, rows)):
                at = row * length + j
                value = scaled(add_saturated(load_i(sums, at), start), rule)
                store(out, at, clamped(value, low, high))


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
            start, rule = splat_i(bias[p]), rescaling(multiplier[p], shift[p])
            for at in range(first, first + whole, LANES):
                value = scaled(add_saturated(load_i(sums, at), start), rule)
                store(out, at, clamped(value, low, high))
        for at in range(first + whole, first + length):
            out[at] = rescaled(sums[at], bias[p], multiplier[p], shift[p], low, high)


@njit(cache=True, nogil=True)
def add_maps(
    first: NDArray[np.int16],
    second: NDArray[np.int16],
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int32],
    most: int,
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of a sum of two flat maps of one scale each: rescaled, clamped at ±``most``, added, requantised.

    Args:
        multiplier, shift: (3,), of first, second and sum.
    """
    size = len(first)
    rule_first = rescaling(multiplier[0], shift[0])
    rule_second = rescaling(multiplier[1], shift[1])
    rule_sum = rescaling(multiplier[2], shift[2])
    whole = size - size % LANES
    for at in range(0, whole, LANES):
        a = clamped(scaled(load_i(first, at), rule_first), -most, most)
        b = clamped(scaled(load_i(second, at), rule_second), -most, most)
        store(out, at, clamped(scaled(add_saturated(narrowed(a), narrowed(b)), rule_sum), low, high))
    for at in range(whole, size):
        total = rescaled(first[at], 0, multiplier[0], shift[0], -most, most)
        total += rescaled(second[at], 0, multiplier[1], shift[1], -most, most)
        out[at] = rescaled(total, 0, multiplier[2], shift[2], low, high)


@njit(cache=True, nogil=True)
def product_last(
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
    """Codes of flat maps (images, places, channels) times one number a channel of each image (images, channels)."""
    rule = rescaling(multiplier, shift)
    for row in range(len(many) // max(channels, 1)):
        of, at = row // places * channels, row * channels
        whole = channels - channels % LANES
        for j in range(0, whole, LANES):
            total = mul_i(load_i(few, of + j), load_i(many, at + j))
            store(out, at + j, clamped(scaled(total, rule), low, high))
        for j in range(whole, channels):
            out[at + j] = rescaled(few[of + j] * many[at + j], 0, multiplier, shift, low, high)


@njit(cache=True, nogil=True)
def affine_all(
    codes: NDArray[np.int16], weight: int, offset: int, multiplier: int, shift: int, low: int, high: int,
    out: NDArray[np.int16],
) -> None:  # fmt: skip
    """Codes of x · weight + offset, all flat; the sum fits 32 bits."""
    w, o, rule = splat_i(weight), splat_i(offset), rescaling(multiplier, shift)
    whole = len(codes) - len(codes) % LANES
    for at in range(0, whole, LANES):
        value = scaled(add_saturated(mul_i(load_i(codes, at), w), o), rule)
        store(out, at, clamped(value, low, high))
    for at in range(whole, len(codes)):
        out[at] = rescaled(codes[at] * weight + offset, 0, multiplier, shift, low, high)


@njit(cache=True, nogil=True)
def sum_places(codes: NDArray[np.int16], places: int, channels: int, out: NDArray[np.int32]) -> None:
    """Sums over the places of flat maps (images, places, channels); of (images · channels, places) with one channel."""
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
