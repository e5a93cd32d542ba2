"""Metrics of a whole set (mAP, AUC, IoU over all pixels), compared by a paired bootstrap over samples.

Every sample has its *evidence*, a row of numbers; the metric is a function of all rows and of how often each sample
counts. A draw counts every sample as often as it was drawn (Efron 1979), the same draw for chip, virtual chips and
ideal network, so that differences are paired.

    D* = mean_r M(y_r; w) − mean_s M(v_s; w)       of each draw w
    s_d² = n · var D*                              in place of the paired differences' variance
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from hil.verdict.statistics import Comparison, Trend

Floats = NDArray[np.float64]
SetScore = Callable[[Floats, Floats], Floats]
"""Evidence (n, k) and weights (draws, n), each row with the sum n → the metric of each draw (draws,)."""

DRAWS = 256  # of the bootstrap: a standard error within about 5 %
DRAWN = 0x5E7B  # purpose tag of the draws' seed
TAIL = 0.025


@dataclass(frozen=True, slots=True)
class SetScores:
    """A set metric of chip, virtual chips and ideal network: column 0 of all samples, then of each draw.

    ``measured`` (m, 1 + draws), ``simulated`` (S, 1 + draws), ``ideal`` (1 + draws,); ``n`` samples.
    """

    n: int
    measured: Floats
    simulated: Floats
    ideal: Floats

    @classmethod
    def of(cls, score: SetScore, measured: Floats, simulated: Floats, ideal: Floats) -> SetScores:
        """Bootstrap draws of the metric, from evidence of the chip (m, n, k), virtual chips (S, n, k) and ideal (n,
        k)."""
        n = len(ideal)
        rng = np.random.default_rng(np.random.SeedSequence([n, DRAWN]))
        weights = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1.0 / n), DRAWS)])
        chip, virtual = ([score(rows, weights) for rows in every] for every in (measured, simulated))
        return cls(n, np.stack(chip), np.stack(virtual), score(ideal, weights))

    def compared(self) -> Comparison:
        """As ``hil.verdict.statistics.compare`` for scores of single samples."""
        m, chips, n = len(self.measured), len(self.simulated), self.n
        repeats, virtual = self.measured[:, 0], self.simulated[:, 0]
        drawn = (self.measured.mean(axis=0) - self.simulated.mean(axis=0))[1:]
        within = float(repeats.var(ddof=1)) if m > 1 else None
        variance = max(n * float(drawn.var(ddof=1)), 3.0 / (n - 1))
        return Comparison(
            n=n,
            repeats=m,
            chips=chips,
            chip=float(repeats.mean()),
            simulated=float(virtual.mean()),
            difference=float(repeats.mean() - virtual.mean()),
            image_variance=variance,
            chip_variance=max(float(virtual.var(ddof=1)), (0.5 / n) ** 2),
            read_variance=within,
            answer_variance=variance,
        )

    def loss(self) -> tuple[float, float]:
        """Measured − ideal, and its standard error."""
        lost = self.measured.mean(axis=0) - self.ideal
        return float(lost[0]), float(lost[1:].std(ddof=1))

    def trend(self) -> Trend | None:
        """Slope of the metric against the repeat number; None for a single repeat."""
        m = len(self.measured)
        if m < 2:
            return None
        r = np.arange(m) - (m - 1) / 2
        slopes = r @ self.measured / float(r @ r)
        slope, error = float(slopes[0]), float(slopes[1:].std(ddof=1))
        p = 1.0 if error == 0 else float(2 * ndtr(-abs(slope) / error))
        return Trend(slope, error, p, p < 0.01)


def drawn_interval(scores: Floats) -> tuple[float, float]:
    """95 % interval of a metric (1 + draws,), by the draws' quantiles."""
    low, high = np.quantile(scores[1:], (TAIL, 1 - TAIL))
    return float(low), float(high)
