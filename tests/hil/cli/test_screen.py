"""Progress where nobody sees a bar."""

from __future__ import annotations

import pytest

from hil.cli.screen import Screen


def steps(screen: Screen) -> None:
    with screen, screen.stage("networks"):
        for done in (1, 2, 4):
            screen.step(done, 4, "epochs")


def test_without_a_terminal_a_long_stage_says_where_it_is_and_how_long_is_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps(Screen(every_s=0.0))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("networks       1/4 epochs, 0 s, about ")
    assert second.startswith("networks       2/4 epochs")
    assert second.endswith(" s left")


def test_a_short_stage_says_nothing_on_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    steps(Screen())
    steps(Screen(quiet=True, every_s=0.0))
    assert not capsys.readouterr().err
