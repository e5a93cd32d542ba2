"""What techniques are said to have given is what the results say, and their price is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy import stats

from hil.cli import run
from hil.deployment.options import USUAL_RECIPE, NetworkOptions
from hil.deployment.price_list import planner, price_list, prices_of
from hil.watch import Watch
from mapping.recipe.recipe import Recipe
from mapping.recipe.registry import offers, techniques
from tests.scripts import loaded

from ..conftest import Small

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "ablation.jsonl"
GAINS = RESULTS.with_name("gains.jsonl")
WITHOUT_REWRITE, WITH_REWRITE = "output+aims+idle", "output+aims+idle+rewrite"
NETWORKS = ("fashion_mnist.pt", "fashion_small.pt", "fm.pt", "r8.pt")  # in the order of ``gave_each``
USUAL = ("copies", "aims", "tune")
LEAST = -0.1  # points that a technique of the default may cost a class of networks, and no more


def measured_gains() -> dict[tuple[str, str], tuple[float, float]]:
    accuracy = loaded(RESULTS.parents[1] / "accuracy.py")
    found = accuracy.gains([json.loads(line) for line in GAINS.read_text("utf-8").splitlines()])
    return {(network.split("/")[-1], name): (points, half) for network, name, points, half in found}


@pytest.mark.parametrize("name", USUAL)
def test_gains_of_the_default_are_those_of_the_stored_runs(name: str) -> None:
    found = measured_gains()
    for gave, network in zip(techniques()[name].gave, NETWORKS, strict=True):
        points, half = found[network, name]
        assert (gave.points, gave.low, gave.high) == pytest.approx((points, points - half, points + half), abs=0.06)


def test_no_technique_of_the_default_is_measured_to_cost_a_class_of_networks_a_tenth_of_a_point() -> None:
    assert set(USUAL) == {kind.name for kind, offer in offers() if offer.effort == 1}
    for noise in (True, False):
        for name in USUAL:
            assert any(gave.noise is noise for gave in techniques()[name].gave)
    costs = {key: value for key, value in measured_gains().items() if value[0] < LEAST}
    assert costs == {}, "such a technique is to be switched by what is known of a network when it is compiled"


def test_the_gain_of_rewriting_is_that_of_the_stored_ablation() -> None:
    rows = {
        r["techniques"]: r
        for r in map(json.loads, RESULTS.read_text("utf-8").splitlines())
        if r["network"] == "resnet20"
    }
    (before, sd0, n0), (after, sd1, n1) = (
        (100 * rows[techniques]["tuned"], 100 * rows[techniques]["tuned_sd"], rows[techniques]["chips"])
        for techniques in (WITHOUT_REWRITE, WITH_REWRITE)
    )
    se2 = sd0**2 / n0 + sd1**2 / n1  # Welch
    free = se2**2 / ((sd0**2 / n0) ** 2 / (n0 - 1) + (sd1**2 / n1) ** 2 / (n1 - 1))
    half = stats.t.ppf(0.975, free) * se2**0.5
    (gave,) = techniques()["rewrite"].gave
    assert (gave.points, gave.low, gave.high) == pytest.approx(
        (after - before, after - before - half, after - before + half), abs=0.06
    )


def test_each_offer_has_a_price_on_the_network_that_is_named_and_they_go_from_cheap_to_dear(small: Small) -> None:
    planned = planner(small.net, NetworkOptions(macros=8))
    prices = price_list(planned, Watch())
    plans = {str(one.technique): one.plan for one in prices if one.plan is not None}
    for text in plans:
        assert text in map(str, Recipe().changed(["tune"] * (text != "tune") + [text], []).techniques), (
            "as --with takes it"
        )
    assert {text.partition("=")[0] for text in plans} == {*techniques()} - {"prune", "repeat", "rounds"}
    compiled = planned(Recipe())
    assert plans["copies"].cells > compiled.cells
    assert plans["rewrite"].pulses_again > 0
    reads = [compiled.reads, *(plan.reads for text, plan in plans.items() if text.startswith("residual"))]
    assert len(reads) == 6
    assert reads == sorted(set(reads))
    assert (plans["adapters"].edp_mj_ms or 0.0) > (plans["tune"].edp_mj_ms or 0.0)
    assert (edps := [plan.edp_mj_ms or 0.0 for plan in plans.values()]) == sorted(edps)


def test_all_prices_without_a_network_are_of_the_same_bundled_one() -> None:
    prices = prices_of(None, NetworkOptions(chip="small-32"), Watch())
    assert "needs 2 macros" in str(prices["residual"])  # of the smallest; the largest needs 390


def test_without_a_network_techniques_have_gains_and_no_prices(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "techniques", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prices"] == {}


def test_gains_and_prices_stand_in_one_table_by_names_that_with_takes(
    small: Small, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "180")
    assert run(["help", "techniques", str(small.net), "--macros", "8"]) == 0
    table = [line.strip() for line in capsys.readouterr().out.split("technique", 2)[2].splitlines()]
    (usual,), (further,), *alone = (
        [line for line in table if line.startswith(f"{name}  ")]
        for name in (USUAL_RECIPE, "copies=macros=9999", *USUAL)
    )
    assert all("×" in line and " … " in line for (line,) in alone)
    assert "×" in usual
    assert " … " not in further, "nobody measured what copies on further macros give"
