"""Readings of cells are rounded where their digits are noise: fewer bytes, same estimates, alike over every line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import chip_names, load_chip
from cim.record.calibration import CalibrationRecord
from firmware_protocols import codec
from firmware_protocols.connection import VERSIONS
from firmware_protocols.messages import ReadCells
from hil.calibration.procedure import calibrate
from hil.driver import requests
from hil.driver.open_chip import connect, open_chip
from hil.emulator.address import chip_from_address
from hil.transports.in_process import InProcessTransport
from hil.transports.wire_log import read_wire_log

SPEC = load_chip("lab-128", macros=1)
SERIAL = "/dev/slow"  # its bodies are packed
BEFORE = (VERSIONS[0], 0x0103)  # versions of a chip that packs nothing


def calibrated(
    line: str, versions: tuple[int, int] = VERSIONS, log: Path | None = None
) -> tuple[CalibrationRecord, int]:
    """Record of one chip over a line of that name, and the bytes that came over it."""
    chip = chip_from_address("emulated:lab-128?seed=3&macros=1")
    with connect(InProcessTransport(chip, line, versions=versions), chip=SPEC, log=log) as driver:
        return calibrate(driver, (0,)), driver.counters["bytes_received"]


@pytest.fixture(scope="module")
def rounded() -> tuple[CalibrationRecord, int]:
    return calibrated(SERIAL)


@pytest.fixture(scope="module")
def fine() -> tuple[CalibrationRecord, int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "reading_unit_ns", requests.conductance_unit_ns)
        return calibrated(SERIAL)


def test_rounded_readings_give_the_estimates_of_fine_ones_within_their_standard_errors(
    fine: tuple[CalibrationRecord, int], rounded: tuple[CalibrationRecord, int]
) -> None:
    (exact, _), (found, _) = fine, rounded
    one, other = exact.macros[0], found.macros[0]
    assert np.array_equal(one.cells, other.cells)
    assert np.abs((one.gain - other.gain) / one.gain_se).max() < 0.5
    assert np.abs((one.offset_codes - other.offset_codes) / one.offset_se).max() < 0.5
    noise, found_noise = exact.read_noise, found.read_noise
    assert np.abs((noise.variance_us2 - found_noise.variance_us2) / noise.se_us2).max() < 0.5
    assert abs(exact.wire.ohm - found.wire.ohm) < 0.5 * exact.wire.ohm_se
    cells_a_level = SPEC.macro.rows * SPEC.macro.columns / len(SPEC.macro.levels_us)
    se = 1 / np.sqrt(2 * cells_a_level)  # of a scale, relative
    assert np.allclose(exact.programming.scale_us, found.programming.scale_us, rtol=0.5 * se)


def test_rounded_readings_are_shorter(
    fine: tuple[CalibrationRecord, int], rounded: tuple[CalibrationRecord, int]
) -> None:
    (_, all_bytes), (_, few_bytes) = fine, rounded
    assert few_bytes < 0.85 * all_bytes


def test_every_line_gives_the_same_record(rounded: tuple[CalibrationRecord, int], tmp_path: Path) -> None:
    log = tmp_path / "wire.log"
    record, _ = calibrated("in-process:lab", log=log)
    with open_chip(f"replay:{log}", chip=SPEC) as driver:
        again = calibrate(driver, (0,))
    for other in (rounded[0], again):
        assert np.array_equal(record.macros[0].gain, other.macros[0].gain)
        assert np.array_equal(record.programming.scale_us, other.programming.scale_us)
        assert np.array_equal(record.read_noise.variance_us2, other.read_noise.variance_us2)


def test_a_chip_from_before_packed_bodies_is_asked_as_before_and_so_is_its_replay(tmp_path: Path) -> None:
    log = tmp_path / "wire.log"
    record, _ = calibrated(SERIAL, BEFORE, log)
    sent = [codec.decode(e.data).message for e in read_wire_log(log).entries if e.sent and e.data is not None]
    units = {message.unit_ns for message in sent if isinstance(message, ReadCells)}
    assert units == {requests.conductance_unit_ns(SPEC.macro)}
    with open_chip(f"replay:{log}", chip=SPEC) as driver:
        again = calibrate(driver, (0,))
    assert np.array_equal(record.macros[0].gain, again.macros[0].gain)


@pytest.mark.parametrize("name", chip_names())
def test_rounding_is_a_small_part_of_what_a_chip_tells_apart(name: str) -> None:
    macro = load_chip(name).macro
    unit_us, range_us = requests.reading_unit_ns(macro) / 1000, macro.levels_us[-1] - macro.levels_us[0]
    assert unit_us <= max(range_us / 1000, requests.conductance_unit_ns(macro) / 1000)
    assert unit_us <= macro.level_gap_us / 30
    assert unit_us <= macro.tolerance_us / 8
