"""Estimator of read noise from repeated reads of many cells.

A few reads of thousands of cells, at log-spaced times, give the growth of D(Δ), the variance of the
difference of two reads.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cim.cells.read_noise import ReadNoise

MIN_CELLS = 30


def fit_flicker(
    noise: ReadNoise,
    times_s: NDArray[np.floating],
    readings_us: NDArray[np.floating],
    targets_us: NDArray[np.floating],
) -> ReadNoise:
    """The given read noise with ``flicker_us2`` by level, from reads of the same cells over time.

        D(Δ) = c + flicker · log10 Δ

    least squares over all pairs of reads of a cell, averaged over cells; the standard error
    is that of the mean over cells. A negative growth is set to 0 (its error stands).

    Args:
        times_s: (reads ≥ 3,) s, best log-spaced; at least two different separations.
        readings_us: (reads, cells) single reads, µS.
        targets_us: (cells,) µS; sorts cells by the levels of ``noise``; NaN cells are left out.
    """
    times = np.asarray(times_s, np.float64)
    first, second = np.triu_indices(len(times), 1)
    log_gap = np.log10(np.abs(times[second] - times[first]))
    if len(times) < 3 or np.ptp(log_gap) < 0.3:
        raise ValueError(f"{len(times)} reads over separations of {np.ptp(log_gap):.2f} decades show no growth")
    lever = (log_gap - log_gap.mean()) / ((log_gap - log_gap.mean()) ** 2).sum()
    squares = (np.asarray(readings_us)[second] - np.asarray(readings_us)[first]) ** 2
    growth = lever @ squares  # (cells,): unbiased for each cell
    middles = (noise.levels_us[1:] + noise.levels_us[:-1]) / 2.0
    level = np.searchsorted(middles, targets_us)
    good = np.isfinite(targets_us) & np.isfinite(growth)
    value, error = np.zeros(len(noise.levels_us)), np.zeros(len(noise.levels_us))
    for k in range(len(noise.levels_us)):
        here = growth[good & (level == k)]
        if len(here) < MIN_CELLS:
            raise ValueError(f"{len(here)} cells at {noise.levels_us[k]:g} µS; flicker needs {MIN_CELLS}")
        value[k], error[k] = max(0.0, here.mean()), here.std(ddof=1) / np.sqrt(len(here))
    return replace(noise, flicker_us2=value, flicker_se_us2=error)
