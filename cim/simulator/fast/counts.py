"""Counts of driven rows by plane, and the terms that follow from them, for one-bit units: numba kernels.

The ones of eight planes are counted in the eight bytes of a word. Imports numba and compiles
at first use (cached on disk): import this module late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cim.simd.floats import (
    LANES,
    absolute,
    add,
    and_i,
    fma,
    maximum,
    minimum,
    mul,
    shift_right,
    splat,
    splat_i,
    sub,
    to_floats,
)
from cim.simd.integers import load_longs, vadd
from cim.simd.pairs import high_words, inverse, low_words, ones_of_8, ones_of_16
from cim.simd.vectors import store

# Rows of the terms array (places / 16, TERMS, 16), the fields of PlaceTerms and the sum of driven codes.
T_SQUARES, T_REST, T_REST2, T_EXCESS, T_LEAN, T_PEAK, T_DRIVEN = range(7)
TERMS = 8

_options: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
_f, _i = np.float32, np.int32

_ONE, _ZERO = _f(1.0), _f(0.0)


@njit(**_options)
def count_pixels(maps: Any, channels: int, first: int, stop: int, masks: Any, counts: Any) -> None:
    """counts[pixel], byte p: channels of a pixel from ``first`` to ``stop`` whose bit p is set.

    ``maps`` int16 flat, ``channels`` values a pixel, fifteen more readable; ``masks`` for
    ``ones_of_16``, 128 bytes for every sixteen channels.
    """
    for pixel in range(counts.shape[0]):
        total = np.uint64(0)
        c = first
        while c + 8 < stop:
            total += ones_of_16(maps, pixel * channels + c, masks, (c - first) * 8)
            c += 16
        if c < stop:
            total += ones_of_8(maps, pixel * channels + c, masks, (c - first) * 8)
        counts[pixel] = total


@njit(**_options)
def count_places(counts: Any, width: int, pixels: int, runs: Any, steps: Any, size: Any, out: Any) -> None:
    """Add Σ_runs counts[start + run] to out[place]; ``size`` and ``steps`` down and across an image's places."""
    across, step = size[1], steps[1]
    for row in range(out.shape[0] // across):
        image, y = row // size[0], row % size[0]
        start, at = image * pixels + y * steps[0] * width, row * across
        x = 0
        while step == 1 and x + 8 <= across:
            total = load_longs(out, at + x)
            for r in range(runs.shape[0]):
                total = vadd(total, load_longs(counts, start + runs[r] + x))
            store(out, at + x, total)
            x += 8
        while x < across:
            sum_ = out[at + x]
            for r in range(runs.shape[0]):
                sum_ += counts[start + runs[r] + x * step]
            out[at + x] = sum_
            x += 1


@njit(**_options)
def terms_of_counts(counts: Any, weights: Any, typical: float, bend: float, even: bool, terms: Any) -> None:
    """``place_terms`` for one-bit units: counts uint64 (places,), a byte a plane; places a multiple of 16."""
    typical_, bend_ = splat(_f(typical)), splat(_f(bend))
    for group in range(terms.shape[0]):
        p, at = group * LANES, group * TERMS * LANES
        low, high = low_words(counts, p), high_words(counts, p)
        squares, rest, rest2, mean = splat(_ZERO), splat(_ZERO), splat(_ZERO), splat(_ZERO)
        lost, total, size = splat(_ZERO), splat(_ZERO), splat(_ZERO)
        peak, most = splat(_ZERO), splat(_ZERO)
        for plane in range(weights.shape[0]):
            if plane < 4:
                n_i = and_i(shift_right(low, _i(8 * plane)), splat_i(_i(255)))
            else:
                n_i = and_i(shift_right(high, _i(8 * (plane - 4))), splat_i(_i(255)))
            n = to_floats(n_i)
            w = splat(weights[plane])
            idle = sub(splat(_ONE), minimum(n, splat(_ONE)))
            rest = fma(idle, w, rest)
            rest2 = fma(idle, mul(w, w), rest2)
            wn = mul(w, n)
            if bend != 0.0:
                bent = mul(n, inverse(fma(n, bend_, splat(_ONE))))
            else:
                bent = n
            squares = fma(w, wn, squares)
            mean = fma(mul(w, wn), bent, mean)
            lost = fma(wn, bent, lost)
            total = add(total, wn)
            peak = maximum(peak, absolute(wn))
            size = add(size, absolute(wn))
            most = maximum(most, n)
        scarce = inverse(maximum(squares, splat(_f(1e-9))))
        mean = mul(mean, scarce)
        store(terms, at + T_SQUARES * LANES, squares)
        store(terms, at + T_REST * LANES, rest)
        store(terms, at + T_REST2 * LANES, rest2)
        store(terms, at + T_EXCESS * LANES, sub(mean, typical_))
        store(terms, at + T_LEAN * LANES, sub(lost, mul(mean, total)))
        if even:
            peak = mul(most, inverse(maximum(size, splat(_f(1e-9)))))
        else:
            peak = mul(peak, scarce)
        store(terms, at + T_PEAK * LANES, peak)
        store(terms, at + T_DRIVEN * LANES, total)


@njit(**_options)
def driven_by_plane(
    maps: Any, bases: Any, offsets: Any, counts: Any, shares: Any, bend: float, fraction: int, out: Any
) -> None:
    """``FastLayer.product_inputs`` of layers that lose by plane, for one-bit units: out int16, flat.

    Of each place, ``fraction`` times its codes, then Σ_p shares[p] · n_p / (1 + bend n_p) of the bits p that each has,
    n_p byte p of ``counts``.
    """
    rows, planes = offsets.shape[0], shares.shape[0]
    low, high, each = np.zeros(16, _f), np.zeros(16, _f), np.zeros(8, _f)
    for place in range(out.shape[0] // (2 * rows)):
        for plane in range(planes):
            n = _f((counts[place] >> np.uint64(8 * plane)) & np.uint64(255))
            each[plane] = shares[plane] * n / (_ONE + _f(bend) * n)
        for nibble in range(1, 16):  # what the four lower and the four upper bits of a code are driven with
            top = 3 if nibble > 7 else 2 if nibble > 3 else nibble - 1 if nibble < 3 else 1
            rest = nibble - (1 << top)
            low[nibble], high[nibble] = low[rest] + each[top], high[rest] + each[4 + top]
        start, at = bases[place], 2 * rows * place
        for r in range(rows):
            code = np.int64(maps[start + offsets[r]])
            out[at + r] = np.int16(code * fraction)
            out[at + rows + r] = np.int16(np.rint(low[code & 15] + high[(code >> 4) & 15]))
