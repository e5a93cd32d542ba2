"""Fresh normal noise for ``cim.simulator.fast.kernels``: sixteen generators side by side, in registers.

Imports numba: import this module late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cim.simd.floats import (
    LANES,
    add,
    add_i,
    and_i,
    as_floats,
    as_ints,
    fma,
    lanes,
    maximum,
    mul,
    mul_i,
    or_i,
    shift_left,
    shift_right,
    splat_i,
    sub,
    sub_i,
    to_floats,
    xor_i,
)
from cim.simd.pairs import inverse_root, splat_at
from cim.simd.vectors import store

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
    K_L1, K_L2, K_L3, K_L4, K_L5, K_S0, K_S1, K_S2, K_S3, K_C1, K_C2, K_C3, K_C4, K_LN2, K_TOP,
    K_TINY, K_HALF, K_ONE, K_BITS_MANTISSA, K_BITS_SIGN, K_BITS_ONE, K_BITS_BIAS, K_BITS_POSITIVE,
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
def seed(stream: Any, key0: Any, key1: Any) -> Any:
    """Four state words of sixteen generators, from a key and the number of a stream."""
    first = add_i(lanes(), splat_i(_i(stream * _SEED_STEP)))
    return (
        _seeded(first, key0, key1),
        _seeded(add_i(first, splat_i(_i(LANES))), key0, key1),
        _seeded(add_i(first, splat_i(_i(2 * LANES))), key0, key1),
        or_i(_seeded(add_i(first, splat_i(_i(3 * LANES))), key0, key1), splat_i(_i(1))),  # never all zero
    )


@njit(inline="always", **_options)
def next_words(s0: Any, s1: Any, s2: Any, s3: Any) -> Any:
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
def two_normals(first: Any, second: Any, constants: Any) -> Any:
    """Two vectors of sixteen normals from two vectors of random words (Box and Muller, doi:10.1214/aoms/1177706645).

    r = √(−2 ln p) with p the first word; the second gives an angle in a quarter of the circle
    (its middle bits) and two signs (its top bits).
    """
    bits = as_ints(add(to_floats(shift_right(first, _i(1))), splat_at(constants, K_HALF)))
    exponent = to_floats(sub_i(shift_right(bits, _i(23)), as_ints(splat_at(constants, K_BITS_BIAS))))
    m = sub(
        as_floats(
            or_i(and_i(bits, as_ints(splat_at(constants, K_BITS_MANTISSA))), as_ints(splat_at(constants, K_BITS_ONE)))
        ),
        splat_at(constants, K_ONE),
    )
    ln = fma(
        fma(
            fma(fma(splat_at(constants, K_L5), m, splat_at(constants, K_L4)), m, splat_at(constants, K_L3)),
            m,
            splat_at(constants, K_L2),
        ),
        m,
        splat_at(constants, K_L1),
    )
    t = sub(splat_at(constants, K_TOP), fma(exponent, splat_at(constants, K_LN2), mul(ln, m)))
    t = maximum(add(t, t), splat_at(constants, K_TINY))
    r = mul(t, inverse_root(t))
    v = sub(
        as_floats(
            or_i(and_i(second, as_ints(splat_at(constants, K_BITS_MANTISSA))), as_ints(splat_at(constants, K_BITS_ONE)))
        ),
        splat_at(constants, K_ONE),
    )
    v2 = mul(v, v)
    sine = mul(
        fma(
            fma(fma(splat_at(constants, K_S3), v2, splat_at(constants, K_S2)), v2, splat_at(constants, K_S1)),
            v2,
            splat_at(constants, K_S0),
        ),
        v,
    )
    cosine = fma(
        fma(
            fma(fma(splat_at(constants, K_C4), v2, splat_at(constants, K_C3)), v2, splat_at(constants, K_C2)),
            v2,
            splat_at(constants, K_C1),
        ),
        v2,
        splat_at(constants, K_ONE),
    )
    sine = as_floats(xor_i(as_ints(sine), and_i(second, as_ints(splat_at(constants, K_BITS_SIGN)))))
    cosine = as_floats(
        xor_i(as_ints(cosine), and_i(shift_left(second, _i(1)), as_ints(splat_at(constants, K_BITS_SIGN))))
    )
    return mul(r, sine), mul(r, cosine)


@njit(**_options)
def normals(keys: NDArray[np.int32], constants: NDArray[np.float32], count: int) -> Any:
    """The first ``count`` (a multiple of 32) normals of a key: for tests of the generator."""
    out = np.empty(count, np.float32)
    s0, s1, s2, s3 = seed(0, keys[0], keys[1])
    for i in range(0, count, 2 * LANES):
        one, s0, s1, s2, s3 = next_words(s0, s1, s2, s3)
        two, s0, s1, s2, s3 = next_words(s0, s1, s2, s3)
        z0, z1 = two_normals(one, two, constants)
        store(out, i, z0)
        store(out, i + LANES, z1)
    return out
