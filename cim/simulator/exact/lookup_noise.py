"""Normals for the lookup kernels: eight vectors of 32 shorts at a time, about four instructions each.

A generator of 512 bits a step (xoroshiro128+, eight lanes of 64 bits; Blackman and Vigna,
doi:10.1145/3460772) gives 32 uniform shorts. Each becomes a near-normal of its own,

    base(x) = x · (a − b x²),   x uniform on −1..1

with a, b such that variance 1 and kurtosis 3 are exact. Eight such vectors go through a
Hadamard transform, so every result is a signed sum of eight independent base values (the
table-Hadamard idea of D. B. Thomas, doi:10.1109/FCCM.2013.53, with a polynomial for the
table). Orthogonal transforms keep the eight uncorrelated, and all joint cumulants up to the
fifth vanish; the sixth of one result is 0.365 / 64. Against the normal distribution: largest
distance of the distribution function 4e-5, tails beyond 2, 3, 4, 5 σ 0.999, 1.002, 1.008,
0.97 of true (exact numbers, by convolution: ``tests/cim/simulator/test_lookup_noise.py``).

One stream belongs to (image key, tile, block of columns) and runs through the positions of
the image in order. Imports numba: import this module late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cim.simd.integers import (
    WIDTH,
    as_shorts,
    high,
    high_unsigned,
    left,
    load_longs,
    rotated,
    splat_shorts,
    vadd,
    vsub,
    vxor,
)
from cim.simd.vectors import store

PLANES = 8  # vectors a call gives
LONGS = WIDTH // 4
BASE_UNIT = 1250.0  # σ of one base value
NORMAL_UNIT = BASE_UNIT * np.sqrt(
    PLANES
)  # σ of one result; the largest possible one is 22.9 BASE_UNIT, so shorts hold it
CUBE = 6.548752247  # b
LINE = 3.685868897  # a

_options: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
# base = high(x, _LINE − high_unsigned(high(x, x), _CUBE)): x in 2⁻¹⁵, its square in 2⁻¹⁴, the bracket in ½.
_LINE = np.int16(round(2 * BASE_UNIT * LINE))
_CUBE = np.int16(round(8 * BASE_UNIT * CUBE) - (1 << 16))
_ROUND = np.int16(PLANES // 2)  # the eight floors of the all-plus sum lose ½ each
_GOLDEN, _MIX1, _MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@njit(**_options)
def seed_stream(key: Any, stream: Any, state: Any) -> None:
    """Sixteen 64-bit words of state from an image's key and the number of the stream (splitmix64)."""
    for i in range(state.shape[0]):
        x = key + (np.uint64(stream) * np.uint64(state.shape[0]) + np.uint64(i + 1)) * _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * _MIX1
        x = (x ^ (x >> np.uint64(27))) * _MIX2
        state[i] = x ^ (x >> np.uint64(31))


@njit(inline="always", **_options)
def start(state: Any) -> Any:
    """The two state vectors of a seeded stream."""
    return load_longs(state, 0), load_longs(state, LONGS)


@njit(inline="always", **_options)
def _base(s0: Any, s1: Any) -> Any:
    x = as_shorts(vadd(s0, s1))
    return high(x, vsub(splat_shorts(_LINE), high_unsigned(high(x, x), splat_shorts(_CUBE))))


@njit(inline="always", **_options)
def _next(s0: Any, s1: Any) -> Any:
    s1 = vxor(s0, s1)
    s0 = vxor(vxor(rotated(s0, np.int64(24)), s1), left(s1, np.int64(16)))
    return s0, rotated(s1, np.int64(37))


@njit(inline="always", **_options)
def eight_normals(s0: Any, s1: Any) -> Any:
    """Eight vectors of normals with σ ``NORMAL_UNIT``, then the next state: (z0, …, z7, s0, s1)."""
    a = _base(s0, s1)
    s0, s1 = _next(s0, s1)
    b = _base(s0, s1)
    s0, s1 = _next(s0, s1)
    c = _base(s0, s1)
    s0, s1 = _next(s0, s1)
    d = _base(s0, s1)
    s0, s1 = _next(s0, s1)
    e = _base(s0, s1)
    s0, s1 = _next(s0, s1)
    f = _base(s0, s1)
    s0, s1 = _next(s0, s1)
    g = _base(s0, s1)
    s0, s1 = _next(s0, s1)
    h = _base(s0, s1)
    s0, s1 = _next(s0, s1)
    a, b, c, d = vadd(a, b), vsub(a, b), vadd(c, d), vsub(c, d)
    e, f, g, h = vadd(e, f), vsub(e, f), vadd(g, h), vsub(g, h)
    a, c, b, d = vadd(a, c), vsub(a, c), vadd(b, d), vsub(b, d)
    e, g, f, h = vadd(e, g), vsub(e, g), vadd(f, h), vsub(f, h)
    a = vadd(a, splat_shorts(_ROUND))
    return vadd(a, e), vadd(b, f), vadd(c, g), vadd(d, h), vsub(a, e), vsub(b, f), vsub(c, g), vsub(d, h), s0, s1


@njit(**_options)
def normals(key: np.uint64, stream: int, rounds: int) -> NDArray[np.int16]:
    """(rounds, 8, 32) normals of one stream, σ ``NORMAL_UNIT``: for tests of the generator."""
    out = np.empty((rounds, PLANES, WIDTH), np.int16)
    state = np.empty(2 * LONGS, np.uint64)
    seed_stream(key, stream, state)
    s0, s1 = start(state)
    for i in range(rounds):
        z0, z1, z2, z3, z4, z5, z6, z7, s0, s1 = eight_normals(s0, s1)
        at = i * PLANES * WIDTH
        store(out, at, z0)
        store(out, at + WIDTH, z1)
        store(out, at + 2 * WIDTH, z2)
        store(out, at + 3 * WIDTH, z3)
        store(out, at + 4 * WIDTH, z4)
        store(out, at + 5 * WIDTH, z5)
        store(out, at + 6 * WIDTH, z6)
        store(out, at + 7 * WIDTH, z7)
    return out
