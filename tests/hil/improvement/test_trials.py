"""Rate and strength of a fine-tuning: asked for, or by short trials as deployed."""

from __future__ import annotations

from hil.improvement.finetuning.settings import RATE, STRENGTH, FinetuneSettings
from hil.improvement.finetuning.trials import RATES, chosen
from hil.watch import Watch


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
