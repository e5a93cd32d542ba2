"""The estimated cost of one image, drawn: energy by part of the chip, energy and latency by layer."""

from __future__ import annotations

from hil.pages.figures import Figure, axis, figure, shown
from hil.pages.tables import duration
from hil.report.summary import energy
from hil.verdict.image_cost import ImageCost

MOST_LAYERS = 40  # bars; of more, those that cost most


def cost_words(cost: ImageCost) -> str:
    return f"{energy(cost.energy_j)} and {duration(cost.latency_s)}"


def part_figure(cost: ImageCost) -> Figure:
    """Bars of energy, the largest on top."""
    parts = sorted(cost.by_part.items(), key=lambda item: -item[1])
    bar = _bars([name.replace("_", " ") for name, _ in parts], [1e6 * joules for _, joules in parts], "@measured", "µJ")
    return _rows([bar], len(parts), axis("energy of an image, µJ"))


def layer_figure(cost: ImageCost) -> Figure:
    """Bars of energy in the order of the network, latency beside them on an axis of its own."""
    most = sorted(cost.layers, key=lambda layer: -layer.energy_j)[:MOST_LAYERS]
    layers = [layer for layer in cost.layers if layer in most and layer.energy_j > 0]
    names = [shown(layer.layer) for layer in layers]
    spent = {**_bars(names, [1e6 * one.energy_j for one in layers], "@measured", "µJ"), "name": "energy, µJ"}
    took = {**_bars(names, [1e6 * one.latency_s for one in layers], "@simulated", "µs"), "name": "latency, µs"}
    top = {**axis("latency, µs"), "overlaying": "x", "side": "top", "showgrid": False}
    drawn = _rows(
        [{**spent, "offsetgroup": "1"}, {**took, "offsetgroup": "2", "xaxis": "x2"}],
        2 * len(layers),
        axis("energy, µJ"),
    )
    drawn["layout"] |= {"xaxis2": top, "barmode": "group", "showlegend": True}
    drawn["layout"]["margin"]["t"] = 60
    return drawn


def _bars(names: list[str], values: list[float], colour: str, unit: str) -> Figure:
    hover = f"%{{y}}: %{{x:.3g}} {unit}<extra></extra>"
    bar: Figure = {"type": "bar", "orientation": "h", "x": values, "y": names, "marker": {"color": colour}}
    return {**bar, "hovertemplate": hover}


def _rows(data: list[Figure], count: int, x: Figure) -> Figure:
    return figure(data, 110 + 18 * count, x=x, y={"type": "category", "autorange": "reversed"}, left=110)
