"""Every hostile file is refused with exit code 7, in little memory and time, and nothing in it is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.errors import ExitCode

from .bounded import MOST_BYTES, read_bounded
from .corpus import CORPUS
from .valid_files import VALID


def test_the_corpus_holds_at_least_150_files() -> None:
    assert len(CORPUS) >= 150


@pytest.mark.parametrize("form", VALID)
def test_a_valid_file_of_each_format_is_read_within_the_bounds(form: str, tmp_path: Path) -> None:
    path = VALID[form][0](tmp_path)
    outcome = read_bounded(form, path)
    assert outcome.code == 0, outcome.text
    assert outcome.within, outcome


@pytest.mark.parametrize(("form", "name"), CORPUS, ids=lambda part: part)
def test_a_hostile_file_is_refused_with_exit_code_7_in_bounded_memory_and_time(
    form: str, name: str, tmp_path: Path
) -> None:
    path = CORPUS[form, name](tmp_path)
    outcome = read_bounded(form, path)
    assert outcome.code == ExitCode.BAD_FILE, outcome.text
    assert outcome.within, f"{outcome.memory >> 20} MB of {MOST_BYTES >> 20}, {outcome.cpu_s:.1f} s"
    assert len(outcome.text) < 3000
    assert not (tmp_path / "marker").exists()
