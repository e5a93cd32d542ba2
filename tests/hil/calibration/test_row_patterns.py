"""Rows in orthogonal patterns: fewer reads where the noise lies behind the cells, and single rows where it does not."""

from __future__ import annotations

import numpy as np
import pytest

from cim.array.wire_law import conversion_cells
from cim.chip.encoding import tile_halves_us
from cim.chip.file import load_chip
from cim.fit.row_patterns import RowPattern, RowPatterns, RowReading, seen_cells
from cim.record.calibration import CalibrationRecord
from firmware_protocols.messages import Returns, TileAddress
from hil.calibration.plan import Budget
from hil.calibration.procedure import calibrate
from hil.calibration.row_reads import read_rows, with_row_pattern_gain
from hil.deployment.targets.wired import WiredTarget
from hil.driver.open_chip import open_chip
from hil.watch import Watch
from mapping.recipe.row_patterns import RowVerify
from mapping.recipe.standing import Standing

from ..conftest import CHIP, Small

NOISE_BEHIND = "emulated:lab-128?macros=1&seed=4&read_variance_us2=0.05&conversion_noise_codes=2"
NOISE_OF_CELLS = "emulated:lab-128?macros=1&seed=4&read_variance_us2=5&conversion_noise_codes=0.3"


def calibrated(address: str) -> CalibrationRecord:
    with open_chip(address) as driver:
        return with_row_pattern_gain(driver, calibrate(driver, (0,), age_s=10.0, budget=Budget.QUICK))


def test_patterns_take_five_times_fewer_reads_where_converters_are_noisy_and_none_where_cells_are() -> None:
    behind, of_cells = (calibrated(address).goodness for address in (NOISE_BEHIND, NOISE_OF_CELLS))
    assert behind["row_patterns_gain"] > 5.0
    assert behind["row_patterns_gain"] == pytest.approx(behind["row_patterns_gain_expected"], rel=0.2)
    assert of_cells["row_patterns_gain_expected"] < 1.0, "single rows are chosen"
    assert of_cells["row_patterns_gain"] == pytest.approx(of_cells["row_patterns_gain_expected"], rel=0.2)


@pytest.mark.parametrize("address", [NOISE_BEHIND, "emulated:neurram-256?macros=1&seed=2&conversion_noise_codes=2"])
def test_rows_read_by_patterns_are_the_cells_within_the_closed_form(address: str) -> None:
    with open_chip(address) as driver:
        record = calibrate(driver, (0,), age_s=10.0, budget=Budget.QUICK)
        spec = driver.spec.macro
        cells = np.mean([driver.read_cells(0, reads=255, sample=n) for n in range(4)], 0)
        halves = tile_halves_us(cells, spec, 0, spec.logical_rows, 0, spec.outputs)
        reading = RowReading.of(spec, RowPattern.HADAMARD, halves, record.macros[0], record.read_noise, record.wire)
        error = read_rows(driver, 0, reading, 1, sample=9) - conversion_cells(spec, halves)
    closed = float(np.sqrt(np.nanmean(reading.variance_us2)))
    assert float(np.sqrt(np.nanmean(error**2))) == pytest.approx(closed, rel=0.15)


@pytest.mark.parametrize("name", ["yao-2020", "lab-128", "neurram-256", "a111", "joshi-2020"])
def test_every_pattern_fits_the_chip_and_tells_every_row(name: str) -> None:
    spec = load_chip(name, macros=1).macro
    for kind in RowPattern:
        patterns = RowPatterns.of(spec, kind)
        assert np.linalg.matrix_rank(patterns.codes.astype(float)) == spec.logical_rows
        low, high = (
            (-(1 << (patterns.bits - 1)), 1 << (patterns.bits - 1)) if patterns.signed else (0, 1 << patterns.bits)
        )
        assert low <= patterns.codes.min() <= patterns.codes.max() < high
    every = np.ones((spec.logical_rows, len(conversion_cells(spec, np.zeros((2, 1, spec.outputs)))[0])), np.bool_)
    assert seen_cells(spec, every).any(0).sum() >= spec.outputs


def test_noise_of_a_conversion_is_as_large_as_the_address_says() -> None:
    with open_chip("emulated:lab-128?macros=1&read_variance_us2=0&conversion_noise_codes=3") as driver:
        tile, nothing = TileAddress(0, 0, 128, 0, 64), np.zeros((400, 128), np.int16)
        found = driver.mvm(tile, nothing, input_bits=1, returns=Returns.RAW, vectors_per_sample=400).values[:, 0, :]
    assert float(found.std(0).mean()) == pytest.approx(3.0, rel=0.03)


def test_weights_are_verified_through_products_and_those_off_written_again(small: Small) -> None:
    watch = Watch()
    with open_chip(CHIP, chip=small.program.spec) as driver:
        target = WiredTarget(driver, small.record, watch)
        standing = Standing(small.program, target.write(small.program, None))
        before = target.pulses
        RowVerify(1, 1.0, 8).treat(standing, target)
    assert target.pulses > before
    assert watch.notes[-1].startswith("rows read in single patterns: "), "by the record noise lies in the cells"
