"""Whether a tune harms a chip, by what the chip itself answers without it and with it.

Gains and offsets are fitted to few stored training images. Where these are too few, or of another kind than the images
that are scored, the tuned chip is worse than the chip as it was written; and since virtual chips are tuned alike, they
are, too, and chip and simulation agree. So the images that run without the tune are compared with the same ones with
it, one by one (Wilcoxon's signed-rank test, one-sided).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.verdict.metric import Metric

CHANCE = 0.005  # that a tune which changes nothing is said to harm


@dataclass(frozen=True, slots=True)
class TuneHarm:
    """A tune that makes the chip worse: scores of the same images ``without`` it, ``tuned``, and without it ``again``.

    ``left_out``: the chip was measured twice, the second time without the tune; otherwise it could not be measured
    again.
    """

    images: int
    without: float
    tuned: float
    left_out: bool
    text: str
    again: float | None = None  # absent before 2.1


def harms(without: NDArray[Any], tuned: NDArray[Any], *, greater: bool = True) -> bool:
    """Whether scores (n,) with a tune are worse than those of the same images without it.

    ``greater``: the greater score is the better one.

    Example: of 100 images the tune loses nine right answers and gives back none: p = 0.0013.
    """
    from scipy.stats import wilcoxon

    gained = (np.asarray(tuned, np.float64) - np.asarray(without, np.float64)) * (1.0 if greater else -1.0)
    if gained.mean() >= 0.0:
        return False
    return bool(wilcoxon(gained, alternative="less", method="approx").pvalue < CHANCE)


def tune_harm(
    without: NDArray[Any], tuned: NDArray[Any], metric: Metric, *, left_out: bool, stored: int
) -> TuneHarm | None:
    """The harm of a tune to ``stored`` training images, or None.

    Args:
        without: scores (passes, n) of the chip without it, the first measured before those with it, a second after.
        tuned: scores (repeats, n) of the same images with it.
    """
    with_it = tuned.mean(axis=0)
    if not metric.paired or not all(harms(one, with_it, greater=metric.greater) for one in without):
        return None
    left = "the chip is measured twice, now without it"
    done = left if left_out else "the chip ran with it: hil deploy --without tune"
    before, after, *again = (metric.value(float(one.mean()), 1) for one in (without[0], with_it, *without[1:]))
    last_words = f", {again[0]} without it again" if again else ""
    text = (
        f"the tune harms this chip, {before} without it, {after} with it{last_words} of the same "
        f"{len(with_it):,} images, so {done}; likely the {stored} stored training images it is fitted to are too few, "
        "or not like those that are scored"
    )
    last = float(without[1].mean()) if len(without) > 1 else None
    return TuneHarm(len(with_it), float(without[0].mean()), float(with_it.mean()), left_out, text, last)
