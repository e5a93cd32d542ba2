"""The account of a calibration record: what was measured, how surely, how well it fits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.cells.laws.tail import Tail
from cim.cells.programming_law import law_at
from cim.cells.write_statistics import WriteStatistics
from cim.record.calibration import CalibrationRecord, CellState, GainKnown
from hil.pages.account import Account, Plot, Section
from hil.pages.figures import Figure, axis, block_largest, figure, line, mosaic, packed
from hil.pages.summary import Fact, Summary
from hil.pages.tables import Table, duration

OF_CELLS = {"table": "fitted to a table of cells", "model": "published models"}
MOST_LEVELS = 16  # rows of a table by level
NOT_APART = "not separated from the programming law"
LINES = 48  # of targets along the levels
COLOURS = 12  # of page.css: layer0 … layer11


def account_of(record: CalibrationRecord) -> Account:
    """Everything that a record holds, columns and cells summed up."""
    return Account(
        first_of(record),
        tuple(_sections(record)),
        title=f"calibration of {record.chip_name} {record.serial}",
        subtitle=f"serial {record.serial} · {record.method} · {record.date}",
    )


def first_of(record: CalibrationRecord) -> Summary:
    """The first lines of a record's account: which chip, which kind of measurement, and the main figures."""
    of = OF_CELLS.get(record.kind)
    if of is not None:
        mark = f"CELLS ONLY · {of}; columns are taken as a chip file says"
    else:
        silicon = record.kind == "silicon"
        mark = "" if silicon else f"NOT SILICON · an {record.kind} chip answered; nothing was measured on hardware"
    return Summary(f"calibration of {record.chip_name}", mark, parts=tuple(_facts(record)))


def _facts(record: CalibrationRecord) -> Iterator[Fact]:
    law, wire, parts = record.programming, record.wire, record.macros.values()
    if record.kind in OF_CELLS:
        digest = f", digest {record.serial}…" if record.serial else ""
        yield Fact("cells of", f"{record.chip_name} ({OF_CELLS[record.kind]}{digest})")
    else:
        yield Fact("chip", f"{record.kind} {record.chip_name}, serial {record.serial}")
    measured = f"{len(record.macros) or 'none'} measured"
    yield Fact("macros", f"{measured}, cells to {duration(record.age_s)} and at {record.temperature_c:g} °C")
    if record.macros:
        states = np.concatenate([m.cells.ravel() for m in parts])
        low, high, missed = (float((states == s).mean()) for s in list(CellState)[1:4])
        yield Fact("cells", f"stuck low {low:.2%}, stuck high {high:.2%}, not reached {missed:.2%}")
    ks = f"; held-out KS {record.goodness['programming_ks']:.3f}" if "programming_ks" in record.goodness else ""
    shift, scale = law.loc_us[-1], law.scale_us[-1]
    moved = f"shift {shift.min():+.2f} to {shift.max():+.2f} µS"
    yield Fact("programming", f"{moved}, scale {scale.min():.2f} to {scale.max():.2f} µS{ks}")
    apart = _known(record)
    yield Fact("read noise", f"{record.read_noise.variance_us2.mean():.2f} µS² a read" if apart else NOT_APART)
    if record.macros:
        gain, offset = (np.concatenate([getattr(m, name) for m in parts]) for name in ("gain", "offset_codes"))
        sense = all(m.gain_known is GainKnown.SENSE for m in parts)
        more = "" if sense else "times that of the cell read path: only the product is seen"
        yield Fact("column gain", f"{gain.mean():.4f} ± {gain.std():.4f}", more)
        yield Fact("column offset", f"{offset.mean():+.2f} ± {offset.std():.2f} codes")
    yield Fact("wires", f"{wire.ohm:.2f} ± {wire.ohm_se:.2f} Ω a cell")
    if (drive := record.drive) is not None:
        worst = int(np.abs(drive.errors).argmax())
        off = (
            f"{drive.errors[worst]:+.3f} ± {drive.units_se[worst]:.3f} steps at unit {worst} of {len(drive.units) - 1}"
        )
        yield Fact("row drivers", f"{off}, rms {np.sqrt(np.mean(drive.errors[1:-1] ** 2)):.3f} steps")
    if (r2 := record.goodness.get("columns_r2")) is not None:
        residual = record.goodness.get("columns_residual_codes")
        yield Fact(
            "columns", f"held-out R² {r2:.5f}" + ("" if residual is None else f", residual {residual:.2f} codes")
        )
    if record.macros:
        yield Fact("wear", f"{record.pulses} pulses")


