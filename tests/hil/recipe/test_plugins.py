"""What somebody else's packages add, found by their entry points: a technique, a board in this process, a line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import CHIP, Small

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the examples were installed into, from copies: building leaves files beside the source."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(ROOT / "examples" / "plugins", folder / "source")
    sources = [str(source) for source in sorted((folder / "source").iterdir())]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder / "here"), *sources], check=True, timeout=300)
    return folder / "here"


def hil(installed: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(ROOT), *([] if installed is None else [str(installed)])]
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", "from hil.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=surroundings, timeout=600, check=False)


def test_a_technique_of_another_package_is_listed_with_its_settings(installed: Path) -> None:
    listed = json.loads(hil(installed, "techniques", "--json").stdout)["techniques"]
    names = [t["name"] for t in listed]
    assert names.index("rewrite") < names.index("settle") < names.index("tune")  # by rank
    settle = listed[names.index("settle")]
    assert [s["name"] for s in settle["settings"]] == ["share", "wait"]
    assert settle["excludes"] == ["residual"]


def test_it_is_done_to_the_chip_and_to_virtual_chips(installed: Path, small: Small, tmp_path: Path) -> None:
    pulses = {}
    for name, more in (("plain", ()), ("settled", ("--with", "settle=20,wait=10s"))):
        quick = ("--port", CHIP, "--no-causes", "--without", "tune", "--repeat", "1", *more)
        done = hil(installed, *small.arguments(*quick, "--out", str(tmp_path / name)))
        assert done.returncode in (0, 1), done.stderr
        report = json.loads((tmp_path / name / "report.json").read_text("utf-8"))
        pulses[name] = report["cells"]["pulses"]
    assert pulses["settled"] > 1.1 * pulses["plain"]


def test_a_run_with_it_cannot_go_on_without_the_package(installed: Path) -> None:
    refused = hil(None, "deploy", "--emulated", "--with", "settle=5")
    assert refused.returncode == 2
    assert "no technique 'settle'" in refused.stderr
    assert "settings are share, wait" in hil(installed, "deploy", "--emulated", "--with", "settle=5,window=2").stderr


def test_a_board_of_another_package_runs_a_network_in_this_process(
    installed: Path, small: Small, tmp_path: Path
) -> None:
    told = hil(installed, "info", "--port", "acme:bench-3", "--macros", "2")
    assert "serial bench-3" in told.stdout, told.stderr
    run = ("deploy", str(small.net), "--data", str(small.data), "--port", "acme:bench-3", "--macros", "2")
    quick = ("--samples", "100", "--repeat", "1", "--no-causes", "--without", "tune", "--out", str(tmp_path / "run"))
    done = hil(installed, *run, *quick)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))
    accuracy = report["accuracy"]
    assert abs(accuracy["measured"]["mean"] - accuracy["ideal"]["mean"]) < 0.02  # an exact array


def test_a_line_of_another_package_carries_the_bytes_of_any_address(installed: Path) -> None:
    told = hil(installed, "info", "--port", "paced:9216000,emulated:lab-128?seed=7&macros=1", "--macros", "1")
    assert "NOT SILICON" in told.stdout, told.stderr
    refused = hil(None, "info", "--port", "acme:bench-3")
    assert refused.returncode == 3
    assert "'acme:bench-3' is not an address of a chip" in refused.stderr
    assert "installed packages open acme:, paced:" in hil(installed, "info", "--port", "nobody:1").stderr
