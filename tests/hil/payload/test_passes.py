"""Passes: contact windows, and the plan of a file over them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.cli import run as command
from hil.payload.facts_file import FactsFileError
from hil.payload.passes import ContactWindow, load_passes, plan_transfer
from mapping.program.conductance import ConductanceProgram
from mapping.program.file import save_program


def test_a_file_needs_the_seconds_of_its_bytes_and_the_passes_that_hold_them() -> None:
    windows = (ContactWindow(0.0, 2.0), ContactWindow(100.0, 102.0))
    plan = plan_transfer("file", 20_000, windows, 64_000)
    assert plan.on_air_s == pytest.approx(1.05 * 8 * 20_000 / 64_000)
    assert plan.passes == 2
    assert plan_transfer("file", 40_000, windows, 64_000).passes is None
    assert plan_transfer("file", 10_000, windows, 64_000).passes == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("start,end\n0,100\n90,200\n", r":3: start: begins before"),
        ("start,end\n0,100\n200,150\n", r":3: end: a pass of -50 s"),
        ("start,end\n0,soon\n", r":2: end: 'soon' is neither"),
        ("begin,end\n0,1\n", r":1: start: no such column"),
        ("start,end\n", r":1: start: 0 passes"),
        ("", r":1: start: no such column; there are none, the file is empty"),
    ],
)
def test_a_wrong_file_of_passes_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "passes.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(FactsFileError, match=message):
        load_passes(path)


def test_passes_are_read_as_seconds_or_utc(tmp_path: Path) -> None:
    path = tmp_path / "passes.csv"
    path.write_text("name,start,end\na,2030-01-01T10:00:00Z,2030-01-01T10:08:00Z\n\nb,1893497400,1893497500\n", "utf-8")
    first, second = load_passes(path)
    assert (first.start_s, first.end_s) == (0.0, 480.0)
    assert second.start_s == 5400.0


def test_the_command_plans_all_files(
    program: ConductanceProgram, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_program(program, tmp_path / "program.h5")
    (tmp_path / "passes.csv").write_text("start,end\n0,3\n100,103\n200,260\n", "utf-8")
    asked = ["mission", "passes", str(tmp_path / "program.h5"), "--passes", str(tmp_path / "passes.csv"), "--json"]
    assert command([*asked, "--dump", "20000", "--rate", "16k"]) == 0
    up, down = json.loads(capsys.readouterr().out)["files"]
    assert 0 < up["bytes"] < (tmp_path / "program.h5").stat().st_size
    assert (down["name"], down["passes"]) == ("telemetry dump", 1)
    assert command([*asked, "--rate", "100"]) == 1  # bit/s: windows are too few
    assert command([*asked, "--rate", "fast"]) == 2