def _sections(record: CalibrationRecord) -> Iterator[Section]:
    shift = Plot("shift", "Mean of the middle of the errors, conductance − target.", law_figure(record, "shift"))
    spread = Plot("spread", "Half the distance of the 16 % and 84 % quantiles.", law_figure(record, "spread"))
    yield Section("Programming and relaxation", (shift, spread, _law(record), _law_facts(record)))
    yield Section("Read noise", (_noise(record) if _known(record) else None,))
    if record.drive is not None:
        errors = enumerate(zip(record.drive.errors, record.drive.units_se, strict=True))
        rows = tuple((f"{unit}", f"{error:+.4f} ± {se:.4f}") for unit, (error, se) in errors)
        yield Section("Row drivers", (Table("Row drivers", ("unit", "error, steps"), rows),))
    if record.writes is not None:
        yield Section("Write-verify", (_writes(record.writes),))
    if record.macros:
        gain = Plot("gain", "Gain of each conversion; one row a macro.", gain_figure(record))
        cells = Plot("stuck", "Blue: stuck low. Orange: stuck high. Pale: not reached.", stuck_figure(record))
        yield Section("Columns and cells", (gain, cells, _macros(record)))
    good = tuple((name.replace("_", " "), f"{value:.5g}") for name, value in record.goodness.items())
    yield Section("Goodness", (Table("Goodness", ("held-out measurement", "value"), good) if good else None,))
    names = ("kind", "chip_name", "serial", "revision", "firmware", "spec_digest", "date", "method", "seed", "pulses")
    rows = tuple((n.replace("_", " "), str(getattr(record, n)) or "not said") for n in names)
    yield Section("Provenance", (Table("Provenance", ("", ""), rows),))


# --- tables and figures -----------------------------------------------------------------------


def _law(record: CalibrationRecord) -> Table:
    law = record.programming
    header = ("after programming", "level µS", "shift", "scale", "df", *(("wide share",) if law.tail.mixed else ()))
    rows = tuple(
        (
            duration(float(age)),
            f"{law.levels_us[k]:.2f}",
            f"{law.loc_us[a, k]:+.3f} ± {law.loc_se_us[a, k]:.3f}",
            f"{law.scale_us[a, k]:.3f} ± {law.scale_se_us[a, k]:.3f}",
            f"{law.df[a, k]:.2f}",
            *((f"{law.wide_share[a, k]:.3f}",) if law.tail.mixed else ()),
        )
        for a, age in enumerate(law.ages_s)
        for k in evenly(len(law.levels_us), MOST_LEVELS)
    )
    many = len(law.levels_us) > MOST_LEVELS
    some = f" {MOST_LEVELS} of {len(law.levels_us)} levels; --json has all." if many else ""
    return Table("Programming", header, rows, f"Error = conductance − target, µS; tail: {law.tail.name}.{some}")


