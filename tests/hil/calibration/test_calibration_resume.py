"""A calibration that was interrupted goes on with what it has, if the chip still holds the pattern."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cim.fit.measured import Idle
from cim.record.calibration import CalibrationRecord
from hil.calibration.plan import PLANS, Budget, later_ages
from hil.calibration.procedure import calibrate
from hil.calibration.store import partial_folder, read_step, write_step
from hil.driver.open_chip import connect
from hil.emulator.address import chip_from_address
from hil.emulator.chip import EmulatedChip
from hil.errors import ExitCode, FileError, Interrupted
from hil.report.work_folder import WorkFolder
from hil.transports.in_process import InProcessTransport
from hil.watch import Watch

ADDRESS = "emulated:yao-2020?macros=1&seed=4"


class CtrlC(Watch):
    """Interrupts when a measurement of this kind begins."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def step(self, done: int, total: int, what: str = "", of: str = "") -> None:
        if self.at and what.startswith(self.at):
            raise KeyboardInterrupt


def run(chip: EmulatedChip, folder: Path, at: str = "", **more: Any) -> tuple[CalibrationRecord, Watch]:
    watch = CtrlC(at)
    with connect(InProcessTransport(chip, ADDRESS), chip=chip.spec) as driver:
        record = calibrate(driver, (0,), budget=Budget.QUICK, partial=folder, watch=watch, **more)
    return record, watch


def test_what_was_measured_is_kept_and_the_rest_is_measured(tmp_path: Path) -> None:
    chip, folder = chip_from_address(ADDRESS), partial_folder(tmp_path / "chip.h5")
    with pytest.raises(Interrupted, match="finished steps") as caught:
        run(chip, folder, at="transfer")
    assert caught.value.exit_code is ExitCode.INTERRUPTED
    assert caught.value.hint == "the same command resumes; with --restart it begins again"
    pulses = chip.status().pulses_total
    record, watch = run(chip, folder)
    assert chip.status().pulses_total == pulses, "nothing is written again"
    assert len(watch.notes) == 1
    assert f"finished steps of {folder} are taken" in watch.notes[0]
    whole, _ = run(chip_from_address(ADDRESS), tmp_path / "other.partial")
    assert record.pulses == whole.pulses
    np.testing.assert_array_equal(record.macros[0].cells, whole.macros[0].cells)
    np.testing.assert_allclose(record.programming.loc_us[0], whole.programming.loc_us[0])


def test_a_chip_that_lost_the_pattern_is_written_again(tmp_path: Path) -> None:
    folder = tmp_path / "chip.partial"
    with pytest.raises(Interrupted):
        run(chip_from_address(ADDRESS), folder, at="transfer")
    fresh = chip_from_address(ADDRESS)  # the same chip after a power cut that cost it its cells
    _, watch = run(fresh, folder)
    assert any("written again" in note for note in watch.notes)
    assert fresh.status().pulses_total > 0


def test_a_damaged_step_is_one_typed_error(tmp_path: Path) -> None:
    WorkFolder(tmp_path / "p", {"seed": 1}).keep("idle.h5", {0: Idle(8, np.zeros(2), np.zeros(2))}, write_step)
    (tmp_path / "p" / "idle.h5").write_bytes(b"no hdf5")
    again = WorkFolder(tmp_path / "p", {"seed": 1})
    with pytest.raises(FileError, match="damaged"):
        again.load("idle.h5", lambda path: read_step(path, Idle))


def test_ages_are_decades_that_all_macros_share() -> None:
    plan = PLANS[Budget.DEFAULT]
    assert later_ages(3600.0, 25.0, plan) == (1000.0, 3600.0)
    assert later_ages(3600.0, 1.0, plan) == (10.0, 100.0, 1000.0, 3600.0)
    assert later_ages(60.0, 0.0, plan) == (10.0, 60.0)
    assert later_ages(3600.0, 1.0, PLANS[Budget.QUICK]) == (3600.0,)
