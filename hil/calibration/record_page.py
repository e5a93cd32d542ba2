"""A calibration record as one self-contained page that works offline."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cim.array.input_drive import InputDrive
from cim.cells.programming_law import law_at
from cim.cells.write_statistics import WriteStatistics
from cim.record.calibration import CalibrationRecord, CellState
from hil.calibration.record_text import OF_CELLS, evenly
from hil.pages.figures import Figure, axis, block_largest, dots, figure, line, mosaic, packed
from hil.pages.shell import Plot, Section, SideBySide, page
from hil.pages.summary import Fact, Summary
from hil.pages.tables import Table, duration

GOODNESS = {
    "programming_ks": "errors of the cells at the planned age, KS distance",
    "programming_ks_floor": "KS distance of a perfect law on so many cells",
    "columns_r2": "columns, R²",
    "columns_residual_codes": "columns, residual in codes",
    "read_variance_ratio": "read noise in products over that of single cells, variances",
    "network_r2": "products like those of a network, R²",
    "network_slope": "products like those of a network, slope",
    "network_residual_over_expected": "products like those of a network, residual over the expected one",
    "idle_codes_off": "idle conversions, difference in codes beyond a rounding",
}
LINES = 48  # of targets along the levels
MOST_CURVES = 96  # INL curves drawn
COLOURS = 12  # of page.css: layer0 … layer11


def record_page(record: CalibrationRecord) -> str:
    """The whole page as text (about 5 MB, nearly all of it Plotly)."""
    chip, wire, of = record.chip_name, record.wire, OF_CELLS.get(record.kind)
    if of is not None:
        mark = f"CELLS ONLY · {of}; columns are taken as a chip file says"
    else:
        silicon = record.kind == "silicon"
        mark = "" if silicon else f"NOT SILICON · an {record.kind} chip answered; nothing was measured on hardware"
    facts = (
        Fact("macros", str(len(record.macros))),
        Fact("age", duration(record.age_s)),
        Fact("temperature", f"{record.temperature_c:g} °C"),
        Fact("wires", f"{wire.ohm:.2f} ± {wire.ohm_se:.2f} Ω a cell"),
    )
    return page(
        Summary(f"calibration of {chip}", mark, parts=facts),
        _sections(record),
        title=f"calibration of {chip} {record.serial}",
        subtitle=f"serial {record.serial} · {record.method} · {record.date}",
    )


def _sections(record: CalibrationRecord) -> Iterator[Section]:
    shift = Plot("shift", "Mean of the middle of the errors, conductance − target.", shift_figure(record))
    spread = Plot("spread", "Half the distance of the 16 % and 84 % quantiles.", spread_figure(record))
    ages = "Spread of a low, a middle and a high level over time; dots: ages measured."
    yield Section("Programming and relaxation", (SideBySide((shift, spread)), Plot("time", ages, time_figure(record))))
    yield Section("Read noise", (Plot("noise", "By level, with standard errors.", noise_figure(record)),))
    if record.drive is not None:
        driven = "What a row gets for each unit of its input, less the line from zero to full drive."
        yield Section("Row drivers", (Plot("drive", driven, drive_figure(record.drive)),))
    if record.writes is not None:
        pulses = Plot("pulses", "Pulses that a cell took, by level.", pulses_figure(record.writes))
        yield Section("Write-verify", (pulses,))
    if record.macros:
        gain = Plot("gain", "Gain of each conversion; one row a macro.", column_figure(record, "gain"))
        offset = Plot("offset", "Offset of each conversion, codes.", column_figure(record, "offset_codes"))
        inl = Plot("inl", "Deviation of converters from their line, codes.", inl_figure(record))
        yield Section("Columns and converters", (SideBySide((gain, offset)), inl))
        cells = "Blue: stuck low. Orange: stuck high. Pale: not reached."
        yield Section("Cells", (Plot("stuck", cells, stuck_figure(record)),))
    good = tuple((_goodness_words(name), f"{value:.5g}") for name, value in record.goodness.items())
    yield Section("Goodness", (Table("Goodness", ("held-out measurement", "value"), good),))
    yield Section("Provenance", (_provenance(record),))


def _goodness_words(name: str) -> str:
    """Words of a figure of a record; ages and steps of the calibration stand in its name."""
    if name in GOODNESS:
        return GOODNESS[name]
    for start, words in (
        ("programming_ks_", "errors of the cells at"),
        ("precision_", "precision reached:"),
        ("target_", "requested precision:"),
    ):
        if name.startswith(start):
            return f"{words} {name.removeprefix(start).replace('_', ' ')}"
    return name.replace("_", " ")


def _provenance(record: CalibrationRecord) -> Table:
    names = ("kind", "chip_name", "serial", "revision", "firmware", "spec_digest", "date", "method", "seed", "pulses")
    return Table("Provenance", ("", ""), tuple((n.replace("_", " "), str(getattr(record, n))) for n in names))


def shift_figure(record: CalibrationRecord) -> Figure:
    """Middle of the errors by level, one line an age."""
    law, targets = record.programming, _targets(record)
    data = []
    for a, age in enumerate(law.ages_s):
        name = duration(float(age))
        curve = line(
            packed(targets),
            packed(law_at(law, targets, float(age)).quantile(np.zeros(LINES))),
            _colour(a),
            "%{y:.2f} µS",
        )
        data.append({**curve, "name": name})
    return figure(data, 320, x=axis("target, µS"), y=axis("shift (median), µS"), showlegend=True)


def spread_figure(record: CalibrationRecord) -> Figure:
    """Robust spread of the errors by level, one line an age."""
    law, targets = record.programming, _targets(record)
    data = []
    for a, age in enumerate(law.ages_s):
        curve = line(packed(targets), packed(law_at(law, targets, float(age)).spread_us()), _colour(a), "%{y:.2f} µS")
        data.append({**curve, "name": duration(float(age))})
    return figure(data, 320, x=axis("target, µS"), y=axis("spread, µS", rangemode="tozero"), showlegend=True)


def time_figure(record: CalibrationRecord) -> Figure:
    """Robust spread of three levels over log time."""
    law = record.programming
    ages = np.geomspace(law.ages_s[0], max(law.ages_s[-1], law.ages_s[0] * 10), LINES)
    data: list[Figure] = []
    for n, k in enumerate(sorted({0, len(law.levels_us) // 2, len(law.levels_us) - 1})):
        target = law.levels_us[[k]]

        def spread(at: NDArray[np.float64], target: NDArray[np.float64] = target) -> NDArray[np.float64]:
            return np.array([float(law_at(law, target, float(t)).spread_us()[0]) for t in at])

        name = f"{float(target[0]):.3g} µS"
        data.append({**line(packed(ages), packed(spread(ages)), _colour(n), "%{y:.2f} µS"), "name": name})
        data.append({**dots(law.ages_s, spread(law.ages_s), _colour(n), "%{y:.2f} µS", size=8), "showlegend": False})
    x = axis("time after programming, s", type="log")
    return figure(data, 300, x=x, y=axis("spread, µS", rangemode="tozero"), showlegend=True)


def noise_figure(record: CalibrationRecord) -> Figure:
    """Variance of one read, and growth by flicker noise, by level."""
    noise = record.read_noise
    data = []
    for name, values, errors, colour in (
        ("one read", noise.variance_us2, noise.se_us2, "@measured"),
        ("flicker, a decade", noise.flicker_us2, noise.flicker_se_us2, "@simulated"),
    ):
        if values.any() or name == "one read":
            points = dots(noise.levels_us, values, colour, "%{y:.3f} µS²", size=8)
            bars = {"type": "data", "array": [float(e) for e in errors], "color": colour}
            data.append({**points, "error_y": bars, "name": name})
    y = axis("variance, µS²", rangemode="tozero")
    return figure(data, 280, x=axis("level, µS"), y=y, showlegend=True)


def drive_figure(drive: InputDrive) -> Figure:
    """Errors of the row drivers by unit, with standard errors."""
    points = dots(range(len(drive.units)), drive.errors, "@measured", "unit %{x}: %{y:+.3f} steps", size=8)
    bars = {"type": "data", "array": [float(e) for e in drive.units_se], "color": "@measured"}
    return figure([{**points, "error_y": bars}], 280, x=axis("input unit"), y=axis("error, steps"))


def pulses_figure(writes: WriteStatistics) -> Figure:
    """Quantiles of the pulse count by level."""
    data = []
    for n, share in enumerate((0.5, 0.9, 0.99)):
        at = int(np.abs(writes.pulse_points - share).argmin())
        curve = line(packed(writes.levels_us), packed(writes.pulses[:, at]), _colour(n), "%{y:.0f} pulses")
        data.append({**curve, "name": f"{100 * float(writes.pulse_points[at]):g} % of cells"})
    return figure(data, 300, x=axis("level, µS"), y=axis("pulses", rangemode="tozero"), showlegend=True)


def column_figure(record: CalibrationRecord, name: str) -> Figure:
    """One row a macro, one point a conversion."""
    rows = [getattr(m, name) for _, m in sorted(record.macros.items())]
    width = max(len(r) for r in rows)
    z = np.full((len(rows), width), np.nan, np.float32)
    for k, row in enumerate(rows):
        z[k, : len(row)] = row
    middle = 1.0 if name == "gain" else 0.0
    reach = max(float(np.nanquantile(np.abs(z - middle), 0.99)), 1e-6)
    heat: Figure = {
        "type": "heatmap",
        "z": packed(z),
        "y": [f"macro {m}" for m in sorted(record.macros)],
        "colorscale": [[0, "@low"], [0.5, "@middle"], [1, "@high"]],
        "zmin": middle - reach,
        "zmax": middle + reach,
        "colorbar": {"thickness": 12, "outlinewidth": 0},
        "hovertemplate": "%{y}, conversion %{x}: %{z:.4f}<extra></extra>",
    }
    y = {"type": "category", "autorange": "reversed"}
    return figure([heat], 140 + min(480, 22 * len(rows)), x=axis("conversion"), y=y, left=90)


def inl_figure(record: CalibrationRecord) -> Figure:
    """INL curves over the scale of the converter; where there are many, evenly chosen ones."""
    curves = [c for _, m in sorted(record.macros.items()) for c in m.inl_codes]
    data = []
    for k in evenly(len(curves), MOST_CURVES):
        x = np.linspace(0.0, 100.0, len(curves[k]))
        data.append({**line(packed(x), packed(curves[k]), "@simulated", "%{y:.2f} codes"), "opacity": 0.35})
    return figure(data, 280, x=axis("place on the scale of codes, %"), y=axis("INL, codes"))


def stuck_figure(record: CalibrationRecord) -> Figure:
    """Where cells are stuck or were not reached; the worst of a block where the map is reduced."""
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


def _targets(record: CalibrationRecord) -> NDArray[np.float64]:
    return np.linspace(record.programming.levels_us[0], record.programming.levels_us[-1], LINES)


def _colour(number: int) -> str:
    return f"@layer{number % COLOURS}"
