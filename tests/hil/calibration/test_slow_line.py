"""Calibration over a line on which every byte takes its time: fewer bytes, the same estimates."""

from __future__ import annotations

import numpy as np
import pytest

from cim.chip.file import load_chip
from cim.record.calibration import CalibrationRecord
from hil.calibration.procedure import calibrate
from hil.driver.cells import FINE, ROUGH
from hil.driver.open_chip import connect
from hil.emulator.address import chip_from_address
from hil.transports.in_process import InProcessTransport

SPEC = load_chip("lab-128", macros=1)


def calibrated(line: str) -> tuple[CalibrationRecord, int]:
    """Record of the same chip over a line of that name, and the bytes that came over it."""
    chip = chip_from_address("emulated:lab-128?seed=3&macros=1")
    with connect(InProcessTransport(chip, line), spec=SPEC) as driver:
        return calibrate(driver, (0,)), driver.counters["bytes_received"]


@pytest.fixture(scope="module")
def both() -> tuple[tuple[CalibrationRecord, int], tuple[CalibrationRecord, int]]:
    """Over a fast line, and over a slow one."""
    return calibrated("in-process:lab"), calibrated("/dev/slow")


def test_a_slow_line_gives_the_estimates_of_a_fast_one_within_their_standard_errors(
    both: tuple[tuple[CalibrationRecord, int], tuple[CalibrationRecord, int]],
) -> None:
    (fast, _), (slow, _) = both
    one, other = fast.macros[0], slow.macros[0]
    assert np.array_equal(one.cells, other.cells)
    assert np.abs((one.gain - other.gain) / one.gain_se).max() < 1
    assert np.abs((one.offset_codes - other.offset_codes) / one.offset_se).max() < 1
    assert np.abs((fast.read_noise.variance_us2 - slow.read_noise.variance_us2) / fast.read_noise.se_us2).max() < 1
    assert abs(fast.wire.ohm - slow.wire.ohm) < fast.wire.ohm_se
    cells_a_level = SPEC.macro.rows * SPEC.macro.columns / len(SPEC.macro.levels_us)
    se = 1 / np.sqrt(2 * cells_a_level)  # of a scale, relative; both patterns are written anew
    assert np.allclose(fast.programming.scale_us, slow.programming.scale_us, rtol=3 * np.sqrt(2) * se)


def test_a_slow_line_carries_half_of_the_bytes(
    both: tuple[tuple[CalibrationRecord, int], tuple[CalibrationRecord, int]],
) -> None:
    (_, all_bytes), (_, few_bytes) = both
    assert few_bytes < all_bytes / 2


def test_readings_over_a_slow_line_are_rounded_to_a_part_of_the_gap_between_levels() -> None:
    cells = []
    for line in ("in-process:lab", "/dev/slow"):
        chip = chip_from_address("emulated:lab-128?seed=3&macros=1")
        with connect(InProcessTransport(chip, line), spec=SPEC) as driver:
            driver.program_cells(0, np.full((128, 128), SPEC.macro.levels_us[5], np.float32), sample=1)
            cells.append([driver.read_cells(0, reads=8, sample=2, parts_of_gap=parts) for parts in (FINE, ROUGH)])
    (fine, same), (rounded, rough) = cells
    assert np.array_equal(fine, same)
    for found, parts in ((rounded, FINE), (rough, ROUGH)):
        assert 0.0 < np.abs(found - fine).max() <= 0.5 * SPEC.macro.level_gap_us / parts + 1e-3
