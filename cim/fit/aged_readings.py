"""Readings of cells at several ages, from a lab's table or a calibration, and the levels at which a law is fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.fit.cells import MIN_CELLS

GAP = 10**0.15  # times closer than this factor are one age
MOST_LEVELS = 64  # more distinct targets than this are a continuum, and get KNOTS levels
KNOTS = 16

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings by age and cell. ``cells``, ``targets_us``, ``states``, ``pulses`` are (n,), the other arrays (ages, n).

    ``readings_us`` is the mean of ``counts`` readings, NaN where there is none. ``pairs_us``
    (2, m) and ``pair_targets_us`` (m,) are two readings of one cell at one age.
    """

    cells: NDArray[np.int64]
    targets_us: Floats
    ages_s: Floats
    readings_us: Floats
    counts: NDArray[np.int64]
    pairs_us: Floats
    pair_targets_us: Floats
    states: NDArray[np.int8]  # ``CellState``
    pulses: NDArray[np.int64] | None
    step: float = 0.0  # readings are whole multiples of this

    def of(self, kept: Flags) -> Readings:
        """Readings of the cells for which ``kept`` is true."""
        return Readings(
            self.cells[kept],
            self.targets_us[kept],
            self.ages_s,
            self.readings_us[:, kept],
            self.counts[:, kept],
            self.pairs_us,
            self.pair_targets_us,
            self.states[kept],
            None if self.pulses is None else self.pulses[kept],
            self.step,
        )

    def until(self, age_s: float) -> Readings:
        """Ages up to ``age_s`` only."""
        kept = self.ages_s <= age_s * GAP
        return Readings(
            self.cells,
            self.targets_us,
            self.ages_s[kept],
            self.readings_us[kept],
            self.counts[kept],
            self.pairs_us,
            self.pair_targets_us,
            self.states,
            self.pulses,
            self.step,
        )


def level_knots(targets_us: Floats) -> Floats:
    """Levels at which a law is fitted: the distinct targets, or medians of 16 even bins of many different targets.

    Bins with fewer than 30 cells join the next one.
    """
    distinct, counts = np.unique(targets_us, return_counts=True)
    if len(distinct) <= MOST_LEVELS and counts.min() >= MIN_CELLS:
        return np.asarray(distinct, np.float64)
    low, high = np.quantile(targets_us, [0.002, 0.998])
    edges = np.linspace(low, high, KNOTS + 1)
    where = np.clip(np.searchsorted(edges, targets_us, side="right") - 1, 0, KNOTS - 1)
    knots, gathered = [], np.zeros(0)
    for k in range(KNOTS):
        gathered = np.append(gathered, targets_us[where == k])
        if len(gathered) >= 4 * MIN_CELLS:
            knots.append(float(np.median(gathered)))
            gathered = np.zeros(0)
    return np.asarray(knots or [float(np.median(targets_us))])
