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
from hil.verdict.agreement import AgreementReport


def layer_figure(report: AgreementReport) -> Figure:
    """Residual sigma of each layer, measured beside simulated."""
    names = [shown(s.layer) for s in report.layers]
    measured = dots(names, [s.residual_sigma for s in report.layers], "@measured", "%{y:.2f}")
    sigmas = [s.simulated_residual_sigma for s in report.layers]
    simulated = dots(names, sigmas, "@simulated", "%{y:.2f}", symbol="line-ew-open", line={"width": 3})
    data = [{**measured, "name": "chip"}, {**simulated, "name": "simulated"}]
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
