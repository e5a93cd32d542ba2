"""Measurements that the estimators take, as plain arrays of one macro each, independent of their source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_READS = 4  # averaged in one repeated read: a mean of low cells does not end at zero as single reads do

Floats32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Idle:
    """Codes while no row is driven, of each conversion: mean and standard deviation over vectors."""

    vectors: int
    mean_codes: NDArray[np.float64]
    sd_codes: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stuck:
    """Readings (rows, columns) after SET to the top level and after RESET to level 0, NaN for untested cells."""

    high_us: Floats32
    low_us: Floats32
    pulses: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """The test pattern as written, (rows, columns), and cells read once it was ``early_s`` old."""

    targets_us: Floats32
    reached: NDArray[np.bool_]
    cell_pulses: NDArray[np.int32]
    early_us: Floats32
    early_s: float
    time_s: float  # chip time after the last pulse

    @property
    def pulses(self) -> int:
        return int(self.cell_pulses.sum())


@dataclass(frozen=True, slots=True)
class MeanReading:
    """Mean of ``reads`` readings of each cell, (rows, columns)."""

    readings_us: Floats32
    time_s: float
    reads: int


@dataclass(frozen=True, slots=True)
class Repeats:
    """Means of ``BLOCK_READS`` reads at several times, (times, rows, columns)."""

    times_s: NDArray[np.float64]
    readings_us: Floats32


@dataclass(frozen=True, slots=True)
class Products:
    """Input units of one read (vectors, rows), and codes (vectors, conversions)."""

    inputs: NDArray[np.int16]
    codes: NDArray[np.int32]
    range_code: int


@dataclass(frozen=True, slots=True)
class NetworkProducts:
    """Full-width input codes (vectors, rows), and codes (vectors, planes, conversions)."""

    inputs: NDArray[np.int16]
    codes: NDArray[np.int32]
    range_code: int


def joined(first: Products | None, second: Products) -> Products:
    if first is None:
        return second
    inputs = np.concatenate([first.inputs, second.inputs])
    return Products(inputs, np.concatenate([first.codes, second.codes]), first.range_code)


def first_of(products: Products, vectors: int) -> Products:
    return Products(products.inputs[:vectors], products.codes[:vectors], products.range_code)
