"""Rate and strength of a fine-tuning: asked for, or by short trials as deployed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hil.improvement.finetuning import run
from hil.improvement.finetuning.run import RATES, chosen
from hil.improvement.finetuning.settings import RATE, STRENGTH, FinetuneSettings
from hil.watch import Watch
from search.train.finetune import TrainingSpeed


class Heard(Watch):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def message(self, text: str) -> None:
        self.heard.append(text)


def trained(best_rate: float, best_strength: float, seen: list[tuple[float, float]]):
    def tried(rate: float, strength: float) -> float:
        seen.append((rate, strength))
        return 0.8 - 0.02 * (rate != best_rate) - 0.01 * (strength != best_strength)

    return tried


def test_the_rate_and_then_the_strength_that_lose_least_are_taken() -> None:
    for rate in RATES:
        for strength in (0.5, STRENGTH):
            seen: list[tuple[float, float]] = []
            found = chosen(FinetuneSettings(), 900, 0.5, 0.79, trained(rate, strength, seen), Watch())
            assert (found.rate, found.strength) == (rate, strength)
            assert found.trials == len(seen) == 4


def test_what_was_asked_for_is_not_tried() -> None:
    seen: list[tuple[float, float]] = []
    asked = FinetuneSettings(rate=0.01, strength=0.7)
    found = chosen(asked, 900, 0.5, 0.79, trained(0.0004, 0.5, seen), Watch())
    assert (found.rate, found.strength, seen) == (0.01, 0.7, [])
    found = chosen(FinetuneSettings(rate=0.01), 900, 0.5, 0.79, trained(0.0004, 0.5, seen), Watch())
    assert (found.rate, found.strength) == (0.01, 0.5)
    assert {rate for rate, _ in seen} == {0.01}


def test_a_short_training_has_no_trials() -> None:
    seen: list[tuple[float, float]] = []
    found = chosen(FinetuneSettings(), 36, 0.5, 0.79, trained(0.0004, 0.5, seen), Watch())
    assert (found.rate, found.strength, seen) == (RATE, STRENGTH, [])


@pytest.mark.parametrize(("each_min", "planned"), [(0.1, 4), (0.2, 3), (0.4, 1), (5.0, 1)])
def test_trials_under_minutes_are_planned_after_the_first_and_said_beside_the_training(
    each_min: float, planned: int
) -> None:
    seen, watch = list[tuple[float, float]](), Heard()
    known = trained(RATE, 0.5, seen)
    chosen(FinetuneSettings(minutes=3.0), 0, 0.5, 0.79, known, watch, clock=lambda: 60.0 * each_min * len(seen))
    assert len(seen) == planned
    word = "trial takes" if planned == 1 else "trials take"
    (said,) = (text for text in watch.heard if "beside" in text)
    assert said == f"{planned} {word} about {planned * each_min:.1f} minutes, beside the 3 of training"


def test_minutes_are_those_of_the_training_however_long_all_before_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        run, "step_seconds", lambda *_: TrainingSpeed(whole_s=0.1, crop_s=0.1, score_s=1.0, start_s=1.0)
    )
    inputs: Any = SimpleNamespace(train=range(1280), kept=())
    plan = run._planned(inputs, FinetuneSettings(minutes=3.0, batch=128), None)  # type: ignore[arg-type]
    assert plan.epochs == int((run.LEFT * 180.0 - 3.0) / 2.0)
