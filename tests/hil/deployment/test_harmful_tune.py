"""A tune that makes the chip worse is found by the chip's own answers, and not kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hil.cli import run
from hil.deployment.deploy import DeployOptions, deploy
from hil.deployment.targets.wired import program_chip
from hil.driver.open_chip import open_chip
from hil.report.schema import report_schema
from hil.verdict.agreement import AgreementReport
from hil.verdict.tune_harm import harms
from hil.watch import Watch
from mapping.network.file import image_digest
from mapping.program.conductance import ConductanceProgram
from mapping.program.file import load_program, program_digest, save_program

from ..conftest import CHIP, QUICK, Small
from ..report.test_report import faults
from .test_deploy import served


def with_stored(small: Small, images: NDArray[np.uint8]) -> ConductanceProgram:
    """The program with other stored training images than it was compiled with."""
    other = dataclasses.replace(
        small.program, calibration_images=images, calibration_digest=image_digest(images), digest=""
    )
    return dataclasses.replace(other, digest=program_digest(other))


def nearly_black(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 3, (count, 8, 8, 1)).astype(np.uint8)


def deployed(small: Small, program: ConductanceProgram, out: Path, options: DeployOptions = QUICK) -> AgreementReport:
    save_program(program, out.with_suffix(".h5"))
    return deploy(
        out.with_suffix(".h5"), CHIP, data=str(small.data), calibration=small.record_file, options=options, out=out
    )


@pytest.fixture(scope="module")
def harmed(small: Small, tmp_path_factory: pytest.TempPathFactory) -> AgreementReport:
    return deployed(small, with_stored(small, nearly_black(64)), tmp_path_factory.mktemp("harmed") / "run")


def test_a_tune_to_images_of_another_kind_is_left_out_and_the_run_goes_on_without_it(
    small: Small, harmed: AgreementReport, tmp_path: Path
) -> None:
    plain = dataclasses.replace(QUICK, recipe=QUICK.recipe.without("tune"))
    without = deployed(small, with_stored(small, nearly_black(64)), tmp_path / "run", plain)
    found = harmed.tune_harm
    assert found is not None
    assert found.left_out
    assert found.without - found.tuned > 0.05
    assert found.images == 300
    assert harmed.decisive == without.decisive
    assert (harmed.tune, harmed.untuned, harmed.tuned_alike) == (None, None, None)
    assert "tuned_program" not in harmed.digests
    assert load_program(Path(harmed.run) / "program.h5").tuned_to is None


def test_a_harmful_tune_is_said_first_with_both_accuracies(harmed: AgreementReport) -> None:
    text = (Path(harmed.run) / "report.md").read_text("utf-8")
    assert "**WARNING**: the tune harms this chip" in text
    assert "it is left out" in text
    saved = json.loads((Path(harmed.run) / "report.json").read_text("utf-8"))
    assert faults(saved, report_schema()) == []
    assert saved["tune_harm"]["left_out"] is True
    assert AgreementReport.from_json(saved).tune_harm == harmed.tune_harm


def test_a_tune_that_helps_is_kept_and_not_mentioned(finished_run: Path) -> None:
    report = AgreementReport.from_text((finished_run / "report.json").read_text("utf-8"))
    assert report.tune is not None
    assert report.tune_harm is None


def test_hil_tune_does_not_write_a_program_that_is_worse(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first 48 stored images serve the tune, the last 16 tell."""
    stored = np.concatenate([nearly_black(48), small.program.calibration_images[48:]])
    program = with_stored(small, stored)
    save_program(program, tmp_path / "program.h5")
    with served(tmp_path) as (_, where):
        with open_chip(where, chip=program.spec) as driver:
            program_chip(driver, program, sample=1, watch=Watch())
        asked = [str(tmp_path / "program.h5"), "--calibration", str(small.record_file), "--port", where]
        code = run(["tune", *asked, "-o", str(tmp_path / "tuned.h5")])
    assert code == 1
    assert not (tmp_path / "tuned.h5").exists()
    said = capsys.readouterr().out
    assert "worse with this tune" in said
    assert "not written" in said


def test_tunes_that_change_nothing_are_rarely_called_harmful() -> None:
    rng = np.random.default_rng(5)
    called = 0
    for _ in range(400):
        right = rng.random(200) < 0.9
        changed = np.where(rng.random(200) < 0.06, rng.random(200) < 0.5, right)
        called += harms(right, changed) and bool(right.sum() - changed.sum() < 1)
    assert called == 0
    same = np.ones(50)
    assert not harms(same, same)