def _law_facts(record: CalibrationRecord) -> Table:
    """Shares of cells, their memory, and what temperature does."""
    law, thermal = record.programming, record.thermal
    shares = (
        f"unreached {law.unreached_share:.2%}, stuck low {law.stuck_low_share:.2%}, high {law.stuck_high_share:.2%}"
    )
    rows = [("cells", shares)]
    if len(law.ages_s) > 1:
        first, last = float(law.ages_s[0]), float(law.ages_s[-1])
        alike = (
            f"correlate by {law.correlation(first, last):.2f}, {law.memory_fresh_share:.0%} of their variance is new"
        )
        rows.append(("memory", f"errors of a cell at {duration(first)} and {duration(last)} {alike} at every read"))
    if thermal is not None:
        t = thermal
        rows += [
            ("reference temperature", f"{t.reference_c:g} °C"),
            ("conductance", f"{100 * t.conductance_per_k:+.4f} ± {100 * t.conductance_per_k_se:.4f} % a kelvin"),
            ("read variance", f"{100 * t.read_variance_per_k:+.3f} ± {100 * t.read_variance_per_k_se:.3f} % a kelvin"),
            ("relaxation", f"{t.activation_ev:.3f} ± {t.activation_ev_se:.3f} eV"),
        ]
    return Table("Cells over time and temperature", ("", ""), tuple(rows))


def _known(record: CalibrationRecord) -> bool:
    """Whether the record holds a read noise other than zero."""
    return bool(record.read_noise.variance_us2.any() or record.read_noise.flicker_us2.any())


def _noise(record: CalibrationRecord) -> Table:
    noise = record.read_noise
    rows = tuple(
        (
            f"{noise.levels_us[k]:.2f}",
            f"{noise.variance_us2[k]:.4f} ± {noise.se_us2[k]:.4f}",
            f"{noise.flicker_us2[k]:.4f} ± {noise.flicker_se_us2[k]:.4f}",
            f"{noise.telegraph_share[k]:.1%} of {noise.telegraph_us[k]:.2f} µS",
        )
        for k in evenly(len(noise.levels_us), MOST_LEVELS)
    )
    header = ("level µS", "one read", "flicker a decade", "telegraph")
    return Table("Read noise", header, rows, f"Variance, µS²; flicker 1/f^{noise.flicker_exponent:.2f}.")


def _writes(w: WriteStatistics) -> Table:
    low, high = w.success_interval()
    shown = [int(np.abs(w.pulse_points - q).argmin()) for q in (0.5, 0.9, 0.99)]
    header = (
        "level µS",
        "cells",
        "reached",
        "95 % interval",
        *(f"{100 * w.pulse_points[i]:g} % pulses" for i in shown),
    )
    rows = tuple(
        (
            f"{w.levels_us[k]:.2f}",
            f"{int(w.cells[k])}",
            f"{int(w.reached[k]) / int(w.cells[k]):.2%}",
            f"{low[k]:.2%} to {high[k]:.2%}",
            *(f"{w.pulses[k, i]:.0f}" for i in shown),
        )
        for k in range(len(w.levels_us))
        if int(w.cells[k])
    )
    return Table("Write-verify", header, rows)


def _macros(record: CalibrationRecord) -> Table:
    header = ("macro", "gain", "median se", "offset, codes", "median se", "noise", "INL", "stuck", "missed")
    rows = tuple(
        (
            f"{number}",
            f"{m.gain.mean():.4f} ± {m.gain.std():.4f}",
            f"{np.median(m.gain_se):.5f}",
            f"{m.offset_codes.mean():+.2f} ± {m.offset_codes.std():.2f}",
            f"{np.median(m.offset_se):.4f}",
            f"{m.conversion_noise_codes.mean():.2f}",
            f"{np.abs(m.inl_codes).max():.2f}",
            f"{np.isin(m.cells, (CellState.STUCK_LOW, CellState.STUCK_HIGH)).mean():.2%}",
            f"{(m.cells == CellState.NOT_REACHED).mean():.2%}",
        )
        for number, m in sorted(record.macros.items())
    )
    return Table("Macros", header, rows)


def law_figure(record: CalibrationRecord, of: str) -> Figure:
    """Plot the median or the robust spread of the programming errors against the level, with one line for each age."""
    law, data = record.programming, []
    targets = np.linspace(law.levels_us[0], law.levels_us[-1], LINES)
    for a, age in enumerate(law.ages_s):
        here = law_at(law, targets, float(age))
        values = here.quantile(np.zeros(LINES)) if of == "shift" else here.spread_us()
        curve = line(packed(targets), packed(values), f"@layer{a % COLOURS}", "%{y:.2f} µS")
        data.append({**curve, "name": duration(float(age))})
    y = axis("shift (median), µS") if of == "shift" else axis("spread, µS", rangemode="tozero")
    return figure(data, 320, x=axis("target, µS"), y=y, showlegend=True)


