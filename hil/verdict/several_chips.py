"""Several chips judged by their mean: runs of real chips against runs of virtual ones, none of them the same.

One chip is asked whether it is one of its kind (``hil.verdict.verdict``). Of several, each written for itself, the
mean is known better than any of them: is it that of virtual chips, within the tolerance?

    D = Σ ± mean(group),    SE² = Σ s² / n,    t of Satterthwaite's degrees of freedom

over independent groups of scores: real chips count up and virtual ones down. Where both were compared with the float
network on images of their own, those scores are groups of the other sign, and D is a difference of losses.

Example: ten real runs of 86.0 ± 0.5 % and twenty virtual ones of 86.3 ± 0.3 %: D = −0.30 points, SE 0.17.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from hil.verdict.statistics import LAST_MARGIN, Equivalence, PredictionTest
from hil.verdict.verdict import Verdict, decide

FEWEST_RUNS = 3  # of a group, for its spread to be known at all


@dataclass(frozen=True, slots=True)
class SeveralJudged:
    """Verdict on the mean of several chips; fractions."""

    verdict: Verdict
    difference: float  # real − virtual
    standard_error: float
    freedom: float
    interval90: tuple[float, float]
    p_value: float  # of no difference


def judge_several(real: Sequence[ArrayLike], virtual: Sequence[ArrayLike], *, tolerance: float) -> SeveralJudged:
    """Judge groups of scores whose means add up to ``real`` and to ``virtual``.

    The first group of each is added, further ones (floating point on the same images) are taken away.

    Raises:
        ValueError: a group of fewer than three scores, or with numbers that are none.
    """
    groups = [
        (side if number == 0 else -side, np.asarray(group, np.float64))
        for side, given in ((1, real), (-1, virtual))
        for number, group in enumerate(given)
    ]
    for _, scores in groups:
        if scores.ndim != 1 or len(scores) < FEWEST_RUNS or not np.isfinite(scores).all():
            raise ValueError(f"a group of {scores.shape} scores; {FEWEST_RUNS} finite ones are needed to know a spread")
    difference = sum(sign * float(scores.mean()) for sign, scores in groups)
    parts = [(float(scores.var(ddof=1)) / len(scores), len(scores) - 1) for _, scores in groups]
    variance = max(sum(part for part, _ in parts), np.finfo(float).tiny)
    error = math.sqrt(variance)
    freedom = variance**2 / max(sum(part**2 / n for part, n in parts), np.finfo(float).tiny)
    half, size = float(special.stdtrit(freedom, 0.95)) * error, abs(difference)
    limit = float(special.stdtrit(freedom, 0.975))
    p_value = float(2 * stats.t.sf(size / error, freedom))
    test = PredictionTest(size / error, limit, p_value, math.nan, size / error > limit)
    inside = Equivalence(
        standard_error=error,
        low=difference - half,
        high=difference + half,
        holds=size + half <= tolerance,
        beyond=size - half > tolerance,
        likely_beyond=size > half and size - LAST_MARGIN * error > tolerance,
    )
    verdict = decide(test, inside, last=True)
    return SeveralJudged(verdict, difference, error, freedom, (inside.low, inside.high), p_value)
