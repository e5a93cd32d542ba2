"""From real numbers to integers: fixed-point factors and the scale of one activation code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapping.operators.integer.digital_ops import INT32_HIGH, INT32_LOW, MAX_SHIFT
from mapping.operators.integer.requantise import Requantise

CLIPS = np.concatenate([np.geomspace(0.02, 0.25, 24, endpoint=False), np.linspace(0.25, 1.0, 76)])
"""Ends of scale that are tried, as shares of the largest magnitude."""
BINS = 4096


@dataclass(frozen=True, slots=True)
class CodeScale:
    """Scale of a tensor's codes: value = scale · code, code in low..high."""

    scale: float
    low: int
    high: int
    signed: bool

    @property
    def codes(self) -> int:
        return self.high - self.low + 1

    @property
    def bits(self) -> int:
        """Bits of the widest code, the sign counted."""
        return max(self.high.bit_length(), (-self.low - 1).bit_length() if self.low < 0 else 0) + self.signed


def fixed_point(real: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Give multiplier and shift with real ≈ multiplier / 2^shift, relative error below 2^−31.

    Args:
        real: factors >= 0 and below 2^31; below 2^−31 precision is lost bit by bit.

    Example:
        >>> fixed_point(np.array([0.75]))
        (array([1610612736], dtype=int32), array([31], dtype=int32))
    """
    if not np.isfinite(real).all() or (real < 0).any() or (real >= 1 << 31).any():
        raise ValueError(f"factors {real.min()}..{real.max()} are not within 0..2^31")
    fraction, exponent = np.frexp(real)
    multiplier = np.rint(fraction * float(1 << 31)).astype(np.int64)
    shift = 31 - exponent.astype(np.int64)
    carry = multiplier == 1 << 31
    multiplier, shift = np.where(carry, multiplier >> 1, multiplier), np.where(carry, shift - 1, shift)
    # Rounding up 2^31 − tiny needs a shift of −1: the nearest below is as good as exact.
    multiplier, shift = np.where(shift < 0, (1 << 31) - 1, multiplier), np.maximum(shift, 0)
    lost = np.clip(shift - MAX_SHIFT, 0, 62)
    multiplier = (multiplier + ((1 << lost) >> 1)) >> lost
    return multiplier.astype(np.int32), (shift - lost).astype(np.int32)


def requantise_by(real: NDArray[np.float64] | float, low: int, high: int) -> Requantise:
    """A requantisation by real factors (one, or one a channel)."""
    multiplier, shift = fixed_point(np.atleast_1d(np.asarray(real, np.float64)))
    return Requantise(multiplier, shift, low, high)


def code_limits(bits: int, signed: bool, symmetric: bool) -> tuple[int, int]:
    """Lowest and highest activation code; ``symmetric`` leaves out −2^(bits−1) (sign and magnitude)."""
    if not signed:
        return 0, (1 << bits) - 1
    return -(1 << (bits - 1)) + symmetric, (1 << (bits - 1)) - 1


def best_scale(values: NDArray[np.float32], largest: float, low: int, high: int) -> float:
    """The scale of one code with the least mean squared error of rounding and clipping.

    Args:
        values: a sample of the tensor.
        largest: largest magnitude ever seen; the widest end of scale that is tried.
        low, high: the codes there are.
    """
    if largest == 0.0:
        return 1.0 / high
    counts, edges = np.histogram(values[values != 0], BINS, (-largest if low < 0 else 0.0, largest))
    centres = (edges[:-1] + edges[1:]) / 2
    errors = []
    for clip in CLIPS:
        scale = clip * largest / high
        error = centres - scale * np.clip(np.rint(centres / scale), low, high)
        errors.append(float((counts * error**2).sum()))
    return float(CLIPS[int(np.argmin(errors))]) * largest / high


def wide_scale(largest: float, bits: int = 20) -> CodeScale:
    """The scale of logits: 32-bit codes, the largest magnitude seen near 2^bits."""
    return CodeScale((largest or 1.0) / float(1 << bits), INT32_LOW, INT32_HIGH, True)