def gain_figure(record: CalibrationRecord) -> Figure:
    """Heat map of column gains: one row for each macro, one point for each conversion."""
    rows = [m.gain for _, m in sorted(record.macros.items())]
    z = np.full((len(rows), max(map(len, rows))), np.nan, np.float32)
    for k, row in enumerate(rows):
        z[k, : len(row)] = row
    reach = max(float(np.nanquantile(np.abs(z - 1.0), 0.99)), 1e-6)
    heat: Figure = {
        "type": "heatmap",
        "z": packed(z),
        "y": [f"macro {m}" for m in sorted(record.macros)],
        "colorscale": [[0, "@low"], [0.5, "@middle"], [1, "@high"]],
        "zmin": 1.0 - reach,
        "zmax": 1.0 + reach,
        "colorbar": {"thickness": 12, "outlinewidth": 0},
        "hovertemplate": "%{y}, conversion %{x}: %{z:.4f}<extra></extra>",
    }
    y = {"type": "category", "autorange": "reversed"}
    return figure([heat], 140 + min(480, 22 * len(rows)), x=axis("conversion"), y=y, left=90)


def stuck_figure(record: CalibrationRecord) -> Figure:
    """Map of cells that are stuck or missed their target; a reduced map shows the worst cell of each block."""
    value = {CellState.STUCK_LOW: -1.0, CellState.STUCK_HIGH: 1.0, CellState.NOT_REACHED: 0.35}
    maps = {}
    for number, m in sorted(record.macros.items()):
        cells = np.zeros(m.cells.shape, np.float32)
        for state, mark in value.items():
            cells[m.cells == state] = mark
        maps[number] = cells
    scale = [[0, "@low"], [0.5, "@middle"], [1, "@high"]]
    return mosaic(
        maps, block_largest, colorscale=scale, colorbar={}, hover="%{z}", zmin=-1.0, zmax=1.0, showscale=False
    )


def evenly(count: int, most: int) -> NDArray[np.intp]:
    """At most ``most`` evenly spaced indices from 0 to ``count`` − 1, with the first and the last index among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


# --- plain data -------------------------------------------------------------------------------


def record_json(record: CalibrationRecord) -> dict[str, Any]:
    """The record as plain data: maps of cells become counts of cells, arrays by column are kept."""
    names = ("chip_name", "revision", "serial", "firmware", "kind", "spec_digest", "temperature_c", "date")
    return {
        **{name: getattr(record, name) for name in (*names, "method", "seed", "age_s", "pulses")},
        "goodness": dict(record.goodness),
        "programming": plain(record.programming),
        "read_noise": plain(record.read_noise),
        "wire": plain(record.wire),
        "thermal": None if record.thermal is None else plain(record.thermal),
        "drive": None if record.drive is None else plain(record.drive),
        "writes": None if record.writes is None else plain(record.writes),
        "macros": {
            str(n): {
                **{k: v for k, v in plain(m).items() if k not in ("cells", "stuck_us")},
                "states": {s.name.lower(): int((m.cells == s).sum()) for s in CellState},
            }
            for n, m in sorted(record.macros.items())
        },
    }


def plain(part: Any) -> dict[str, Any]:
    """Fields of a dataclass as numbers, texts and lists; a ``Tail`` becomes its name, NaN and infinity become null."""

    def of(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return [of(v) for v in value.tolist()] if value.ndim == 1 else [of(v) for v in value]
        if isinstance(value, float):
            return value if np.isfinite(value) else None
        if isinstance(value, Tail):
            return value.name
        return str(value) if isinstance(value, str) else value

    return {name: of(getattr(part, name)) for name in part.__dataclass_fields__}
