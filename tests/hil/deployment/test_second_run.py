"""The second run on a chip: which record it takes, and that it writes no cell that is written already."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cim.record.calibration import CalibrationRecord
from cim.record.file import load_record, save_record
from hil.cli import run
from hil.deployment.chip_record import EarlierRecord, earlier_record
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import open_chip
from hil.emulator.address import chip_from_address
from hil.errors import ExitCode
from hil.server.serve import serving
from mapping.program.file import load_program

from ..conftest import CHIP, Small

NOW = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)


def dated(record: CalibrationRecord, days: float, **more: object) -> CalibrationRecord:
    """The record as if it had been measured so many days ago."""
    date = (NOW - datetime.timedelta(days=days)).isoformat(timespec="seconds")
    return dataclasses.replace(record, date=date, **more)  # type: ignore[arg-type]


def put(runs: Path, name: str, record: CalibrationRecord) -> Path:
    (runs / name).mkdir(parents=True)
    save_record(record, runs / name / "record.h5")
    return runs / name / "record.h5"


@pytest.fixture
def driver() -> Iterator[ChipDriver]:
    with open_chip(CHIP) as chip:
        yield chip


def find(runs: Path, driver: ChipDriver, temperature_c: float | None = None, age_s: float = 3600.0) -> EarlierRecord:
    return earlier_record(runs, driver, (0, 1), age_s=age_s, temperature_c=temperature_c, now=NOW)


def every_line(folder: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["show", folder, "--all"]) in (ExitCode.DONE, ExitCode.OUTSIDE_TOLERANCE)
    return capsys.readouterr().out


def test_the_same_command_twice_spends_no_pulse_again(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Section 3 of docs/start.md, on a small network."""
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(tmp_path)
    chip = chip_from_address(CHIP)
    command = ["deploy", str(small.net), "--data", str(small.data), "--macros", "4", "--samples", "100", "--no-causes"]
    with serving(chip, f"unix:{tmp_path / 'chip'}") as where:
        first = run([*command, "--repeat", "1", "--port", where])
        pulses = chip.status().pulses_total
        assert capsys.readouterr().err.count("record.h5") == 0
        second = run([*command, "--repeat", "1", "--port", where])
        said = capsys.readouterr()
        assert chip.status().pulses_total == pulses > 0
        began, after = (every_line(name, capsys) for name in ("runs/0001", "runs/0002"))
        for answer in (said.err, after):
            assert "runs/0001/record.h5" in " ".join(answer.split())
            assert "not rewritten" in " ".join(answer.split())
        written, held = (
            next(line.strip() for line in text.splitlines() if re.match(r" *programming .*(reached|held)", line))
            for text in (began, after)
        )
        assert "not reached" in written
        assert held.endswith("held by the chip, nothing written")
        assert "not reached" not in held
        assert "1 h or more after programming" in after
        assert re.search(
            r"note +runs/0001 wrote what the chip held, .* UTC: .*"
            + re.escape(written.removeprefix("programming").strip()),
            after,
        ), after
        assert json.loads(Path("runs/0002/report.json").read_text("utf-8"))["cells"]["unreached"] is None
        run([*command, "--repeat", "1", "--port", where, "--recalibrate"])
        assert chip.status().pulses_total > pulses
    assert first in (ExitCode.DONE, ExitCode.OUTSIDE_TOLERANCE)
    assert second in (ExitCode.DONE, ExitCode.OUTSIDE_TOLERANCE)


def test_a_run_folder_holds_the_record_and_the_tuned_program(finished_run: Path, small: Small) -> None:
    record, program = load_record(finished_run / "record.h5"), load_program(finished_run / "program.h5")
    assert record.serial == small.record.serial
    assert set(record.macros) == {0, 1}
    assert program.tuned_to == record.serial
    assert program.aims is not None
    np.testing.assert_array_equal(program.calibration_images, small.program.calibration_images)


def test_the_newest_record_of_this_chip_is_taken(small: Small, tmp_path: Path, driver: ChipDriver) -> None:
    put(tmp_path, "0001", dated(small.record, 3))
    wanted = put(tmp_path, "0002", dated(small.record, 1))
    put(tmp_path, "0003", dated(small.record, 2))
    put(tmp_path, "0004", dated(small.record, 0.5, serial="another"))
    put(tmp_path, "0005", dated(small.record, 0.5, firmware="another"))
    found = find(tmp_path, driver, temperature_c=small.record.temperature_c + 4)
    assert found.path == wanted
    assert found.record is not None
    assert "1 d old" in found.text


@pytest.mark.parametrize(
    ("days", "change", "words"),
    [
        (8, {}, "8 d old, 7 d are the limit"),
        (-1, {}, "of the future"),
        (1, {"temperature_c": 70.0}, "measured at 70.0 °C, the chip has 25.0 °C"),
        (1, {"age_s": 60.0}, "reaches to an age of 1 min, cells are read at 1 h"),
        (1, {"macros": {}}, "lacks macro 0"),
    ],
)
def test_a_record_that_does_not_hold_is_not_taken_and_the_reason_is_said(
    small: Small, tmp_path: Path, driver: ChipDriver, days: float, change: dict[str, object], words: str
) -> None:
    put(tmp_path, "0001", dated(small.record, days, **change))
    found = find(tmp_path, driver, temperature_c=25.0)
    assert found.record is None
    assert words in found.text


def test_a_broken_record_and_other_folders_are_passed_over(small: Small, tmp_path: Path, driver: ChipDriver) -> None:
    put(tmp_path, "0001", dated(small.record, 1))
    (tmp_path / "0002").mkdir()
    (tmp_path / "0002" / "record.h5").write_bytes(b"no record")
    (tmp_path / "notes.txt").write_text("mine")
    assert find(tmp_path, driver).record is not None
    assert find(tmp_path / "nowhere", driver) == EarlierRecord()
