"""Rows of a macro read through products, one by one or in orthogonal patterns, and what the patterns gain on a chip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import tile_halves_us
from cim.fit.row_patterns import RowPattern, RowReading
from cim.record.calibration import CalibrationRecord
from firmware_protocols.messages import Capability, Returns, TileAddress
from hil.calibration.step_numbers import STEP_REQUESTS, STEPS
from hil.driver.chip_driver import ChipDriver
from hil.driver.samples import CALIBRATE
from hil.errors import UsageError

PASSES = 4  # of each half, between which the scatter is looked at
MACROS, CELL_READS = 3, 64

Floats = NDArray[np.float64]


def read_rows(driver: ChipDriver, macro: int, reading: RowReading, passes: int, sample: int) -> Floats:
    """Values (rows, conversions) in µS from ``passes`` reads of each pattern.

    Raises:
        UsageError: the chip gives sums only; a value needs every conversion.
    """
    spec, patterns = driver.spec.macro, reading.patterns
    if Capability.RAW not in driver.capabilities:
        raise UsageError("rows are read by raw conversions, and this chip gives sums only (no RAW)")
    tile = TileAddress(macro, 0, spec.logical_rows, 0, spec.outputs)
    total = np.zeros((patterns.reads, reading.cells_us.shape[1]))
    for number in range(passes):
        result = driver.mvm(
            tile,
            patterns.codes,
            range_code=reading.range_code,
            input_bits=patterns.bits,
            input_signed=patterns.signed,
            sample=sample + number,
            vectors_per_sample=patterns.reads,
            returns=Returns.RAW,
        )
        total += result.values[:, 0, :]
    return reading.values_us(total / passes)


def with_row_pattern_gain(driver: ChipDriver, record: CalibrationRecord, seed: int = 0) -> CalibrationRecord:
    """The record with what orthogonal patterns gain over single rows: how many times fewer reads they take.

    Expected by the record, and measured from the scatter between two halves of the reads, by which neither is told more
    right than it is. How far the two kinds lie apart in the mean (``row_patterns_apart_us``, rms) is what patterns of
    many rows leave of wires and converter curves.
    """
    first = CALIBRATE | (seed & 0xFFFF) << 40 | STEPS.number("rows") * STEP_REQUESTS << 24
    readings = {m: driver.read_cells(m, reads=CELL_READS, sample=first) for m in list(record.macros)[:MACROS]}
    return replace(record, goodness={**record.goodness, **_gain(driver, record, readings, first)})


def _gain(
    driver: ChipDriver, record: CalibrationRecord, readings_us: dict[int, NDArray[np.float32]], sample: int
) -> dict[str, float]:
    spec = driver.spec.macro
    expected: list[float] = []
    measured: list[float] = []
    apart: list[float] = []
    for macro, cells_us in readings_us.items():
        halves = tile_halves_us(np.nan_to_num(cells_us), spec, 0, spec.logical_rows, 0, spec.outputs)
        by_read, scatter, means = {}, {}, {}
        for kind in RowPattern:
            reading = RowReading.of(spec, kind, halves, record.macro(macro), record.read_noise, record.wire)
            first, second = (
                read_rows(driver, macro, reading, PASSES, sample + half * PASSES + 100 * (kind is RowPattern.HADAMARD))
                for half in range(2)
            )
            by_read[kind] = reading.variance_by_read
            scatter[kind] = float(np.nanmean((first - second) ** 2)) / 2 * PASSES * reading.patterns.reads
            means[kind] = (first + second) / 2
        expected.append(by_read[RowPattern.SINGLE] / by_read[RowPattern.HADAMARD])
        measured.append(scatter[RowPattern.SINGLE] / max(scatter[RowPattern.HADAMARD], 1e-12))
        apart.append(float(np.sqrt(np.nanmean((means[RowPattern.HADAMARD] - means[RowPattern.SINGLE]) ** 2))))
    return {
        "row_patterns_gain_expected": float(np.mean(expected)),
        "row_patterns_gain": float(np.mean(measured)),
        "row_patterns_apart_us": float(np.mean(apart)),
    }
