"""All laws of the cells of a table at once: programming, read noise and writing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cim.cells.programming_law import ProgrammingLaw
from cim.cells.read_noise import ReadNoise
from cim.cells.write_statistics import WriteStatistics, write_statistics
from cim.fit.aged_readings import Floats, Readings, level_knots
from cim.fit.cells import MIN_CELLS, fit_read_variance, nearest_level
from cim.fit.programming import fit_programming
from cim.record.calibration import CellState


@dataclass(frozen=True, slots=True)
class CellLaws:
    """The laws fitted to a table's cells, and the values that the table does not determine."""

    programming: ProgrammingLaw
    read_noise: ReadNoise
    writes: WriteStatistics | None
    notes: tuple[str, ...]


def fit_cells(
    readings: Readings,
    progress: Callable[[int, int, str], None] | None = None,
    *,
    levels_us: Floats | None = None,
    noise: ReadNoise | None = None,
    knots_s: Sequence[float] | None = None,
) -> CellLaws:
    """Programming law, read noise and write statistics of these cells.

    Args:
        levels_us, knots_s: levels (µS) and ages (s) at which the law is fitted; None: chosen from the readings.
        noise: read noise where it is known; None: estimated from pairs of readings.
        progress: called with (steps done, steps in all, name of the current step).

    Raises:
        cim.fit.cells.TooFewCells: a level has too few cells.
    """
    levels = level_knots(readings.targets_us) if levels_us is None else levels_us
    notes: list[str] = []
    noise = noise or _read_noise(readings, levels, notes)
    law = fit_programming(
        readings.targets_us,
        readings.readings_us,
        readings.states,
        ages_s=tuple(readings.ages_s.tolist()),
        reads=tuple(int(np.median(c[c > 0])) for c in readings.counts),
        levels_us=levels,
        read_noise=noise,
        progress=progress,
        knots_s=knots_s,
    )
    writes = None
    if readings.pulses is not None:
        reached = readings.states != CellState.NOT_REACHED
        writes = write_statistics(readings.targets_us, reached, readings.pulses, levels)
    return CellLaws(law, noise, writes, tuple(notes))


def _read_noise(readings: Readings, levels: Floats, notes: list[str]) -> ReadNoise:
    """Read noise from cells that were read twice at one age; zero, with a note, where there are too few."""
    near = nearest_level(readings.pair_targets_us, levels)
    if readings.pairs_us.shape[1] and np.bincount(near, minlength=len(levels)).min() >= MIN_CELLS:
        return fit_read_variance(readings.pairs_us, readings.pair_targets_us, levels)
    notes.append(
        "read noise cannot be separated: too few cells were read twice at one age. It is 0 here, "
        "and what there is of it stays in the programming law"
    )
    return ReadNoise(levels, np.zeros(len(levels)), np.zeros(len(levels)))
