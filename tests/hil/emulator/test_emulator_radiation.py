"""Years in orbit for an emulated chip: upsets, dose, late ageing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.chip.file import load_chip
from hil.emulator.address import chip_from_address
from hil.emulator.chip import EmulatedChip

from ..emulated_bench import QUIET, read_us, wait_s, write_cells

DAY_S = 86400.0


def written(sample: int = 0, **more: float) -> tuple[EmulatedChip, NDArray[np.float64]]:
    """A chip without other effects whose first macro holds all levels side by side, and its cells as written."""
    chip = EmulatedChip(load_chip("lab-128", macros=1), 7, {**QUIET, **more})
    macro = chip.spec.macro
    targets = np.resize(np.array(macro.levels_us, np.float32), (macro.rows, macro.columns))
    write_cells(chip, targets, sample=sample)
    return chip, read(chip)


def read(chip: EmulatedChip) -> NDArray[np.float64]:
    return read_us(chip, 128, 128)


def test_upsets_come_at_their_rate_and_go_down_more_often_than_up() -> None:
    chip, before = written(upsets=1e-3)
    wait_s(chip, 500 * DAY_S)
    after = read(chip)
    struck = np.abs(after - before) > 0.01
    inside = before < 39.0  # a cell at the top cannot rise
    assert struck[inside].mean() == pytest.approx(1 - np.exp(-0.5), abs=0.02)
    assert (after < before)[struck & inside].mean() == pytest.approx(0.7, abs=0.03)


def test_an_upset_stays_and_a_rewrite_mends_it_and_draws_another_lot() -> None:
    chip, before = written(upsets=1e-3)
    wait_s(chip, 300 * DAY_S)
    first = np.abs(read(chip) - before) > 0.01
    wait_s(chip, 300 * DAY_S)
    later = np.abs(read(chip) - before) > 0.01
    assert later[first].all()
    assert later.sum() > first.sum()
    write_cells(chip, before, sample=1)
    assert np.abs(read(chip) - before).max() < 0.1
    wait_s(chip, 300 * DAY_S)
    again = np.abs(read(chip) - before) > 0.01
    assert not np.array_equal(again, first)


def test_a_dose_moves_outermost_states_to_the_middle_and_leaves_the_middle() -> None:
    chip, before = written(dose_krad_per_year=1000.0)
    wait_s(chip, 365.25 * DAY_S)
    moved = read(chip) - before
    assert moved[before < 3].mean() > 0.5
    assert moved[before > 39].mean() < -0.5
    assert np.abs(moved[np.abs(before - 21) < 3]).max() < 0.1


def test_late_ageing_begins_after_what_was_measured_and_can_be_left_out() -> None:
    chip, early = written(relaxation=1.0)
    wait_s(chip, 0.99e5)
    measured = read(chip)
    wait_s(chip, 3 * 365.25 * DAY_S)
    assert read(chip).mean() < 0.995 * measured.mean()
    held, _ = written(relaxation=1.0, late_ageing=0.0)
    wait_s(held, 1.0e5)
    then = read(held)
    wait_s(held, 3 * 365.25 * DAY_S)
    assert np.array_equal(read(held), then)
    assert early.shape == then.shape


def test_the_address_takes_upsets_and_dose_and_the_same_seed_the_same_upsets() -> None:
    address = "emulated:lab-128?seed=7&macros=1&upsets=1e-3&dose_krad_per_year=3"
    chips = [chip_from_address(address) for _ in range(2)]
    readings = []
    for chip in chips:
        targets = np.full((128, 128), 20.0, np.float32)
        write_cells(chip, targets)
        wait_s(chip, 100 * DAY_S)
        readings.append(read(chip))
    assert np.array_equal(*readings)
