"""A table sorted by age and cell, and its cells split into those that fit and those that test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cim.fit.aged_readings import GAP, Flags, Floats, Readings
from hil.device_fit.measured_tables import CellTable
from hil.errors import FileError, UsageError

MAX_AGES = 64
MAX_READINGS = 100_000_000  # ages times cells
JUST_WRITTEN_S = 1e-3  # age given to readings at time 0
ODD, QUARTER = "odd", "quarter"


def by_age(table: CellTable) -> Readings:
    """Rows sorted into ages and cells; an age is the median time of its readings.

    Readings of one nominal time are one age; without nominal times, readings whose times have no
    gap of more than a factor 1.4 between them. Readings at time 0 of a table whose targets are
    first readings are those targets, and no age.

    Raises:
        FileError: no readings after programming, too many ages, or too many readings.
    """
    zero = (table.time_s if table.nominal_s is None else table.nominal_s) <= 0.0
    kept = ~zero if table.target_is_initial else np.ones(len(table), np.bool_)
    rows = table.part(kept)
    if not len(rows):
        raise FileError("no reading after time 0", where=table.name, hint="relaxation needs a later reading")
    group = _groups(rows)
    cells, at = np.unique(rows.cell, return_inverse=True)
    ages = int(group.max()) + 1
    if ages > MAX_AGES:
        raise FileError(
            f"{ages} different times, over {MAX_AGES}",
            where=table.name,
            hint="add a column nominal_s with the time that was planned",
        )
    if ages * len(cells) > MAX_READINGS:
        raise FileError(f"{ages} ages of {len(cells):,} cells, over {MAX_READINGS:,} in all", where=table.name)
    place = group * len(cells) + at
    counts = np.bincount(place, minlength=ages * len(cells))
    sums = np.bincount(place, rows.conductance_us, minlength=ages * len(cells))
    readings = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).reshape(ages, -1)
    times = np.array([float(np.median(rows.time_s[group == a])) for a in range(ages)])
    times = np.maximum(times, JUST_WRITTEN_S)
    order = np.argsort(times, kind="stable")
    if np.any(np.diff(times[order]) <= 0):
        raise FileError("two nominal times with the same times", where=table.name)
    first = np.unique(at, return_index=True)[1]
    pairs, pair_targets = _pairs(place, rows.conductance_us, rows.target_us)
    return Readings(
        cells,
        rows.target_us[first],
        times[order],
        readings[order],
        counts.reshape(ages, -1)[order],
        pairs,
        pair_targets,
        np.ones(len(cells), np.bool_) if rows.reached is None else rows.reached[first],
        None if rows.pulses is None else rows.pulses[first],
        rows.step,
    )


def _groups(rows: CellTable) -> NDArray[np.intp]:
    """Number of the age of each row."""
    if rows.nominal_s is not None:
        return np.asarray(np.unique(rows.nominal_s, return_inverse=True)[1], np.intp)
    log = np.log(np.maximum(rows.time_s, JUST_WRITTEN_S))
    order = np.argsort(log, kind="stable")
    new = np.diff(log[order], prepend=log[order][0]) > np.log(GAP)
    group = np.empty(len(log), np.intp)
    group[order] = np.cumsum(new)
    return group


def _pairs(place: NDArray[np.intp], readings: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """The first two readings of each cell and age that was read more than once."""
    order = np.argsort(place, kind="stable")
    sorted_place = place[order]
    start = np.flatnonzero(np.diff(sorted_place, prepend=-1))
    twice = start[np.append(np.diff(start), len(place) - start[-1]) > 1]
    return np.stack([readings[order[twice]], readings[order[twice + 1]]]), targets[order[twice]]


def split(cells: NDArray[np.int64], held_out: str, block: int = 1) -> Flags:
    """Which cells test: odd numbers, or a quarter of the blocks of ``block`` neighbouring numbers.

    The quarter is chosen by a hash of the block's number (the finaliser of SplitMix64), so that no
    pattern of the numbering, such as level = cell modulo 8, puts all cells of a level on one side.
    """
    if held_out == ODD:
        return np.asarray(cells % 2 == 1)
    if held_out != QUARTER:
        raise UsageError(f"hil fit --hold-out {held_out}", hint=f"one of {ODD}, {QUARTER}")
    x = (cells // block).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((x ^ (x >> np.uint64(31))) % np.uint64(4) == 3)
