"""Read noise that lasts: how far it moves cells from their read-back to the tune, and on to inference.

Read-back, tuning and inference follow each other within minutes. Averaged reads lie close together in time, so flicker
F and telegraph noise T (``cim.cells.read_noise``) of that moment remain in their mean and look like conductance of the
cell. Later both have changed:

    ΔG(t) = F(t) − F(0) + T(t) − T(0),    Var ΔF(t) = D(t),    Cov(ΔF(s), ΔF(t)) = (D(s) + D(t) − D(|t − s|)) / 2

per cell, once a virtual chip, D(t) the growth of the variance of a difference by flicker. All reads at one moment see
the same ΔG.

Example: flicker of 0.04 µS² a decade from 1 ms on: a minute after the read-back a cell has moved by 0.44 µS (rms).
"""

from __future__ import annotations

import enum

import numpy as np
from numpy.typing import NDArray

from cim.cells.read_noise import TELEGRAPH_DECADES, ReadNoise

CLEAR = 3.0  # flicker of all levels together within so many standard errors is none


class Moment(enum.IntEnum):
    """The two times after read-back at which a chip computes: tuning, and inference on the test images."""

    TUNE = 0
    INFERENCE = 1


AFTER_S = {Moment.TUNE: 60.0, Moment.INFERENCE: 300.0}  # tenfold longer is one decade of some five


def lasts(noise: ReadNoise) -> bool:
    """Whether flicker is clear of its measurement error, or any cell has telegraph noise."""
    flicker, error = float(noise.flicker_us2.sum()), float(np.sqrt((noise.flicker_se_us2**2).sum()))
    return bool(flicker > CLEAR * error or (noise.telegraph_share * noise.telegraph_us).any())


def lasting_shifts(noise: ReadNoise, cells_us: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.float32]:
    """Change ΔG of each cell since read-back, float32 (moments, *cells) µS; NaN where ``cells_us`` is NaN."""
    cells = np.asarray(cells_us, np.float64)
    times = np.array([AFTER_S[moment] for moment in Moment])
    apart = np.abs(times[:, None] - times)
    grown, between = noise.flicker_moved(times), noise.flicker_moved(apart)
    covariance = (grown[:, None] + grown - between) / 2.0
    normals = rng.standard_normal((len(times), *cells.shape))
    shifts = np.tensordot(np.linalg.cholesky(covariance), normals, 1) * np.sqrt(noise.flicker_at(cells))
    if (noise.telegraph_share * noise.telegraph_us).any():
        shifts += _jumps(noise, np.nan_to_num(cells), rng)
    return np.asarray(np.where(np.isnan(cells), np.nan, shifts), np.float32)


def _jumps(noise: ReadNoise, cells_us: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """T(t) − T(0) at each ``Moment``, (moments, *cells) µS: two-state chains, each with a rate of its own."""
    shape = cells_us.shape
    share, step_us = (np.interp(cells_us, noise.levels_us, t) for t in (noise.telegraph_share, noise.telegraph_us))
    step_us = np.where(rng.random(shape) < share, step_us, 0.0)
    switch_hz = noise.telegraph_hz * 10.0 ** rng.uniform(-TELEGRAPH_DECADES, TELEGRAPH_DECADES, shape)
    first = rng.random(shape) < 0.5
    up, now_s, moved = first.copy(), 0.0, []
    for moment in Moment:
        odd = -np.expm1(-2.0 * switch_hz * (AFTER_S[moment] - now_s)) / 2.0  # probability of an odd number of switches
        up ^= rng.random(shape) < odd
        now_s = AFTER_S[moment]
        moved.append(step_us * (up.astype(np.float64) - first))
    return np.stack(moved)


def lasting_variance_us2(noise: ReadNoise, cells_us: NDArray[np.floating]) -> NDArray[np.float64]:
    """Variance of ΔG between read-back and inference by cell, µS²; it does not depend on how many reads were
    averaged."""
    if not lasts(noise):
        return np.zeros(np.shape(cells_us))
    return noise.difference_variance(cells_us, AFTER_S[Moment.INFERENCE]) - 2.0 * noise.at(cells_us)
