"""A run that was interrupted goes on with what is missing, and ends as the run without interruption."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import hil
from firmware_protocols.host import HostLink
from hil.cli import run as command
from hil.driver.open_chip import open_chip
from hil.emulator.address import chip_from_address
from hil.emulator.chip import EmulatedChip
from hil.errors import DeviceError, ExitCode, FileError, Interrupted, MismatchError, UsageError
from hil.server.serve import serving
from hil.transports.journal import Journal
from hil.transports.wire_log import read_wire_log

from ..conftest import CHIP, Small
from ..same_runs import BRIEF, COMPLETE, check_same_runs


@contextmanager
def served(folder: Path) -> Iterator[tuple[EmulatedChip, str]]:
    chip = chip_from_address(CHIP)
    with serving(chip, "tcp://127.0.0.1:0") as where:
        yield chip, where


@pytest.fixture(scope="module")
def whole(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    with served(folder) as (_, where):
        small.deploy(where, folder / "run", record=False, options=BRIEF)
    return folder / "run"


@contextmanager
def interrupted_at(number: int, error: type[BaseException] = KeyboardInterrupt) -> Iterator[None]:
    """Ends the process' work when it is about to send its request of this number."""
    count, request = 0, HostLink.request

    def counted(self: HostLink, *arguments: object, **more: object) -> int:
        nonlocal count
        count += 1
        if count == number:
            raise error("stopped by the test")
        return request(self, *arguments, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HostLink, "request", counted)
        yield


def requests_of(run: Path) -> int:
    return sum(e.sent for e in read_wire_log(run / "wire.log").entries)


@pytest.mark.parametrize("share", [0.2, 0.75, 0.98])
def test_a_run_interrupted_at_any_message_goes_on_to_the_same_bits(
    small: Small, whole: Path, tmp_path: Path, share: float
) -> None:
    at = round(share * requests_of(whole))
    with served(tmp_path) as (chip, where):
        with interrupted_at(at), pytest.raises(Interrupted) as stopped:
            small.deploy(where, tmp_path / "run", record=False, options=BRIEF)
        assert stopped.value.exit_code is ExitCode.INTERRUPTED
        assert stopped.value.hint == "the same command resumes; with --restart it begins again"
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith("run")] == ["run.unfinished"]
        assert not chip.status().outputs_on
        report = small.deploy(where, tmp_path / "run", record=False, options=BRIEF)
        assert report.run == str(tmp_path / "run")
        assert not chip.status().outputs_on
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == COMPLETE
    assert not (tmp_path / "run.unfinished").exists()
    check_same_runs(whole, tmp_path / "run")


RUN = (  # signals as a terminal gives them: a test run under nohup hands on that SIGHUP is ignored, and hil keeps to it
    "import signal, sys; from hil.cli import main\n"
    "for asks in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(asks, signal.SIG_DFL)\n"
    "print('ready', flush=True); sys.argv[0] = 'hil'; main()"
)


def arguments(small: Small, where: str, run: Path) -> list[str]:
    """``hil deploy`` with the options of ``BRIEF``, without those that have no name on the command line."""
    brief = "--samples 64 --repeat 2 --tolerance 10 --macros 4 --no-causes --with tune=16"
    return ["deploy", str(small.net), "--data", str(small.data), *brief.split(), "--port", where, "--out", str(run)]


