"""Estimators of cells: read noise, from readings of a test pattern (the law: ``cim.fit.programming``).

All take plain arrays over cells; cells of several macros are simply concatenated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cim.cells.read_noise import ReadNoise
from cim.errors import CimMeasurementError

MIN_CELLS = 30  # fewer cells at a level say too little for three parameters
GLITCH_SIGMA = 12.0  # differences of two readings beyond this are a fault of the reading
CLEAR_SIGMA = 3.0  # mean readings lower than this are of cells whose readings end at 0

Floats = NDArray[np.float64]


class TooFewCells(CimMeasurementError, ValueError):
    """A level has too few good cells to fit; fields ``level_us``, ``found``, ``needed``."""

    def __init__(self, level_us: float, found: int) -> None:
        super().__init__(f"{found} good cells at {level_us:g} µS; a fit needs {MIN_CELLS}")
        self.level_us, self.found, self.needed = level_us, found, MIN_CELLS


def nearest_level(targets_us: NDArray[np.floating], levels_us: NDArray[np.floating]) -> NDArray[np.intp]:
    """Index of the level nearest to each target."""
    middles = (np.asarray(levels_us)[1:] + np.asarray(levels_us)[:-1]) / 2.0
    return np.searchsorted(middles, targets_us)


def levels_with_cells(levels_us: NDArray[np.floating], targets_us: NDArray[np.floating]) -> Floats:
    """Levels with enough cells for a fit; a small macro keeps fewer than it has, always the lowest and the highest.

    Step by step the inner level with too few cells is dropped, so that its cells count for the nearest level kept.

    Args:
        levels_us: ascending, µS.
        targets_us: of the cells, µS; NaN where a cell does not count.

    Example: a macro of 16 x 16 cells, half of them at the lowest of 8 levels, keeps 3 levels.
    """
    levels, targets = np.asarray(levels_us, np.float64), np.asarray(targets_us)[np.isfinite(targets_us)]
    while len(levels) > 2:
        cells = np.bincount(nearest_level(targets, levels), minlength=len(levels))
        if cells.min() >= MIN_CELLS:
            break
        levels = np.delete(levels, np.clip(cells.argmin(), 1, len(levels) - 2))
    return levels


def fit_read_variance(
    readings_us: NDArray[np.floating], targets_us: NDArray[np.floating], levels_us: NDArray[np.floating]
) -> ReadNoise:
    """Variance of the part of a cell that is new at every single read, by level.

        variance = mean over cells of the variance over reads (divisor reads − 1)

    Readings more than 12 robust sigma from their cell's mean are left out as glitches; the rest counts in full, tails
    included, since a column sums variances. Where readings are clipped at 0, the noise of cells near 0 would be
    underestimated: cells within 3 sigma of 0 are left out then, if enough cells remain.

    Args:
        readings_us: single reads, (reads ≥ 2, cells) µS.
        targets_us: (cells,) µS, sorts cells by level; NaN cells are left out.

    Example: two reads of 1,000 cells with noise of 1.3 µS give 1.69 ± 0.08 µS².
    """
    level = nearest_level(targets_us, levels_us)
    good = np.isfinite(targets_us) & np.isfinite(readings_us).all(0)
    variance, error = np.zeros(len(levels_us)), np.zeros(len(levels_us))
    spread = readings_us - readings_us.mean(0)
    per_cell = readings_us.var(0, ddof=1)
    for k in range(len(levels_us)):
        here = good & (level == k)
        if int(here.sum()) < MIN_CELLS:
            raise TooFewCells(float(levels_us[k]), int(here.sum()))
        sigma = 1.4826 * float(np.median(np.abs(spread[:, here]))) * np.sqrt(len(spread) / (len(spread) - 1.0))
        if np.any(readings_us[:, here] == 0.0):
            clear = here & (readings_us.mean(0) > CLEAR_SIGMA * sigma)
            here = clear if int(clear.sum()) >= MIN_CELLS else here
        kept = per_cell[here]
        if sigma > 0.0:
            kept = kept[(np.abs(spread[:, here]) <= GLITCH_SIGMA * sigma).all(0)]
        variance[k] = kept.mean()
        error[k] = kept.std(ddof=1) / np.sqrt(len(kept))
    return ReadNoise(np.asarray(levels_us, np.float64), variance, error)
