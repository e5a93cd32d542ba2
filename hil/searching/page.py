"""The page of a search: its front with what is known of each network, and what every choice counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hil.pages.figures import Figure, axis, dots, figure
from hil.pages.shell import Plot, render
from hil.searching.front import Findings

Rows = Sequence[Mapping[str, Any]]


def search_page(table: Mapping[str, Any], lines: Sequence[str], found: Findings) -> str:
    """One self-contained page, of a table (``hil.searching.table``), its lines, and the significances."""
    front = (
        "Bars of predicted accuracies end at the lower bound, those of simulated ones at the worst chip. "
        "Predictions are of brief training: they rank networks, and lie below what training reaches."
    )
    counts = (
        "Accuracy: weight in the predicted accuracy. Hardware: significance, higher is cheaper. Each gene by itself, "
        "its choices centred, all genes on one scale."
    )
    return render(
        "search.html",
        title=f"Search on {table['costs']}: {len(table['networks'])} networks of the front",
        plots=(
            Plot("front", front, front_figure(table["networks"], str(table["costs"]))),
            Plot("choices", counts, choices_figure(found)),
        ),
        text=lines,
    )


def front_figure(rows: Rows, costs: str) -> Figure:
    """Accuracy (percent) over EDP: predicted, simulated and measured, as far as each is known."""
    trained, measured = [r for r in rows if r["evaluated"]], [r for r in rows if r["measured"]]
    predicted = _points(
        "predicted",
        rows,
        "@ideal",
        [r["predicted"] for r in rows],
        [r["predicted_low"] for r in rows],
        symbol="circle-open",
    )
    simulated = _points(
        "simulated", trained, "@simulated", [100 * r["evaluated"]["accuracy_mean"] for r in trained],
        [100 * r["evaluated"]["accuracy_worst"] for r in trained], symbol="circle",
    )  # fmt: skip
    deployed = _points(
        "on a chip", measured, "@measured", [100 * r["measured"]["accuracy_mean"] for r in measured],
        [100 * r["measured"]["low"] for r in measured], symbol="diamond",
    )  # fmt: skip
    data = [trace for trace in (predicted, simulated, deployed) if trace["x"]]
    edp = axis(f"EDP of one image on {costs}, each layer once, mJ·ms", type="log")
    return figure(data, 480, x=edp, y=axis("accuracy, %"), showlegend=True)


def choices_figure(found: Findings) -> Figure:
    """Bars of every choice of every gene that has several."""
    several = [i for i, gene in enumerate(found.genes) if len(gene.choices) > 1]
    names = [f"{found.genes[i].name}: {choice}" for i in several for choice in found.genes[i].choices]
    data = []
    for name, values, colour in (("accuracy", found.accuracy, "@simulated"), ("hardware", found.hardware, "@measured")):
        centred = np.concatenate([values.values[i] - values.values[i].mean() for i in several])
        spread = float(centred.std()) or 1.0
        bar = {"type": "bar", "orientation": "h", "name": name, "x": (centred / spread).tolist(), "y": names}
        data.append({**bar, "marker": {"color": colour}, "hovertemplate": f"%{{y}}: {name} %{{x:.2f}}<extra></extra>"})
    longest = max((len(name) for name in names), default=0)
    rows = {"type": "category", "autorange": "reversed"}
    x = axis("standard deviations of all choices")
    return figure(data, 90 + 22 * len(names), x=x, y=rows, left=30 + 7 * longest, barmode="group", showlegend=True)


def _points(name: str, rows: Rows, colour: str, values: list[float], least: list[float], *, symbol: str) -> Figure:
    text = [
        f"{r['name']} {' '.join(r['modes'])}<br>{r['choices']}<br>{r['latency_ns'] / 1e3:.4g} µs, "
        f"{r['energy_pj'] / 1e6:.3g} µJ, {r['macros']} macros"
        for r in rows
    ]
    hover = f"{name} %{{y:.1f}} %, %{{x:.3g}} mJ·ms<br>%{{text}}"
    drawn = dots([r["edp_mj_ms"] for r in rows], values, colour, hover, symbol=symbol)
    down = [v - low for v, low in zip(values, least, strict=True)]
    bars = {"type": "data", "symmetric": False, "array": [0.0] * len(down), "arrayminus": down, "thickness": 1}
    return {**drawn, "name": name, "text": text, "error_y": bars}
