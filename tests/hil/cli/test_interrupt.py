"""Ctrl-C at any moment: what was measured is kept and can go on, no half-written folder or file, outputs off."""

from __future__ import annotations

import ast
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
from ..fitting import every_answer_fits as every_answer_fits

COMPLETE = ["data.h5", "program.h5", "record.h5", "report.html", "report.json", "report.md", "wire.log"]
RUN = """
import importlib, sys, time
from hil.cli import main

module, _, name = sys.argv.pop(1).partition(":")
if name:  # the place where the work stops until it is interrupted
    def stop(*_, **__):
        print("ready", flush=True)
        time.sleep(600)

    setattr(importlib.import_module(module), name, stop)
else:
    print("ready", flush=True)
main()
"""
DEADLINE_S = 300.0


def begin(*arguments: str, at: str = "") -> subprocess.Popen[str]:
    """``hil`` in a process of its own, once it has begun, or stands in a function, ``at`` "module:function"."""
    command = [sys.executable, "-c", RUN, at, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def wait_until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until the process has come so far, or has ended."""
    deadline = time.monotonic() + DEADLINE_S
    while not there() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Send Ctrl-C; gives exit code and stderr. A process that had already finished is not a test of this."""
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_S)
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
def slow_chip(folder: Path, slow_s: float = SlowChip.slow_s) -> Iterator[tuple[SlowChip, str]]:
    from cim.chip.file import load_chip

    chip = SlowChip(load_chip("lab-128", macros=4), 3)

    def slowed(name: str, verb: Callable[[object], object]) -> Callable[[object], object]:
        def slow(request: object) -> object:
            chip.begun.append(name)
            time.sleep(slow_s)
            return verb(request)

        return slow

    for name in ("program_tile", "read_cells", "mvm", "run_plan", "wait"):
        setattr(chip, name, slowed(name, getattr(chip, name)))
    with serving(chip, f"unix:{folder / 'chip'}") as where:
        yield chip, where


@pytest.mark.parametrize("verb", ["program_tile", "read_cells", "run_plan"])
def test_ctrl_c_while_the_chip_works_keeps_what_was_measured_and_switches_off(
    small: Small, tmp_path: Path, verb: str
) -> None:
    """Programming, reading back, measuring."""
    runs = tmp_path / "runs"
    runs.mkdir()
    with slow_chip(tmp_path) as (chip, where):
        process = begin(*small.arguments("--port", where, "--out", str(runs / "run")))
        wait_until(lambda: verb in chip.begun, process)
        code, err = interrupt(process)
        assert code == ExitCode.INTERRUPTED, err
        assert f"kept in {runs / 'run'}.unfinished" in err
        assert "the same command resumes" in err
        assert "Traceback" not in err
        assert left_behind(runs) == []
        assert not (runs / "run").exists()
        with open_chip(where, macros=4) as driver:
            assert not driver.status().outputs_on
            assert Capability.SWEEP in driver.capabilities


def test_ctrl_c_at_random_moments_never_leaves_half_a_run(small: Small, tmp_path: Path) -> None:
    """While it compiles, and at moments drawn over the requests of a whole run."""

    def arguments(where: str, runs: Path) -> list[str]:
        return small.arguments("--port", where, "--no-causes", "--out", str(runs / "run"))

    with slow_chip(tmp_path, 0.0) as (chip, where):
        begin(*arguments(where, tmp_path / "whole")).wait(timeout=DEADLINE_S)
        requests = len(chip.begun)
    rng = random.Random(7)
    codes = []
    for number, share in enumerate((0.0, *((half + 0.9 * rng.random()) / 2 for half in range(2)))):
        runs = tmp_path / str(number)
        runs.mkdir()
        with slow_chip(runs, 0.002) as (chip, where):
            process = begin(*arguments(where, runs), at="" if share else "hil.deployment.deploy:program_of")
            wait_until(lambda: len(chip.begun) >= share * requests, process)  # noqa: B023
            code, err = interrupt(process)
        codes.append(code)
        said = f"at {share:.2f} of {requests} requests: {sorted(runs.rglob('*'))}\n{err}"
        assert code in (ExitCode.CTRL_C, ExitCode.INTERRUPTED, ExitCode.DONE), said
        assert left_behind(runs) == [], said
        assert (code == ExitCode.DONE) <= (runs / "run").exists()
        assert (code == ExitCode.INTERRUPTED) == (runs / "run.unfinished").exists()
    assert codes[0] == ExitCode.CTRL_C
    assert codes[1] == ExitCode.INTERRUPTED


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


@pytest.mark.parametrize("verb", ["mvm", "program_tile"])
def test_ctrl_c_during_calibrate_leaves_no_record(tmp_path: Path, verb: str) -> None:
    """While offsets, the first step, are measured; once they are, and cells are written."""
    record, steps = tmp_path / "record.h5", tmp_path / "record.h5.partial"
    with slow_chip(tmp_path) as (chip, where):
        process = begin("calibrate", "--port", where, "--macros=4", "-o", str(record))
        wait_until(lambda: verb in chip.begun, process)
        code, err = interrupt(process)
    assert not record.exists()
    kept = steps.exists()  # finished steps stay, and the answer says so
    assert kept or verb == "mvm"
    assert code == (ExitCode.INTERRUPTED if kept else ExitCode.CTRL_C), err
    assert ("the same command resumes" in err) == kept
    assert [p.name for p in tmp_path.iterdir()] == ([steps.name] if kept else [])


@pytest.mark.parametrize(
    "at", ["hil.deployment.network_source:open_network", "mapping.compile:compile_network", "os:fsync"]
)
def test_ctrl_c_during_compile_leaves_no_program(small: Small, tmp_path: Path, at: str) -> None:
    """While the network is read, compiled, and written."""
    process = begin("compile", str(small.net), "-o", str(tmp_path / "program.h5"), at=at)
    code, err = interrupt(process)
    assert code == ExitCode.CTRL_C, err
    assert list(tmp_path.iterdir()) == []


COMPUTING = """
import sys, threading, torch
from hil.cli import main

def compute():
    ones = torch.ones(60, 60)
    while True:
        torch.relu(ones @ ones)

for _ in range(4):
    threading.Thread(target=compute, daemon=True).start()
sys.argv = ["hil", *sys.argv[1:]]
main()
"""


def test_a_command_that_fails_while_threads_compute_leaves_with_its_own_exit_code(tmp_path: Path) -> None:
    """Torch aborts a process whose interpreter is gone when it comes back to it."""
    command = [sys.executable, "-c", COMPUTING, "deploy", "nothing.pt", "--emulated"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert done.returncode == ExitCode.BAD_FILE, done.stderr
    assert "nothing.pt: does not exist\n" in done.stderr


def test_no_test_sleeps_for_a_time_that_was_guessed() -> None:
    """A test waits in a loop until something is there; stand-ins of boards, slow on purpose, say how slow by name."""
    tests, guessed = Path(__file__).parents[2], []
    for path in tests.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        waiting = {
            id(call) for loop in ast.walk(tree) if isinstance(loop, ast.While | ast.For) for call in ast.walk(loop)
        }
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "time.sleep"):
            if id(call) not in waiting and not any(isinstance(n, ast.Name) for n in ast.walk(call.args[0])):
                guessed.append(f"{path.relative_to(tests)}:{call.lineno}")
    assert guessed == []
