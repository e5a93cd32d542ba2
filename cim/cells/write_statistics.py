"""Statistics of writing cells: how many of a level reached their window, and in how many pulses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.intervals import wilson

PULSE_POINTS = (*np.linspace(0.0, 0.95, 20), 0.96, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0)  # finer in the tail

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WriteStatistics:
    """Statistics of writing by level, from the outcomes of a chip.

    ``levels_us`` (levels,); ``cells`` and ``reached`` (levels,) counts; ``pulses`` (levels,
    points) quantiles of the pulses of all cells at the probabilities ``pulse_points``.
    """

    levels_us: Floats
    cells: NDArray[np.int64]
    reached: NDArray[np.int64]
    pulse_points: Floats
    pulses: Floats

    def __post_init__(self) -> None:
        n, q = len(self.levels_us), len(self.pulse_points)
        if self.cells.shape != (n,) or self.reached.shape != (n,) or self.pulses.shape != (n, q):
            raise ValueError(f"write statistics: {n} levels, cells {self.cells.shape}, pulses {self.pulses.shape}")
        if np.any(self.reached > self.cells) or np.any(self.reached < 0) or np.any(np.diff(self.pulses, axis=1) < 0):
            raise ValueError("write statistics: more cells reached than written, or falling quantiles")

    def success_interval(self) -> tuple[Floats, Floats]:
        """Wilson interval, 95 %, of the share in its window, (levels,) each; 0 to 1 where none was written."""
        counts = zip(self.reached.tolist(), self.cells.tolist(), strict=True)
        low, high = zip(*(wilson(reached, cells) if cells else (0.0, 1.0) for reached, cells in counts), strict=True)
        return np.array(low), np.array(high)


def write_statistics(
    targets_us: NDArray[np.floating],
    reached: NDArray[np.bool_],
    pulses: NDArray[np.integer],
    levels_us: NDArray[np.floating],
) -> WriteStatistics:
    """Statistics by level from outcomes of single cells, arrays (cells,); NaN targets are left out."""
    levels = np.asarray(levels_us, np.float64)
    middles = (levels[1:] + levels[:-1]) / 2.0
    level = np.where(np.isfinite(targets_us), np.searchsorted(middles, targets_us), -1)
    quantiles = np.zeros((len(levels), len(PULSE_POINTS)))
    for k in range(len(levels)):
        if np.any(level == k):
            quantiles[k] = np.quantile(np.asarray(pulses)[level == k], PULSE_POINTS)
    return WriteStatistics(
        levels_us=levels,
        cells=np.bincount(level[level >= 0], minlength=len(levels)),
        reached=np.bincount(level[(level >= 0) & reached], minlength=len(levels)),
        pulse_points=np.array(PULSE_POINTS),
        pulses=quantiles,
    )
