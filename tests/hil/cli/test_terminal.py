"""What is printed reaches whoever reads it: in any encoding, and on a terminal of any width."""

from __future__ import annotations

import io
import itertools
import json
import re
import sys
from pathlib import Path

import pytest

from cim.record.file import save_record
from hil.cli import run as command
from hil.report.files import write_report
from hil.report.terminal.lines import SPELLING, print_json, wrapped

from ..calibration.test_record_text import made
from ..encoded import printed
from ..small_net import write_files

WIDTHS = (40, 48, 56, 64, 72, 80)
# A number with the word or sign after it, and two numbers that belong together.
WHOLE = re.compile(r"[+−]?\d[\d.,]* ?(?:%|°C|[µm]?S\b|points|cells|pulses|images|repeats|macros|layers|weights)")


@pytest.fixture
def files(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # type: ignore[no-untyped-def]
    """Folder with a run, another, a record and a network; the current one."""
    write_files(tmp_path)
    for name in ("0001", "0002"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        write_report(tmp_path / "runs" / name, *run)
    save_record(made(), tmp_path / "record0.h5")
    monkeypatch.chdir(tmp_path)
    return tmp_path


PRINTS = (
    "--help", "deploy --help", "finetune --help", "help glossary", "chip list", "chip show lab-128", "board ports",
    "doctor", "show runs/0001", "show runs", "show runs/0001 runs/0002", "chip calibration record0.h5",
    "calibrate --emulated --macros 1 --quick -o new.h5",
    "board info --emulated", "board mvm --emulated --macros 1", "board cells --emulated --macros 1",
    "estimate lenet5", "compile --explain", "deploy --emulated --macros 2 --dry-run",
    "deploy --emulated --data nothing-of-this-name", "board trace wire.log",
)  # fmt: skip


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_every_command_prints_in_an_encoding_that_lacks_its_signs(
    files: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    for words in PRINTS:
        code, out, err = printed(monkeypatch, encoding, *words.split())
        assert code in (0, 1, 7), f"{words}: {err}"
        assert "Traceback" not in err, words
        assert out or err, words


def test_a_sign_that_the_encoding_lacks_is_spelled_and_a_minus_stays_one(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_is = printed(monkeypatch, "utf-8", "show", "runs/0001")[1]
    plain = printed(monkeypatch, "ascii", "show", "runs/0001")[1]
    assert "−" in as_is
    assert re.findall(r"-\d+\.\d+ points", plain) == [
        found.replace("−", "-") for found in re.findall(r"−\d+\.\d+ points", as_is)
    ]
    assert plain.count("?") == as_is.count("?")
    assert "\\u" not in plain
    assert "σ₁ ≥ 10⁻⁶ Ω, ±0.5 µS²".encode("cp1252", SPELLING) == "sigma1 >= 10^-6 Ohm, ±0.5 µS²".encode("cp1252")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal_of(width: int, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    shown = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", shown)
        patch.setenv("COLUMNS", str(width))
        assert command(list(words)) in (0, 1)
    return [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", shown.getvalue()).splitlines()]


@pytest.mark.parametrize("words", ["chip calibration record0.h5"])
def test_a_narrow_terminal_parts_no_number_from_its_unit(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    assert command(words.split()) in (0, 1)
    whole = capsys.readouterr().out.split("\n\n")[0]
    numbers = WHOLE.findall(whole)
    for width in WIDTHS:
        lines = list(itertools.takewhile(bool, on_a_terminal_of(width, monkeypatch, *words.split())))
        assert " ".join(" ".join(lines).split()) == " ".join(whole.split())
        assert [line for line in lines if len(line) > width and max(map(len, line.split())) < width - 4] == []
        shown = [found for line in lines for found in WHOLE.findall(line)]
        assert shown == numbers, width


@pytest.mark.parametrize(
    "words",
    [
        "show runs/0001",
        "show runs/0001 runs/0002",
        "show runs/0001 --all",
        "help techniques net.pt --macros 4",
        "chip list",
    ],
)
def test_a_table_keeps_every_number_whole_in_its_cell(files: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    wide = on_a_terminal_of(300, monkeypatch, *words.split())
    numbers = {found for line in wide for found in WHOLE.findall(line)}
    for width in (60, 80, 120):
        lines = on_a_terminal_of(width, monkeypatch, *words.split())
        assert [line for line in lines if len(line) > width and max(map(len, line.split())) < width - 4] == []
        shown = {found for line in lines for found in WHOLE.findall(line)}
        assert numbers - shown == set(), width


def test_a_line_goes_on_behind_its_label() -> None:
    line = "difference   +0.13 points, 90 % interval −0.21 … +0.46, of 9 of 64 macros of 128 x 128"
    assert wrapped(line, 40) == [
        "difference   +0.13 points, 90 % interval",
        "             −0.21 … +0.46,",
        "             of 9 of 64 macros",
        "             of 128 x 128",
    ]
    assert wrapped(line, 200) == [line]
    assert wrapped("report   /a/path/that/is/longer/than/the/terminal/is", 30)[-1].endswith("/the/terminal/is")


def test_json_stays_one_line_of_json_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setenv("COLUMNS", "40")
    said = {"name": "a chip\x7f\n with −0.5 µS in its name, " * 5}
    print_json(said)
    assert shown.getvalue().isascii()
    assert "\x7f" not in shown.getvalue()
    assert json.loads(shown.getvalue()) == said
    assert shown.getvalue().count("\n") == 1
