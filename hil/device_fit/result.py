"""``hil chip fit`` from a table to a record: fit on one part of the cells, judged on the other, in words.

Rows become readings by age and cell, cells are split in two (``hil.device_fit.measured_tables``), one part is
fitted (``cim.fit.cell_laws``) and the other judged (``cim.fit.goodness_of_fit``) beside two baselines: a
Gaussian of the same cells, and the published polynomial of Wan et al. (doi 10.1038/s41586-022-04992-8).
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cim.array.wire_law import Wire
from cim.fit.cell_laws import CellLaws, fit_cells
from cim.fit.goodness_of_fit import QUANTILES, AgeGoodness, judge_law
from cim.record.calibration import CalibrationRecord
from cim.record.file import load_record
from hil.calibration.account import plain
from hil.device_fit.measured_tables import ODD, QUARTER, CellTable, by_age, read_table, split
from hil.errors import FileError
from hil.pages.tables import Table, duration
from hil.watch import PlannedStage, Watch

HALVES = {ODD: "odd cell numbers", QUARTER: "a quarter of the cells, by a hash of their number"}
FEWEST = 1000  # held-out cells below this make a distance coarse


@dataclass(frozen=True, slots=True)
class FitResult:
    """A fitted record, its goodness of fit by age, and that on a second table if one was given."""

    record: CalibrationRecord
    fitted: CellLaws
    goodness: tuple[AgeGoodness, ...]
    cells: int
    held_out_cells: int
    held_out: str
    notes: tuple[str, ...]
    other: str = ""
    other_goodness: tuple[AgeGoodness, ...] = ()

    def lines(self) -> list[str | Table]:
        """The fit in words."""
        law = self.record.programming
        lines: list[str | Table] = [
            f"cells          {self.cells} fitted, {self.held_out_cells} held out ({HALVES[self.held_out]})",
            f"law            {law.tail.name} tail, {len(law.levels_us)} levels {law.levels_us[0]:.3g} to "
            f"{law.levels_us[-1]:.3g} µS, ages to {duration(float(law.ages_s[-1]))}",
            *(f"note           {note}" for note in self.notes),
        ]
        if len(law.ages_s) > 1:
            first, last = float(law.ages_s[0]), float(law.ages_s[-1])
            lines.append(
                f"memory         correlation of a cell's error from {duration(first)} to {duration(last)} "
                f"{law.correlation(first, last):.2f}, {law.memory_fresh_share:.0%} new at every read"
            )
        lines += ["", "held-out cells: Kolmogorov-Smirnov distance (0 is perfect; floor: a perfect law)"]
        lines.append(_distances(self.goodness))
        lines += ["", "quantiles of the error, µS: measured (held out) above, law below", _quantiles(self)]
        if self.other:
            lines += ["", f"the same law on {self.other}", _distances(self.other_goodness)]
        return lines

    def to_json(self) -> dict[str, Any]:
        return {
            "cells": self.cells,
            "held_out_cells": self.held_out_cells,
            "held_out": self.held_out,
            "unit": "µS",
            "notes": list(self.notes),
            "tail": self.record.programming.tail.name,
            "quantiles": list(QUANTILES),
            "goodness": [plain(row) for row in self.goodness],
            "other": self.other or None,
            "other_goodness": [plain(row) for row in self.other_goodness],
        }


def fit_source(
    table: Path,
    *,
    hold_out: str = QUARTER,
    ages_to_s: float | None = None,
    test_on: Path | None = None,
    base: Path | None = None,
    temperature_c: float = 25.0,
    watch: Watch | None = None,
) -> FitResult:
    """Fit the device model to a file with a table of cell readings.

    Args:
        table: file with one reading a row.
        hold_out: cells that judge the fit: ``odd`` or ``quarter``.
        ages_to_s: readings up to this age, s, are fitted; later ones judge.
        test_on: a second table that judges the fit.
        base: a record for the parts that a table does not determine.
        temperature_c: of the readings.
        watch: hears stages and progress.

    Returns:
        the record of the cells, and how far the law lies from held-out ones.

    Raises:
        FileError: a table is missing or broken.

    Example:
        >>> fit_source(Path("cells.csv")).cells
        356
    """
    watch = watch or Watch()
    watch.plan(expected_stages(another=test_on is not None))
    record = load_record(base) if base else None
    with watch.stage("reading"):
        cells = read_table(table)
        other = read_table(test_on) if test_on else None
    return fit_table(
        cells,
        held_out=hold_out,
        temperature_c=temperature_c,
        ages_to_s=ages_to_s,
        base=record,
        other=other,
        watch=watch,
    )


def expected_stages(*, another: bool) -> tuple[PlannedStage, ...]:
    """Stages of a fit of 16,292 cells and their usual time, s; ``another``: it is judged on a second table, too."""
    judged = (PlannedStage("judging", 5.0),) * (1 + another)
    return (PlannedStage("reading", 2.0), PlannedStage("fitting", 60.0), *judged)


def fit_table(
    table: CellTable,
    *,
    held_out: str = QUARTER,
    temperature_c: float = 25.0,
    ages_to_s: float | None = None,
    base: CalibrationRecord | None = None,
    other: CellTable | None = None,
    watch: Watch | None = None,
) -> FitResult:
    """Fit one part of a table's cells, judge on the rest, and make a record.

    Args:
        held_out: which cells judge, ``odd`` or ``quarter``.
        ages_to_s: fit readings up to this age only; later ages judge the extrapolation.
        base: a record that gives the parts that a table cannot.
        other: another table that the law is judged on, for instance another chip.

    Raises:
        FileError: nothing to fit or to judge with.
        cim.fit.cells.TooFewCells: a level has too few cells.
    """
    watch = watch or Watch()
    readings = by_age(table)
    test = split(readings.cells, held_out)
    if not test.any() or test.all():
        raise FileError(
            "the cells cannot be split into two", where=table.name, hint="hil chip fit --hold-out quarter or odd"
        )
    seen = readings.of(~test) if ages_to_s is None else readings.of(~test).until(ages_to_s)
    if not len(seen.ages_s):
        raise FileError(f"no reading up to {ages_to_s:g} s", where=table.name)
    with watch.stage("fitting"):
        fitted = fit_cells(seen, watch.step)
    with watch.stage("judging"):
        goodness = judge_law(fitted.programming, fitted.read_noise, seen, readings.of(test))
    notes = [*table.notes, *fitted.notes]
    if int(test.sum()) < FEWEST:
        notes.append(
            f"{int(test.sum())} held-out cells resolve a distance to about {0.87 / np.sqrt(test.sum()):.3f} only"
        )
    others: tuple[AgeGoodness, ...] = ()
    if other is not None:
        with watch.stage("judging"):
            others = judge_law(fitted.programming, fitted.read_noise, seen, by_age(other))
    until = "" if ages_to_s is None else f", ages to {ages_to_s:g} s"
    record = record_of(
        table,
        fitted,
        goodness,
        temperature_c=temperature_c,
        method=f"hil.fit 1.0, {HALVES[held_out]} held out{until}",
        base=base,
    )
    return FitResult(
        record,
        fitted,
        goodness,
        int((~test).sum()),
        int(test.sum()),
        held_out,
        tuple(notes),
        other.name if other else "",
        others,
    )


def _distances(rows: tuple[AgeGoodness, ...]) -> Table:
    header = ("age", "cells", "law", "Gaussian", "published", "floor", "")
    return Table(
        "Distances",
        header,
        tuple(
            (
                duration(row.age_s),
                f"{row.cells}",
                f"{row.law:.3f}",
                f"{row.gaussian:.3f}",
                "–" if row.published is None else f"{row.published:.3f}",
                f"{row.floor:.3f}",
                "extrapolated" if row.extrapolated else "",
            )
            for row in rows
        ),
    )


def _quantiles(result: FitResult) -> Table:
    pairs = [
        (name, values)
        for row in result.goodness
        for name, values in ((duration(row.age_s), row.measured_us), ("law", row.law_us))
    ]
    rows = tuple((name, *(f"{v:+.2f}".replace("-", "−") for v in values)) for name, values in pairs)
    return Table("Quantiles", ("age", *(f"{100 * q:g} %" for q in QUANTILES)), rows)


def record_of(
    table: CellTable,
    fitted: CellLaws,
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
