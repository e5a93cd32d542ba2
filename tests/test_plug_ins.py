"""A plug-in that ends the program when it is imported is named and left out, through every door."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DOORS = ("hil.commands", "hil.techniques", "hil.transports", "hil.boards", "hil.cell_laws", "hil.operators")


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, str]:
    """An environment with an installed package whose import raises SystemExit, behind every door."""
    (tmp_path / "rude.py").write_text("raise SystemExit(3)\n")
    about = tmp_path / "rude-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: rude\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("".join(f"[{door}]\nrude = rude:thing\n" for door in DOORS))
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(Path(__file__).parents[1])))}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["help", "techniques"], 0),
        (["chip", "show", "lab-128"], 0),
        (["board", "info", "--port", "rude:1"], 3),
    ],
)
def test_a_plug_in_that_ends_the_program_on_import_is_named_and_the_rest_stays(
    arguments: list[str], code: int, broken: dict[str, str]
) -> None:
    run = subprocess.run([sys.executable, "-m", "hil", *arguments], env=broken, capture_output=True, text=True)
    assert run.returncode == code, run.stderr
    assert "rude (rude:thing): SystemExit: 3" in run.stderr
