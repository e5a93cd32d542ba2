"""Help, version, completion: what a user types first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hil
from hil.cli import run
from mapping.network.file import save_network
from mapping.network.file_check import NetworkFileError
from mapping.network.importers import import_graph

from ..small_net import NAMES, small_network


@pytest.mark.parametrize("words", [(), ("deploy",), ("search",), ("search", "run"), ("calibration", "show")])
def test_h_is_help_everywhere(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "-h"]) == 0
    short = capsys.readouterr().out
    assert run([*words, "--help"]) == 0
    assert short.splitlines()[3:] == capsys.readouterr().out.splitlines()[3:]
    assert "Usage: hil" in short


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"hil {hil.__version__}\n"


def test_the_shell_completes_commands() -> None:
    words = {"_HIL_COMPLETE": "complete_bash", "COMP_WORDS": "hil cal", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "hil.cli"], env={**os.environ, **words}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["calibrate", "calibration"], done.stderr


def test_chips_show_without_a_name_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chips", "show"]) == 2
    assert "needs the name" in capsys.readouterr().err
    assert run(["chips", "list"]) == 2
    assert "hil chips list is not a command" in capsys.readouterr().err


def test_importing_a_net_pt_says_that_it_is_one(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    save_network(small_network(), path)
    with pytest.raises(NetworkFileError, match=r"is a net\.pt already") as refused:
        import_graph(path, classes=NAMES, arch="lenet5")
    assert refused.value.hint == f"hil deploy {path} --emulated"


def test_doctor_says_how_to_get_a_data_set_that_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HIL_DATA", str(tmp_path))
    assert run(["doctor"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "data eurosat" in line]
    assert line.startswith("MISSING")
    assert "--data-dir DIR" in line


@pytest.mark.parametrize("command", ["deploy", "calibrate", "fit", "compile", "import", "cells"])
def test_o_names_the_output_everywhere(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "-h"]) == 0
    assert "-o, --out" in capsys.readouterr().out
