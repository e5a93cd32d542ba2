"""Read noise that lasts in an emulated chip: traps that hold their charge for a while."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from numpy.typing import NDArray

import hil
from cim.cells.lasting_noise import lasts
from cim.chip.file import load_chip
from firmware_protocols.messages import TileAddress
from hil.calibration.procedure import calibrate
from hil.emulator import traps
from hil.emulator.chip import EmulatedChip

from ..emulated_bench import QUIET, multiply, read_us, wait_s, write_cells

SIZE_US = 0.3


def written(size_us: float = SIZE_US) -> EmulatedChip:
    """A chip without other effects, all cells at the highest level."""
    chip = EmulatedChip(load_chip("lab-128", macros=1), 7, {**QUIET, "lasting_noise_us": size_us})
    write_cells(chip, np.full((128, 128), chip.spec.macro.levels_us[-1]))
    return chip


def read(chip: EmulatedChip) -> NDArray[np.float64]:
    return read_us(chip, 128, 128)


def test_reads_differ_more_the_farther_they_lie_apart_and_averaging_does_not_help() -> None:
    growth = []
    for apart_s in (10.0, 1e3, 1e5):
        chip = written()
        wait_s(chip, 1e5)
        first = read_us(chip, 128, 128, reads=10)
        wait_s(chip, apart_s)
        growth.append((read_us(chip, 128, 128, reads=10) - first).var())
    assert np.diff(growth) == pytest.approx(np.full(2, 2 * 2 * SIZE_US**2), rel=0.15)


def test_few_cells_have_most_of_it_in_steps() -> None:
    chip = written()
    wait_s(chip, 1e5)
    first = read(chip)
    wait_s(chip, 10.0)
    moved = np.abs(read(chip) - first)
    assert (moved < 0.01).mean() > 0.1  # no trap of theirs changed
    assert (moved**4).mean() / (moved**2).mean() ** 2 > 5.0  # a normal has 3


def test_products_see_the_cells_as_they_stood_after_the_last_reading_however_they_are_cut() -> None:
    chip = written()
    wait_s(chip, 3600.0)
    read(chip)
    codes = np.random.default_rng(1).integers(0, 256, (40, 64)).astype(np.int16)
    tile = TileAddress(0, 0, 64, 0, 16)
    whole = multiply(chip, tile, codes).values
    halves = [multiply(chip, tile, codes[:20]).values, multiply(chip, tile, codes[20:], sample=20).values]
    assert np.array_equal(whole, np.concatenate(halves))
    wait_s(chip, 3600.0)
    assert not np.array_equal(whole, multiply(chip, tile, codes).values)


def test_a_chip_has_none_unless_its_address_says_so() -> None:
    chip = written(0.0)
    wait_s(chip, 10.0)
    before = read(chip)
    wait_s(chip, 1e4)
    np.testing.assert_array_equal(read(chip), before)
    assert not load_chip("lab-128").sample.get("lasting_noise_us", 0.0)


def test_calibration_finds_it_through_the_driver() -> None:
    spec = load_chip("lab-128", macros=1)
    with hil.open_chip("emulated:lab-128?seed=5&macros=1&lasting_noise_us=0.25", chip=spec) as driver:
        noise = calibrate(driver, (0,)).read_noise
    assert lasts(noise)
    true = 2 * 0.25**2 * noise.levels_us / noise.levels_us[-1]
    assert (np.abs(noise.flicker_us2 - true) < 3.5 * noise.flicker_se_us2 + 0.1 * true).all()
    assert noise.variance_us2.mean() == pytest.approx(1.7, rel=0.1)  # what is new at every read is that alone


def test_its_law_shares_nothing_with_the_simulators() -> None:
    """Truth and belief: no import, no relaxation rates, no process of the simulator's flicker."""
    source = inspect.getsource(traps)
    assert "cim.cells" not in source
    assert "exp(-" not in source
