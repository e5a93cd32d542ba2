"""Digital adapters through the wire: no cell is written again, and virtual chips are adapted alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.cli import run
from hil.deployment.dry_run import estimate
from hil.deployment.options import DeployOptions, usual_recipe
from hil.errors import ExitCode
from mapping.program.file import load_program
from mapping.recipe.technique import RecipeError

from ..conftest import CHIP, Small


@pytest.fixture(scope="module")
def folder(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with adapters of rank 2, by the command line."""
    folder = tmp_path_factory.mktemp("adapters") / "run"
    quick = ("--samples", "100", "--repeat", "1", "--no-causes")
    command = small.arguments("--port", CHIP, "--with", "adapters=2", *quick, "--out", str(folder))
    assert run(command) in (ExitCode.DONE, ExitCode.OUTSIDE_TOLERANCE)
    return folder


def test_a_deployment_with_adapters_judges_adapted_chips_and_says_what_they_cost(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert report["tune"]["rank"] == 2
    assert 0 < report["tune"]["adapter_share"] < 1
    assert all(layer["after"] <= layer["before"] for layer in report["tune"]["layers"])
    assert all(layer["plausible"] for layer in report["tune"]["layers"])
    assert "rank 2" in (folder / "report.md").read_text("utf-8")
    assert all(layer["measured"]["r2"] > 0.9 for layer in report["layers"] if "measured" in layer)


def test_the_program_of_the_run_holds_the_adapters_and_the_cells_of_before(folder: Path, small: Small) -> None:
    program = load_program(folder / "program.h5")
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert [step.adapter is not None for step in program.matrices] == [True, True]
    assert program.held_digest == report["digests"]["held_program"]


def test_what_adapters_cost_is_in_the_estimate(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["estimate", str(folder / "program.h5"), "--chip", "lab-128"]) == ExitCode.DONE
    said = capsys.readouterr().out
    assert said.count(" adapter ") == 2
    assert "host" in said


def test_the_dry_run_counts_the_sums_that_adapters_ask_for(small: Small) -> None:
    plain, adapted = (
        estimate(small.program, DeployOptions(recipe=usual_recipe(*having)), calibrate=False)
        for having in ((), ("adapters=4",))
    )
    assert adapted.inference.bytes_in > plain.inference.bytes_in
    assert adapted.program == plain.program


def test_adapters_need_the_tune_and_a_rank_that_there_is(small: Small) -> None:
    with pytest.raises(RecipeError, match="adapters builds on tune"):
        DeployOptions(recipe=usual_recipe("adapters=2", without=["tune"]))
    with pytest.raises(RecipeError, match="not from 1 to 64"):
        DeployOptions(recipe=usual_recipe("adapters=65"))
    assert run(["deploy", str(small.net), "--emulated", "--with", "adapters=65", "--dry-run"]) == ExitCode.USAGE
