"""The search kept with the examples: its files are whole, its prices those of today, its networks deployable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from cim.chip.file import load_chip
from hil.cli import run
from hil.datasets.image_set import load_dataset
from hil.deployment.network_source import BUNDLED_DATA
from hil.deployment.options import USUAL_RECIPE, DeployOptions
from hil.searching.evaluator import SimulatedEvaluator
from hil.searching.folder import open_folder
from mapping.recipe.idle_copies import IdleCopies
from search.choice.front import read_front
from search.space.candidate import workload
from search.space.file import load_space
from search.space.target import load_target

KEPT = Path(__file__).parents[1] / "examples" / "searches" / "fashion-mnist"
NETWORKS = sorted(KEPT.glob("networks/*/net.pt"))


def test_prices_of_the_front_are_those_of_the_cost_model() -> None:
    space, target = load_space(KEPT / "space.toml"), load_target("lab-128")
    for member in read_front(KEPT / "front.json").members:
        found = target.cost(workload(space, member.architecture))
        assert found.edp_mj_ms == pytest.approx(member.cost.edp_mj_ms, rel=1e-12)
        assert found.macros == member.cost.macros


def test_show_reads_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", "show", str(KEPT), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["networks"]
    trained = [row for row in rows if row["evaluated"]]
    assert {mode for row in trained for mode in row["modes"]} == {"accuracy", "balanced", "efficiency"}
    assert len(trained) == len(NETWORKS)


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.parent.name)
def test_networks_run_on_simulated_chips(path: Path) -> None:
    _, settings = open_folder(KEPT)
    assert settings.recipe == str(USUAL_RECIPE.without(IdleCopies.name))  # each layer once
    options = DeployOptions(samples=200, virtual_chips=2, recipe=settings.asked)
    found = SimulatedEvaluator(
        load_chip("lab-128"), load_dataset(BUNDLED_DATA, "test"), None, options, "fast"
    ).evaluate(path)
    stored = json.loads((path.parent / "evaluation.json").read_text("utf-8"))["evaluation"]
    assert found.edp_mj_ms == pytest.approx(stored["latency_ns"] * stored["energy_pj"] * 1e-15, rel=1e-12)
    assert found.accuracy_mean > stored["accuracy_mean"] - 0.06  # 200 images: a standard error of 2 points
