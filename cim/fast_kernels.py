"""The quick mode's fused numba kernels: product, wires, noise, rounding, correction, sum over tiles.

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
from numpy.typing import NDArray

from cim.fast_simd import (
    WIDE,
    add_words,
    dot_pairs,
    high_words,
    inverse_root,
    load_ints,
    load_pairs,
    low_words,
    nearest,
    nearest_int,
    ones_of_planes,
    shift_left,
    splat_at,
    splat_pair,
    store_ints,
    where_reaching,
)
from cim.simd import (
    LANES,
    absolute,
    add,
    add_i,
    and_i,
    as_floats,
    as_ints,
    fma,
    lanes,
    load,
    maximum,
    minimum,
    mul,
    mul_i,
    or_i,
    shift_right,
    splat,
    splat_i,
    store,
    sub,
    sub_i,
    to_floats,
    xor_i,
)

PLACES = 64  # multiplied at a time, a multiple of 8
HALF = (PLACES + 8) * LANES  # room for the sums of sixteen columns
# Rows of the parameter array (ROWS, blocks · 16) of a tile: see cim.fast_numba.
SCALE, KW, LEAN, CONSTANT, REST, READ, FLOOR, REST_VARIANCE, GAIN, OFFSET, INPUT_GAIN, LIVE, ROWS = range(13)
# Rows of the terms array (places / 16, TERMS, 16), the fields of cim.fast.PlaceTerms and the sum of driven codes.
T_SQUARES, T_REST, T_REST2, T_EXCESS, T_LEAN, T_PEAK, T_DRIVEN = range(7)
TERMS = 8
# Entries of the limits array: lowest and highest sum, the end of a conversion's scale, the tile's
# multiplier.
L_LOW, L_HIGH, L_REACH, L_MULTIPLIER, LIMITS = range(5)

_options: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
_f, _i = np.float32, np.int32


def _signed(word: int) -> int:
    return word - (1 << 32) if word >= 1 << 31 else word


# Finaliser of a 32-bit hash (C. Wellons, "triple32", public domain) seeds the lanes.
_M1, _M2, _M3 = _i(_signed(0xED5AD4BB)), _i(_signed(0xAC4C1B51)), _i(_signed(0x31848BAB))
# (ln (1 + m)) / m, sin(½ π v) / v and (cos(½ π v) − 1) / v² on 0..1, the last two in v²: least squares in
# Chebyshev points, errors below 5e-5, 2e-6 and 1e-6. Read from an array: the compiler loads a constant of
# its own by two instructions, one of an array by none.
(
    _K_L1, _K_L2, _K_L3, _K_L4, _K_L5, _K_S0, _K_S1, _K_S2, _K_S3, _K_C1, _K_C2, _K_C3, _K_C4, _K_LN2, _K_TOP,
    _K_TINY, _K_HALF, _K_ONE, _K_BITS_MANTISSA, _K_BITS_SIGN, _K_BITS_ONE, _K_BITS_BIAS, _K_BITS_POSITIVE,
) = range(23)  # fmt: skip
CONSTANTS = np.array(
    [
        0.999944993,
        -0.497030843,
        0.3065611,
        -0.157838377,
        0.0415511145,
        1.57079575,
        -0.645932283,
        0.0795146891,
        -0.0043795164,
        -1.23369835,
        0.253646104,
        -0.0207972068,
        0.000849278418,
        0.6931471805599453,
        31 * 0.6931471805599453,
        1e-12,
        0.5,
        1.0,
    ],
    np.float32,
)
CONSTANTS = np.append(
    CONSTANTS, np.array([0x007FFFFF, -(1 << 31), 0x3F800000, 127, 0x7FFFFFFF], np.int32).view(np.float32)
)
_HALF, _ONE, _ZERO = _f(0.5), _f(1.0), _f(0.0)
_MANTISSA, _EXPONENT_ONE, _BIAS = _i(0x007FFFFF), _i(0x3F800000), _i(127)
_POSITIVE, _SIGN = _i(0x7FFFFFFF), _i(-(1 << 31))
_SEED_STEP = 4 * LANES


@njit(inline="always", **_options)
def _seeded(counter: Any, key0: Any, key1: Any) -> Any:
    h = add_i(counter, splat_i(key0))
    h = mul_i(xor_i(h, shift_right(h, _i(17))), splat_i(_M1))
    h = xor_i(xor_i(h, shift_right(h, _i(11))), splat_i(key1))
    h = mul_i(h, splat_i(_M2))
    h = mul_i(xor_i(h, shift_right(h, _i(15))), splat_i(_M3))
    return xor_i(h, shift_right(h, _i(14)))


@njit(inline="always", **_options)
def _seed(stream: Any, key0: Any, key1: Any) -> Any:
    """Four state words of sixteen generators, from a key and the number of a stream."""
    first = add_i(lanes(), splat_i(_i(stream * _SEED_STEP)))
    return (
        _seeded(first, key0, key1),
        _seeded(add_i(first, splat_i(_i(LANES))), key0, key1),
        _seeded(add_i(first, splat_i(_i(2 * LANES))), key0, key1),
        or_i(_seeded(add_i(first, splat_i(_i(3 * LANES))), key0, key1), splat_i(_i(1))),  # never all zero
    )


@njit(inline="always", **_options)
def _next(s0: Any, s1: Any, s2: Any, s3: Any) -> Any:
    """Random words and the next state (Blackman and Vigna, xoshiro128+, doi:10.1145/3460772)."""
    word = add_i(s0, s3)
    t = shift_left(s1, _i(9))
    s2 = xor_i(s2, s0)
    s3 = xor_i(s3, s1)
    s1 = xor_i(s1, s2)
    s0 = xor_i(s0, s3)
    s2 = xor_i(s2, t)
    s3 = or_i(shift_left(s3, _i(11)), shift_right(s3, _i(21)))
    return word, s0, s1, s2, s3


@njit(inline="always", **_options)
def _normals(first: Any, second: Any, constants: Any) -> Any:
    """Twice sixteen normals of two words each (Box and Muller, doi:10.1214/aoms/1177706645).

    r = √(−2 ln p) with p the first word; the second gives an angle in a quarter of the circle
    (its middle bits) and two signs (its top bits).
    """
    bits = as_ints(add(to_floats(shift_right(first, _i(1))), splat_at(constants, _K_HALF)))
    exponent = to_floats(sub_i(shift_right(bits, _i(23)), as_ints(splat_at(constants, _K_BITS_BIAS))))
    m = sub(
        as_floats(
            or_i(and_i(bits, as_ints(splat_at(constants, _K_BITS_MANTISSA))), as_ints(splat_at(constants, _K_BITS_ONE)))
        ),
        splat_at(constants, _K_ONE),
    )
    ln = fma(
        fma(
            fma(fma(splat_at(constants, _K_L5), m, splat_at(constants, _K_L4)), m, splat_at(constants, _K_L3)),
            m,
            splat_at(constants, _K_L2),
        ),
        m,
        splat_at(constants, _K_L1),
    )
    t = sub(splat_at(constants, _K_TOP), fma(exponent, splat_at(constants, _K_LN2), mul(ln, m)))
    t = maximum(add(t, t), splat_at(constants, _K_TINY))
    r = mul(t, inverse_root(t))
    v = sub(
        as_floats(
            or_i(
                and_i(second, as_ints(splat_at(constants, _K_BITS_MANTISSA))), as_ints(splat_at(constants, _K_BITS_ONE))
            )
        ),
        splat_at(constants, _K_ONE),
    )
    v2 = mul(v, v)
    sine = mul(
        fma(
            fma(fma(splat_at(constants, _K_S3), v2, splat_at(constants, _K_S2)), v2, splat_at(constants, _K_S1)),
            v2,
            splat_at(constants, _K_S0),
        ),
        v,
    )
    cosine = fma(
        fma(
            fma(fma(splat_at(constants, _K_C4), v2, splat_at(constants, _K_C3)), v2, splat_at(constants, _K_C2)),
            v2,
            splat_at(constants, _K_C1),
        ),
        v2,
        splat_at(constants, _K_ONE),
    )
    sine = as_floats(xor_i(as_ints(sine), and_i(second, as_ints(splat_at(constants, _K_BITS_SIGN)))))
    cosine = as_floats(
        xor_i(as_ints(cosine), and_i(shift_left(second, _i(1)), as_ints(splat_at(constants, _K_BITS_SIGN))))
    )
    return mul(r, sine), mul(r, cosine)


@njit(**_options)
def count_pixels(maps: Any, channels: int, first: int, stop: int, masks: Any, counts: Any) -> None:
    """counts[pixel], byte p: channels of a pixel from ``first`` to ``stop`` whose bit p is set.

    ``maps`` int16 flat, ``channels`` values a pixel, fifteen more readable; ``masks`` for
    ``ones_of_planes``, 128 bytes for every sixteen channels.
    """
    for pixel in range(counts.shape[0]):
        total = np.uint64(0)
        for c in range(first, stop, 16):
            total += ones_of_planes(maps, pixel * channels + c, masks, (c - first) * 8)
        counts[pixel] = total


@njit(**_options)
def count_places(counts: Any, width: int, pixels: int, runs: Any, steps: Any, size: Any, out: Any) -> None:
    """out[place] = Σ_runs counts[start + run]; ``size`` and ``steps`` down and across an image's places."""
    across, step = size[1], steps[1]
    for row in range(out.shape[0] // across):
        image, y = row // size[0], row % size[0]
        start, at = image * pixels + y * steps[0] * width, row * across
        for x in range(across):
            out[at + x] = 0
        for r in range(runs.shape[0]):
            here, x = start + runs[r], 0
            if step == 1:
                while x + 8 <= across:
                    add_words(counts, here + x, out, at + x)
                    x += 8
            while x < across:
                out[at + x] += counts[here + x * step]
                x += 1


@njit(**_options)
def terms_of_counts(counts: Any, weights: Any, typical: float, bend: float, even: bool, terms: Any) -> None:
    """``cim.fast.place_terms`` for one-bit units: counts uint64 (places,), a byte a plane; places a multiple of 16."""
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
                bent = mul(n, _inverse(fma(n, bend_, splat(_ONE))))
            else:
                bent = n
            squares = fma(w, wn, squares)
            mean = fma(mul(w, wn), bent, mean)
            lost = fma(wn, bent, lost)
            total = add(total, wn)
            peak = maximum(peak, absolute(wn))
            size = add(size, absolute(wn))
            most = maximum(most, n)
        inverse = _inverse(maximum(squares, splat(_f(1e-9))))
        mean = mul(mean, inverse)
        store(terms, at + T_SQUARES * LANES, squares)
        store(terms, at + T_REST * LANES, rest)
        store(terms, at + T_REST2 * LANES, rest2)
        store(terms, at + T_EXCESS * LANES, sub(mean, typical_))
        store(terms, at + T_LEAN * LANES, sub(lost, mul(mean, total)))
        if even:
            peak = mul(most, _inverse(maximum(size, splat(_f(1e-9)))))
        else:
            peak = mul(peak, inverse)
        store(terms, at + T_PEAK * LANES, peak)
        store(terms, at + T_DRIVEN * LANES, total)


@njit(inline="always", **_options)
def _inverse(x: Any) -> Any:
    """1 / x for x > 0, from √: three Newton steps after a guess in the exponent; relative error below 1e-6."""
    guess = as_floats(sub_i(splat_i(_i(0x7EF311C3)), as_ints(x)))
    two = splat(_f(2.0))
    guess = mul(guess, sub(two, mul(x, guess)))
    guess = mul(guess, sub(two, mul(x, guess)))
    guess = mul(guess, sub(two, mul(x, guess)))
    return mul(guess, sub(two, mul(x, guess)))


@njit(inline="always", **_options)
def _multiply(
    maps: Any, bases: Any, first: int, count: int, runs: Any, length: int, weights: Any, at: int, sums: Any
) -> None:
    """Eight places and sixteen columns at a time (four where registers are few)."""
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
            store_ints(sums, i * LANES, a0)
            store_ints(sums, (i + 1) * LANES, a1)
            store_ints(sums, (i + 2) * LANES, a2)
            store_ints(sums, (i + 3) * LANES, a3)
            store_ints(sums, (i + 4) * LANES, a4)
            store_ints(sums, (i + 5) * LANES, a5)
            store_ints(sums, (i + 6) * LANES, a6)
            store_ints(sums, (i + 7) * LANES, a7)
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
            store_ints(sums, i * LANES, a0)
            store_ints(sums, (i + 1) * LANES, a1)
            store_ints(sums, (i + 2) * LANES, a2)
            store_ints(sums, (i + 3) * LANES, a3)


@njit(inline="always", **_options)
def _multiply_two(
    maps: Any, bases: Any, first: int, count: int, runs: Any, length: int, weights: Any, at: int, size: int, sums: Any
) -> None:
    """The same for thirty-two columns; the second sixteen's sums follow ``HALF`` further on."""
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
        store_ints(sums, (i + 0) * LANES, a0)
        store_ints(sums, HALF + (i + 0) * LANES, c0)
        store_ints(sums, (i + 1) * LANES, a1)
        store_ints(sums, HALF + (i + 1) * LANES, c1)
        store_ints(sums, (i + 2) * LANES, a2)
        store_ints(sums, HALF + (i + 2) * LANES, c2)
        store_ints(sums, (i + 3) * LANES, a3)
        store_ints(sums, HALF + (i + 3) * LANES, c3)
        store_ints(sums, (i + 4) * LANES, a4)
        store_ints(sums, HALF + (i + 4) * LANES, c4)
        store_ints(sums, (i + 5) * LANES, a5)
        store_ints(sums, HALF + (i + 5) * LANES, c5)
        store_ints(sums, (i + 6) * LANES, a6)
        store_ints(sums, HALF + (i + 6) * LANES, c6)
        store_ints(sums, (i + 7) * LANES, a7)
        store_ints(sums, HALF + (i + 7) * LANES, c7)


@njit(inline="always", **_options)
def _column(parameters: Any, at: int) -> Any:
    width = parameters.shape[1]
    return (
        load(parameters, SCALE * width + at),
        load(parameters, KW * width + at),
        load(parameters, LEAN * width + at),
        load(parameters, CONSTANT * width + at),
        load(parameters, REST * width + at),
        load(parameters, READ * width + at),
        load(parameters, FLOOR * width + at),
        load(parameters, REST_VARIANCE * width + at),
        load(parameters, GAIN * width + at),
        load(parameters, OFFSET * width + at),
        load(parameters, INPUT_GAIN * width + at),
        load(parameters, LIVE * width + at),
    )


@njit(inline="always", **_options)
def _convert(
    sums: Any, row: int, normal: Any, column: Any, terms: Any, p: int, low: Any, high: Any, reach: Any, sliced: int,
    multiplier: Any, constants: Any, out: Any, place: int, ends: Any,
) -> Any:  # fmt: skip
    """One place's sixteen sums to level sums, added to ``out``; ``column`` holds the parameters of the columns."""
    scale, kw, lean, constant, rest, read, floor_, rest_variance, gain, offset, input_gain, live = column
    at = (p >> 4) * (TERMS * LANES) + (p & 15)
    product = mul(to_floats(load_ints(sums, row)), scale)
    y = fma(product, fma(kw, splat_at(terms, at + T_EXCESS * LANES), splat_at(constants, _K_ONE)), constant)
    y = fma(lean, splat_at(terms, at + T_LEAN * LANES), y)
    y = fma(rest, splat_at(terms, at + T_REST * LANES), y)
    variance = fma(read, splat_at(terms, at + T_SQUARES * LANES), floor_)
    variance = fma(rest_variance, splat_at(terms, at + T_REST2 * LANES), variance)
    variance = maximum(variance, splat_at(constants, _K_TINY))
    y = fma(mul(variance, inverse_root(variance)), normal, y)
    y = nearest(minimum(maximum(y, low), high))
    largest = absolute(mul(product, splat_at(terms, at + T_PEAK * LANES)))
    ends = add(ends, where_reaching(largest, reach, live))
    level = fma(y, gain, fma(input_gain, splat_at(terms, at + T_DRIVEN * LANES), offset))
    if sliced:
        level = mul(nearest(level), multiplier)
    store_ints(out, place, add_i(load_ints(out, place), nearest_int(level)))
    return ends


@njit(**_options)
def convert_tile(
    maps: Any, bases: Any, places: int, runs: Any, length: int, weights: Any, parameters: Any, terms: Any,
    limits: Any, keys: Any, constants: Any, sliced: int, out: Any, stride: int,
) -> float:  # fmt: skip
    """Add one tile's level sums to ``out``.

    Args:
        maps: int16, flat; bases int64 (places + 8,) where each place's first run starts in it.
        runs: int64 (runs,) starts of runs from there; ``length`` values each, with one more readable.
        weights: int16, flat (blocks, runs, pairs, 16, 2): pairs of rows, two weights a column.
        parameters: float32 (ROWS, blocks · 16); terms: float32 (≥ places / 16, TERMS, 16); limits: float32 (LIMITS,).
        keys: int32 (images, 2); places divide evenly among images.
        constants: ``CONSTANTS``; sliced: 1 where the tile's multiplier is not 1.
        out: int32, flat from the first place's first output on, ``stride`` values a place; sixteen more writable.

    Returns:
        Sums whose largest plane is expected at the end of the scale.
    """
    width = parameters.shape[1]
    per_image = places // keys.shape[0]
    block = per_image if per_image > PLACES else PLACES // per_image * per_image
    size = runs.shape[0] * ((length + 1) // 2) * 2 * LANES
    sums, states = np.empty(2 * HALF, np.int32), np.empty(2 * 4 * LANES, np.int32)
    low, high, multiplier = splat(limits[L_LOW]), splat(limits[L_HIGH]), splat(limits[L_MULTIPLIER])
    reach = splat(limits[L_REACH])
    ends = splat(_ZERO)
    blocks, b = width // LANES, 0
    while b < blocks:
        halves = 2 if WIDE and b + 1 < blocks else 1
        for begin in range(0, places, block):
            # Blocks never cut an image at an odd place: normals come in twos.
            for first in range(begin, min(begin + block, places), PLACES if block > PLACES else block):
                stop = min(first + PLACES if block > PLACES else first + block, begin + block, places)
                if halves == 2:
                    _multiply_two(maps, bases, first, stop - first, runs, length, weights, b * size, size, sums)
                else:
                    _multiply(maps, bases, first, stop - first, runs, length, weights, b * size, sums)
                for half in range(halves):
                    at = half * 4 * LANES
                    s0, s1 = load_ints(states, at), load_ints(states, at + LANES)
                    s2, s3 = load_ints(states, at + 2 * LANES), load_ints(states, at + 3 * LANES)
                    column = _column(parameters, (b + half) * LANES)
                    p = first
                    while p < stop:
                        image = p // per_image
                        end = min(stop, (image + 1) * per_image)
                        if p == image * per_image:
                            s0, s1, s2, s3 = _seed(b + half, keys[image, 0], keys[image, 1])
                        while p < end:
                            one, s0, s1, s2, s3 = _next(s0, s1, s2, s3)
                            two, s0, s1, s2, s3 = _next(s0, s1, s2, s3)
                            z0, z1 = _normals(one, two, constants)
                            place = p * stride + (b + half) * LANES
                            row = half * HALF + (p - first) * LANES
                            ends = _convert(
                                sums, row, z0, column, terms, p, low, high, reach, sliced, multiplier, constants, out,
                                place, ends,
                            )  # fmt: skip
                            if p + 1 < end:
                                ends = _convert(
                                    sums, row + LANES, z1, column, terms, p + 1, low, high, reach, sliced, multiplier,
                                    constants, out, place + stride, ends,
                                )  # fmt: skip
                            p += 2
                        p = end
                    store_ints(states, at, s0)
                    store_ints(states, at + LANES, s1)
                    store_ints(states, at + 2 * LANES, s2)
                    store_ints(states, at + 3 * LANES, s3)
        b += halves
    lane = np.empty(LANES, np.float32)
    store(lane, 0, ends)
    total = 0.0
    for j in range(LANES):
        total += lane[j]
    return total


@njit(**_options)
def normals(keys: NDArray[np.int32], constants: NDArray[np.float32], count: int) -> Any:
    """The first ``count`` (a multiple of 32) normals of a key: for tests of the generator."""
    out = np.empty(count, np.float32)
    s0, s1, s2, s3 = _seed(0, keys[0], keys[1])
    for i in range(0, count, 2 * LANES):
        one, s0, s1, s2, s3 = _next(s0, s1, s2, s3)
        two, s0, s1, s2, s3 = _next(s0, s1, s2, s3)
        z0, z1 = _normals(one, two, constants)
        store(out, i, z0)
        store(out, i + LANES, z1)
    return out
