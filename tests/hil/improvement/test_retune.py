"""Tuning a chip that holds a program: before and after on stored images that the tune did not see."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from cim.record.file import load_record
from hil.deployment.targets.wired import program_chip
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import open_chip
from hil.errors import MismatchError, UsageError
from hil.improvement.retune import retune, split_stored
from hil.watch import Watch
from mapping.program.file import load_program, save_program

from ..conftest import CHIP, Small
from ..deployment.test_deploy import served


@pytest.fixture(scope="module")
def aged(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChipDriver]:
    """The small chip a day after it was programmed, opened anew."""
    spec = small.program.spec
    with served(tmp_path_factory.mktemp("aged")) as (_, address):
        with open_chip(address, chip=spec) as driver:
            program_chip(driver, small.program, sample=1, watch=Watch())
            driver.wait(86_400.0)
        with open_chip(address, chip=spec) as driver:
            yield driver


def test_an_aged_chip_answers_more_like_the_ideal_network_after_a_tune(
    aged: ChipDriver, small: Small, tmp_path: Path
) -> None:
    tuned, report = retune(aged, small.program, load_record(small.record_file))
    assert (report.images, report.held_out) == (48, 16)
    assert report.error_after < report.error_before
    assert report.same_after is not None
    assert report.same_before is not None
    assert report.same_after >= report.same_before - 1 / 16
    assert all(after <= before for _, before, after in report.layers)
    assert "NOT SILICON" in "\n".join(report.lines())
    assert aged.held_program() == bytes.fromhex(tuned.program.held_digest)
    assert tuned.program.tuned_to == report.serial
    save_program(tuned.program, tmp_path / "tuned.h5")
    with pytest.raises(MismatchError, match="is tuned to chip"):
        retune(aged, load_program(tmp_path / "tuned.h5"), small.record)


def test_a_chip_that_holds_something_else_is_not_tuned(small: Small) -> None:
    with (
        open_chip(CHIP, chip=small.program.spec) as driver,
        pytest.raises(MismatchError, match="does not hold this program"),
    ):
        retune(driver, small.program, small.record)


def test_too_few_stored_images_are_refused_with_the_number(small: Small) -> None:
    few = dataclasses.replace(small.program, calibration_images=small.program.calibration_images[:9])
    with pytest.raises(UsageError, match="stores 9 training images"):
        split_stored(few, 128)
