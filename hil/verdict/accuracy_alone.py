"""*Other chips* judged by a mean accuracy alone: no answer of an image is known, so that images are not paired."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cim.intervals import wilson
from hil.verdict.statistics import Comparison, look_limits
from hil.verdict.verdict import Interval, Judgement, Mode, judgement_of

UNPAIRED = "accuracies alone: images are not paired, and the intervals hold the sampling of both sets of images"
TESTED = "this chip as one of its kind, by its accuracy alone: is it one that virtual chips have, written again"


def judge_accuracy(
    accuracy: float,
    images: int,
    runs: int,
    simulated_correct: NDArray[np.bool_],
    ideal_correct: NDArray[np.bool_],
    *,
    tolerance: float,
) -> Judgement:
    """Judge a mean ``accuracy`` over ``runs`` of ``images`` images by virtual chips (S, N) and the ideal network (N,).

    With A the accuracy and p the simulated one, each image sampled on its own:

        SE² = A (1 − A) / n + p (1 − p) / N + v1 / S        T = |D| / √(v1 (1 + 1/S) + A (1 − A) / n + p (1 − p) / N)

    Where both sets are the same images this is more than the truth, since what is hard for one is hard for the other.

    Example: 83.52 % of 10,000 images, 20 virtual chips with 86.5 % of 1,000 and √v1 = 0.3 points: SE = 1.14 points.
    """
    v, q = np.asarray(simulated_correct, np.float64), np.asarray(ideal_correct, np.float64)
    chips, scored = v.shape
    accuracies = v.mean(axis=1)
    simulated, ideal = float(v.mean()), float(q.mean())

    def variance(other: float) -> float:
        """n times the variance of ``accuracy`` less a share of the images that were simulated."""
        return float(max(accuracy * (1 - accuracy) + other * (1 - other) * images / scored, 3.0 / images))

    c = Comparison(
        n=images,
        repeats=runs,
        chips=chips,
        chip=accuracy,
        simulated=simulated,
        difference=accuracy - simulated,
        image_variance=variance(simulated),
        chip_variance=max(float(accuracies.var(ddof=1)), (0.5 / scored) ** 2),
        read_variance=None,
        answer_variance=0.0,
        paired=False,
    )
    found = judgement_of(
        c,
        accuracies,
        look_limits((images,), chips),
        tolerance=tolerance,
        looks=(images,),
        loss=(accuracy - ideal, (variance(ideal) / images) ** 0.5),
        mode=Mode.UNCONDITIONAL,
        claim="new images like these",
        simulator_reads=1,
        alpha_prediction=0.05,
        alpha_equivalence=0.05,
        ideal=Interval(ideal, *wilson(float(q.sum()), scored)),
        measured=Interval(accuracy, *wilson(accuracy * images, images)),
        measured_repeats=(),
        discordance=None,
        mcnemar=None,
        trend=None,
        fidelity=None,
        tested=f"{TESTED}, and within the tolerance of their mean for new images like these?",
    )
    return replace(found, flags=(UNPAIRED, *found.flags))
