"""The changelog: a fragment a change, which the build joins; closed versions stand."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FRAGMENTS = ROOT / "changelog" / "fragments"
KINDS = [
    kind["directory"]
    for kind in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["towncrier"]["type"]
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The configuration and the fragments of today."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(FRAGMENTS, tmp_path / "changelog" / "fragments")
    return tmp_path


def build(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "towncrier", "build", "--version", "99.0.0", *options]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=600, check=False)


def test_the_fragments_of_today_build_and_each_says_something() -> None:
    done = build(ROOT, "--draft")
    assert done.returncode == 0, done.stderr
    for path in FRAGMENTS.glob("*.md"):
        assert path.read_text("utf-8").strip(), path.name


@pytest.mark.parametrize("kind", KINDS)
def test_a_fragment_becomes_a_line_of_its_kind_in_the_file_of_the_version(kind: str, project: Path) -> None:
    fragment = project / "changelog" / "fragments" / f"blanks-in-names.{kind}.md"
    fragment.write_text("`hil board info` reads names with blanks,\nin two lines.\n", "utf-8")
    done = build(project, "--yes")
    assert done.returncode == 0, done.stderr
    text = (project / "changelog" / "99.0.0.md").read_text("utf-8")
    assert re.match(r"# 99\.0\.0 \(\d{4}-\d\d-\d\d\)\n\n## ", text)
    (section,) = [part for part in text.split("\n## ")[1:] if part.startswith(kind.title())]
    assert "\n- `hil board info` reads names with blanks,\n  in two lines.\n" in section


def test_a_file_that_is_no_fragment_ends_the_build_with_its_name(project: Path) -> None:
    (project / "changelog" / "fragments" / "blanks-in-names.mended.md").write_text(
        "A kind that is not there.\n", "utf-8"
    )
    done = build(project, "--draft")
    assert done.returncode != 0
    assert "blanks-in-names.mended.md" in done.stderr


def test_metadata_citation_and_changelog_are_of_one_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.match(
        rf"# {re.escape(version)}( \([0-9-]+\))?\n", (ROOT / "changelog" / f"{version}.md").read_text("utf-8")
    )
