"""The page of a search: what is known of each network, told apart, and drawn by a real browser where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.pages.tables import Table
from hil.searching.front import Findings
from hil.searching.page import accuracy_figure, choices_figure, search_page
from hil.searching.settings import SearchSettings
from hil.searching.summary import search_summary
from search.space.genes import Gene
from search.space.significance import Significance

from ..browser import BROWSER, faults
from ..fitting import misfits


def row(name: str, edp: float, accuracy: float, **known: Any) -> dict[str, Any]:
    return {
        "name": name, "modes": [], "choices": "conv3 skip W4A8", "predicted": accuracy, "predicted_low": accuracy - 2,
        "edp_mj_ms": edp, "latency_ns": 1e5, "energy_pj": 1e6, "macros": 5, "macros_available": 64, "network": None,
        "failed": None,
        "evaluated": None, "measured": None, **known,
    }  # fmt: skip


def known(mean: float, worst: float) -> dict[str, Any]:
    return {"accuracy_mean": mean, "accuracy_worst": worst, "chips": 8, "images": 1000, "source": "a record"}


ROWS = [
    row("aa", 0.001, 80.0),
    row("bb", 0.004, 85.0, modes=["balanced"], evaluated=known(0.9, 0.88)),
    row("cc", 0.02, 86.0, evaluated=known(0.92, 0.91),
        measured={"accuracy_mean": 0.915, "low": 0.9, "source": "emulated", "chips": 1, "images": 500}),
]  # fmt: skip
GENES = (Gene("operator 1.1", ("conv3", "skip")), Gene("width 1", (1.0,)), Gene("weight bits", (2, 4)))
ONE = Significance((np.array([1.0, 0.0]), np.array([0.0]), np.array([-0.5, 0.5])))
FOUND = Findings(GENES, ONE, ONE, ONE, "ridge")


def test_predicted_and_simulated_accuracies_have_axes_of_their_own() -> None:
    (predicted,) = accuracy_figure(ROWS, "lab-128", "predicted", "quantised")["data"]
    assert predicted["y"] == [80.0, 85.0, 86.0]
    known = {trace["name"]: trace for trace in accuracy_figure(ROWS, "lab-128", "simulated", "on a chip")["data"]}
    assert list(known) == ["simulated", "on a chip"]
    assert known["simulated"]["y"] == [90.0, 92.0]
    assert known["simulated"]["error_y"]["arrayminus"] == pytest.approx([2.0, 1.0])
    assert known["on a chip"]["x"] == [0.02]
    assert "balanced" in known["simulated"]["text"][0]


def test_choices_without_an_alternative_are_not_drawn() -> None:
    bars = choices_figure(FOUND)["data"][0]
    assert bars["y"] == ["operator 1.1: conv3", "operator 1.1: skip", "weight bits: 2", "weight bits: 4"]
    assert np.mean(bars["x"]) == pytest.approx(0)


def test_networks_on_a_chip_are_a_column_of_the_front_and_few_lines_below_it() -> None:
    many = [{**ROWS[2], "name": f"n{k}"} for k in range(9)]
    table = {"costs": "lab-128", "networks": many, "method": "pareto", "simulations": 64, "seed": 0, "knee": "n1",
             "notes": [], "costs_of": "each layer once"}  # fmt: skip
    summary = search_summary(table, SearchSettings(data="fashion-mnist", chip="lab-128"), "found")
    (front,) = (part for part in summary.parts if isinstance(part, Table))
    assert {row[front.header.index("on a chip")] for row in front.rows} == {"91.5 %"}
    told = [fact for fact in summary.facts if "on a chip" in fact.name.lower()]
    assert [fact.name for fact in told] == ["n0 on a chip", "n1 on a chip", "n2 on a chip", "On a chip"]
    assert told[-1].text == "6 more networks, on the page"


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_of_64_networks_fits_every_screen(tmp_path: Path, theme: str) -> None:
    many = [
        {**ROWS[k % 3], "name": f"n{k:02d}", "edp_mj_ms": 0.001 * 1.1**k, "predicted": 70 + 0.3 * k} for k in range(64)
    ]
    table = {"costs": "lab-128", "networks": many, "method": "pareto", "simulations": 64, "seed": 0, "knee": "n01",
             "notes": [], "costs_of": "each layer once"}  # fmt: skip
    settings = SearchSettings(data="fashion-mnist", chip="lab-128")
    text = search_page(table, search_summary(table, settings, "found"), FOUND)
    assert faults(text, tmp_path, dark=theme == "dark", plots=3) == []
    assert misfits(search_summary(table, settings, "found")) == []
