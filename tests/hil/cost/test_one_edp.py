"""One EDP: search, estimate, improvement and report price a program as a deployment writes it, to the digit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cim.chip.file import load_chip
from hil.cli import run as cli
from hil.cost.estimate import estimate_network
from hil.datasets.image_set import load_dataset
from hil.deployment.options import DeployOptions, NetworkOptions, TechniqueOptions
from hil.improvement.begin import context_of
from hil.improvement.improve import improve
from hil.improvement.settings import ImproveSettings
from hil.improvement.trials import begun_with, trials_of
from hil.searching.evaluator import SimulatedEvaluator
from hil.searching.settings import SearchSettings
from hil.watch import Watch
from mapping.network.file import load_network
from mapping.recipe.recipe import Recipe
from mapping.recipe.tune import TunedChannels
from mapping.workload import unplaced_workload
from search.space.target import ChipTarget

from ..conftest import CHIP, Small

RECIPES = {
    "each layer once": (),
    "copies on idle cells": ("copies", "aims", "tune"),
    "copies on all macros": ("copies=4",),
    "adapters": ("copies", "tune=16", "adapters=2"),
    "rounds": ("rounds", "copies"),
}


def deployed(small: Small, network: Path, out: Path, *more: str) -> float:
    """EDP of the report, which says that of the network as compiled beside it."""
    quick = ("--port", CHIP, "--calibration", str(small.record_file), "--samples", "20", "--repeat", "1", "--no-causes")
    cli(["deploy", str(network), "--data", str(small.data), "--macros", "4", *quick, *more, "--out", str(out)])
    report = json.loads((out / "report.json").read_text("utf-8"))
    if bare := report["cost"]["as_compiled"]:
        once = estimate_network(str(small.net), "lab-128", macros=4, recipe=Recipe()).edp_mj_ms
        assert 1e6 * bare["energy_j"] * bare["latency_s"] == pytest.approx(once, rel=1e-12)
        assert report["plan"]["edp_mj_ms"] > once
    return float(report["plan"]["edp_mj_ms"])


@pytest.mark.parametrize("having", RECIPES.values(), ids=RECIPES.keys())
def test_search_estimate_and_report_show_the_edp_of_what_is_written(
    small: Small, tmp_path: Path, having: tuple[str, ...]
) -> None:
    recipe, spec = Recipe().changed(having, ()), load_chip("lab-128", macros=4)
    settings = SearchSettings("", "lab-128", recipe=str(recipe))
    file = load_network(small.net)
    work = unplaced_workload(file.graph, weight_bits=file.weight_bits, activation_bits=file.activation_bits)
    layout, rank = DeployOptions(recipe=recipe).layout, recipe.tune_plan.rank
    searched = ChipTarget(spec, layout, rank).cost(work).edp_mj_ms
    assert settings.asked == recipe
    evaluated = SimulatedEvaluator(
        spec,
        load_dataset(str(small.data), "test"),
        None,
        DeployOptions(samples=10, virtual_chips=2, recipe=recipe),
        "fast",
    ).evaluate(small.net)
    estimated = estimate_network(str(small.net), "lab-128", macros=4, recipe=recipe).edp_mj_ms
    named = [part for name in having for part in ("--with", name)]
    report = deployed(small, small.net, tmp_path / "run", "--effort", "0", *named)
    assert evaluated.energy_pj * evaluated.latency_ns * 1e-15 == pytest.approx(searched, rel=1e-12)
    assert searched == estimated == report


def test_improvement_estimate_and_report_show_the_edp_of_its_program(small: Small, tmp_path: Path) -> None:
    asked, wanted = begun_with(TechniqueOptions(having=("tune=32",))), ("tune=images=32", "copies", "adapters")
    bench = context_of(
        small.net,
        load_dataset(str(small.data), "train"),
        NetworkOptions(macros=4),
        ImproveSettings(images=100, chips=2),
        Watch(),
        record=small.record_file,
        asked=asked,
    )
    assert asked == Recipe((TunedChannels(32),))
    found = improve(bench, tmp_path / "improved", None, tried=lambda b: [t for t in trials_of(b) if t.name in wanted])
    kept, program = [result for result in found.trials if result.kept][-1], tmp_path / "improved" / "program.h5"
    assert kept.edp_mj_ms == estimate_network(str(program), "").edp_mj_ms
    assert kept.edp_mj_ms == deployed(small, program, tmp_path / "run")


def test_the_plan_is_said_before_the_first_pulse_and_in_the_dry_run(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = deployed(small, small.net, tmp_path / "run", "--effort", "2", "--without", "adapters")
    said = capsys.readouterr().err
    assert "copies=macros=9999 aims rewrite tune" in said.split("  write ")[0]
    techniques = ["--effort", "2", "--without", "adapters"]
    cli([*small.arguments("--port", CHIP, *techniques), "--dry-run", "--json"])
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["edp_mj_ms"] == report
    assert plan["pulses_again"] > 0
    assert plan["macros"] == 2  # eight copies of each layer fit beside it
