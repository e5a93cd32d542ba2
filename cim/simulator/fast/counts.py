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
    load,
    load_i,
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
from cim.simd.pairs import high_words, inverse, low_words, nearest_int, ones_of_8, ones_of_16
from cim.simd.vectors import store

# Rows of the terms array (places / 16, TERMS, 16), the fields of PlaceTerms and the sum of driven codes.
T_SQUARES, T_REST, T_REST2, T_EXCESS, T_LEAN, T_PEAK, T_DRIVEN = range(7)
TERMS = 8

_options: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
_f, _i = np.float32, np.int32

_ONE, _ZERO = _f(1.0), _f(0.0)


@njit(**_options)
def count_pixels(maps: Any, channels: int, first: int, stop: int, masks: Any, counts: Any) -> None:
    """Byte p of counts[pixel]: number of channels from ``first`` to ``stop`` of the pixel whose bit p is set.

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
    maps: Any, bases: Any, offsets: Any, order: Any, counts: Any, weights: Any, gaps: Any, bend: float, fraction: int,
    scale: Any, out: Any,
) -> None:  # fmt: skip
    """``FastLayer.product_inputs`` for one-bit units where each plane has its own wire loss: out int16, flat.

    Of each place ``fraction`` times its codes, then Σ_p weights[p] · scale[r] · Σ_(s ≥ r) gaps[s] N_ps / (1 + bend N_p)
    over its bits p (``DrivenLine.shares``), N_p byte p of ``counts``; ``offsets``, ``order``, ``gaps`` and ``scale``
    along the line. Sixteen places at a time.
    """
    rows, places = offsets.shape[0], out.shape[0] // (2 * offsets.shape[0])
    codes, lost, whole = np.zeros(rows * LANES, _i), np.empty(rows * LANES, _f), np.empty(rows * LANES, _i)
    bend_, one = splat(_f(bend)), splat_i(_i(1))
    for first in range(0, places, LANES):
        count = min(LANES, places - first)
        for lane in range(count):
            start = bases[first + lane]
            for r in range(rows):
                codes[r * LANES + lane] = maps[start + offsets[r]]
        for r in range(rows):
            store(lost, r * LANES, splat(_ZERO))
        low, high = low_words(counts, first), high_words(counts, first)
        for plane in range(weights.shape[0]):
            word = low if plane < 4 else high
            n = to_floats(and_i(shift_right(word, _i(8 * (plane & 3))), splat_i(_i(255))))
            weight = mul(splat(weights[plane]), inverse(fma(n, bend_, splat(_ONE))))
            left = splat(_ZERO)  # what is lost from here to the end; n: driven rows up to here
            for r in range(rows - 1, -1, -1):
                bit = to_floats(and_i(shift_right(load_i(codes, r * LANES), _i(plane)), one))
                left = fma(splat(gaps[r]), n, left)
                store(lost, r * LANES, fma(mul(weight, left), bit, load(lost, r * LANES)))
                n = sub(n, bit)
        for r in range(rows):
            store(whole, r * LANES, nearest_int(mul(load(lost, r * LANES), splat(scale[r]))))
        for lane in range(count):
            at = 2 * rows * (first + lane)
            for r in range(rows):
                place = at + order[r]
                out[place] = codes[r * LANES + lane] * fraction
                out[place + rows] = whole[r * LANES + lane]
