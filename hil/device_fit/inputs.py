"""What ``hil fit`` is pointed at: a table of cells over time, noise traces, or a bench's sweeps."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.array.cell_iv import CellCurrent, VoltageSweep, fit_cell_current
from cim.cells.pulse_steps import PulseSteps, PulseSweep, fit_pulse_steps
from cim.fit.read_noise import Spectrum, Telegraph, detect_telegraph, fit_spectrum
from cim.record.file import load_record
from hil.calibration.record_text import plain
from hil.device_fit.aihwkit_state import SUFFIXES
from hil.device_fit.measured_tables import CellTable, read_table
from hil.device_fit.product_tables import ProductResult, fit_products
from hil.device_fit.public_sets import SETS, Sweeps, read_bench, read_cells, read_traces
from hil.device_fit.pulse_ramps import RampResult, fit_ramps, is_ramps
from hil.device_fit.readings import QUARTER
from hil.device_fit.result import FitResult, fit_table
from hil.errors import FileError, UsageError
from hil.pages.tables import Table
from hil.watch import PlannedStage, Watch

TRACES, BENCH = "levy-tech-a", "bench"
BAKE_EDGES_US = (0.0, 15.0, 30.0, 60.0, 90.0, 120.0, 1e9)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Unsaid:
    """What a file needs and does not say, by whoever has it.

    ``ideal``: what was meant, in a file of its own (ideal products, AIHWKit's state before programming); ``age_s`` of
    cells (AIHWKit); ``read_v`` of currents (ramps of pulses); ``us_per_level`` of readings that are levels;
    ``temperature_c`` that it was measured at.
    """

    ideal: Path | None = None
    age_s: float | None = None
    read_v: float | None = None
    us_per_level: float | None = None
    temperature_c: float = 25.0

    def __post_init__(self) -> None:
        if self.us_per_level is not None and not 0 < self.us_per_level < 1e3:
            raise UsageError(f"{self.us_per_level:g} µS a level, not between 0 and 1000")


NOTHING = Unsaid()


def fit_source(
    table: Path | None,
    public: str | None,
    data: Path | None,
    *,
    hold_out: str | None = None,
    ages_to_s: float | None = None,
    test_on: str | None = None,
    base: Path | None = None,
    unsaid: Unsaid = NOTHING,
    record_wanted: bool = False,
    watch: Watch | None = None,
) -> FitResult | TraceResult | BenchResult | ProductResult | RampResult:
    """Fit a table or a public set.

    Args:
        table, public: exactly one of them.
        data: where public sets lie.
        hold_out: cells kept out of the fit: odd or quarter.
        ages_to_s: readings up to this age, s, are fitted; later ones judge.
        test_on: a second table that judges the fit.
        base: chip file whose array and converters a record takes.
        unsaid: what the file needs and does not say.
        record_wanted: refuse what gives no record.
        watch: hears stages and progress; None: nobody does.

    Returns:
        the fit of cells, or of traces, pulses, products or ramps, whichever the source holds.

    Raises:
        UsageError: neither or both named, or a record wanted of what gives none.
        FileError: the table or set is missing or broken.

    Example:
        >>> fit_source(Path("cells.csv"), None, None).cells
        356
    """
    if (table is None) == (public is None):
        raise UsageError(
            "name one table or one public set", hint=f"hil fit TABLE.csv, or --set with one of {', '.join(SETS)}"
        )
    if public in (TRACES, BENCH) and record_wanted:
        raise UsageError(
            f"{public} holds no cells over time, so that no record comes of it",
            hint="leave -o out: it prints what it fits",
        )
    watch, record = watch or Watch(), load_record(base) if base else None
    if table is not None and (other_kind := _without_cells(table, unsaid, record_wanted)) is not None:
        return other_kind
    watch.plan(expected_stages(another=bool(test_on)))
    if public in (TRACES, BENCH):
        with watch.stage("fitting"):
            return TraceResult.of(*read_traces(data)) if public == TRACES else BenchResult.of(read_bench(data))
    with watch.stage("reading"):
        read = read_cells(public, data) if public else read_table(str(table), unsaid.ideal, unsaid.age_s)
        cells = in_siemens(read, unsaid.us_per_level)
        other = in_siemens(_other(test_on, data), unsaid.us_per_level) if test_on else None
    if record_wanted and cells.unit != "µS":
        raise UsageError(
            f"{cells.name} is in {cells.unit}: a record needs µS",
            hint="hil fit --us-per-level NUMBER, if you know it; without -o the fit is printed",
        )
    known = SETS.get(public or "")
    return fit_table(
        cells,
        held_out=hold_out or (known.held_out if known else QUARTER),
        block=known.block if known else 1,
        temperature_c=unsaid.temperature_c,
        ages_to_s=ages_to_s,
        base=record,
        other=other,
        watch=watch,
    )


def _without_cells(table: Path, unsaid: Unsaid, record_wanted: bool) -> ProductResult | RampResult | None:
    """The fit of a file that holds no cells over time: products beside ideal ones, or ramps of pulses."""
    ideal, read_v = unsaid.ideal, unsaid.read_v
    products = ideal is not None and table.suffix.lower() not in SUFFIXES
    ramps = not products and is_ramps(table)
    if (products or ramps) and record_wanted:
        raise UsageError(
            f"{table.name} holds {'products' if products else 'ramps of pulses'}, no cells over time: no record of it",
            hint="leave -o out: it prints what it fits",
        )
    if products and ideal is not None:
        return fit_products(table, ideal)
    if ramps and read_v is None:
        raise UsageError(f"{table.name} holds currents: read at which voltage?", hint=f"hil fit {table} --read-v 0.1")
    return fit_ramps(table, read_v) if ramps and read_v is not None else None


def expected_stages(*, another: bool) -> tuple[PlannedStage, ...]:
    """Stages of a fit and about how long they take, s: hil fit --set levy-tech-c; ``another``: judged on one more."""
    judged = (PlannedStage("judging", 5.0),) * (1 + another)
    return (PlannedStage("reading", 2.0), PlannedStage("fitting", 60.0), *judged)


def _other(name: str, data: Path | None) -> CellTable:
    return read_cells(name, data) if name in SETS else read_table(name)


def in_siemens(table: CellTable, us_per_level: float | None) -> CellTable:
    """A table in levels as µS, if someone says what a level is."""
    if us_per_level is None or table.unit == "µS":
        return table
    return replace(
        table,
        conductance_us=table.conductance_us * us_per_level,
        target_us=table.target_us * us_per_level,
        notes=(*table.notes, f"one level taken as {us_per_level:g} µS, as requested"),
        unit="µS",
        step=table.step * us_per_level,
    )


# --- noise traces -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TraceResult:
    """Spectra and telegraph noise of single cells."""

    spectra: tuple[Spectrum, ...]
    telegraph: Telegraph
    samples: int
    interval_s: float
    record: None = None

    @classmethod
    def of(cls, traces_us: Floats, interval_s: float) -> TraceResult:
        spectra = tuple(fit_spectrum(t, 1.0 / interval_s) for t in traces_us)
        return cls(spectra, detect_telegraph(traces_us.T), traces_us.shape[1], interval_s)

    def lines(self) -> list[str | Table]:
        t, rows = self.telegraph, []
        for k, s in enumerate(self.spectra):
            word = f"step {t.step_us[k]:.2f} µS, high {t.high_share[k]:.0%} of the time" if t.found[k] else "none seen"
            rows.append((f"{s.mean_us:.1f}", f"{s.slope:.2f}", f"{s.relative:.2g}", word))
        return [
            f"traces         {len(self.spectra)} cells, {self.samples} reads {1e3 * self.interval_s:g} ms apart",
            "note           too few cells for a population: they show the shape of the noise, not its shares",
            "",
            Table("Traces", ("mean µS", "slope", "A / G²", "telegraph noise"), tuple(rows)),
        ]

    def to_json(self) -> dict[str, Any]:
        cells = [
            {
                "mean_us": s.mean_us,
                "slope": s.slope,
                "relative": s.relative,
                "telegraph": bool(self.telegraph.found[k]),
                "step_us": float(self.telegraph.step_us[k]),
            }
            for k, s in enumerate(self.spectra)
        ]
        return {"samples": self.samples, "interval_s": self.interval_s, "cells": cells}


# --- bench ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Non-linearity, pulse steps and bake shifts of a bench; bakes as rows of numbers by level."""

    current: CellCurrent
    steps: PulseSteps
    bakes: dict[int, tuple[tuple[float, float, int, float, float], ...]]  # °C: low, high, cells, median, robust sd
    record: None = None

    @classmethod
    def of(cls, sweeps: Sweeps) -> BenchResult:
        def sweep(rows: Floats) -> PulseSweep:
            return PulseSweep(rows[:, 1], rows[:, 2], rows[:, 3], 1e6 / rows[:, 4], 1e6 / rows[:, 5])

        return cls(
            fit_cell_current(voltage_sweep(sweeps.iv)),
            fit_pulse_steps(sweep(sweeps.set_), sweep(sweeps.reset)),
            {degrees: _bake(*cells) for degrees, cells in sweeps.bakes.items()},
        )

    def lines(self) -> list[str | Table]:
        points = zip(self.current.conductance_us, self.current.k_per_v2, self.current.se_per_v2, strict=True)
        s = self.steps
        steps = zip(s.wl_v, s.set_median_us, s.set_sigma_us, strict=True)
        resets = zip(s.reset_wl_v, s.reset_share, strict=True)
        lines: list[str | Table] = [
            "I-V: I = G V (1 + k V²)",
            Table("I-V", ("µS", "k, 1/V²"), tuple((f"{g:.1f}", f"{k:.2f} ± {se:.2f}") for g, k, se in points)),
            "",
            "SET: where a pulse takes a cell",
            Table(
                "SET",
                ("word line V", "median µS", "sigma µS"),
                tuple((f"{v:.2f}", f"{m:.1f}", f"{d:.1f}") for v, m, d in steps),
            ),
            f"  pulse width: {100 * s.width_per_decade:+.1f} % a decade",
            "",
            f"RESET: share of cells that one pulse switches; they land at {s.land_median_us:.1f} µS",
            Table("RESET", ("word line V", "switched"), tuple((f"{v:.2f}", f"{q:.0%}") for v, q in resets)),
        ]
        for degrees, table in self.bakes.items():
            rows = tuple((f"{a:.0f}–{_top(b)}", f"{n}", f"{m:+.1f}", f"{d:.1f}") for a, b, n, m, d in table)
            bake = Table("Bake", ("µS before", "cells", "median", "sd"), rows)
            lines += ["", f"bake at {degrees} °C: shift, µS", bake]
        return [*lines, "", "note           bake times are not said by the source: no activation energy comes of them"]

    def to_json(self) -> dict[str, Any]:
        return {
            "current": plain(self.current),
            "steps": plain(self.steps),
            "bakes": {
                str(d): [
                    dict(zip(("low_us", "high_us", "cells", "median_us", "robust_sd_us"), row, strict=True))
                    for row in t
                ]
                for d, t in self.bakes.items()
            },
        }


def voltage_sweep(iv: Floats) -> VoltageSweep:
    """Rows of cell, V, A as currents of cells over voltages.

    Raises:
        FileError: cells that were swept over different voltages.
    """
    rows = iv[np.lexsort((iv[:, 1], iv[:, 0]))]
    cells = len(np.unique(rows[:, 0]))
    steps = len(rows) // cells
    if len(rows) % cells or np.any(rows[:, 1].reshape(cells, steps) != rows[:steps, 1]):
        raise FileError("cells are swept over different voltages", where=f"{BENCH}: read_voltage_sweep")
    return VoltageSweep(rows[:steps, 1], rows[:, 2].reshape(cells, steps))


def _bake(before_us: Floats, after_us: Floats) -> tuple[tuple[float, float, int, float, float], ...]:
    rows = []
    for low, high in itertools.pairwise(BAKE_EDGES_US):
        moved = (after_us - before_us)[(before_us >= low) & (before_us < high)]
        if len(moved):
            middle = float(np.median(moved))
            rows.append((low, high, len(moved), middle, 1.4826 * float(np.median(np.abs(moved - middle)))))
    return tuple(rows)


def _top(value: float) -> str:
    return "…" if value > 1e6 else f"{value:.0f}"
