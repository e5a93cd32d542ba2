"""Commands that errors and answers print run as they stand, from any folder, on the chip of the command before."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from hil.cli import app_of, run
from hil.deployment.network_source import BUNDLED_NETWORK

from ..conftest import Small

SAID = re.compile(r" (?=the same|how long|separates|techniques)")  # begins what is said of a step
CHIPS = ("lab-128", "neurram-256", "yao-2020")


def printed(text: str) -> list[list[str]]:
    """Words of the commands that an error tries, after ``hil``, without what is said about them."""
    found = re.findall(r"^  try     hil (.+?)(?: \(|, |$)", text, flags=re.MULTILINE)
    return [shlex.split(command) for command in found]


def parsed(words: list[str]) -> None:
    """Raises where the command line is not one that ``hil`` takes."""
    hil: Any = get_command(app_of(words))
    command = hil.commands[words[0]]
    command.make_context(words[0], words[1:])


@pytest.mark.parametrize("chip", CHIPS)
def test_a_network_too_large_is_told_commands_that_hold_it(
    chip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["compile", str(BUNDLED_NETWORK), "--chip", chip, "--macros", "2", "-o", "large.h5"]) == 6
    commands = printed(capsys.readouterr().err)
    assert {"--with", "--macros", "--chip"} <= {word for words in commands for word in words}
    for words in commands:
        parsed(words)
    *_, enough, in_rounds = commands
    assert enough[enough.index("--chip") + 1] == in_rounds[in_rounds.index("--chip") + 1] == chip
    assert enough.count("--macros") == 1
    assert run(enough) == 0
    other = next(words for words in commands if words[words.index("--chip") + 1] != chip)
    assert "--macros" not in other


@pytest.mark.parametrize("chip", CHIPS)
def test_next_steps_of_a_prediction_keep_its_chip(
    small: Small, chip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = ["simulate", str(small.net), "--data", str(small.data), "--chip", chip, "--mode", "fast"]
    assert run([*typed, "--samples", "20", "--chips", "3", "--age", "1h", "--effort", "0"]) == 0
    shown = " ".join(capsys.readouterr().out.partition("  next")[2].replace("\\\n", " ").split())
    steps = [shlex.split(SAID.split(step)[0]) for step in shown.split("hil ")[1:]]
    assert {words[0] for words in steps[1:]} == {"simulate"}
    for words in steps:
        parsed(words)
        assert chip == "lab-128" or words[words.index("--chip") + 1] == chip
        assert words[1] == str(small.net)


def test_ages_that_are_refused_are_told_the_whole_command(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["simulate", str(small.net), "--data", str(small.data), "--with", "residual=2", "--samples", "20"]
    assert run([*typed, "--chips", "2", "--mode", "fast", "--age", "1h,2h", "--json"]) != 0
    (again,) = printed(capsys.readouterr().err)
    assert again == [*typed, "--chips", "2", "--mode", "fast", "--json", "--age", "1h"]
    assert run(again) == 0
    assert json.loads(capsys.readouterr().out)["plan"]


def test_a_command_of_a_group_is_told_whole_and_as_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["search", "run", "--data", "digits-bundled", "--json", "--out", str(tmp_path / "search")]
    assert run(typed) == 2
    said = capsys.readouterr()
    (again,) = printed(said.err)
    assert json.loads(said.out)["try"].startswith("hil " + shlex.join(again))
    assert again[: len(typed)] == typed
    assert again[len(typed)] == "--space"
