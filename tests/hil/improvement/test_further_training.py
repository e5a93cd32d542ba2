"""The last trial: training in what is left of the minutes, gone on with, without the images that decide."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from cim.chip.file import load_chip
from hil.datasets.image_set import load_dataset
from hil.deployment.options import NetworkOptions
from hil.improvement.begin import context_of
from hil.improvement.context import Candidate, TrialContext
from hil.improvement.finetuning.as_deployed import strength_of
from hil.improvement.finetuning.inputs import load_finetune_inputs
from hil.improvement.finetuning.plan import PLAN, FinetunePlan, fingerprint
from hil.improvement.finetuning.settings import FinetuneSettings, working_folder
from hil.improvement.further_training import FurtherTraining
from hil.improvement.improve import TRIALS, Improvement, improve
from hil.improvement.settings import ImproveSettings
from hil.improvement.trials import FINETUNE
from hil.report.work_folder import WorkFolder
from hil.watch import Watch
from mapping.compile import LayoutOptions, compile_network
from mapping.network.file import image_keys, load_network
from mapping.program.file import load_program

from ..conftest import Small
from ..small_net import NAMES, images

SETTINGS = FinetuneSettings(minutes=9.0, batch=32, rate=0.0004, strength=0.5, shift=0, symmetry="none", seed=3)


class Listening(Watch):
    """A watch that keeps what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def step(self, done: int, total: int, what: str = "", of: str = "") -> None:
        self.heard.append(what)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels, labels = images(640, 21)
    path = tmp_path_factory.mktemp("images") / "train.npz"
    np.savez(path, images=pixels, labels=labels, classes=np.array(NAMES))
    return path


def context(small: Small, data: Path, folder: Path, watch: Watch | None = None) -> TrialContext:
    further = FurtherTraining(small.net, str(data), "lab-128", 4, small.record_file, folder)
    return context_of(
        small.net,
        load_dataset(str(data), "train"),
        NetworkOptions(macros=4),
        ImproveSettings(images=100, chips=2),
        watch or Watch(),
        record=small.record_file,
        further=further,
    )


@pytest.fixture(scope="module")
def climbed(
    small: Small, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Improvement, TrialContext, Path]:
    """An improvement whose training had been begun, with one epoch planned."""
    folder = tmp_path_factory.mktemp("trained")
    tried = context(small, data, folder)
    assert tried.training is not None
    inputs = load_finetune_inputs(
        small.net, str(data), SETTINGS, Watch(), chip="lab-128", calibration=small.record_file, macros=4,
        without=tried.images,
    )  # fmt: skip
    begun = WorkFolder(working_folder(tried.training.out), fingerprint(SETTINGS, inputs), kind="hil.finetuning")
    begun.keep_json(PLAN, asdict(FinetunePlan(1, 320, cut=True)))
    return improve(tried, folder, None, minutes=30.0, tried=lambda _: [FINETUNE]), tried, folder


def test_a_training_that_was_begun_goes_on_and_its_network_is_the_improvements(
    climbed: tuple[Improvement, TrialContext, Path],
) -> None:
    found, tried, folder = climbed
    result, trained = found.trials[-1], load_network(folder / "finetuned.pt")
    assert (result.name, result.skipped) == ("finetune", "")
    assert result.recipe["finetuned"] == trained.digest
    assert "1 epochs of 320 images" in trained.graph.provenance["fine-tuned by"]
    assert not np.isin(image_keys(tried.images), trained.trained_on).any()
    assert not working_folder(folder / "finetuned.pt").exists()
    program = load_program(folder / "program.h5")
    assert program.network_digest == (trained.digest if result.kept else tried.network.digest)


def test_a_trained_network_in_the_folder_is_not_trained_again(
    climbed: tuple[Improvement, TrialContext, Path], small: Small, data: Path
) -> None:
    found, _, folder = climbed
    shutil.rmtree(folder / TRIALS)
    before = (folder / "finetuned.pt").stat().st_mtime_ns
    again = improve(context(small, data, folder), folder, None, minutes=30.0, tried=lambda _: [FINETUNE])
    assert again.trials[-1].chips == found.trials[-1].chips
    assert (folder / "finetuned.pt").stat().st_mtime_ns == before


def test_without_minutes_or_with_too_few_nothing_is_trained(small: Small, data: Path, tmp_path: Path) -> None:
    tried = context(small, data, tmp_path)
    assert "none were given" in str(FINETUNE.propose(tried, Candidate()))
    assert FINETUNE.propose(replace(tried, minutes_left=1.5), Candidate()) == "1.5 minutes are left, training takes 2"
    assert FINETUNE.propose(replace(tried, training=None), Candidate()) == "training was not requested"
    assert list(tmp_path.iterdir()) == []


def test_errors_in_training_are_as_small_as_copies_leave_them(small: Small) -> None:
    assert strength_of(small.once()) == 1.0
    copies = [step.group.averages for step in small.program.matrices]
    assert strength_of(small.program) == pytest.approx(np.sqrt(np.mean(1 / np.array(copies))), abs=1e-3)
    network, roomy = load_network(small.net), load_chip("lab-128", macros=64)
    assert strength_of(compile_network(network, roomy, weight_bits=8, options=LayoutOptions(residual=4))) == 0.5


def test_the_layers_are_sensed_once_for_a_network_and_its_scales(small: Small, data: Path, tmp_path: Path) -> None:
    watch = Listening()
    tried = context(small, data, tmp_path, watch)
    first = tried.sensitivity(Candidate())
    heard = len([what for what in watch.heard if what.startswith("sensitivity of")])
    assert heard == len(first) == 2
    assert tried.sensitivity(Candidate()) == first
    assert len([what for what in watch.heard if what.startswith("sensitivity of")]) == heard
    assert tried.sensitivity(Candidate(scales="output")) != first
