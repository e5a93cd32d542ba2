"""A tune that makes the chip worse is found by the chip's own answers, and not kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.record.file import load_record
from hil.cli import run
from hil.datasets.image_set import load_dataset
from hil.deployment.chip_run import LeavesTune
from hil.deployment.deploy import DeployOptions, deploy, deploy_on
from hil.deployment.rounds import RoundsRun
from hil.deployment.running.whole_run import WholeRun
from hil.deployment.targets.wired import program_chip
from hil.driver.open_chip import connect, open_chip
from hil.emulator.address import chip_from_address
from hil.report.run_data import read_run
from hil.report.schema import report_schema
from hil.transports.in_process import InProcessTransport
from hil.verdict.agreement import AgreementReport
from hil.verdict.metric import ACCURACY
from hil.verdict.tune_harm import harms, tune_harm
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
    once, twice = without.decisive, harmed.decisive
    assert twice.measured == once.measured
    assert twice.simulated_chips == once.simulated_chips
    assert (once.alpha_prediction, once.alpha_equivalence) == (0.05, 0.05)
    assert (twice.alpha_prediction, twice.alpha_equivalence) == (0.025, 0.025)
    assert harmed.headline == f"{without.verdict}, measured twice"
    assert "tuned_program" not in harmed.digests
    assert load_program(Path(harmed.run) / "program.h5").tuned_to is None


def test_what_was_measured_before_a_tune_is_left_out_stays_in_the_data_and_the_report(harmed: AgreementReport) -> None:
    found, data = harmed.tune_harm, read_run(Path(harmed.run) / "data.h5")
    assert found is not None
    assert data.untuned_logits is not None
    assert data.tuned_logits is not None
    labels = data.labels[:300]
    untuned, tuned = ((x.argmax(-1) == labels).mean(axis=1) for x in (data.untuned_logits, data.tuned_logits))
    assert list(untuned) == pytest.approx([found.without, found.again])
    assert tuned.mean() == pytest.approx(found.tuned)
    assert harmed.tune is not None
    assert harmed.untuned is not None
    assert harmed.tuned_alike is not None
    assert harmed.tuned_alike.measured.mean == pytest.approx(found.tuned)


def test_a_harmful_tune_is_said_first_with_both_accuracies(harmed: AgreementReport) -> None:
    text = (Path(harmed.run) / "report.md").read_text("utf-8")
    assert "**WARNING**: the tune harms this chip" in text
    assert "the chip is measured twice, now without it" in text
    saved = json.loads((Path(harmed.run) / "report.json").read_text("utf-8"))
    assert faults(saved, report_schema()) == []
    assert saved["tune_harm"]["left_out"] is True
    assert AgreementReport.from_json(saved).tune_harm == harmed.tune_harm


class Dip(Watch):
    """All gains of an emulated chip are smaller by ``share`` while images are measured with the tune."""

    def __init__(self, chip: Any, share: float) -> None:
        super().__init__()
        self.chip, self.share, self.measured = chip, share, 0

    def begin(self, name: str) -> None:
        if name == "measuring":
            self.measured += 1
            self.turn_to(1.0 - self.share)

    def end(self, name: str) -> None:
        if name == "measuring":
            self.turn_to(1.0 / (1.0 - self.share))

    def turn_to(self, factor: float) -> None:
        for errors in self.chip._converter._errors:
            errors[0] *= factor


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_gains_that_dip_while_a_look_is_measured_are_neither_blamed_on_the_tune_nor_as_calibrated(
    small: Small, share: float
) -> None:
    chip = chip_from_address(CHIP)
    watch = Dip(chip, share)
    data, record = load_dataset(str(small.data), "test"), load_record(small.record_file)
    with connect(InProcessTransport(chip, CHIP), chip=chip.spec) as driver:
        report, arrays = deploy_on(driver, small.program, data, record=record, options=QUICK, watch=watch)
    assert watch.measured == 1
    assert report.tune_harm is None
    assert not report.measured_twice
    assert arrays.tuned_logits is None
    assert report.as_calibrated is not None
    assert any("outputs of images 1 to 300" in text for text in report.as_calibrated.evidence)
    assert "while it answered images 1 to 300" in report.headline
    assert report.exit_code == 1


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


def test_a_tune_is_blamed_only_where_the_chip_is_better_without_it_before_and_after() -> None:
    right, dipped = np.ones(300), np.r_[np.zeros(40), np.ones(260)]
    blamed = tune_harm(np.stack([right, right]), dipped[None], ACCURACY, left_out=True, stored=64)
    assert blamed is not None
    assert blamed.again == 1.0
    assert "without it again" in blamed.text
    assert tune_harm(np.stack([right, dipped]), dipped[None], ACCURACY, left_out=True, stored=64) is None


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


def test_a_run_in_rounds_offers_no_second_measurement_since_its_cells_are_gone() -> None:
    assert issubclass(WholeRun, LeavesTune)
    assert not issubclass(RoundsRun, LeavesTune)
