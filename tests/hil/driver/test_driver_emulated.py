"""The emulated chip, noise and all, through the driver: the wire changes nothing."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from cim.chip.windows import Window
from firmware_protocols.messages import Capability, Returns, TileAddress
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect, open_chip
from hil.emulator.chip import ALL_CAPABILITIES, EmulatedChip
from hil.transports.in_process import InProcessTransport

from ..wires import messages

SPEC = load_chip("lab-128", macros=2)
TILE = TileAddress(macro=1, row0=3, rows=60, output0=2, outputs=20)
WINDOW = Window(channels=7, height=6, width=6, kernel=(3, 3), padding=(1, 1))
MAPS = np.random.default_rng(2).integers(0, 16, (3, 7, 6, 6)).astype(np.int16)
LEVELS = np.random.default_rng(1).integers(-7, 8, (60, 20)).astype(np.int8)


def session(driver: ChipDriver) -> list[np.ndarray]:
    written = driver.program_tile(TILE, LEVELS, sample=1)
    driver.wait(3600.0)
    cells = driver.read_cells(1, reads=2, sample=2)
    codes = np.random.default_rng(3).integers(0, 256, (200, 60)).astype(np.int16)
    sums = driver.mvm(TILE, codes, range_code=4, sample=3, vectors_per_sample=8)
    raw = driver.mvm(TILE, codes[:2], range_code=4, sample=3, vectors_per_sample=8, returns=Returns.RAW)
    swept = driver.sweep(TILE, MAPS, WINDOW, row_skip=2, range_code=4, input_bits=4, sample=40)
    again = driver.sweep(TILE, MAPS, WINDOW, row_skip=2, range_code=4, input_bits=4, sample=40, reads=3)
    products = [sums, raw, swept, again]
    counts = np.array([[p.saturated, p.conversions] for p in (sums, swept, again)])
    return [written.readings_us, written.pulses, written.reached, cells, *(p.values for p in products), counts]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[np.ndarray], list[tuple[int, bytes | str]]]:
    log = tmp_path_factory.mktemp("emulated") / "wire.log"
    with open_chip("emulated:lab-128?seed=7&macros=2", log=log) as driver:
        assert driver.description.kind == "emulated"
        return session(driver), messages_after(driver, log)


def messages_after(driver: ChipDriver, log: Path) -> list[tuple[int, bytes | str]]:
    driver.close()
    return messages(log)


@pytest.mark.parametrize("most", [700, 6000])
def test_how_requests_are_cut_changes_no_noise(
    most: int, reference: tuple[list[np.ndarray], list[tuple[int, bytes | str]]]
) -> None:
    with open_chip("emulated:lab-128?seed=7&macros=2") as driver:
        driver._most = most
        results = session(driver)
    for got, wanted in zip(results, reference[0], strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    "without",
    [Capability.SWEEP, Capability.SUMS, Capability.SWEEP | Capability.SUMS, Capability.REPEATED_READS],
)
def test_host_fall_backs_give_the_bits_that_the_chip_would_have_given(
    without: Capability, reference: tuple[list[np.ndarray], list[tuple[int, bytes | str]]]
) -> None:
    chip = EmulatedChip(SPEC, 7, capabilities=ALL_CAPABILITIES & ~without)
    with connect(InProcessTransport(chip, "in process"), chip=SPEC) as driver:
        results = session(driver)
        assert driver.fallbacks
    for got, wanted in zip(results, reference[0], strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_host_run_write_verify_writes_as_well_as_the_chip_does() -> None:
    outcomes = []
    for capabilities in (ALL_CAPABILITIES, ALL_CAPABILITIES & ~Capability.PROGRAM_TILE):
        chip = EmulatedChip(SPEC, 7, capabilities=capabilities)
        with connect(InProcessTransport(chip, "in process"), chip=SPEC) as driver:
            tile = dataclasses.replace(TILE, rows=128, row0=0)
            levels = np.random.default_rng(4).integers(-7, 8, (128, 20)).astype(np.int8)
            outcome = driver.program_tile(tile, levels)
            used = np.isfinite(outcome.readings_us)
            outcomes.append((outcome.reached[used].mean(), outcome.pulses[used & outcome.reached].mean()))
    (chip_share, chip_pulses), (host_share, host_pulses) = outcomes
    assert abs(chip_share - host_share) < 0.02
    assert 0.7 < host_pulses / chip_pulses < 1.4


def test_an_open_chip_knows_what_was_written_to_it_since() -> None:
    with open_chip("emulated:lab-128?seed=7&macros=2") as driver:
        assert driver.held_program() is None
        driver.hold_program(b"\x01" * 32)
        assert driver.held_program() == b"\x01" * 32
        driver.program_tile(TILE, LEVELS, sample=1)
        assert driver.held_program() is None


def test_an_emulated_chip_is_freed_as_soon_as_its_line_is_closed() -> None:
    gc.disable()  # circles of garbage held gigabytes of cells until a full collection came by
    try:
        chip = EmulatedChip(SPEC, 1)
        freed = weakref.ref(chip)
        with connect(InProcessTransport(chip, "in process"), chip=SPEC) as driver:
            driver.read_cells(0)
        del chip, driver
        assert freed() is None
    finally:
        gc.enable()
