"""The code of zero input of every conversion, from reads that drive next to nothing.

    zero = zero_input(sums_us, codes, gain, setup, idle_mean, idle_sd, idle_vectors)

An offset fitted to ramps is extrapolated to zero, so errors of wires and INL curves enter it. Reads of single rows
whose cells cancel have sums near zero, and their noise averages out the rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.fit.curves import Converters

NEAR_CODES = 1.0  # reads expected this close to zero input tell its code
ASIDE_CODES = 0.25  # and those at least so far to one side whether the curve is even there
UNEVEN_CODES = 0.02  # error besides scatter and what is seen of unevenness (assumed)
LEAST_READS = 8
HARMONICS = np.arange(1.0, 6.0)
FLOOR_CODES = 3.0  # an unsigned converter whose idle code is lower than this has clipped it

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ZeroInput:
    """Mean code without input, before rounding, and its standard error; (conversions,), error inf where unknown."""

    codes: Floats
    se: Floats


def rounding_variance(sigma: Floats | float) -> Floats:
    """Mean square by which the mean of rounded codes is off, for noise of ``sigma`` codes before rounding.

        Σ_k exp(−4 π² k² σ²) / (2 π² k²)

    over all places of the true value between two codes. Example: 1/12 without noise, 0.0015 at 0.3 codes.
    """
    k = HARMONICS.reshape(-1, *(1,) * np.ndim(sigma))
    rest = 1.0 / 12.0 - (0.5 / (np.pi * HARMONICS) ** 2).sum()  # of the harmonics left out, without noise
    waves = np.exp(-((2.0 * np.pi * k * sigma) ** 2)) / (2.0 * (np.pi * k) ** 2)
    return np.asarray(waves.sum(0) + np.where(np.asarray(sigma) < 0.01, rest, 0.0))


def idle_noise(idle_sd: NDArray[np.floating], clipped: NDArray[np.bool_]) -> float | None:
    """Converter noise in codes, before rounding, from the scatter of codes without input; None where all are clipped.

        mean of sd² = σ² + 1/12 − rounding_variance(σ)

    over columns whose true codes lie anywhere between two codes. Example: codes that never change: 0.
    """
    if clipped.all():
        return None
    sigma = np.append(0.0, np.geomspace(1e-3, 100.0, 2000))
    expected = sigma**2 + 1.0 / 12.0 - rounding_variance(sigma)
    return float(np.interp(np.mean(np.square(idle_sd[~clipped])), expected - expected[0], sigma))


def without_misfit(noise_codes: NDArray[np.floating], idle: float) -> Floats:
    """Noise of each conversion from residuals of a fit, (conversions,), brought down to ``idle`` on average.

    Residuals beyond ``idle`` are not noise: INL steps between nodes and errors of wires and cells recur with the same
    input. Example: 0.2 and 0.4 codes, 0.2 idle: 0.13 and 0.25.
    """
    rms = float(np.sqrt(np.mean(np.square(noise_codes))))
    return np.asarray(noise_codes * min(1.0, idle / max(rms, 1e-9)))


def idle_clipped(idle_mean: NDArray[np.floating], limits: tuple[int, int]) -> NDArray[np.bool_]:
    """Conversions whose idle code lies at an end of the scale."""
    low, high = limits
    return np.asarray((idle_mean >= high - 1) | (idle_mean <= low + (FLOOR_CODES if low == 0 else 1.0)))


def zero_input(
    sums_us: NDArray[np.floating],
    codes: NDArray[np.integer],
    gain: NDArray[np.floating],
    setup: Converters,
    idle_mean: NDArray[np.floating],
    idle_sd: NDArray[np.floating],
    idle_vectors: int,
) -> ZeroInput:
    """Code of zero input from reads near it, and from reads that drive nothing, weighted by their errors.

        zero = mean of code − gain · x / lsb     over reads with |gain · x / lsb| ≤ 1 code

    Near a step of the converter's INL, reads on both sides of zero disagree; half of that difference, over all columns
    of the converter, is added to the error. Idle codes that never change leave ½ code to either side; the answer stays
    within.

    Args:
        sums_us: x, (vectors, conversions) µS times unit, of reads of single rows.
        gain: a first estimate, (conversions,); it hardly matters so near zero.
        idle_mean, idle_sd: (conversions,) codes of ``idle_vectors`` reads without input.

    Example: idle code 3 without noise, near reads 2.8 ± 0.05 codes off their sums: 2.8 ± 0.05.
    """
    expected = np.asarray(sums_us, np.float64) * gain / setup.lsb_us
    low, high = setup.limits
    near = (np.abs(expected) <= NEAR_CODES) & (codes > low) & (codes < high)
    count = near.sum(0)
    rest = np.where(near, codes - expected, 0.0)
    mean = rest.sum(0) / np.maximum(count, 1)
    scatter = np.where(near, (codes - expected - mean) ** 2, 0.0).sum(0) / np.maximum(count - 1, 1)
    uneven2 = _uneven2(np.where(near, expected, 0.0), rest, scatter, setup.adc)
    near2 = np.where(count >= LEAST_READS, scatter / np.maximum(count, 1) + UNEVEN_CODES**2 + uneven2, np.inf)
    noise = np.sqrt(np.maximum(np.asarray(idle_sd) ** 2 - 1.0 / 12.0, 0.0))
    idle2 = np.asarray(idle_sd) ** 2 / idle_vectors + rounding_variance(noise)
    weight = 1.0 / near2
    value = (weight * mean + idle_mean / idle2) / (weight + 1.0 / idle2)
    still = np.asarray(idle_sd) == 0.0
    value = np.where(still, np.clip(value, idle_mean - 0.5, idle_mean + 0.5), value)
    return ZeroInput(
        value, np.where(idle_clipped(idle_mean, setup.limits), np.inf, np.sqrt(1.0 / (weight + 1.0 / idle2)))
    )


def _uneven2(expected: Floats, rest: Floats, scatter: Floats, adc: NDArray[np.int64]) -> Floats:
    """Square of half the difference between reads above and below zero, less that of their noise; (conversions,)."""
    sides = []
    for side in (expected > ASIDE_CODES, expected < -ASIDE_CODES):
        count = np.maximum(np.bincount(adc, side.sum(0)), 1.0)
        noise = np.bincount(adc, side.sum(0) * scatter) / count**2
        sides.append((np.bincount(adc, (side * rest).sum(0)) / count, noise))
    (above, noise_above), (below, noise_below) = sides
    return np.asarray(np.maximum((above - below) ** 2 - noise_above - noise_below, 0.0) / 4.0)[adc]
