"""A calibration record in words and as plain data: what was measured, how surely, how well it fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.cells.laws.tail import Tail
from cim.record.calibration import CalibrationRecord, CellState, GainKnown
from hil.pages.tables import Table, duration

OF_CELLS = {"table": "fitted to a table of cells", "model": "published models"}
MOST_LEVELS = 16  # rows of a table by level


def record_lines(record: CalibrationRecord) -> list[str]:
    """A record in a dozen lines."""
    law = record.programming
    ks = record.goodness.get("programming_ks")
    return [
        *_who(record),
        *([f"cells          {_states(record)}"] if record.macros else []),
        f"programming    shift {law.loc_us[-1].min():+.2f} to {law.loc_us[-1].max():+.2f} µS, scale "
        f"{law.scale_us[-1].min():.2f} to {law.scale_us[-1].max():.2f} µS"
        + (f"; held-out KS {ks:.3f}" if ks is not None else ""),
        f"read noise     {record.read_noise.variance_us2.mean():.2f} µS² a read",
        *_columns(record),
        f"wires          {record.wire.ohm:.2f} ± {record.wire.ohm_se:.2f} Ω a cell",
        *_drive(record),
        *_fit(record),
        *([f"wear           {record.pulses} pulses"] if record.macros else []),
    ]


def show_lines(record: CalibrationRecord) -> list[str | Table]:
    """Everything that a record holds, columns and cells summed up."""
    lines = [
        *record_lines(record),
        f"date           {record.date}",
        f"method         {record.method}, seed {record.seed}",
    ]
    if record.macros:
        lines += [
            f"firmware       {record.firmware or 'not said'}, revision {record.revision or 'not said'}",
            f"description    {record.spec_digest}",
        ]
    if record.thermal is not None:
        t = record.thermal
        lines += [
            f"temperature    reference {t.reference_c:g} °C; conductance {100 * t.conductance_per_k:+.4f} ± "
            f"{100 * t.conductance_per_k_se:.4f} % a kelvin, read variance {100 * t.read_variance_per_k:+.3f} ± "
            f"{100 * t.read_variance_per_k_se:.3f} % a kelvin",
            f"               relaxation {t.activation_ev:.3f} ± {t.activation_ev_se:.3f} eV",
        ]
    parts: tuple[Callable[[CalibrationRecord], Lines], ...]
    parts = (_law, _noise, _drive_table, _writes, _macros, _goodness)
    return [*lines, *(line for part in parts for line in part(record))]


def _who(record: CalibrationRecord) -> list[str]:
    if record.kind in OF_CELLS:
        return [
            f"cells of       {record.chip_name} ({OF_CELLS[record.kind]}"
            + (f", digest {record.serial}…)" if record.serial else ")"),
            f"macros         {len(record.macros) or 'none'} measured: columns are taken as a chip file says; cells to "
            f"{duration(record.age_s)} and at {record.temperature_c:g} °C",
        ]
    kind = "" if record.kind == "silicon" else "      NOT SILICON"
    return [
        f"chip           {record.kind} {record.chip_name}, serial {record.serial}{kind}",
        f"macros         {len(record.macros)} measured at {record.age_s:.0f} s and {record.temperature_c:.0f} °C",
    ]


def _states(record: CalibrationRecord) -> str:
    states = np.concatenate([m.cells.ravel() for m in record.macros.values()])
    shares = [float((states == s).mean()) for s in CellState]
    return f"stuck low {shares[1]:.2%}, stuck high {shares[2]:.2%}, not reached {shares[3]:.2%}"


def _columns(record: CalibrationRecord) -> list[str]:
    if not record.macros:
        return []
    parts = record.macros.values()
    gain = np.concatenate([m.gain for m in parts])
    offset = np.concatenate([m.offset_codes for m in parts])
    sense = all(m.gain_known is GainKnown.SENSE for m in parts)
    return [
        f"column gain    {gain.mean():.4f} ± {gain.std():.4f}"
        + ("" if sense else "   (times that of the cell read path: only the product is seen)"),
        f"column offset  {offset.mean():+.2f} ± {offset.std():.2f} codes",
    ]


def _drive(record: CalibrationRecord) -> list[str]:
    if record.drive is None:
        return []
    drive, worst = record.drive, int(np.abs(record.drive.errors).argmax())
    return [
        f"row drivers    {drive.errors[worst]:+.3f} ± {drive.units_se[worst]:.3f} steps at unit {worst} of "
        f"{len(drive.units) - 1}, rms {np.sqrt(np.mean(drive.errors[1:-1] ** 2)):.3f} steps"
    ]


def _fit(record: CalibrationRecord) -> list[str]:
    good = record.goodness
    if "columns_r2" not in good:
        return []
    residual = good.get("columns_residual_codes")
    words = f"goodness       held-out R² {good['columns_r2']:.5f}"
    return [words + (f", residual {residual:.2f} codes" if residual is not None else "")]


# --- tables -----------------------------------------------------------------------------------


Lines = list[str | Table]


def _law(record: CalibrationRecord) -> Lines:
    law = record.programming
    lines: Lines = ["", f"programming law: error = conductance − target, µS; tail: {law.tail.name}"]
    mixed = law.tail.mixed
    header = ("level µS", "shift", "scale", "df", *(("wide share",) if mixed else ()))
    for a, age in enumerate(law.ages_s):
        rows = tuple(
            (
                f"{law.levels_us[k]:.2f}",
                f"{law.loc_us[a, k]:+.3f} ± {law.loc_se_us[a, k]:.3f}",
                f"{law.scale_us[a, k]:.3f} ± {law.scale_se_us[a, k]:.3f}",
                f"{law.df[a, k]:.2f}",
                *((f"{law.wide_share[a, k]:.3f}",) if mixed else ()),
            )
            for k in evenly(len(law.levels_us), MOST_LEVELS)
        )
        lines += [f"  {duration(float(age))} after programming", Table("Programming", header, rows)]
    if len(law.levels_us) > MOST_LEVELS:
        lines.append(f"  ({MOST_LEVELS} of {len(law.levels_us)} levels; --json has all)")
    lines.append(
        f"  unreached {law.unreached_share:.2%}, stuck low {law.stuck_low_share:.2%}, high {law.stuck_high_share:.2%}"
    )
    if len(law.ages_s) > 1:
        first, last = float(law.ages_s[0]), float(law.ages_s[-1])
        lines.append(
            f"  memory: errors of a cell at {duration(first)} and {duration(last)} correlate by "
            f"{law.correlation(first, last):.2f}; {law.memory_fresh_share:.0%} of their variance is new at every read"
        )
    return lines


def _noise(record: CalibrationRecord) -> Lines:
    noise = record.read_noise
    if not noise.variance_us2.any() and not noise.flicker_us2.any():
        return ["", "read noise: not separated from the programming law"]
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
    words = f"read noise, µS²; flicker 1/f^{noise.flicker_exponent:.2f}"
    return ["", words, Table("Read noise", header, rows)]


def _drive_table(record: CalibrationRecord) -> Lines:
    if record.drive is None:
        return []
    errors = enumerate(zip(record.drive.errors, record.drive.units_se, strict=True))
    rows = tuple((f"{unit}", f"{error:+.4f} ± {se:.4f}") for unit, (error, se) in errors)
    words = "row drivers: what a row gets for each unit, less the line from zero to full drive, steps"
    return ["", words, Table("Row drivers", ("unit", "error"), rows)]


def _writes(record: CalibrationRecord) -> Lines:
    w = record.writes
    if w is None:
        return []
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
    return ["", "write-verify", Table("Write-verify", header, rows)]


def _macros(record: CalibrationRecord) -> Lines:
    if not record.macros:
        return []
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
    return ["", Table("Macros", header, rows)]


def _goodness(record: CalibrationRecord) -> Lines:
    if not record.goodness:
        return []
    rows = tuple((name, f"{value:.5g}") for name, value in record.goodness.items())
    return ["", "goodness on held-out measurements", Table("Goodness", ("", ""), rows)]


def evenly(count: int, most: int) -> NDArray[np.intp]:
    """At most ``most`` of 0 to ``count`` − 1, evenly, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


# --- plain data -------------------------------------------------------------------------------


def record_json(record: CalibrationRecord) -> dict[str, Any]:
    """The record as plain data; maps of cells are counted, arrays by column are kept."""
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
    """The fields of a dataclass as numbers, texts and lists; a tail is its name, what is not finite becomes null."""

    def of(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return [of(v) for v in value.tolist()] if value.ndim == 1 else [of(v) for v in value]
        if isinstance(value, float):
            return value if np.isfinite(value) else None
        if isinstance(value, Tail):
            return value.name
        return str(value) if isinstance(value, str) else value

    return {name: of(getattr(part, name)) for name in part.__dataclass_fields__}
