"""The README does what it says, links lead somewhere, the changelog builds, and each commit says why."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from .scripts import benchmark

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
FRAGMENTS = ROOT / "changelog" / "fragments"
SINCE = "c3fae74a"  # the commit that set the ceilings of size
LEAST_WORDS = 8  # of a body: why, and how it was seen to work
SETUP = ("make ", "git clone", "cd ", "pip install")


def shortened(command: str) -> str:
    """The same of a smaller network on few macros and images: what it prints is other tests' matter."""
    return command.replace("hil deploy demo:residual", "hil deploy demo:digits --macros 2 --samples 300 --repeat 2")


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False
    )


def test_the_readme_names_the_two_commands() -> None:
    assert {"make demo", "make test"} <= set(re.findall(r"make \w+", README))
    assert {"demo", "test"} <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def test_the_readme_commands_run_in_order(tmp_path: Path) -> None:
    steps = benchmark("newcomer").steps(ROOT / "README.md")
    commands = [step.command for step in steps if not step.command.startswith(SETUP)]
    assert any(c.startswith("hil deploy demo:residual --emulated") for c in commands)
    for command in commands:
        done = run(shortened(command), tmp_path)
        # 1 is an answer too: on 300 images a verdict may stay open.
        assert done.returncode in ((0, 1) if "deploy" in command or "show" in command else (0,)), done.stderr
        assert "Traceback" not in done.stderr


def test_the_paper_that_the_work_follows_is_cited() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["references"][0]["doi"] == "10.11999/JEIT250978"


def test_every_document_that_is_linked_exists() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_the_fragments_of_today_build_and_each_says_something() -> None:
    words = [sys.executable, "-m", "towncrier", "build", "--version", "99.0.0", "--draft"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    for path in FRAGMENTS.glob("*.md"):
        assert path.read_text("utf-8").strip(), path.name


def test_metadata_citation_and_changelog_are_of_one_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.match(
        rf"# {re.escape(version)}( \([0-9-]+\))?\n", (ROOT / "changelog" / f"{version}.md").read_text("utf-8")
    )


def test_each_of_the_last_thirty_commits_says_why_in_its_body() -> None:
    words = ["git", "log", "-30", "--no-merges", "--format=%h%x1f%s%x1f%b%x1e", f"{SINCE}..HEAD"]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    commits = [entry.strip().split("\x1f") for entry in told.split("\x1e") if entry.strip()]
    assert commits
    bare = [f"{number} {subject}" for number, subject, body in commits if len(body.split()) < LEAST_WORDS]
    assert not bare, f"commits without a body: {bare}"
