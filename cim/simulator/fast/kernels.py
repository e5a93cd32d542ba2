"""The fast mode's fused numba kernels: product, wires, noise, rounding, correction, sum over tiles.

Products are of 16-bit codes and 16-bit weights (each column scaled to its largest weight)
into 32 bits: the arithmetic is exact, a weight is off by 2^-16 of the column's largest. A
few dozen places are multiplied at a time; their sums stay in the first-level cache until
noise is added and the level sums are written. Imports numba and compiles at first use
(cached on disk): import this module late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cim.simd.floats import (
    LANES,
    absolute,
    add,
    add_i,
    fma,
    load,
    load_i,
    maximum,
    minimum,
    mul,
    splat,
    splat_i,
    to_floats,
)
from cim.simd.pairs import WIDE, dot_pairs, inverse_root, load_pairs, nearest_int, splat_at, splat_pair, where_reaching
from cim.simd.vectors import store
from cim.simulator.fast.counts import T_DRIVEN, T_EXCESS, T_LEAN, T_PEAK, T_REST, T_REST2, T_SQUARES, TERMS
from cim.simulator.fast.noise import K_ONE, K_TINY, next_words, seed, two_normals

PLACES = 64  # multiplied at a time, a multiple of 8
HALF = (PLACES + 8) * LANES  # room for the sums of sixteen columns
# Rows of a tile's parameters (tiles, ROWS, blocks · 16), and of those of all tiles together: see numba_engine.
SCALE, KW, GAIN, LEAN, REST, READ, REST_VARIANCE, INPUT_GAIN, LIVE, ROWS = range(10)
CONSTANT, FLOOR, COMMON = range(3)
# Entries of the limits array: lowest and highest sum of codes, the end of a conversion's scale.
L_LOW, L_HIGH, L_REACH, LIMITS = range(4)

_options: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
_f, _i = np.float32, np.int32

_ZERO = _f(0.0)


@njit(inline="always", **_options)
def _multiply(
    maps: Any, bases: Any, first: int, count: int, runs: Any, length: int, weights: Any, at: int, sums: Any
) -> None:
    """Products of ``count`` places with sixteen columns, eight places at a time (four where registers are few)."""
    steps = (length + 1) // 2
    if WIDE:
        for i in range(0, count, 8):
            z = splat_i(_i(0))
            a0, a1, a2, a3, a4, a5, a6, a7 = z, z, z, z, z, z, z, z
            b0, b1, b2, b3 = bases[first + i], bases[first + i + 1], bases[first + i + 2], bases[first + i + 3]
            b4, b5, b6, b7 = bases[first + i + 4], bases[first + i + 5], bases[first + i + 6], bases[first + i + 7]
            w = at
            for r in range(runs.shape[0]):
                o = runs[r]
                for _ in range(steps):
                    v = load_pairs(weights, w)
                    a0 = dot_pairs(a0, v, splat_pair(maps, b0 + o))
                    a1 = dot_pairs(a1, v, splat_pair(maps, b1 + o))
                    a2 = dot_pairs(a2, v, splat_pair(maps, b2 + o))
                    a3 = dot_pairs(a3, v, splat_pair(maps, b3 + o))
                    a4 = dot_pairs(a4, v, splat_pair(maps, b4 + o))
                    a5 = dot_pairs(a5, v, splat_pair(maps, b5 + o))
                    a6 = dot_pairs(a6, v, splat_pair(maps, b6 + o))
                    a7 = dot_pairs(a7, v, splat_pair(maps, b7 + o))
                    o += 2
                    w += 2 * LANES
            store(sums, i * LANES, a0)
            store(sums, (i + 1) * LANES, a1)
            store(sums, (i + 2) * LANES, a2)
            store(sums, (i + 3) * LANES, a3)
            store(sums, (i + 4) * LANES, a4)
            store(sums, (i + 5) * LANES, a5)
            store(sums, (i + 6) * LANES, a6)
            store(sums, (i + 7) * LANES, a7)
    else:
        for i in range(0, count, 4):
            z = splat_i(_i(0))
            a0, a1, a2, a3 = z, z, z, z
            b0, b1, b2, b3 = bases[first + i], bases[first + i + 1], bases[first + i + 2], bases[first + i + 3]
            w = at
            for r in range(runs.shape[0]):
                o = runs[r]
                for _ in range(steps):
                    v = load_pairs(weights, w)
                    a0 = dot_pairs(a0, v, splat_pair(maps, b0 + o))
                    a1 = dot_pairs(a1, v, splat_pair(maps, b1 + o))
                    a2 = dot_pairs(a2, v, splat_pair(maps, b2 + o))
                    a3 = dot_pairs(a3, v, splat_pair(maps, b3 + o))
                    o += 2
                    w += 2 * LANES
            store(sums, i * LANES, a0)
            store(sums, (i + 1) * LANES, a1)
            store(sums, (i + 2) * LANES, a2)
            store(sums, (i + 3) * LANES, a3)


@njit(inline="always", **_options)
def _multiply_two(
    maps: Any, bases: Any, first: int, count: int, runs: Any, length: int, weights: Any, at: int, size: int, sums: Any
) -> None:
    """Products with thirty-two columns; sums of the second sixteen columns are stored ``HALF`` places later."""
    steps = (length + 1) // 2
    for i in range(0, count, 8):
        z = splat_i(_i(0))
        a0, a1, a2, a3, a4, a5, a6, a7 = z, z, z, z, z, z, z, z
        c0, c1, c2, c3, c4, c5, c6, c7 = z, z, z, z, z, z, z, z
        b0, b1, b2, b3 = bases[first + i], bases[first + i + 1], bases[first + i + 2], bases[first + i + 3]
        b4, b5, b6, b7 = bases[first + i + 4], bases[first + i + 5], bases[first + i + 6], bases[first + i + 7]
        w = at
        for r in range(runs.shape[0]):
            o = runs[r]
            for _ in range(steps):
                v, u = load_pairs(weights, w), load_pairs(weights, w + size)
                x = splat_pair(maps, b0 + o)
                a0, c0 = dot_pairs(a0, v, x), dot_pairs(c0, u, x)
                x = splat_pair(maps, b1 + o)
                a1, c1 = dot_pairs(a1, v, x), dot_pairs(c1, u, x)
                x = splat_pair(maps, b2 + o)
                a2, c2 = dot_pairs(a2, v, x), dot_pairs(c2, u, x)
                x = splat_pair(maps, b3 + o)
                a3, c3 = dot_pairs(a3, v, x), dot_pairs(c3, u, x)
                x = splat_pair(maps, b4 + o)
                a4, c4 = dot_pairs(a4, v, x), dot_pairs(c4, u, x)
                x = splat_pair(maps, b5 + o)
                a5, c5 = dot_pairs(a5, v, x), dot_pairs(c5, u, x)
                x = splat_pair(maps, b6 + o)
                a6, c6 = dot_pairs(a6, v, x), dot_pairs(c6, u, x)
                x = splat_pair(maps, b7 + o)
                a7, c7 = dot_pairs(a7, v, x), dot_pairs(c7, u, x)
                o += 2
                w += 2 * LANES
        store(sums, (i + 0) * LANES, a0)
        store(sums, HALF + (i + 0) * LANES, c0)
        store(sums, (i + 1) * LANES, a1)
        store(sums, HALF + (i + 1) * LANES, c1)
        store(sums, (i + 2) * LANES, a2)
        store(sums, HALF + (i + 2) * LANES, c2)
        store(sums, (i + 3) * LANES, a3)
        store(sums, HALF + (i + 3) * LANES, c3)
        store(sums, (i + 4) * LANES, a4)
        store(sums, HALF + (i + 4) * LANES, c4)
        store(sums, (i + 5) * LANES, a5)
        store(sums, HALF + (i + 5) * LANES, c5)
        store(sums, (i + 6) * LANES, a6)
        store(sums, HALF + (i + 6) * LANES, c6)
        store(sums, (i + 7) * LANES, a7)
        store(sums, HALF + (i + 7) * LANES, c7)


@njit(inline="always", **_options)
def _gather(
    sums: Any, row: int, count: int, first: int, parameters: Any, at: int, width: int, terms: Any, terms_at: int,
    limits: Any, constants: Any, means: Any, variances: Any, ends: Any,
) -> Any:  # fmt: skip
    """Add one tile's sixteen columns to the means and variances of ``count`` places (levels, levels²)."""
    scale, kw = load(parameters, at + SCALE * width), load(parameters, at + KW * width)
    gain, lean = load(parameters, at + GAIN * width), load(parameters, at + LEAN * width)
    rest, read = load(parameters, at + REST * width), load(parameters, at + READ * width)
    rest_variance = load(parameters, at + REST_VARIANCE * width)
    input_gain, live = load(parameters, at + INPUT_GAIN * width), load(parameters, at + LIVE * width)
    low, high, reach = splat(limits[L_LOW]), splat(limits[L_HIGH]), splat(limits[L_REACH])
    for i in range(count):
        p, here = first + i, row + i * LANES
        t = terms_at + (p >> 4) * (TERMS * LANES) + (p & 15)
        product = mul(to_floats(load_i(sums, here)), scale)
        largest = absolute(mul(product, splat_at(terms, t + T_PEAK * LANES)))
        ends = add(ends, where_reaching(largest, reach, live))
        y = mul(product, fma(kw, splat_at(terms, t + T_EXCESS * LANES), splat_at(constants, K_ONE)))
        y = fma(minimum(maximum(y, low), high), gain, load(means, here))
        y = fma(lean, splat_at(terms, t + T_LEAN * LANES), y)
        y = fma(rest, splat_at(terms, t + T_REST * LANES), y)
        store(means, here, fma(input_gain, splat_at(terms, t + T_DRIVEN * LANES), y))
        variance = fma(read, splat_at(terms, t + T_SQUARES * LANES), load(variances, here))
        store(variances, here, fma(rest_variance, splat_at(terms, t + T_REST2 * LANES), variance))
    return ends


