"""Help, version, completion: what a user types first."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from typer.main import get_command

import hil
from hil.cli import app, app_of, run
from hil.cli.help_groups import OTHERS, SHORT
from hil.errors import ExitCode
from hil.verdict.statistics import FEWEST_IMAGES, FEWEST_REPEATS
from mapping.network.file import save_network
from mapping.network.file_check import NetworkFileError
from mapping.network.importers import import_graph

from ...sources import commands
from ..small_net import NAMES, small_network


@pytest.mark.parametrize("words", [(), ("search",), ("search", "run"), ("chip", "calibration")])
def test_h_is_help_everywhere(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "-h"]) == 0
    short = capsys.readouterr().out
    assert run([*words, "--help"]) == 0
    assert short.splitlines()[3:] == capsys.readouterr().out.splitlines()[3:]
    assert "Usage: hil" in short


def test_without_a_command_the_help_is_the_answer_and_pages_of_help_need_no_group(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words, said in (([], "Usage: hil"), (["chip"], "Usage: hil chip"), (["glossary", "ADC"], "ADC code")):
        assert run(words) == 0
        assert said in capsys.readouterr().out


def test_h_of_a_deployment_shows_its_first_twelve_options_and_says_where_the_others_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["deploy", "-h"]) == 0
    short = capsys.readouterr().out
    assert run(["deploy", "--help"]) == 0
    options, every = (
        set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", text, re.M)) for text in (short, capsys.readouterr().out)
    )
    assert len(options) == 12
    assert options < every
    assert f"The other {len(every) - 12} options: hil deploy --help" in short


def test_only_the_command_that_is_asked_for_is_built_and_it_is_the_same() -> None:
    whole = get_command(app)
    for name in ("estimate", "import", "chip", "search"):
        alone = get_command(app_of([name, "-h"]))
        assert list(alone.commands) == [name]
        assert [p.opts for p in alone.commands[name].params] == [p.opts for p in whole.commands[name].params]
    for words in ([], ["-h"], ["--key-file", "estimate", "info"], ["estimat"]):
        assert app_of(words) is app


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"hil {hil.__version__}\n"


def test_the_shell_completes_commands() -> None:
    words = {"_HIL_COMPLETE": "complete_bash", "COMP_WORDS": "hil ca", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "hil"], env={**os.environ, **words}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["calibrate", "campaign"], done.stderr


def test_a_chip_without_a_name_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chip", "show"]) == 2
    assert "Missing argument" in capsys.readouterr().err


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
    monkeypatch.setenv("COLUMNS", "300")
    assert run(["doctor"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "data eurosat" in line]
    assert line.lstrip().startswith("MISSING")
    assert "hil doctor --download eurosat" in line


@pytest.mark.parametrize(
    ("package", "words", "extra"),
    [("pymoo", ["search", "show", "."], "search")],
)
def test_a_command_without_its_package_says_what_installs_it_and_so_does_doctor(
    package: str, words: list[str], extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert run(words) == 2
    assert f"pip install 'rram-hil[{extra}]'" in capsys.readouterr().err

    def version(name: str) -> str:
        if name == package:
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("hil.cli.doctor.metadata.version", version)
    monkeypatch.setattr("hil.cli.doctor.SETS", ())
    monkeypatch.setenv("COLUMNS", "300")
    assert run(["doctor"]) == 0
    said = capsys.readouterr().out.splitlines()
    (line,) = [line for line in said if f"[{extra}]" in line]
    assert words[0] in line
    assert line.lstrip().startswith("optional ")
    assert [
        line for line in said if line.lstrip().startswith("ok") and re.search(r"not installed|\bnone\b", line)
    ] == []
    assert run(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[package]["ok"] is None


def test_long_commands_show_their_options_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    long = [name for name, command in commands() if sum(p.param_type_name == "option" for p in command.params) > SHORT]
    assert {"deploy", "search run", "compile"} <= set(long)
    for name in long:
        assert run([*name.split(), "--help"]) == 0
        shown = capsys.readouterr().out
        assert "\nChip:\n" in shown or name == "import", name
        assert re.findall(r"^ +(?:-\w, )?(--\w+)", shown.partition(f"\n{OTHERS}:\n")[2], re.M) == ["--help"], name


@pytest.mark.parametrize("command", ["deploy", "calibrate", "chip fit", "compile", "import", "board cells"])
def test_o_names_the_output_everywhere(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "-h"]) == 0
    assert "-o, --out" in capsys.readouterr().out


def test_help_of_deploy_says_what_few_repeats_and_images_exclude_and_how_patience_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["deploy", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"below {FEWEST_REPEATS}, the verdict agree is impossible" in said
    assert f"below {FEWEST_IMAGES}, the verdict agree is impossible" in said
    assert f"exit code {ExitCode.LINK}" in said
