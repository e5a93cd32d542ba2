"""The site of the documentation: it builds without a warning, lists the public names, and its picture is of today."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_picture_and_the_table_of_packages_are_those_of_today() -> None:
    command = [sys.executable, "docs/architecture_picture.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["hil", "mapping", "cim", "firmware_protocols"])
def test_every_public_name_stands_under_one_topic_of_its_reference(package: str) -> None:
    text = (ROOT / "docs" / "reference" / f"{package}.md").read_text("utf-8")
    topics = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    named = re.findall(rf"^\.\. auto\w+:: {package}\.(\w+)$", text, re.MULTILINE)
    assert len(named) == len(set(named))
    assert set(named) - {"mnsim"} == set(importlib.import_module(package).__all__) - {"__version__"}
    assert len(topics) > 3
    assert all(re.search(r"^\.\. auto", topic, re.MULTILINE) for topic in topics)


def test_the_site_builds_without_a_warning_and_lists_every_public_name(tmp_path: Path) -> None:
    for extra in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(extra, reason=f"{extra} is not installed: pip install 'rram-hil[docs]'")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for package in ("hil", "mapping", "cim", "firmware_protocols"):
        page = (tmp_path / "reference" / f"{package}.html").read_text("utf-8")
        for name in importlib.import_module(package).__all__:
            assert name == "__version__" or f'id="{package}.{name}"' in page, f"{package}.{name} is not on its page"
    front = (tmp_path / "index.html").read_text("utf-8")
    for chapter in ("start", "my-chip", "explanation/architecture", "reference/hil", "decisions/0001"):
        assert f'href="{chapter}' in front
