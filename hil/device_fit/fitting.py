"""Fit the device model to a table of cell readings, and say how well it predicts cells it has not seen.

Rows become readings by age and cell, cells are split in two (``hil.device_fit.readings``), one part is
fitted and the other judged (``hil.device_fit.goodness_of_fit``) beside two baselines: a Gaussian of the same cells,
and the published polynomial of Wan et al. (doi 10.1038/s41586-022-04992-8). The result is a calibration
record of kind ``table``: the laws of its cells are measured, its columns are nobody's.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import Wire
from cim.cells.programming_law import ProgrammingLaw
from cim.cells.read_noise import ReadNoise
from cim.cells.write_verify import WriteStatistics, write_statistics
from cim.fit.cells import MIN_CELLS, fit_read_variance, nearest_level
from cim.fit.programming import fit_programming
from cim.record.calibration import CalibrationRecord, CellState
from hil.device_fit.goodness_of_fit import AgeGoodness
from hil.device_fit.measured_tables import CellTable
from hil.device_fit.readings import Readings, level_knots

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The laws of a table's cells, and what could not be told."""

    programming: ProgrammingLaw
    read_noise: ReadNoise
    writes: WriteStatistics | None
    notes: tuple[str, ...]


def fit_cells(readings: Readings) -> Fitted:
    """Programming law, read noise and write statistics of these cells.

    Raises:
        cim.fit.cells.TooFewCells: a level has too few cells.
    """
    levels = level_knots(readings.targets_us)
    notes: list[str] = []
    noise = _read_noise(readings, levels, notes)
    states = np.where(readings.reached, CellState.GOOD, CellState.NOT_REACHED)
    law = fit_programming(
        readings.targets_us,
        readings.readings_us,
        states,
        ages_s=tuple(readings.ages_s.tolist()),
        reads=tuple(int(np.median(c[c > 0])) for c in readings.counts),
        levels_us=levels,
        read_noise=noise,
    )
    writes = None
    if readings.pulses is not None:
        writes = write_statistics(readings.targets_us, readings.reached, readings.pulses, levels)
    return Fitted(law, noise, writes, tuple(notes))


def _read_noise(readings: Readings, levels: Floats, notes: list[str]) -> ReadNoise:
    """From cells that were read twice at one age; zero, and a note, where there are too few."""
    near = nearest_level(readings.pair_targets_us, levels)
    if readings.pairs_us.shape[1] and np.bincount(near, minlength=len(levels)).min() >= MIN_CELLS:
        return fit_read_variance(readings.pairs_us, readings.pair_targets_us, levels)
    notes.append(
        "read noise cannot be told apart: too few cells were read twice at one age. It is 0 here, "
        "and what there is of it stays in the programming law"
    )
    return ReadNoise(levels, np.zeros(len(levels)), np.zeros(len(levels)))


def record_of(
    table: CellTable,
    fitted: Fitted,
    goodness: Sequence[AgeGoodness],
    *,
    temperature_c: float,
    method: str,
    base: CalibrationRecord | None = None,
) -> CalibrationRecord:
    """A record of kind ``table``: cells measured, no macros; wires and temperature from ``base`` if there is one."""
    scores: dict[str, float] = {}
    for row in goodness:
        name = f"{row.age_s:.3g}s"
        scores[f"programming_ks_{name}"] = row.law
        scores[f"gaussian_ks_{name}"] = row.gaussian
        if row.published is not None:
            scores[f"published_ks_{name}"] = row.published
    if goodness:
        scores["programming_ks"] = goodness[-1].law
    return CalibrationRecord(
        chip_name=table.name,
        revision="",
        serial=digest(table)[:16],
        firmware="",
        kind="table",
        spec_digest="",
        temperature_c=temperature_c,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        method=method,
        seed=0,
        age_s=float(fitted.programming.ages_s[-1]),
        macros={},
        programming=fitted.programming,
        read_noise=fitted.read_noise,
        wire=base.wire if base else Wire(0.0, 0.0),
        goodness=scores,
        thermal=base.thermal if base else None,
        writes=fitted.writes,
    )


def digest(table: CellTable) -> str:
    """SHA-256 of cells, times, readings and targets."""
    whole = hashlib.sha256()
    for values in (table.cell, table.time_s, table.conductance_us, table.target_us):
        whole.update(np.ascontiguousarray(values).tobytes())
    return whole.hexdigest()
