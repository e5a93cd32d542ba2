"""The pytest plug-in, as a project that tests its own network uses it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hil.report.pytest_plugin import assert_agrees
from hil.verdict.verdict import Verdict

TEST = """
import hil

def test_the_chip_answers(hil_chip):
    with hil.open_chip(hil_chip) as chip:
        assert chip.description.kind == "emulated"
        print("asked", chip.description.serial)
"""


def pytest_of(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_mine.py").write_text(TEST, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "hil.report.pytest_plugin", *arguments, str(folder)]
    around = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=around)


def test_the_fixture_gives_the_chip_that_the_command_line_or_the_environment_names(tmp_path: Path) -> None:
    asked = pytest_of(tmp_path, "--hil-chip", "emulated:lab-128?seed=3&macros=1")
    assert asked.returncode == 0, asked.stdout + asked.stderr
    other = pytest_of(tmp_path, HIL_CHIP="emulated:lab-128?seed=4&macros=1")
    assert other.returncode == 0, other.stdout
    assert asked.stdout.split("asked ")[1].split()[0] != other.stdout.split("asked ")[1].split()[0]


def test_a_report_that_agrees_passes_and_a_finer_tolerance_fails_with_the_answer(run) -> None:  # type: ignore[no-untyped-def]
    report = run[0]
    assert_agrees(report)
    assert_agrees(report, tolerance=1.0)
    with pytest.raises(pytest.fail.Exception, match=r"does not lie within ±0.1[\s\S]*AGREE: simulator and chip"):
        assert_agrees(report, tolerance=0.1)
    judged = dataclasses.replace(report.this_chip, verdict=Verdict.INCONCLUSIVE)
    with pytest.raises(pytest.fail.Exception, match="not agree"):
        assert_agrees(dataclasses.replace(report, this_chip=judged))
