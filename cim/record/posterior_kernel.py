"""Gibbs sweeps of cells that were read back (``cim.record.device.draw_posterior``) as a numba kernel.

Cells are sampled one by one without temporary arrays; each cell draws only the numbers that it needs: χ² if wide, half
a normal on its chosen side. Imports numba and compiles at first use (cached on disk): import this module late.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

_inside: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
LOC, SCALE, DF, SHARE, SKEW, PEAK, ROWS = range(7)  # rows of the laws; PEAK: ln density of t(df) at 0
STUDENT, MIXTURE, STUDENT_MIXTURE = range(3)
LEAST_NOISE2 = 1e-12  # µS²
ROOT = 0.5 * math.log(2.0 * math.pi)


@njit(inline="always", **_inside)
def _width(error: float, law: Any, tail: int, ratio: float, rng: Any) -> float:
    """Draw the standard deviation in µS, before skew, of the normal that a cell's error came from."""
    away = error - law[LOC]
    kappa = math.exp(law[SKEW])
    u = abs(away) / (law[SCALE] * (kappa if away >= 0.0 else 1.0 / kappa))
    far2, df = (u / ratio) ** 2, law[DF]
    if tail != STUDENT:
        narrow = (1.0 - law[SHARE]) * math.exp(-0.5 * u * u - ROOT) + 1e-300
        rest = -0.5 * far2 - ROOT if tail == MIXTURE else law[PEAK] - (df + 1.0) / 2.0 * math.log1p(far2 / df)
        wide = law[SHARE] / ratio * math.exp(rest)
        if rng.random() * (narrow + wide) >= wide:
            return float(law[SCALE])
    width = law[SCALE] * ratio
    if tail != MIXTURE:
        width *= math.sqrt((df + far2) / (2.0 * rng.standard_gamma((df + 1.0) / 2.0)))
    return float(width)


@njit(inline="always", **_inside)
def _beyond(least: float, rng: Any) -> float:
    """Draw a standard normal above ``least`` (C. P. Robert 1995, doi 10.1007/BF00143942)."""
    if least <= 0.0:
        while True:
            z = rng.standard_normal()
            if z > least:
                return float(z)
    rate = 0.5 * (least + math.sqrt(least * least + 4.0))
    while True:
        z = least - math.log1p(-rng.random()) / rate
        if rng.random() <= math.exp(-0.5 * (z - rate) ** 2):
            return float(z)


@njit(inline="always", **_inside)
def _away(read: float, width: float, skew: float, noise2: float, rng: Any) -> float:
    """Draw a cell's distance from the centre of its law, given ``read``, for a normal of ``width`` skewed by κ, µS."""
    if skew == 0.0:
        shrink = width**2 / (width**2 + noise2)
        return float(shrink * read + math.sqrt(shrink * noise2) * rng.standard_normal())
    noise2 = max(noise2, LEAST_NOISE2)
    prior_up, prior_down = (width * math.exp(skew)) ** 2, (width * math.exp(-skew)) ** 2
    total_up, total_down = prior_up + noise2, prior_down + noise2
    mean_up, mean_down = prior_up / total_up * read, -prior_down / total_down * read
    sd_up, sd_down = math.sqrt(prior_up / total_up * noise2), math.sqrt(prior_down / total_down * noise2)
    part_up = math.erfc(-mean_up / sd_up * math.sqrt(0.5))  # twice the share of the half line
    part_down = math.erfc(-mean_down / sd_down * math.sqrt(0.5))
    lift = 0.5 * read * read * (1.0 / total_down - 1.0 / total_up) + 2.0 * skew  # ln of up over down
    odds = part_up / math.sqrt(total_up) * math.exp(min(lift, 600.0)) * math.sqrt(total_down)
    if rng.random() * (odds + part_down) < odds:
        return float(mean_up + sd_up * _beyond(-mean_up / sd_up, rng))
    return float(-(mean_down + sd_down * _beyond(-mean_down / sd_down, rng)))


@njit(**_inside)
def sweep(
    readings: Any, targets: Any, noise2: Any, which: Any, laws: Any, tail: int, ratio: float, sweeps: int, rng: Any
) -> Any:
    """Conductances of cells given their readings, after so many sweeps from the readings: float64 (n,) µS.

    Args:
        readings, targets, noise2: (n,) µS, µS and µS²; the middle of a cell's errors is target + loc.
        which: (n,) row of each cell's law in ``laws`` (laws, ROWS); ``tail`` and ``ratio`` are those of all.
        rng: ``numpy.random.Generator``; the number of draws depends on the readings.
    """
    cells = np.empty(readings.size)
    for i in range(readings.size):
        law = laws[which[i]]
        middle, cell = targets[i] + law[LOC], readings[i]
        for _ in range(sweeps):
            width = _width(cell - targets[i], law, tail, ratio, rng)
            cell = middle + _away(readings[i] - middle, width, law[SKEW], noise2[i], rng)
        cells[i] = cell
    return cells
