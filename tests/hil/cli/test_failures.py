"""Errors for programs: JSON and JUnit with every exit code, not only with a verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree as xml

import pytest
import typer

import hil.cli
from hil.cli import run
from hil.cli.failures import interrupted_summary
from hil.cli.options import Json, Junit
from hil.errors import (
    DeviceError,
    ExitCode,
    FileError,
    HilError,
    Interrupted,
    LinkError,
    MismatchError,
    NotAuthorised,
    NothingLearned,
    OutputError,
    PortError,
    UsageError,
)
from hil.report.work_folder import GO_ON
from mapping.errors import NotMappable

from ..fitting import misfits

RAISED: dict[ExitCode, BaseException] = {
    ExitCode.OUTSIDE_TOLERANCE: NothingLearned("nothing was learned"),
    ExitCode.USAGE: UsageError("no such thing", hint="hil --help"),
    ExitCode.PORT: PortError("the port is gone", where="/dev/ttyUSB0"),
    ExitCode.LINK: LinkError("silence", likely="cable loose"),
    ExitCode.DEVICE: DeviceError("refused"),
    ExitCode.CANNOT_MAP: NotMappable("too large"),
    ExitCode.BAD_FILE: FileError("broken \x07 file"),
    ExitCode.MISMATCH: MismatchError("another"),
    ExitCode.NOT_AUTHORISED: NotAuthorised("a key is needed"),
    ExitCode.INTERRUPTED: Interrupted("interrupted; kept", hint="hil deploy --out runs/0001"),
    ExitCode.CANNOT_WRITE: OutputError("disk full"),
    ExitCode.BUG: ZeroDivisionError("ours"),
    ExitCode.CTRL_C: KeyboardInterrupt(),
}


def test_every_exit_code_of_an_error_is_tried() -> None:
    assert set(ExitCode) - set(RAISED) == {ExitCode.DONE}


@pytest.mark.parametrize("code", RAISED, ids=lambda code: code.name)
def test_an_error_is_told_as_json_and_junit_with_its_exit_code(
    code: ExitCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(as_json: Json = False, junit: Junit = None) -> int:
        raise RAISED[code]

    one = hil.cli.commandless()
    one.callback()(hil.cli.root)
    one.command("failing")(failing)
    monkeypatch.setattr(hil.cli, "app", one)
    place = tmp_path / "junit.xml"
    assert run(["failing", "--json", "--junit", str(place)]) == code
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["schema"] == "hil.error/1.0"
    assert said["exit_code"] == code
    assert said["error"]
    assert err
    if isinstance(RAISED[code], HilError) and code is not ExitCode.BUG:
        assert said["try"] == RAISED[code].hint  # type: ignore[attr-defined]
    suite = xml.parse(place).getroot()
    assert (suite.get("errors"), suite.get("failures"), suite.get("tests")) == ("1", "0", "1")
    assert suite.find("testcase/error").get("type") == said["kind"]  # type: ignore[union-attr]


def test_an_option_that_is_none_is_told_as_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "--json", "--no-such-option"]) == 2
    assert json.loads(capsys.readouterr().out)["kind"] == "usage"


def test_without_being_asked_nothing_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "no-such-run"]) == 7
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "kept",
    [
        "interrupted; what the chip answered is kept in runs/0001.unfinished",
        "calibration interrupted; 3 finished steps are in runs/a-long-place-of-records/chip.h5.unfinished",
        "the campaign in campaign was interrupted; 1,250 of 20,000 injections are kept",
        "fine-tuning of networks/fashion.pt was interrupted; what it learned is kept in networks/tuned.pt.unfinished",
        "the search in runs/search was interrupted; what is done is kept",
    ],
)
def test_an_interrupted_run_has_a_summary_with_the_command_that_goes_on(
    kept: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(name: str, restart: Annotated[bool, typer.Option("--restart")] = False) -> int:
        raise Interrupted(kept, hint=GO_ON)

    one = hil.cli.commandless()
    one.callback()(hil.cli.root)
    one.command("stopped")(stopped)
    monkeypatch.setattr(hil.cli, "app", one)
    assert run(["stopped", "a net.pt", "--restart"]) == ExitCode.INTERRUPTED
    out, err = capsys.readouterr()
    assert out == ""
    assert "INTERRUPTED" in err
    assert kept.split("; ")[-1].split(" in ")[0] in " ".join(err.split())
    assert "hil stopped 'a net.pt'" in err
    assert GO_ON in " ".join(err.split())
    assert misfits(interrupted_summary(Interrupted(kept, hint=GO_ON), ["stopped", "a net.pt"])) == []
