"""Values that have names: examples are listed and copied, and a shell completes chips, data sets and techniques."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hil.cli import run
from hil.pages.example_lists import PAYLOAD_NETWORK
from hil.pages.examples import examples

ROOT = Path(__file__).parents[3]


def completed(line: str) -> list[str]:
    """What bash would offer behind a line."""
    words = {"_HIL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", "from hil.cli import main; main()"],
        cwd=ROOT, env={**os.environ, **words}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("hil deploy --chip lab", "lab-128"),
        ("hil deploy --data fash", "fashion-mnist"),
        ("hil improve net.pt --data cifar10-", "cifar10-jpeg"),
        ("hil simulate --with rew", "rewrite"),
        ("hil deploy --without tu", "tune"),
        ("hil simulate --mode ex", "exact"),
        ("hil chip copy lab", "lab-128"),
        ("hil help examples copy orb", "orbit"),
    ],
)
def test_a_shell_completes_values_that_have_names(line: str, offered: str) -> None:
    assert offered in completed(line)


def test_an_example_is_copied_to_where_the_documents_expect_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["help", "examples", "copy", "orbit"]) == 0
    assert (tmp_path / "examples" / "orbit" / "mission.toml").is_file()
    assert run(["help", "examples", "copy", "bridge.py", "mine.py"]) == 0
    assert (tmp_path / "mine.py").read_text("utf-8") == (ROOT / "examples" / "bridge.py").read_text("utf-8")
    assert run(["help", "examples", "copy", "orbit"]) == 11
    assert "there already" in capsys.readouterr().err


def test_examples_are_listed_with_what_each_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "examples"]) == 0
    said = capsys.readouterr().out
    assert "first_measurement.py" in said
    assert all(examples().values())
    assert run(["help", "examples", "copy", "no-such"]) == 2
    assert "hil help examples lists them" in capsys.readouterr().err


def test_every_example_that_a_how_to_names_can_be_copied() -> None:
    known = examples()
    for page in (ROOT / "docs").glob("*.md"):
        for line in page.read_text("utf-8").splitlines():
            if "benchmarks/" in line or "README.md" in line:  # of a clone
                continue
            for named in re.findall(r"(?<![\w/.(])examples/([\w/.\-]+\w)", line):
                if named.startswith("searches/") and named != PAYLOAD_NETWORK:
                    continue  # results of searches, of a clone
                assert any(named == name or named.startswith(f"{name}/") for name in known), f"{page.name}: {named}"
