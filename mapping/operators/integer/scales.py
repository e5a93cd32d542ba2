"""Scales of codes, and the integers that stand for real numbers between two scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapping.operators.integer.digital_ops import MAX_SHIFT
from mapping.operators.integer.requantise import Ints, Requantise

LARGEST_FACTOR = float(1 << 31) * (1.0 - 1e-9)
TINY = 1e-30


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


def requantise_to(real: float, out: CodeScale) -> Requantise:
    """The rescaling of integers, each of value ``real``, to codes of a scale."""
    return requantise_by(min(real / out.scale, LARGEST_FACTOR), out.low, out.high)


def excess_bits(most: int) -> int:
    """Bits by which sums of at most ``most`` in magnitude leave the range of 32 bits."""
    return max(0, most.bit_length() - 31)


def in_units(values: NDArray[np.floating], unit: float) -> Ints:
    """Real numbers as whole multiples of a unit."""
    return np.rint(values.astype(np.float64) / unit).astype(np.int32)


def largest(values: NDArray[np.floating]) -> float:
    """The largest magnitude."""
    return float(np.abs(values).max())
