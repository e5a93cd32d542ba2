"""The page of ``hil estimate --plot``: energy, busy time and schedule by layer, as stacked bars."""

from __future__ import annotations

from cim.cost.network_cost import Cost, LayerCost
from hil.cost.estimate import cost_lines
from hil.pages.account import Account, Bullets, Plot, Section
from hil.pages.figures import Figure, axis, figure
from hil.pages.shell import page
from hil.pages.summary import Summary

ENERGY_GROUPS = {
    "converters": ("adc", "sample_hold"),
    "cells and drivers": ("array", "driver", "control"),
    "digital": ("shift_add", "accumulator", "activation", "pooling", "multiplier"),
    "buffers": ("buffer",),
    "interconnect": ("interconnect",),
    "host": ("host_link",),
}
COLOURS = tuple(f"@layer{i}" for i in range(6))


def cost_page(cost: Cost) -> str:
    """The page of a network's cost, as self-contained HTML."""
    limits = "How long the busiest unit of each kind works for an image; a layer's longest bar is its limit."
    by_layer = "By layer and kind of circuit; leakage and host apart."
    layers, _, *totals = cost_lines(cost)
    return page(
        Account(
            Summary(f"{cost.network} on {cost.chip}: estimated cost"),
            (
                Section("Energy", (Plot("energy", by_layer, energy_figure(cost)),)),
                Section("Limits", (Plot("busy", limits, busy_figure(cost)),)),
                Section("Schedule", (Plot("schedule", "When each layer works on one image.", schedule_figure(cost)),)),
                Section("Numbers", (layers, Bullets([line for line in totals if isinstance(line, str)]))),
            ),
        )
    )


def energy_figure(cost: Cost) -> Figure:
    """Stacked bars of the energy of each layer, nJ an image."""
    layers = _shown(cost)
    data = [
        {
            **_bar(layers, [sum(layer.energy_pj.get(m, 0.0) for m in modules) * 1e-3 for layer in layers], colour),
            "name": name,
            "hovertemplate": f"%{{y}}: {name} %{{x:.3g}} nJ<extra></extra>",
        }
        for (name, modules), colour in zip(ENERGY_GROUPS.items(), COLOURS, strict=False)
    ]
    return _layers_figure(data, layers, "energy, nJ an image", "stack")


def busy_figure(cost: Cost) -> Figure:
    """Grouped bars by resource, µs an image."""
    layers = _shown(cost)
    resources = list(layers[0].busy_ns)
    data = [
        {
            **_bar(layers, [layer.busy_ns[name] * 1e-3 for layer in layers], colour),
            "name": name,
            "hovertemplate": f"%{{y}}: {name} %{{x:.3g}} µs<extra></extra>",
        }
        for name, colour in zip(resources, COLOURS, strict=False)
    ]
    return _layers_figure(data, layers, "busy, µs an image", "group")


def schedule_figure(cost: Cost) -> Figure:
    """Bars from start to finish of each layer, µs from the first bit of the image."""
    layers = _shown(cost)
    spans = [(layer.finish_ns - layer.start_ns) * 1e-3 for layer in layers]
    bar = {**_bar(layers, spans, COLOURS[0]), "base": [layer.start_ns * 1e-3 for layer in layers]}
    hover = "%{y}: %{base:.4g} to %{x:.4g} µs<extra></extra>"
    return _layers_figure([{**bar, "hovertemplate": hover}], layers, "time, µs", "overlay")


def _shown(cost: Cost) -> list[LayerCost]:
    return [layer for layer in cost.layers if layer.total_pj > 0] or list(cost.layers)


def _bar(layers: list[LayerCost], values: list[float], colour: str) -> Figure:
    names = [layer.name for layer in layers]
    return {"type": "bar", "orientation": "h", "x": values, "y": names, "marker": {"color": colour}}


def _layers_figure(data: list[Figure], layers: list[LayerCost], title: str, mode: str) -> Figure:
    longest = max(len(layer.name) for layer in layers)
    height = 90 + (34 if mode == "group" else 20) * len(layers)
    rows = {"type": "category", "autorange": "reversed"}
    return figure(data, height, x=axis(title), y=rows, left=30 + 7 * longest, barmode=mode, showlegend=len(data) > 1)
