"""Most plausible conductances of cells, given noisy readings: a point estimate; ``cim.record.device`` draws samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cim.cells.programming_law import law_at
from cim.record.calibration import STUCK, CalibrationRecord
from cim.record.device import OUTLIER

ROUNDS = 6  # of the iteration; the sixth moves no cell by 0.01 µS


def estimate_cells(
    targets_us: NDArray[np.floating],
    readings_us: NDArray[np.floating],
    reads: int,
    record: CalibrationRecord,
    macro: int,
    age_s: float,
) -> NDArray[np.float64]:
    """Conductances of this programming, given the mean of ``reads`` readings of each cell, µS.

    Prior of a cell: the law (``record.programming`` at ``age_s``), a normal of random width about
    m = target + loc. Reading R: Gaussian of variance σ² = read variance / reads. The most plausible G
    solves, with p(G) the expected 1 / width² of a cell at G (``Law.precision``),

        G = m + λ (R − m),   λ = 1 / (1 + p(G) σ²)

    iterated from G = R. A Gaussian law gives the rule of shrinkage. Stuck cells and readings beyond
    5 √(wide scale² + σ²) are believed as read, and so is everything when there is no read noise.

    Example: m = 20 µS, Gaussian law of 1 µS, σ² = 0.25 µS², R = 22 µS → λ = 0.8, G = 21.6 µS.

    Args:
        targets_us, readings_us: (rows, columns) µS, NaN where nothing is programmed (and in the result).
    """
    here = law_at(record.programming, np.nan_to_num(targets_us), age_s)
    middle = np.nan_to_num(np.asarray(targets_us, np.float64)) + here.loc_us
    readings = np.where(np.isnan(readings_us), middle, np.asarray(readings_us, np.float64))
    noise2 = record.read_noise.at(readings) / reads
    cells = readings
    for _ in range(ROUNDS):
        precision = here.precision(cells - np.nan_to_num(targets_us))
        cells = middle + (readings - middle) / (1.0 + precision * noise2)
    off = np.abs(readings - middle) > OUTLIER * np.sqrt(here.widest_us**2 + noise2)
    stuck = np.isin(record.macro(macro).cells, STUCK)
    return np.where(np.isnan(targets_us), np.nan, np.maximum(np.where(off | stuck, readings, cells), 0.0))