@njit(inline="always", **_options)
def _draw(means: Any, variances: Any, row: int, normal: Any, constants: Any, out: Any, place: int) -> None:
    """Draw one place's sixteen level sums from their means and variances, and add them to ``out``."""
    variance = maximum(load(variances, row), splat_at(constants, K_TINY))
    y = fma(mul(variance, inverse_root(variance)), normal, load(means, row))
    store(out, place, add_i(load_i(out, place), nearest_int(y)))


@njit(**_options)
def convert_tiles(
    maps: Any, bases: Any, places: int, runs: Any, first_runs: Any, lengths: Any, weights: Any, parameters: Any,
    common: Any, terms: Any, limits: Any, keys: Any, constants: Any, out: Any, stride: int,
) -> float:  # fmt: skip
    """Add the level sums of tiles that share their outputs to ``out``.

    Args:
        maps: int16, flat; bases int64 (places + 8,) where each place's first run starts in it.
        runs: int64, starts of all tiles' runs from there, tile t's from ``first_runs[t]`` to ``first_runs[t + 1]``;
            ``lengths`` int64 (tiles,) values in each of its runs, with one more readable.
        weights: int16, flat (tiles, blocks, runs, pairs, 16, 2): pairs of rows, two weights a column.
        parameters: float32 (tiles, ROWS, blocks · 16); common float32 (COMMON, blocks · 16).
        terms: float32 (tiles, ≥ places / 16, TERMS, 16); limits: float32 (LIMITS,).
        keys: int32 (images, 2); places divide evenly among images.
        constants: ``CONSTANTS``.
        out: int32, flat from the first place's first output on, ``stride`` values a place; sixteen more writable.

    Returns:
        number of sums whose largest plane is expected at the end of the converter's scale.
    """
    width = common.shape[1]
    per_image = places // keys.shape[0]
    block = per_image if per_image > PLACES else PLACES // per_image * per_image
    sums, states = np.empty(2 * HALF, np.int32), np.empty(2 * 4 * LANES, np.int32)
    means, variances = np.empty(2 * HALF, np.float32), np.empty(2 * HALF, np.float32)
    ends = splat(_ZERO)
    blocks, b = width // LANES, 0
    while b < blocks:
        halves = 2 if WIDE and b + 1 < blocks else 1
        for begin in range(0, places, block):
            # Blocks never cut an image at an odd place: normals come in twos.
            for first in range(begin, min(begin + block, places), PLACES if block > PLACES else block):
                stop = min(first + PLACES if block > PLACES else first + block, begin + block, places)
                for half in range(halves):
                    column = (b + half) * LANES
                    constant, floor_ = load(common, CONSTANT * width + column), load(common, FLOOR * width + column)
                    for i in range(stop - first):
                        store(means, half * HALF + i * LANES, constant)
                        store(variances, half * HALF + i * LANES, floor_)
                base = 0
                for t in range(lengths.shape[0]):
                    mine = runs[first_runs[t] : first_runs[t + 1]]
                    size = mine.shape[0] * ((lengths[t] + 1) // 2) * 2 * LANES
                    if halves == 2:
                        _multiply_two(
                            maps, bases, first, stop - first, mine, lengths[t], weights, base + b * size, size, sums
                        )
                    else:
                        _multiply(maps, bases, first, stop - first, mine, lengths[t], weights, base + b * size, sums)
                    base += blocks * size
                    for half in range(halves):
                        ends = _gather(
                            sums, half * HALF, stop - first, first, parameters,
                            t * ROWS * width + (b + half) * LANES, width, terms, t * terms.shape[1] * TERMS * LANES,
                            limits, constants, means, variances, ends,
                        )  # fmt: skip
                for half in range(halves):
                    at = half * 4 * LANES
                    s0, s1 = load_i(states, at), load_i(states, at + LANES)
                    s2, s3 = load_i(states, at + 2 * LANES), load_i(states, at + 3 * LANES)
                    p = first
                    while p < stop:
                        image = p // per_image
                        end = min(stop, (image + 1) * per_image)
                        if p == image * per_image:
                            s0, s1, s2, s3 = seed(b + half, keys[image, 0], keys[image, 1])
                        while p < end:
                            one, s0, s1, s2, s3 = next_words(s0, s1, s2, s3)
                            two, s0, s1, s2, s3 = next_words(s0, s1, s2, s3)
                            z0, z1 = two_normals(one, two, constants)
                            place = p * stride + (b + half) * LANES
                            row = half * HALF + (p - first) * LANES
                            _draw(means, variances, row, z0, constants, out, place)
                            if p + 1 < end:
                                _draw(means, variances, row + LANES, z1, constants, out, place + stride)
                            p += 2
                        p = end
                    store(states, at, s0)
                    store(states, at + LANES, s1)
                    store(states, at + 2 * LANES, s2)
                    store(states, at + 3 * LANES, s3)
        b += halves
    lane = np.empty(LANES, np.float32)
    store(lane, 0, ends)
    total = 0.0
    for j in range(LANES):
        total += lane[j]
    return total
