"""Docstrings of all functions, public or private: the sample that is read without their code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .scripts import loaded

ROOT = Path(__file__).parent.parent
SAMPLE = loaded(ROOT / "docs" / "docstring_sample.py")


def test_no_docstring_leaves_its_noun_to_the_name() -> None:
    """ "Of the chips" is the answer to a question that only the code asks."""
    assert [name for name, _, text in SAMPLE.docstrings() if text.startswith("Of ")] == []


def test_a_sample_of_a_seed_is_the_same_each_time_and_shows_no_code() -> None:
    command = [sys.executable, SAMPLE.__file__, "--seed", "49", "--count", "40"]
    one, other = (subprocess.run(command, capture_output=True, text=True, timeout=300, check=True) for _ in range(2))
    assert one.stdout == other.stdout
    drawn = [line for line in one.stdout.splitlines() if line and not line.startswith(" ")]
    assert len(drawn) == len(set(drawn)) == 40
