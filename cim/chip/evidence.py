"""Published measurement of a chip file: one number that was measured on chips of this kind, and its error.

The same quantity is computed from the file's other sections (``cim.gallery``), never from this number.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Quantity(enum.StrEnum):
    """Kind of a published measurement that can also be computed from a chip file."""

    CELL_SIGMA = "cell_sigma_us"  # spread of cells of one target at one age: half of what holds the middle 68.27 %
    CELL_MEAN = "cell_mean_us"  # mean of conductance − target, likewise
    PRODUCT_TIME = "product_ns"  # one product of one whole macro
    RATE = "rate_tops"  # all macros at whole products, 10¹² operations a second, two a weight
    MACRO_RATE = "macro_rate_tops"  # one macro, likewise


AT_CELLS = (Quantity.CELL_SIGMA, Quantity.CELL_MEAN)


@dataclass(frozen=True, slots=True)
class MeasuredNumber:
    """The published number ``value`` ± ``error`` and its conditions; a condition that does not apply is 0.

    ``level_us`` and ``age_s`` are those of the cells, ``input_bits`` those of a product (0: the widest), which
    ``input_signed`` says to be with or without sign. ``fitted``: values of the file come from the same measurement, so
    that the number shows a fit and is no evidence.
    """

    quantity: Quantity
    value: float
    error: float
    level_us: float = 0.0
    age_s: float = 0.0
    input_bits: int = 0
    input_signed: bool = False
    fitted: bool = False
