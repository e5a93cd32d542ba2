"""Prediction interval of one more chip, and yield, from a row of virtual chips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.intervals import one_more_half_width, wilson
from hil.verdict.metric import ACCURACY, Metric

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Yield:
    """Share of virtual chips that reach ``target``, with its Wilson interval; all fractions.

    Example: 93 of 100 chips → 93 %, 95 % interval 86.3 to 96.6 %.
    """

    target: float
    reached: int
    chips: int
    low: float
    high: float

    @classmethod
    def of(cls, accuracies: NDArray[np.float64], target: float) -> Yield:
        reached = int((accuracies >= target - 1e-12).sum())
        return cls(target, reached, len(accuracies), *wilson(reached, len(accuracies)))

    def words(self) -> str:
        return (
            f"{self.reached} of {self.chips} chips reach {100 * self.target:.2f} %: "
            f"{100 * self.reached / self.chips:.1f} %, 95 % interval {100 * self.low:.1f} … {100 * self.high:.1f} %"
        )

    def to_json(self) -> dict[str, Any]:
        share = self.reached / self.chips
        return {"target": self.target, "share": share, "low": self.low, "high": self.high, "reached": self.reached}


@dataclass(frozen=True, slots=True)
class Distribution:
    """Accuracies (or another metric) of virtual chips on one set of images, as fractions (or scores)."""

    chips: NDArray[np.float64]  # (S,)
    images: int
    metric: Metric = ACCURACY

    @property
    def mean(self) -> float:
        return float(self.chips.mean())

    @property
    def sd(self) -> float:
        """Standard deviation between chips; at least half an image, the resolution of ``images``."""
        return max(float(self.chips.std(ddof=1)), 0.5 / self.images if self.metric.binary else 0.0)

    @property
    def one_chip(self) -> tuple[float, float]:
        """95 % prediction interval of one more chip: mean ± t(S − 1) · sd · √(1 + 1/S), within 0 and 1.

        Example: 20 chips, mean 90 %, sd 0.5 points → 88.93 to 91.07 %.
        """
        half = one_more_half_width(len(self.chips), self.sd)
        low, high = self.mean - half, self.mean + half
        return (max(0.0, low), min(1.0, high)) if self.metric.share else (low, high)

    def quantiles(self) -> NDArray[np.float64]:
        return np.asarray(np.quantile(self.chips, QUANTILES))

    def to_json(self) -> dict[str, Any]:
        low, high = self.one_chip
        return {
            "mean": self.mean,
            "sd": self.sd,
            "low": low,
            "high": high,
            "interval": "prediction, one chip, 95 %",
            "quantiles": dict(zip(map(str, QUANTILES), self.quantiles().tolist(), strict=True)),
            "chips": self.chips.tolist(),
        }
