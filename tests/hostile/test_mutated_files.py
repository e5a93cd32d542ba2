"""Valid files changed at random are read or refused; `python -m tests.hostile.mutate 10000` tries more."""

from __future__ import annotations

from .mutate import run


def test_300_changed_files_are_read_or_refused_in_bounded_memory_and_time() -> None:
    broken = run(300)
    assert not broken, broken[:3]
