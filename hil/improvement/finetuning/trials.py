"""Rate and strength of a fine-tuning by short trials, each judged as deployed on the chips and images that choose.

The error law of training knows neither copies nor the tune, so that a network can gain in training and lose on
chips. A trial of ``STEPS`` steps shows the effect of a rate and a strength.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from hil.improvement.finetuning.settings import RATE, STRENGTH, FinetuneSettings
from hil.watch import Watch

STEPS = 60  # of a trial
LEAST_STEPS = 400  # of a training that is worth trials
SHARE = 0.25  # of the minutes of training that trials may take beside them
RATES = (0.0004, RATE, 0.0001)


@dataclass(frozen=True, slots=True)
class TrialChoice:
    """Learning rate and error strength of a training, and how many trials chose them."""

    rate: float
    strength: float
    trials: int = 0


def chosen(
    settings: FinetuneSettings,
    steps: int,
    copies: float,
    before: float,
    tried: Callable[[float, float], float],
    watch: Watch,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> TrialChoice:
    """Rate and strength as the user set them, else those of the best trial.

    Args:
        steps: of the training; 0: as many as fit into the minutes.
        copies: strength of the errors of layers as deployed, copies averaged.
        before: share of right answers of the unchanged network; ``tried``: of one that a trial has trained.
    """
    if settings.rate and settings.strength:
        return TrialChoice(settings.rate, settings.strength)
    if 0 < steps < LEAST_STEPS:
        return TrialChoice(settings.rate or RATE, settings.strength or STRENGTH)
    start, found = clock(), dict[tuple[float, float], float]()

    def best() -> tuple[float, float]:
        return max(found, key=lambda key: found[key])

    first = settings.strength or copies
    asked = [(rate, first) for rate in ((settings.rate,) if settings.rate else RATES)]
    planned = len(asked) + (not settings.strength)
    while asked:
        rate, strength = asked.pop(0)
        found[rate, strength] = tried(rate, strength)
        gain = f"{100 * (found[rate, strength] - before):+.1f}".replace("-", "−")
        watch.note(f"trial of {STEPS} steps: rate {rate:g}, strength {strength:g}: {gain} points as deployed")
        if settings.minutes and len(found) == 1:
            each = (clock() - start) / 60.0
            planned = max(1, min(planned, int(SHARE * settings.minutes / max(each, 1e-9))))
            word = "trial takes" if planned == 1 else "trials take"
            watch.message(
                f"{planned} {word} about {planned * each:.1f} minutes, beside the {settings.minutes:g} of training"
            )
        if len(found) >= planned:
            break
        other = (best()[0], STRENGTH)
        if not asked and not settings.strength and other not in found:
            asked.append(other)
    return TrialChoice(*best(), len(found))
