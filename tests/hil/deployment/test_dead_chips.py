"""Chips that nothing was written to, or that read nothing: refused, or said before anything else."""

from __future__ import annotations

import dataclasses

import pytest

from hil.calibration.procedure import check_record
from hil.deployment.targets.wired import program_chip, read_back
from hil.errors import DeviceError, ExitCode, MismatchError
from hil.report.account import account_of, summary_of
from hil.verdict.agreement import AgreementReport
from hil.watch import Watch

from ..conftest import Small
from ..fake_chip import FakeChip
from ..wires import over


def test_a_chip_on_which_no_cell_reaches_its_window_is_refused(small: Small) -> None:
    spec = small.program.spec
    chip = FakeChip(spec)
    chip.stuck[:] = True
    with (
        over("in process", chip, spec) as driver,
        pytest.raises(DeviceError, match=r"none of .* cells reached") as error,
    ):
        program_chip(driver, small.program, sample=1, watch=Watch())
    assert error.value.exit_code is ExitCode.DEVICE


def test_a_chip_whose_cells_all_read_nothing_is_refused_and_a_macro_of_them_is_noted(small: Small) -> None:
    spec, watch = small.program.spec, Watch()
    chip = FakeChip(spec)
    with over("in process", chip, spec) as driver:
        chip.cells_us[1] = 0.0
        read_back(driver, (0, 1), reads=1, sample=1, watch=watch)
        assert watch.notes == ["every cell of macro 1 reads 0 µS: no answer of a layer on it means anything"]
        chip.cells_us[:] = 0.0
        with pytest.raises(DeviceError, match="every cell of macros 0, 1 reads 0 µS"):
            read_back(driver, (0, 1), reads=1, sample=1, watch=watch)


def test_cells_that_missed_are_the_first_that_a_report_says(run: tuple[AgreementReport, object]) -> None:
    report, _ = run
    missed = dataclasses.replace(report, cells=dataclasses.replace(report.cells, unreached=report.cells.total))
    assert summary_of(missed).lines()[2].startswith("WARNING: 100 % of")
    assert "**WARNING**: 100 % of" in account_of(missed).markdown()
    assert "WARNING" not in account_of(report).markdown()


def test_a_record_of_macros_of_another_size_is_refused(small: Small) -> None:
    part = small.record.macros[0]
    cut = dataclasses.replace(part, cells=part.cells[:64].copy(), stuck_us=part.stuck_us[:64].copy())
    wrong = dataclasses.replace(small.record, macros={**small.record.macros, 0: cut})
    chip = FakeChip(small.program.spec)
    with over("in process", chip, small.program.spec) as driver:
        wrong = dataclasses.replace(wrong, serial=driver.description.serial)
        with pytest.raises(MismatchError, match=r"\(64, 128\)"):
            check_record(wrong, driver, (0,))
