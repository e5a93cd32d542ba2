"""Counter-based noise: every normal is a pure function of what it belongs to.

    z = Φ⁻¹(u),  u = hash(chip seed, purpose, place, sample, ... , index)

so the same request gives the same bits whatever the batch, the transport or the retry, and a
new ``sample`` gives new noise. Words are mixed with the finaliser of splitmix64, indices with
the one of MurmurHash3; 31 bits of the result are the tail probability and one is the sign.
Φ⁻¹ is a polynomial in √(−ln p) of degree 8, wrong by at most 8e-5 out to 6.2 sigma. The conversions
take sixteen at a time (``kernels``) from the same words and coefficients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint32, uint64
from numpy.typing import NDArray

# Purposes of this package; no other room uses these words.
TAG = "hil.emulator"
PROGRAM, PULSE, VERIFY, TRACE, READ, COMPUTE, UPSET, LATE, TRAP, FORM = range(0x5E10, 0x5E1A)

LN2 = np.float32(0.6931472)
# Coefficients, highest power first: ln(1 + m) / m, and z of √(−ln p).
LOG = tuple(
    np.float32(c)
    for c in (0.17111227, -0.19407857, 0.19795030, -0.24841635, 0.33337989, -0.50002243, 0.99999984)
)  # fmt: skip
TAIL = tuple(
    np.float32(c)
    for c in (
        -7.651640140356335e-05, 0.001931802558484439, -0.021085608393930276, 0.1305451693981765, -0.5061144122661404,
        1.28303157495515, -2.1706607157009334, 3.930553637632874, -2.3107003109324813,
    )
)  # fmt: skip
_TWO_31 = np.float32(2.0**-32)


@njit(inline="always")
def _mix64(x: Any) -> Any:
    x = uint64(x)
    x = (x ^ (x >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> uint64(27))) * uint64(0x94D049BB133111EB)
    return x ^ (x >> uint64(31))


@njit(inline="always")
def extend_key(key: Any, word: Any) -> Any:
    """The key of ``word`` below ``key``, uint64."""
    return _mix64(uint64(key) + uint64(0x9E3779B97F4A7C15) * (uint64(word) + uint64(1)))


@njit(inline="always")
def _mix32(x: Any) -> Any:
    x = uint32(x ^ (x >> uint32(16))) * uint32(0x85EBCA6B)
    x = uint32(x)
    x = uint32(x ^ (x >> uint32(13))) * uint32(0xC2B2AE35)
    x = uint32(x)
    return uint32(x ^ (x >> uint32(16)))


@njit(inline="always")
def hash_word(low: Any, high: Any, index: Any) -> Any:
    """32 random bits for ``index`` under the 64-bit key (low, high)."""
    x = _mix32(uint32(uint32(index) * uint32(0x9E3779B1)) ^ low)
    return _mix32(uint32(x + high))


@njit(inline="always")
def word_to_normal(word: Any) -> Any:
    """A standard normal, float32, from 32 random bits."""
    tail = np.float32(np.int32(word & uint32(0x7FFFFFFF))) + np.float32(0.5)
    p = tail * _TWO_31
    bits = np.float32(p).view(np.int32)
    exponent = np.int32(np.int32(bits - np.int32(0x3F2AAAAB)) >> np.int32(23))
    m = np.int32(bits - np.int32(exponent << np.int32(23))).view(np.float32) - np.float32(1.0)
    f = LOG[0]
    for c in LOG[1:]:
        f = f * m + c
    s = np.sqrt(-(np.float32(exponent) * LN2 + f * m))
    z = TAIL[0]
    for c in TAIL[1:]:
        z = z * s + c
    sign = np.int32(word & uint32(0x80000000))
    return np.int32(np.float32(z).view(np.int32) ^ sign).view(np.float32)


@njit(cache=True, nogil=True)
def _fold(words: NDArray[np.uint64]) -> Any:
    key = uint64(0)
    for i in range(words.size):
        key = extend_key(key, words[i])
    return key


@njit(cache=True, nogil=True)
def _fill_normals(key: Any, index: NDArray[np.int64], out: NDArray[np.float32]) -> None:
    for i in range(index.size):
        k = extend_key(key, index[i])
        out[i] = word_to_normal(hash_word(uint32(k & uint64(0xFFFFFFFF)), uint32(k >> uint64(32)), 0))


@njit(cache=True, nogil=True)
def _fill_uniforms(key: Any, index: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    for i in range(index.size):
        out[i] = (extend_key(key, index[i]) >> uint64(11)) * 2.0**-53


def fold_key(*words: int) -> int:
    """One 64-bit key from the words that name an event."""
    return int(_fold(np.array([w & 0xFFFFFFFFFFFFFFFF for w in words], np.uint64)))


def hashed_normals(key: int, index: NDArray[np.integer]) -> NDArray[np.float32]:
    """A standard normal for each index under ``key``; same shape as ``index``."""
    flat = np.ascontiguousarray(index, np.int64).reshape(-1)
    out = np.empty(flat.size, np.float32)
    _fill_normals(np.uint64(key), flat, out)
    return out.reshape(index.shape)


def hashed_uniforms(key: int, index: NDArray[np.integer]) -> NDArray[np.float64]:
    """A number in [0, 1) for each index under ``key``; same shape as ``index``."""
    flat = np.ascontiguousarray(index, np.int64).reshape(-1)
    out = np.empty(flat.size, np.float64)
    _fill_uniforms(np.uint64(key), flat, out)
    return out.reshape(index.shape)
