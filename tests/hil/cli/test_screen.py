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


def test_steps_before_any_stage_count_their_time_from_the_first_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(every_s=0.0)
    with screen:
        screen.step(1, 3, "macros")
        screen.step(2, 3, "macros")
        with screen.stage("fitting"):
            screen.step(1, 2, "columns")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("working        1/3 macros, 0 s")
    assert lines[-1].startswith("fitting        1/2 columns, 0 s")


def test_the_time_left_of_a_second_set_does_not_count_the_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("hil.cli.screen.time.monotonic", lambda: now[0])
    screen = Screen(every_s=0.0)
    with screen, screen.stage("simulating"):
        for seconds in (100.0, 1.0):
            for done in (1, 2, 3):
                now[0] += seconds
                screen.step(done, 4, "chips")
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "simulating     2/4 chips, 200 s, about 200 s left"
    assert lines[-2] == "simulating     3/4 chips, 303 s, about 1 s left"


def test_a_short_stage_says_nothing_on_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    steps(Screen())
    steps(Screen(quiet=True, every_s=0.0))
    assert not capsys.readouterr().err
