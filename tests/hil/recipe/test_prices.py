"""What techniques are said to have given is what the results say, and their price is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy import stats

from hil.cost.plan import DeploymentPlan
from hil.deployment.options import NetworkAsked
from hil.deployment.price_list import price_list
from hil.watch import Watch
from mapping.recipe.registry import techniques

from ..conftest import Small

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "ablation.jsonl"
BESIDE = {
    "tune": (("output", "untuned"), ("output", "tuned")),
    "aims": (("output", "tuned"), ("output+aims", "tuned")),
    "copies": (("output+aims", "tuned"), ("output+aims+idle", "tuned")),
    "rewrite": (("output+aims+idle", "tuned"), ("output+aims+idle+rewrite", "tuned")),
}


@pytest.mark.parametrize("name", BESIDE)
def test_gains_are_those_of_the_stored_ablation(name: str) -> None:
    rows = {
        r["levers"]: r for r in map(json.loads, RESULTS.read_text("utf-8").splitlines()) if r["network"] == "resnet20"
    }
    (_, before, sd0, n0), (_, after, sd1, n1) = (
        (levers, 100 * rows[levers][column], 100 * rows[levers][f"{column}_sd"], rows[levers]["chips"])
        for levers, column in BESIDE[name]
    )
    se2 = sd0**2 / n0 + sd1**2 / n1  # Welch
    free = se2**2 / ((sd0**2 / n0) ** 2 / (n0 - 1) + (sd1**2 / n1) ** 2 / (n1 - 1))
    half = stats.t.ppf(0.975, free) * se2**0.5
    (gave,) = techniques()[name].gave
    assert (gave.points, gave.low, gave.high) == pytest.approx(
        (after - before, after - before - half, after - before + half), abs=0.06
    )


def test_each_offer_has_a_price_on_the_network_that_is_named(small: Small) -> None:
    prices = price_list(small.net, NetworkAsked(macros=8), Watch())
    plans = {name: plan for name, plan in prices.items() if isinstance(plan, DeploymentPlan)}
    assert {"compiled", "tune", "aims", "idle", "rewrite", "residual", "reads", "copies", "adapters"} == set(plans)
    assert plans["idle"].cells > plans["compiled"].cells
    assert plans["rewrite"].pulses_again > 0
    assert plans["reads"].reads > plans["residual"].reads > plans["compiled"].reads
    assert (plans["adapters"].edp_mj_ms or 0.0) > (plans["tune"].edp_mj_ms or 0.0)
