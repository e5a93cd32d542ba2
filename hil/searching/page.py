"""The page of a search: its front with what is known of each network, and what every choice counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hil.pages.account import Account, Plot, Section
from hil.pages.figures import Figure, axis, dots, figure
from hil.pages.shell import page
from hil.pages.summary import Summary
from hil.pages.tables import Table
from hil.searching.front import Findings
from hil.searching.summary import bases

NETWORK_HEADER = (
    "network", "predicted", "simulated", "worst", "on a chip", "EDP, mJ·ms", "energy, µJ", "latency, µs", "macros",
    "mode", "choices",
)  # fmt: skip
Rows = Sequence[Mapping[str, Any]]


def search_page(table: Mapping[str, Any], summary: Summary, found: Findings) -> str:
    """One self-contained page, of a table (``hil.searching.table``), its summary, and the significances."""
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
    known = Plot("simulated", simulated, simulated_figure(rows, costs)) if any(map(_known, rows)) else None
    note = f"Costs are of networks {table['costs_of']}. Accuracies: {bases(rows)}"
    networks = Table("Networks", NETWORK_HEADER, tuple(map(_cells, rows)), note)
    return page(
        Account(
            summary,
            (
                Section("Front", (Plot("predicted", predicted, predicted_figure(rows, costs)), known)),
                Section("Networks", (networks,)),
                Section("Choices", (Plot("choices", counts, choices_figure(found)),)),
            ),
            title=f"Search on {costs}: {len(rows)} networks of the front",
            subtitle=f"{table['method']}, seed {table['seed']}, {table['simulations']} networks simulated whole",
        )
    )


def _known(row: Mapping[str, Any]) -> bool:
    """Whether more is known of a network than its prediction."""
    return bool(row["evaluated"] or row["measured"])


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    found, seen = row["evaluated"], row["measured"]
    trained = (f"{100 * found[k]:.1f} %" if found else "—" for k in ("accuracy_mean", "accuracy_worst"))
    return (
        row["name"],
        f"{row['predicted']:.1f} %",
        *trained,
        f"{100 * seen['accuracy_mean']:.1f} %" if seen else "—",
        f"{row['edp_mj_ms']:.3g}",
        f"{row['energy_pj'] / 1e6:.3g}",
        f"{row['latency_ns'] / 1e3:.4g}",
        f"{row['macros']}",
        ", ".join(row["modes"]),
        row["choices"],
    )


def predicted_figure(rows: Rows, costs: str) -> Figure:
    """Predicted accuracy (percent) over EDP."""
    predicted = _points(
        "predicted",
        rows,
        "@ideal",
        [r["predicted"] for r in rows],
        [r["predicted_low"] for r in rows],
        symbol="circle-open",
    )
    return _over_edp([predicted], "predicted accuracy, %", costs)


def simulated_figure(rows: Rows, costs: str) -> Figure:
    """Accuracy (percent) over EDP of what was trained: on virtual chips, and on a chip."""
    trained, measured = [r for r in rows if r["evaluated"]], [r for r in rows if r["measured"]]
    simulated = _points(
        "simulated", trained, "@simulated", [100 * r["evaluated"]["accuracy_mean"] for r in trained],
        [100 * r["evaluated"]["accuracy_worst"] for r in trained], symbol="circle",
    )  # fmt: skip
    deployed = _points(
        "on a chip", measured, "@measured", [100 * r["measured"]["accuracy_mean"] for r in measured],
        [100 * r["measured"]["low"] for r in measured], symbol="diamond",
    )  # fmt: skip
    return _over_edp([trace for trace in (simulated, deployed) if trace["x"]], "accuracy, %", costs)


def _over_edp(data: list[Figure], title: str, costs: str) -> Figure:
    edp = axis(f"EDP on {costs}, mJ·ms", type="log")
    return figure(data, 360, x=edp, y=axis(title), showlegend=len(data) > 1)


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
