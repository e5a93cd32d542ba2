"""Budgets of a calibration's steps, and the precision at which each stops earlier."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np


class Budget(enum.StrEnum):
    QUICK = "quick"
    DEFAULT = "default"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class CalibrationPlan:
    """Budget and targets of one calibration. Targets are standard errors."""

    idle_vectors: int  # products with no row driven
    stuck_cycles: int  # most SET/RESET cycles; from the second on only doubtful cells are written
    stuck_reads: int
    early_reads: int  # of every cell at the ages before the last
    decades: bool  # read cells at every decade of age, not only at the first and the last
    noise_macros: int
    noise_gaps_s: tuple[float, ...]  # between repeated reads, from the first
    reading_target_us: float  # error of a mean cell reading; sets how many reads are averaged
    most_reads: int
    gain_target: float  # error of a column's gain
    batch: int  # vectors of one round
    most_vectors: int
    zero_vectors: int  # reads of single rows, near zero input
    wire_macros: int  # one resistance for all macros: a few of them tell it
    wire_vectors: int
    real_vectors: int  # products with inputs like a network's
    drive_subsets: int  # sets of rows driven alike with every unit, where a read takes several bits

    def reads(self, variance_us2: float) -> int:
        """Reads of each cell whose mean is known to ``reading_target_us``, within the budget."""
        return int(np.clip(np.ceil(variance_us2 / self.reading_target_us**2), 8, self.most_reads))


PLANS = {
    Budget.QUICK: CalibrationPlan(32, 1, 8, 8, False, 2, (0.0,), 0.2, 64, 0.005, 1024, 1024, 256, 2, 128, 64, 32),
    Budget.DEFAULT: CalibrationPlan(
        128, 3, 16, 8, True, 4, (0.0, 1.0, 10.0, 100.0), 0.12, 255, 0.003, 1024, 4096, 512, 3, 384, 128, 96
    ),
    Budget.FULL: CalibrationPlan(
        1024,
        3,
        32,
        16,
        True,
        64,
        (0.0, 1.0, 10.0, 100.0, 1000.0),
        0.08,
        255,
        0.0015,
        2048,
        16384,
        2048,
        8,
        1024,
        1024,
        256,
    ),
}

FIRST_AGE_S = 1.0  # each macro is read this long after its last pulse
CLEAR = 5.0  # an age is worth reading when it is so many times longer than writing all macros took


def later_ages(last_s: float, writing_s: float, plan: CalibrationPlan) -> tuple[float, ...]:
    """Ages after the first at which all cells are read, the last included.

    Decades from 10 s on up to half of the last age. A decade is left out while the macros, which are
    one age then, and below half of the last.

    Example: one hour, macros written within 25 s: 1000 and 3600 s; within 2 s: 10, 100, 1000 and 3600 s.
    """
    decades = [10.0**k for k in range(1, 12)] if plan.decades else []
    return (*(a for a in decades if a >= CLEAR * writing_s and a <= last_s / 2.0), last_s)


@dataclass(frozen=True, slots=True)
class StepPrecision:
    """Precision of a finished step: a standard error, its target, and whether the budget ended it."""

    step: str
    reached: float
    target: float
    unit: str
    spent: str  # in words: "2,048 vectors"

    @property
    def enough(self) -> bool:
        return self.reached <= self.target

    def words(self) -> str:
        """ "column gain ± 0.0025", or with its target and what was spent where that is missed."""
        unit = f" {self.unit}" if self.unit else ""
        missed = "" if self.enough else f" (target {self.target:g} missed, budget spent: {self.spent})"
        return f"{self.step} ± {self.reached:.2g}{unit}{missed}"
