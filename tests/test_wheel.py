"""The wheel alone: built offline, installed into an empty environment, it deploys on an emulated chip."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from .scripts import benchmark

ROOT = Path(__file__).parent.parent
newcomer = benchmark("newcomer")
PAGES = newcomer.read_pages()
PACKAGES, bare_environment, call = newcomer.PACKAGES, newcomer.bare_environment, newcomer.call


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built: Path = newcomer.build_wheel(tmp_path_factory.mktemp("wheel"))
    return built


@pytest.fixture(scope="module")
def python(wheel: Path) -> Path:
    """An empty environment with the wheel in it; what the wheel needs is found in the environment of the tests."""
    installed: Path = newcomer.install(wheel)
    (site,) = (installed.parent.parent / "lib").glob("python3*/site-packages")
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*")):
        there = site / path.relative_to(ROOT)
        if path.suffix in (".nbi", ".nbc"):  # kernels that numba has compiled here serve there too
            there.parent.mkdir(exist_ok=True)
            shutil.copy(path, there)
        elif path.suffix == ".py":  # by whose time it knows them
            os.utime(there, ns=(path.stat().st_mtime_ns,) * 2)
    return installed


def test_the_wheel_holds_every_file_of_the_packages_that_is_no_bytecode(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    tracked = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".c", ".h")
    }
    assert not tracked - held
    for name in (
        "cim/chips/lab-128.toml",
        "search/spaces/fashion-mnist.toml",
        "hil/pages/page.css",
        "hil/pages/nomenclature.md",
        "hil/pages/templates/page.html",
        "hil/datasets/bundled/fashion_mnist.pt",
        "hil/emulator/levy_tech_c.npz",
        "hil/emulator/levy_tech_b.npz",
        "hil/pages/example_files/orbit/mission.toml",
        "hil/py.typed",
    ):
        assert name in held, sorted(held)
    assert any(name.startswith("hil/pages/") and name.endswith(".js") for name in held)
    assert not [name for name in held if name.startswith(("tests/", "docs/", "benchmarks/", "examples/"))]


def test_the_metadata_of_the_wheel_is_complete_and_its_long_description_renders(wheel: Path) -> None:
    said = call(sys.executable, "-m", "twine", "check", "--strict", wheel, cwd=wheel.parent)
    assert "PASSED" in said
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    (about,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".dist-info/METADATA"))
    assert f"\nVersion: {version}\n" in zipfile.ZipFile(wheel).read(about).decode()


def test_the_installed_wheel_begins_the_firmware_of_a_board_that_builds(python: Path, tmp_path: Path) -> None:
    call(python.with_name("hil"), "board", "firmware", "my_board", cwd=tmp_path)
    sources = sorted((tmp_path / "my_board").glob("[cnp]*/*.c"))
    files = [*(path for path in sources if path.name != "bytes.c"), tmp_path / "my_board" / "boards" / "my_board.c"]
    call("gcc", "-std=c99", "-I", "my_board", "-I", "my_board/core", *files, "-o", "firmware", cwd=tmp_path)


@pytest.mark.timeout(3000)  # five deployments
def test_the_first_page_is_followed_to_the_letter_in_an_empty_folder(python: Path, tmp_path: Path) -> None:
    """Every command of its console blocks, in order, with the installed wheel; its fixed output is what is printed."""
    found = newcomer.follow(PAGES["start"], python, tmp_path)
    assert not found.failed, found.failed[0]
    assert len(list((tmp_path / "runs").glob("0*"))) == 5
    where, version = call(python, "-c", "import hil; print(hil.__file__); print(hil.__version__)", cwd=tmp_path).split()
    assert Path(where).is_relative_to(python.parent.parent)
    report = json.loads((tmp_path / "runs" / "0001" / "report.json").read_text("utf-8"))
    assert (report["backend"], report["environment"]["rram-hil"]) == ("emulated", version)
    assert "NOT SILICON" in (tmp_path / "runs" / "0001" / "report.html").read_text("utf-8")


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if page.quick])
def test_a_newcomer_follows_a_page_in_an_empty_folder(name: str, python: Path, tmp_path: Path) -> None:
    """The quick ones; all of them: python benchmarks/studies.py newcomer."""
    found = newcomer.follow(PAGES[name], python, tmp_path)
    assert not found.failed, found.failed[0]
    assert found.done
    assert "<failure" in (tmp_path / "junit.xml").read_text("utf-8")


def test_a_page_says_itself_what_a_newcomer_does_not_follow_and_why(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    lines = (
        "# A", "", "<!-- not followed, `hil emulate`: QEMU -->", "```", "hil emulate --pty", "hil board info \\",
        "  --port X   # hello", "```", "## B", "", "<!-- not followed: hours -->", "```console", "$ hil chip fit a.csv",
        "cells  3", "$ hil chip list", "```", "", "```console", "$ hil doctor", "```", "",
    )  # fmt: skip
    page.write_text("\n".join(lines), "utf-8")
    told = [(step.command, step.shown, step.heading, step.why_not) for step in newcomer.steps(page)]
    assert told == [
        ("hil emulate --pty", (), "A", "QEMU"),
        ("hil board info    --port X", (), "A", ""),
        ("hil chip fit a.csv", ("cells  3",), "B", "hours"),
        ("hil chip list", (), "B", "hours"),
        ("hil doctor", (), "B", ""),
    ]


@pytest.mark.parametrize("name", PAGES)
def test_every_command_of_a_page_stands_where_a_newcomer_finds_it_and_every_reason_is_of_one(name: str) -> None:
    text = PAGES[name].path.read_text("utf-8")
    outside = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not re.findall(r"^(?: {4}|\$ )(?:\$ )?(?:hil|python) .*", outside, re.MULTILINE)
    reasons = newcomer.REASON.findall(text)
    told = list(newcomer.steps(PAGES[name].path))
    assert all(any(why == step.why_not and step.command.startswith(begin) for step in told) for begin, why in reasons)
    assert len(reasons) == text.count("<!-- not followed")


def test_the_steps_of_the_docker_file_work_in_an_empty_environment(python: Path, tmp_path: Path) -> None:
    _, *checks = newcomer.docker_steps()
    assert checks
    for step in checks:
        said = call("bash", "-e", "-c", step.replace("hil ", f"{python.parent}/hil "), cwd=tmp_path)
        assert "lab-128" in said


def test_a_wheel_brings_the_script_of_its_pages_with_its_licence_and_needs_no_plotly(wheel: Path) -> None:
    held = zipfile.ZipFile(wheel)
    assert "plotly.js v" in gzip.decompress(held.read("hil/pages/plotly.js.gz")).decode()
    assert "MIT License" in held.read("hil/pages/plotly.LICENSE.txt").decode()
    (about,) = (held.read(name).decode() for name in held.namelist() if name.endswith(".dist-info/METADATA"))
    needed = [line for line in about.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert not [line for line in needed if "plotly" in line]


def test_a_build_without_the_package_of_the_script_ends_with_what_is_missing(tmp_path: Path) -> None:
    source = newcomer.copy_source(tmp_path / "source")
    command = [sys.executable, "-I", "-S", "-c", "import runpy; runpy.run_path('hil/pages/scripts.py')['write']('')"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 1
    assert "plotly is not installed" in done.stderr
