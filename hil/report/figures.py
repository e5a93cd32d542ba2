"""The figures of the report page as plain Plotly dictionaries (``hil.pages.figures``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from hil.pages.figures import (
    Figure,
    axis,
    block_largest,
    block_mean,
    block_nearest,
    dots,
    figure,
    line,
    mosaic,
    packed,
    shown,
)
from hil.report.run_data import MacroReadings, RunData
from hil.verdict.agreement import AgreementReport, Interval
from hil.verdict.metric import Metric

MOST_BARS = 60


def accuracy_figure(report: AgreementReport) -> Figure:
    """Four accuracies with their intervals; small dots are single repeats and single virtual chips."""
    j, words, m = report.decisive, report.backend_words, report.decisive.metric
    data = [
        *_accuracy(words, j.measured, j.measured_repeats, "@measured", m),
        *_accuracy("simulated", j.simulated, j.simulated_chips, "@simulated", m),
        *_accuracy("ideal", j.ideal, (), "@ideal", m),
    ]
    if report.float_accuracy is not None:
        data.append(dots([m.factor * report.float_accuracy], ["float"], "@ideal", _hover(m), symbol="diamond"))
    return figure(data, 250, x=axis(f"{m.title}, {'%' if m.share else m.unit}"), y={"type": "category"}, left=160)


def _hover(metric: Metric) -> str:
    return "%{x:.2f} %" if metric.share else "%{x:.4g}"


def _accuracy(name: str, i: Interval, singles: tuple[float, ...], colour: str, metric: Metric) -> list[Figure]:
    factor, text = metric.factor, _hover(metric)
    mean = dots([factor * i.mean], [name], colour, text)
    ends = {"array": [factor * (i.high - i.mean)], "arrayminus": [factor * (i.mean - i.low)]}
    mean["error_x"] = {"type": "data", "symmetric": False, "color": colour, "thickness": 2, "width": 7, **ends}
    if not singles:
        return [mean]
    faint = dots([factor * a for a in singles], [name] * len(singles), colour, text, size=6, opacity=0.4)
    return [mean, faint]


def difference_figure(report: AgreementReport) -> Figure:
    """Measured minus simulated of both questions against the tolerance."""
    data: list[Figure] = []
    m = report.decisive.metric
    reach = tolerance = m.factor * report.decisive.tolerance
    text = f"%{{x:.{2 if m.share else 4}f}} {m.unit}"
    for name, j in (("other chips", report.other_chips), ("this chip", report.this_chip)):
        if j is None:
            continue
        for width, ends in ((2, j.interval95), (6, j.interval90)):
            x = [m.factor * end for end in ends]
            reach = max(reach, *map(abs, x))
            data.append(line(x, [name, name], "@measured", text, width=width))
        data.append(dots([m.factor * j.difference], [name], "@measured", text))
    tall = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    zone = {"type": "rect", "x0": -tolerance, "x1": tolerance, "fillcolor": "@zone", "line": {"width": 0}, **tall}
    zero = {"type": "line", "x0": 0, "x1": 0, "line": {"color": "@ideal", "width": 1, "dash": "dot"}, **tall}
    x_axis = axis(f"measured − simulated, {m.unit}", range=[-1.15 * reach, 1.15 * reach])
    rows = {"type": "category", "range": [-0.6, len(data) / 3 - 0.4]}
    return figure(data, 250, x=x_axis, y=rows, left=90, shapes=[zone, zero])


def components_figure(report: AgreementReport) -> Figure:
    """Components of the uncertainty, one standard deviation each."""
    names, unit = ["images", "one read", "chip or read-back"], report.decisive.metric.unit
    data: list[Figure] = []
    asked = (("this chip", report.this_chip, "@measured"), ("other chips", report.other_chips, "@simulated"))
    for name, j, colour in asked:
        if j is not None:
            values = [j.components.image, j.components.read or 0.0, j.components.chip]
            bar = {"type": "bar", "orientation": "h", "name": name, "x": values, "y": names}
            data.append({**bar, "marker": {"color": colour}, "hovertemplate": f"%{{x:.4g}} {unit}<extra></extra>"})
    x = axis(f"standard deviation, {unit}")
    return figure(data, 220, x=x, left=130, barmode="group", showlegend=len(data) > 1)


def layer_figure(report: AgreementReport) -> Figure:
    """Residual sigma of each layer, measured beside simulated."""
    names = [shown(s.layer) for s in report.layers]
    measured = dots(names, [s.residual_sigma for s in report.layers], "@measured", "%{y:.2f}")
    sigmas = [s.simulated_residual_sigma for s in report.layers]
    simulated = dots(names, sigmas, "@simulated", "%{y:.2f}", symbol="line-ew-open", line={"width": 3})
    data = [{**measured, "name": report.backend_words}, {**simulated, "name": "simulated"}]
    y = axis("residual σ, levels", rangemode="tozero")
    return figure(data, 300, x={"type": "category"}, y=y, showlegend=True)


def error_figure(macros: Mapping[int, MacroReadings]) -> Figure:
    """Histogram of read-back minus target of all cells written, before and after the run."""
    before = cell_errors(macros, lambda c: c.readings_us)
    after = cell_errors(macros, lambda c: c.readings_after_us)
    reach = max(float(np.quantile(np.abs(before), 0.999)), 1e-3) if before.size else 1.0
    edges = np.linspace(-reach, reach, 82)
    middles = packed((edges[1:] + edges[:-1]) / 2)
    data: list[Figure] = []
    for name, errors, colour in (("before the run", before, "@measured"), ("after the run", after, "@simulated")):
        if errors.size:
            counts = np.histogram(np.clip(errors, -reach, reach), edges)[0]
            curve = line(
                middles, packed(np.where(counts, counts, np.nan)), colour, "%{x:.2f} µS: %{y} cells", shape="hvh"
            )
            data.append({**curve, "name": name})
    x, y = axis("read-back − target, µS"), axis("cells", type="log")
    return figure(data, 320, x=x, y=y, showlegend=len(data) > 1)


def cell_errors(
    macros: Mapping[int, MacroReadings], readings: Callable[[MacroReadings], NDArray[np.float32] | None]
) -> NDArray[np.float64]:
    """Read-back minus target of every cell that was written and read, µS."""
    parts = [
        (got - cells.targets_us)[np.isfinite(cells.targets_us) & np.isfinite(got)]
        for cells in macros.values()
        if (got := readings(cells)) is not None
    ]
    return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)


def wear_figure(macros: Mapping[int, MacroReadings]) -> Figure | None:
    """Cells by the pulses that they took, every macro together; None where the chip held the program already."""
    parts = [c.pulses[np.isfinite(c.targets_us)] for c in macros.values() if c.pulses is not None]
    if not parts:
        return None
    pulses = np.concatenate(parts)
    step = max(1, -(-(int(pulses.max(initial=0)) + 1) // MOST_BARS))
    counts = np.bincount(pulses // step)
    middles = np.arange(len(counts)) * step + (step - 1) / 2
    hover = "about %{x} pulses: %{y} cells<extra></extra>"
    bars: Figure = {"type": "bar", "x": packed(middles), "y": packed(counts), "hovertemplate": hover}
    bars["marker"] = {"color": "@measured"}
    return figure([bars], 320, x=axis("pulses of a cell"), y=axis("cells", type="log"))


def timing_figure(report: AgreementReport) -> Figure:
    """Wall time of each part, in the order of the run from the top."""
    names, seconds = list(report.timing_s), list(report.timing_s.values())
    bars: Figure = {"type": "bar", "orientation": "h", "x": seconds, "y": names, "marker": {"color": "@simulated"}}
    bars["hovertemplate"] = "%{y}: %{x:.1f} s<extra></extra>"
    y = {"type": "category", "autorange": "reversed"}
    return figure([bars], 90 + 22 * max(len(names), 1), x=axis("wall time, s"), y=y, left=130)


def occupancy_figure(data: RunData) -> Figure:
    """Maps of the macros, coloured by the layer that each cell belongs to."""
    maps = {m: np.where(c.layer < 0, np.nan, c.layer).astype(np.float32) for m, c in data.macros.items()}
    count = max(len(data.layers), 1)
    steps = [[i / count, f"@layer{k % 12}"] for k in range(count) for i in (k, k + 1)]
    bar: Figure = {"title": {"text": "layer"}}
    if count <= 16:
        bar = {"tickvals": list(range(count)), "ticktext": [shown(name) for name in data.layers]}
    return mosaic(maps, block_nearest, colorscale=steps, colorbar=bar, hover="layer %{z}", zmin=-0.5, zmax=count - 0.5)


def conductance_figure(data: RunData) -> Figure:
    """Read-back conductance of the cells in use."""
    maps = {m: np.where(np.isfinite(c.targets_us), c.readings_us, np.nan) for m, c in data.macros.items()}
    return mosaic(maps, block_mean, colorscale="Viridis", colorbar={"title": {"text": "µS"}}, hover="%{z:.1f} µS")


def error_map_figure(data: RunData) -> Figure:
    """Read-back minus target, the largest of a block where the map is reduced."""
    maps = {m: c.readings_us - c.targets_us for m, c in data.macros.items()}
    errors = cell_errors(data.macros, lambda c: c.readings_us)
    reach = max(float(np.quantile(np.abs(errors), 0.99)), 1e-3) if errors.size else 1.0
    scale = [[0, "@low"], [0.5, "@middle"], [1, "@high"]]
    bar = {"title": {"text": "µS"}}
    return mosaic(maps, block_largest, colorscale=scale, colorbar=bar, hover="%{z:.2f} µS", zmin=-reach, zmax=reach)
