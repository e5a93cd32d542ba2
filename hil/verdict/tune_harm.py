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
    """A tune that makes the chip worse: scores of the same images ``without`` and ``tuned``.

    ``left_out``: the run went on without it; otherwise the chip could not be asked again.
    """

    images: int
    without: float
    tuned: float
    left_out: bool
    text: str


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
        without: scores (n,) of the chip without it.
        tuned: scores (repeats, n) of the same images with it.
    """
    if not metric.paired or not harms(without, tuned.mean(axis=0), greater=metric.greater):
        return None
    before, after = float(without.mean()), float(tuned.mean())
    done = "it is left out" if left_out else "the chip ran with it: hil deploy --without tune"
    text = (
        f"the tune harms this chip, {metric.value(before, 1)} without it and {metric.value(after, 1)} with it of the "
        f"same {len(without):,} images, so {done}; likely the {stored} stored training images it is fitted to are too "
        "few, or not like those that are scored"
    )
    return TuneHarm(len(without), before, after, left_out, text)
