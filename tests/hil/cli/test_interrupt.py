"""Ctrl-C at any moment: what was measured is kept and can go on, no half-written folder or file, outputs off."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from firmware_protocols.messages import Capability
from hil.driver.open_chip import open_chip
from hil.emulator.chip import EmulatedChip
from hil.errors import ExitCode
from hil.server.serve import serving

from ..conftest import CHIP, Small

COMPLETE = ["data.h5", "program.h5", "record.h5", "report.html", "report.json", "report.md", "wire.log"]
RUN = "import sys; from hil.cli import main; print('ready', flush=True); sys.argv[0] = 'hil'; main()"


def begin(*arguments: str) -> subprocess.Popen[str]:
    """``hil`` in a process of its own, once Python has started it."""
    command = [sys.executable, "-c", RUN, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Send Ctrl-C; gives exit code and stderr. A process that had already finished is not a test of this."""
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    return process.returncode, err


def left_behind(folder: Path) -> list[str]:
    """Names below a folder, hidden ones included; a complete run folder and one to go on with count as nothing."""
    names = []
    for path in folder.iterdir():
        if path.name == "run" and path.is_dir() and sorted(p.name for p in path.iterdir()) == COMPLETE:
            continue
        if path.name == "run.unfinished" and {"journal", "run.json"} <= {p.name for p in path.iterdir()}:
            assert not [p.name for p in path.iterdir() if p.name.startswith(".")]
            continue
        names.append(path.name)
    return names


class SlowChip(EmulatedChip):
    """Says when a verb begins and takes its time over it, so that an interruption falls inside."""

    slow_s = 0.03

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        self.begun: list[str] = []


@contextmanager
def slow_chip(folder: Path) -> Iterator[tuple[SlowChip, str]]:
    from cim.chip.file import load_chip

    chip = SlowChip(load_chip("lab-128", macros=4), 3)

    def slowed(name: str, verb: Callable[[object], object]) -> Callable[[object], object]:
        def slow(request: object) -> object:
            chip.begun.append(name)
            time.sleep(chip.slow_s)
            return verb(request)

        return slow

    for name in ("program_tile", "read_cells", "mvm", "sweep", "wait"):
        setattr(chip, name, slowed(name, getattr(chip, name)))
    with serving(chip, f"unix:{folder / 'chip'}") as where:
        yield chip, where


@pytest.mark.parametrize("verb", ["program_tile", "read_cells", "sweep"])
def test_ctrl_c_while_the_chip_works_keeps_what_was_measured_and_switches_off(
    small: Small, tmp_path: Path, verb: str
) -> None:
    """Programming, reading back, measuring."""
    runs = tmp_path / "runs"
    runs.mkdir()
    with slow_chip(tmp_path) as (chip, where):
        process = begin(*small.arguments("--port", where, "--out", str(runs / "run")))
        deadline = time.monotonic() + 30
        while verb not in chip.begun and time.monotonic() < deadline:
            time.sleep(0.005)
        code, err = interrupt(process)
        assert code == ExitCode.INTERRUPTED, err
        assert f"hil resume {runs / 'run'}.unfinished" in err
        assert "Traceback" not in err
        assert left_behind(runs) == []
        assert not (runs / "run").exists()
        with open_chip(where, macros=4) as driver:
            assert not driver.status().outputs_on
            assert Capability.SWEEP in driver.capabilities


def test_ctrl_c_at_random_moments_never_leaves_half_a_run(small: Small, tmp_path: Path) -> None:
    """From the first import to the last file; moments drawn over the length of a whole run."""
    arguments = small.arguments("--port", CHIP)
    start = time.monotonic()
    begin(*arguments, "--out", str(tmp_path / "whole" / "run")).wait(timeout=60)
    length = time.monotonic() - start
    rng = random.Random(7)
    codes = []
    for number in range(4):
        runs = tmp_path / str(number)
        runs.mkdir()
        process = begin(*arguments, "--out", str(runs / "run"))
        time.sleep(length * (number + rng.random()) / 4.5)
        code, err = interrupt(process)
        codes.append(code)
        where = f"moment {number} of 4: {sorted(runs.rglob('*'))}\n{err}"
        assert code in (ExitCode.CTRL_C, ExitCode.INTERRUPTED, ExitCode.DONE), where
        assert left_behind(runs) == [], where
        assert (code == ExitCode.DONE) <= (runs / "run").exists()
        assert (code == ExitCode.INTERRUPTED) == (runs / "run.unfinished").exists()
    assert codes.count(ExitCode.DONE) < len(codes), codes  # a busy machine may have become quick on the way


@pytest.mark.parametrize("moment", ["write_run", "page", "write_text"])
def test_ctrl_c_while_the_report_is_written_leaves_a_run_that_goes_on(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    from hil.cli import run

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"hil.report.files.{moment}", interrupted)
    assert run(small.arguments("--port", CHIP, "--out", str(tmp_path / "run"))) == ExitCode.INTERRUPTED
    assert left_behind(tmp_path) == []
    assert not (tmp_path / "run").exists()


def test_ctrl_c_during_calibrate_leaves_no_record(tmp_path: Path) -> None:
    process = begin("calibrate", "--emulated", "--macros=24", "-o", str(tmp_path / "record.h5"))
    time.sleep(3.0)  # of some twenty
    code, err = interrupt(process)
    assert not (tmp_path / "record.h5").exists()
    steps = list(tmp_path.iterdir())  # finished steps stay, and the answer says so
    assert [p.name for p in steps] in ([], ["record.h5.partial"])
    assert code == (ExitCode.INTERRUPTED if steps else ExitCode.CTRL_C), err
    assert ("--resume" in err) == bool(steps)


def test_ctrl_c_during_compile_leaves_no_program(small: Small, tmp_path: Path) -> None:
    process = begin("compile", str(small.net), "-o", str(tmp_path / "program.h5"))
    time.sleep(0.3)
    code, err = interrupt(process)
    assert code in (ExitCode.CTRL_C, ExitCode.DONE), err
    assert [p.name for p in tmp_path.iterdir()] in ([], ["program.h5"])
