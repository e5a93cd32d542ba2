"""The page of a search: its front with what is known of each network, and what every choice counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hil.pages.account import Account, Plot, Section
from hil.pages.figures import Figure, axis, dots, figure
from hil.pages.shell import page
from hil.pages.summary import Summary
from hil.searching.front import Findings
from hil.searching.summary import front_table

Rows = Sequence[Mapping[str, Any]]
Known = Callable[[Mapping[str, Any]], tuple[float, float] | None]


def _pair(where: str, value: str, low: str, size: float) -> Known:
    """Accuracy and lower bound of a row, or of a part of it, in percent; None where it is not known."""

    def known(row: Mapping[str, Any]) -> tuple[float, float] | None:
        part = row.get(where) if where else row
        return (size * part[value], size * part[low]) if part and part.get(value) is not None else None

    return known


SERIES: dict[str, tuple[str, str, Known]] = {
    "predicted": ("@ideal", "circle-open", _pair("", "predicted", "predicted_low", 1)),
    "quantised": ("@ideal", "circle", _pair("", "right", "right", 1)),
    "on virtual chips": ("@simulated", "circle", _pair("", "on_chips", "on_chips", 1)),
    "simulated": ("@simulated", "circle", _pair("evaluated", "accuracy_mean", "accuracy_worst", 100)),
    "on a chip": ("@measured", "diamond", _pair("measured", "accuracy_mean", "low", 100)),
}


def search_page(table: Mapping[str, Any], summary: Summary, found: Findings | None) -> str:
    """One self-contained page, of a table (``hil.searching.table``), its summary, and the significances, if any."""
    rows, costs = table["networks"], str(table["costs"])
    predicted = (
        "Predicted accuracy of the front; bars end at the lower bound. Predictions are of brief training: they rank "
        "networks, and lie below what training reaches."
    )
    simulated = "Accuracy of the trained networks: simulated, bars to the worst chip, and on a chip where one answered."
    counts = (
        "Accuracy: weight in the predicted accuracy. Hardware: significance, higher is cheaper. Each gene by itself, "
        "its choices centred, in standard deviations of all choices."
    )
    answered = accuracy_figure(rows, costs, "simulated", "on a chip")
    known = Plot("simulated", simulated, answered) if answered["data"] else None
    networks = front_table(rows, table, "Networks", whole=True)
    networks = replace(networks, note=f"Costs are of networks {table['costs_of']}. Accuracies: {networks.note}")
    said = predicted if found else "Accuracy on training images held out, of the measured front."
    points = Plot("predicted", said, accuracy_figure(rows, costs, "predicted", "quantised", "on virtual chips"))
    return page(
        Account(
            summary,
            (
                Section("Front", (points, known)),
                Section("Networks", (networks,)),
                *([Section("Choices", (Plot("choices", counts, choices_figure(found)),))] if found else []),
            ),
            title=f"Search on {costs}: {len(rows)} networks of the front",
            subtitle=f"{table['method']}, seed {table['seed']}, {table['simulations']} networks simulated whole",
        )
    )


def accuracy_figure(rows: Rows, costs: str, *names: str) -> Figure:
    """Accuracy (percent) over EDP, as named rows of ``SERIES`` give it."""
    data = [trace for trace in (_points(name, rows, *SERIES[name]) for name in names) if trace["x"]]
    title = "predicted accuracy, %" if data and data[0]["name"] == "predicted" else "accuracy, %"
    return figure(data, 360, x=axis(f"EDP on {costs}, mJ·ms", type="log"), y=axis(title), showlegend=len(data) > 1)


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
    x = axis("standard deviations")
    return figure(data, 90 + 22 * len(names), x=x, y=rows, left=30 + 7 * longest, barmode="group", showlegend=True)


def _points(name: str, rows: Rows, colour: str, symbol: str, known: Known) -> Figure:
    """Dots of the networks of which an accuracy and its lower bound are known, percent."""
    found = [(row, *pair) for row in rows if (pair := known(row))]
    text = [
        f"{r['name']} {' '.join(r.get('modes', ()))}<br>{r['choices']}<br>{r['latency_ns'] / 1e3:.4g} µs, "
        f"{r['energy_pj'] / 1e6:.3g} µJ, {r['macros']} macros"
        for r, *_ in found
    ]
    hover = f"{name} %{{y:.1f}} %, %{{x:.3g}} mJ·ms<br>%{{text}}"
    drawn = dots([r["edp_mj_ms"] for r, *_ in found], [value for _, value, _ in found], colour, hover, symbol=symbol)
    down = [value - low for _, value, low in found]
    bars = {"type": "data", "symmetric": False, "array": [0.0] * len(down), "arrayminus": down, "thickness": 1}
    return {**drawn, "name": name, "text": text, "error_y": bars}
