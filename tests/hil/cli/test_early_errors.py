"""What a command lacks is said before anything is compiled, measured or trained."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

import pytest

from hil.cli import run
from hil.errors import ExitCode

from ..fitting import every_answer_fits as every_answer_fits
from ..small_net import write_files


@pytest.fixture
def nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def done(*_: Any, **__: Any) -> None:
        raise AssertionError("work was done before the error")

    for name in ("mapping.compile.compile_network", "hil.calibration.procedure.CalibrationSteps"):
        monkeypatch.setattr(name, done)


@pytest.mark.usefixtures("nothing_is_done")
@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        (["--data", "no-such-set"], ExitCode.BAD_FILE, "no data set 'no-such-set'"),
        (["--chip", "no-such-chip"], ExitCode.BAD_FILE, "no-such-chip"),
        (["--calibration", "missing.h5"], ExitCode.BAD_FILE, "missing.h5"),
        (["--out", "net.pt"], ExitCode.CANNOT_WRITE, "exists and is not empty"),
        (["--junit", "no/such/folder/junit.xml"], ExitCode.CANNOT_WRITE, "the folder does not exist"),
        (["--port", "/dev/no-such-port"], ExitCode.PORT, "there is no port /dev/no-such-port"),
        (["--port", "unix:no-such-socket"], ExitCode.PORT, "there is no socket"),
        (["--port", "tcp://127.0.0.1:1"], ExitCode.PORT, "nobody listens"),
        (["--port", "emulated:lab-128?sead=7"], ExitCode.USAGE, "unknown key 'sead'"),
    ],
    ids=lambda part: part[0].strip("-") if isinstance(part, list) else "",
)
def test_a_deployment_says_what_is_missing_before_it_compiles(
    wrong: list[str],
    code: ExitCode,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    place = [] if "--port" in wrong else ["--emulated"]
    assert run(["deploy", "net.pt", *place, *wrong]) == code
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.usefixtures("nothing_is_done")
@pytest.mark.parametrize(
    "command",
    [
        ["calibrate", "--emulated", "--macros", "1", "-o"],
        ["compile", "net.pt", "-o"],
        ["compile", "net.pt", "--plot"],
        ["import", "net.pt", "-o"],
        ["chip", "fit", "table.csv", "-o"],
        ["tune", "net.pt", "--calibration", "r.h5", "--emulated", "-o"],
        ["finetune", "net.pt", "--data", "fashion-mnist", "-o"],
        ["board", "cells", "--emulated", "-o"],
        ["estimate", "lenet5", "--plot"],
    ],
    ids=lambda words: " ".join(w for w in words if not w.startswith("--e")),
)
def test_an_output_that_cannot_be_written_is_found_first(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*command, "no/such/folder/out.x"]) == ExitCode.CANNOT_WRITE
    assert "the folder does not exist" in capsys.readouterr().err
    assert run([*command, "."]) == ExitCode.CANNOT_WRITE
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("nothing_is_done")
@pytest.mark.parametrize(
    "command",
    [
        ["deploy", "net.pt", "--emulated", "-o"],
        ["deploy", "begun.pt", "--emulated", "-o"],
        ["improve", "net.pt", "--data", "fashion-mnist-bundled", "-o"],
        ["campaign", "net.pt", "--orbit", "leo-sso", "-o"],
        ["search", "run", "--data", "fashion-mnist", "-o"],
        ["mission", "harden", "--network", "net.pt", "plan.toml"],
    ],
    ids=lambda words: " ".join(w for w in words if not w.startswith("-")),
)
@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_takes_no_files_is_found_first(
    command: list[str],
    there: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One that is not there, in one that is read-only; one that is there and read-only, of an unfinished run too."""
    monkeypatch.chdir(tmp_path)
    folder, begun = tmp_path / "read-only" / "out", "begun.pt" in command
    (folder.with_name("out.unfinished") if begun else folder if there else folder.parent).mkdir(parents=True)
    make = tempfile.TemporaryFile

    def refuse(*_: Any, dir: Path, **__: Any) -> Any:
        if str(dir).startswith(str(folder.parent)):
            raise PermissionError(errno.EACCES, "Permission denied", str(dir))
        return make(dir=dir)

    def refuse_folder(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # as any user but root meets it
    monkeypatch.setattr(Path, "mkdir", refuse_folder)
    words = [*command[:-1], str(folder), command[-1]] if "harden" in command else [*command, str(folder)]
    assert run(words) == ExitCode.CANNOT_WRITE
    assert "permission denied" in capsys.readouterr().err
