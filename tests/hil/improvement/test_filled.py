"""A small array by default: the bundled network that it holds, and techniques that fit it and gain."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import hil
from cim.new_chip import new_chip
from hil.cli import run
from hil.cost.estimate import estimate_network
from hil.datasets.image_set import load_dataset
from hil.deployment.network_source import SMALLER, bundled_on, program_of
from hil.deployment.options import USUAL_RECIPE, DeployOptions, NetworkOptions
from hil.improvement.filled import filled
from hil.prediction.predict import predict
from hil.report.step_words import words_for
from hil.verdict.agreement import AgreementReport
from hil.watch import Watch
from mapping.recipe.averaged_reads import AveragedReads
from mapping.recipe.recipe import Recipe

SMALL = NetworkOptions(chip="small-32")
DIGITS, YIN_YANG, SMALLEST = SMALLER
DATA = load_dataset("yin-yang-bundled", any_kind=True)


def test_a_network_on_one_small_array_gets_what_fits_it_and_gains() -> None:
    watch, options = Watch(), DeployOptions(samples=1000, virtual_chips=8, seed=5)
    recipe = filled(YIN_YANG, SMALL, options, None, watch)
    assert "weighed on 8 virtual chips" in watch.notes[0]
    assert set(str(USUAL_RECIPE).split()) < set(str(recipe).split())
    assert recipe.get(AveragedReads), "noise of single reads is what costs most"

    def simulated(used: Recipe) -> float:
        program, _ = program_of(YIN_YANG, SMALL, Watch(), recipe=used)
        found = predict(program, DATA, None, replace(options, recipe=used), Watch(), mode="fast")
        return float(np.mean(found.chips))

    assert simulated(recipe) > simulated(USUAL_RECIPE) + 0.01  # on test points and chips that chose nothing


@pytest.mark.parametrize("why", ["named", "lossless", "large"])
def test_the_usual_recipe_stays_where_there_is_nothing_to_win_or_to_judge_by(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = DeployOptions()
    if why == "named":
        options = replace(options, recipe=USUAL_RECIPE.changed(["rewrite"], []))
    elif why == "lossless":
        monkeypatch.setattr("hil.improvement.filled.ENOUGH", 0.0)
    else:
        monkeypatch.setattr("hil.improvement.filled.WEIGHED", 100)
    assert filled(YIN_YANG, SMALL, options, None, watch := Watch()) == options.recipe
    assert not watch.notes


def test_the_largest_bundled_network_that_a_chip_holds_is_taken(tmp_path: Path) -> None:
    for source, expected in (
        (NetworkOptions(), (None, None)),
        (NetworkOptions(macros=3), (DIGITS, "digits-bundled")),
        (SMALL, (YIN_YANG, "yin-yang-bundled")),
        (replace(SMALL, data="mine.npz"), (None, "mine.npz")),
    ):
        network, found = bundled_on(None, source, USUAL_RECIPE, Watch())
        assert (network, found.data) == expected
    for size in ("25", "10"):  # the second holds none
        answers = {"rows": size, "columns": size, "encoding": "offset_column"}
        (path := tmp_path / "array.toml").write_text(new_chip("array", answers), "utf-8")
        assert bundled_on(None, NetworkOptions(chip=str(path)), USUAL_RECIPE, Watch())[0] == SMALLEST
        assert run(["chip", "check", str(path)]) == (size == "10")  # too few cells to calibrate are said here


def test_a_bundled_network_goes_by_its_name_and_brings_its_test_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["--samples", "60", "--chips", "2", "--mode", "fast", "--age", "1h"]
    assert run(["simulate", "demo:digits", *few]) == 0
    assert "hil simulate demo:digits " in capsys.readouterr().out
    assert run(["estimate", "demo:residual", "--chip", "lab-128", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["layers"]) >= 20
    assert run(["deploy", "demo:clothes", "--emulated"]) == 2
    assert "demo:residual" in capsys.readouterr().err


def test_a_network_takes_fewer_bits_of_activations_where_the_chip_drives_fewer() -> None:
    watch, lemon = Watch(), NetworkOptions(chip="lemon-8")
    assert program_of(YIN_YANG, lemon, watch)[0].activation_bits == 4
    assert "activations of 4 bits: lemon-8 drives no more" in watch.notes
    assert bundled_on(None, lemon, USUAL_RECIPE, watch) == (None, lemon)
    assert estimate_network("cifar_resnet20_a", "lemon-8").layers[0].macros == 1


def test_one_small_array_is_deployed_on_without_a_network_or_an_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compile", "--chip", "small-32", "--json"]) == run(["help", "techniques", "--chip", "small-32"]) == 0
    capsys.readouterr()
    few = ["--samples", "300", "--repeat", "2", "--no-causes", "--mode", "fast"]
    run(["deploy", "--emulated", "--chip", "small-32", *few, "-o", str(tmp_path / "run"), "--json"])
    report = json.loads(capsys.readouterr().out)
    for effort, techniques in ((2, report["plan"]["recipe"]), (0, "")):
        options = DeployOptions(effort=effort, samples=300, repeats=2, causes=False, mode="fast")
        made = hil.deploy(None, "emulated:small-32?seed=0", options=options, out=tmp_path / f"{effort}")
        assert made.to_json()["plan"]["recipe"] == techniques
    assert "--with adapters" in words_for(AgreementReport.from_json(report)).simulated()
    assert report["accuracy"]["measured"]["mean"] > report["accuracy"]["float"] - 0.1