def begin(*words: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def wait_for_answers(run: Path, size: int, process: subprocess.Popen[str]) -> None:
    """Until the journal of a run under way has so many bytes, or the process has ended."""
    journal, deadline = run.with_name(run.name + ".unfinished") / "journal", time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if journal.stat().st_size >= size:
                return
        time.sleep(0.002)


@pytest.fixture(scope="module")
def whole_command(small: Small, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The same by command: the run, and how large its journal became."""
    folder, sizes = tmp_path_factory.mktemp("command"), []
    close = Journal.close

    def noted(self: Journal) -> None:
        sizes.append(self.path.stat().st_size)
        close(self)

    with served(folder) as (_, where), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "close", noted)
        assert command(arguments(small, where, folder / "run")) in (0, 1)
    return folder / "run", sizes[0]


def test_a_run_whose_process_is_told_to_end_and_killed_goes_on_to_the_same_bits(
    small: Small, whole_command: tuple[Path, int], tmp_path: Path
) -> None:
    """One run, ended four times at moments drawn by seed; the rest outlasts a busy machine."""
    whole, size = whole_command
    rng, run = random.Random(9), tmp_path / "run"
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
    with served(tmp_path) as (chip, where):
        for how, share in zip(ends, sorted(rng.uniform(0.05, 0.6) for _ in ends), strict=True):
            process = begin(*arguments(small, where, run))
            wait_for_answers(run, round(size * share), process)
            process.send_signal(how)
            _, err = process.communicate(timeout=300)
            if how is signal.SIGKILL:
                assert process.returncode == -how
            else:
                assert process.returncode == ExitCode.INTERRUPTED, err
                assert "the same command resumes" in err
                assert f"{run}.unfinished" in err
                assert "Traceback" not in err
                assert not chip.status().outputs_on
            assert not run.exists()
        assert command(arguments(small, where, run)) in (0, 1)
    check_same_runs(whole, run)


KILLED = """
import os, signal, sys
import hil.deployment.deploy
from hil.cli import main
hil.deployment.deploy.program_of = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


def test_a_process_killed_before_anything_was_measured_leaves_a_run_that_goes_on(small: Small, tmp_path: Path) -> None:
    asked = small.arguments("--port", CHIP, "--out", str(tmp_path / "run"), "--samples", "64", "--no-causes")
    assert subprocess.run([sys.executable, "-c", KILLED, *asked], check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "run.unfinished").is_dir()
    assert command(asked) in (0, 1)
    assert (tmp_path / "run" / "report.json").exists()


@pytest.mark.parametrize("text", [None, "{"])
def test_an_unfinished_folder_that_cannot_go_on_is_no_dead_end(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    """``None``: nothing is in it."""
    part, asked = tmp_path / "run.unfinished", small.arguments("--port", CHIP, "--out", str(tmp_path / "run"))
    part.mkdir()
    if text is not None:
        (part / "run.json").write_text(text)
    if text is not None:
        assert command(asked) == ExitCode.BAD_FILE
        assert "--restart begins again" in capsys.readouterr().err
    assert command([*asked, *(["--restart"] if text is not None else [])]) in (0, 1)
    assert (tmp_path / "run" / "report.json").is_file()
    assert not part.exists()


def test_a_run_that_failed_keeps_its_wire_log_and_what_was_measured(
    small: Small, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler of the board fails once; afterwards the run goes on."""
    with served(tmp_path) as (chip, where):
        run_plan = chip.run_plan

        def broken(request: object) -> object:
            raise RuntimeError("the board lost its nerve")

        monkeypatch.setattr(chip, "run_plan", broken)
        with pytest.raises(DeviceError, match="lost its nerve") as failed:
            small.deploy(where, tmp_path / "run", record=False, options=BRIEF)
        part = tmp_path / "run.unfinished"
        assert "the same command resumes; with --restart it begins again" in str(failed.value)
        assert f"what the chip answered is kept in {part}" in str(failed.value)
        kept = {p.name for p in part.iterdir()}
        assert {"wire.log", "record.h5", "journal", "run.json"} <= kept
        assert requests_of(part) > 100
        monkeypatch.setattr(chip, "run_plan", run_plan)
        small.deploy(where, tmp_path / "run", record=False, options=BRIEF)
    check_same_runs(whole, tmp_path / "run")


def test_another_chip_on_the_port_is_refused(small: Small, tmp_path: Path) -> None:
    with served(tmp_path) as (_, where), interrupted_at(60), pytest.raises(Interrupted):
        small.deploy(where, tmp_path / "run", record=False, options=BRIEF)
    other = chip_from_address(CHIP.replace("seed=3", "seed=4"))
    with serving(other, "tcp://127.0.0.1:0") as where, pytest.raises(MismatchError, match="its serial is"):
        small.deploy(where, tmp_path / "run", record=False, options=BRIEF)
    assert other.status().pulses_total == 0
    assert (tmp_path / "run.unfinished").is_dir()


def test_a_chip_that_another_program_wrote_since_is_refused(small: Small, whole: Path, tmp_path: Path) -> None:
    with served(tmp_path) as (_, where):
        with interrupted_at(round(0.9 * requests_of(whole))), pytest.raises(Interrupted):
            small.deploy(where, tmp_path / "run", record=False, options=BRIEF)
        with open_chip(where, macros=4) as driver:
            driver.hold_program(bytes(range(32)))
        with pytest.raises(MismatchError, match="another program used the chip"):
            small.deploy(where, tmp_path / "run", record=False, options=BRIEF)


def test_a_chip_in_the_process_that_ended_begins_the_run_anew(small: Small, tmp_path: Path) -> None:
    with interrupted_at(60), pytest.raises(Interrupted):
        small.deploy(CHIP, tmp_path / "run", record=False, options=BRIEF)
    report = small.deploy(CHIP, tmp_path / "run", record=False, options=BRIEF)
    assert any("the chip was restarted" in note for note in report.notes)
    small.deploy(CHIP, tmp_path / "other" / "run", record=False, options=BRIEF)
    check_same_runs(tmp_path / "other" / "run", tmp_path / "run")


def test_data_that_changed_since_are_refused(small: Small, tmp_path: Path) -> None:
    data = tmp_path / "images.npz"
    data.write_bytes(small.data.read_bytes())
    with served(tmp_path) as (_, where):
        run = partial(
            hil.deploy, small.net, where, macros=4, data=str(data), calibration=small.record_file, options=BRIEF,
            out=tmp_path / "run",
        )  # fmt: skip
        with interrupted_at(20), pytest.raises(Interrupted):
            run()
        with np.load(data) as old:
            np.savez(data, images=old["images"][::-1], labels=old["labels"][::-1], classes=old["classes"])
        with pytest.raises(MismatchError, match=r"was begun with another data set [0-9a-f]{12}…, now [0-9a-f]{12}…"):
            run()


def test_an_interruption_before_anything_was_measured_leaves_nothing(small: Small, tmp_path: Path) -> None:
    with served(tmp_path) as (_, where), interrupted_at(2), pytest.raises(KeyboardInterrupt):
        small.deploy(where, tmp_path / "run", record=False, options=BRIEF)
    assert list(tmp_path.iterdir()) == []


def test_the_same_command_without_a_name_finds_its_run_and_another_begins_its_own(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def runs() -> list[str]:
        return sorted(path.name for path in Path("runs").iterdir() if path.is_dir())

    with served(tmp_path) as (_, where):
        words = arguments(small, where, tmp_path)[:-2]
        with interrupted_at(60):
            assert command(words) == ExitCode.INTERRUPTED
        with served(tmp_path) as (_, elsewhere):
            assert command(arguments(small, elsewhere, tmp_path)[:-2]) in (0, 1)  # another chip
        assert runs() == ["0001.unfinished", "0002"]
        at_work = contextlib.closing(Journal(Path("runs") / "0001.unfinished" / "journal"))
        with at_work, interrupted_at(2):  # of another process: this one begins its own, and leaves nothing
            assert command(words) == ExitCode.CTRL_C
        assert runs() == ["0001.unfinished", "0002"]
        assert command(words) in (0, 1)
        assert runs() == ["0001", "0002"]


def test_another_command_is_refused_with_what_differs_and_restart_begins_again(
    small: Small, whole_command: tuple[Path, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with served(tmp_path) as (_, where):
        words = arguments(small, where, run)
        with interrupted_at(60):
            assert command(words) == ExitCode.INTERRUPTED
        before = {path.name: path.read_bytes() for path in run.with_name("run.unfinished").iterdir()}
        assert command([*words, "--seed", "1", "--repeat", "3"]) == ExitCode.MISMATCH
        err = capsys.readouterr().err
        assert "was begun with another options seed 0, now 1, options repeats 2, now 3" in err
        assert "--restart begins again" in err
        assert {path.name: path.read_bytes() for path in run.with_name("run.unfinished").iterdir()} == before
    with served(tmp_path) as (_, where):
        assert command([*arguments(small, where, run), "--restart"]) in (0, 1)
    check_same_runs(whole_command[0], run)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "run.json is damaged"),
        ('{"format": "hil.deployment", "version": "1.0", "address": 7}', "another network None, now"),
        ('{"format": "hil.deployment", "version": "2.0"}', "version '2.0', this program resumes '1.0'"),
        ('{"format": "hil.other", "version": "1.0"}', "format 'hil.other'"),
    ],
)
def test_a_damaged_run_is_one_typed_error(small: Small, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "run.unfinished").mkdir()
    (tmp_path / "run.unfinished" / "run.json").write_text(text)
    with pytest.raises((FileError, MismatchError), match=words):
        small.deploy(CHIP, tmp_path / "run", record=False, options=BRIEF)


def test_two_processes_cannot_go_on_with_one_run(tmp_path: Path) -> None:
    with contextlib.closing(Journal(tmp_path / "journal")), pytest.raises(UsageError, match="another process"):
        Journal(tmp_path / "journal")


def test_an_entry_that_was_not_finished_is_dropped(small: Small, tmp_path: Path) -> None:
    with served(tmp_path) as (_, where), interrupted_at(60), pytest.raises(Interrupted):
        small.deploy(where, tmp_path / "run", record=False, options=BRIEF)
    path = tmp_path / "run.unfinished" / "journal"
    with contextlib.closing(Journal(path)) as journal:
        answers = journal.answers
    data = path.read_bytes()
    rng = random.Random(5)
    lost = set()
    for cut in [1, 2, 8, 9, 10, *(rng.randrange(1, len(data) - 100) for _ in range(40))]:
        path.write_bytes(data[:-cut])
        with contextlib.closing(Journal(path)) as journal:
            lost.add(answers - journal.answers)
            assert journal.first() is not None or journal.answers == 0
        assert path.stat().st_size <= len(data) - cut
    assert max(lost) > 10
    for _ in range(40):  # a byte that changed ends the journal before its entry
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
        try:
            with contextlib.closing(Journal(path)) as journal:
                assert journal.answers <= answers
        except FileError:
            assert at < 100
