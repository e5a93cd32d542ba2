"""Macros of few cells, as stand before benches of instruments: their levels have cells enough, or it is said first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from hil.calibration.patterns import pattern_levels
from hil.calibration.plan import Budget
from hil.calibration.procedure import calibrate
from hil.driver.open_chip import connect
from hil.emulator.chip import EmulatedChip
from hil.errors import UsageError
from hil.transports.in_process import InProcessTransport
from hil.watch import Watch
from tests.hil.bench.benches import chip_text


def die(side: int, folder: Path) -> EmulatedChip:
    path = folder / f"macro-{side}.toml"
    path.write_text(chip_text(side))
    return EmulatedChip(load_chip(str(path)), 0)


def test_every_level_of_a_small_macro_gets_its_share_of_the_cells_whatever_the_seed(tmp_path: Path) -> None:
    macro = die(32, tmp_path).spec.macro
    for seed in range(50):
        levels = np.abs(pattern_levels(macro, np.random.default_rng(seed)))
        assert np.bincount(levels.ravel(), minlength=8).min() >= 48


def test_a_macro_of_few_cells_is_calibrated_at_fewer_levels_and_says_so(tmp_path: Path) -> None:
    chip, watch = die(16, tmp_path), Watch()
    with connect(InProcessTransport(chip, "here"), chip=chip.spec) as driver:
        record = calibrate(driver, (0,), age_s=10.0, budget=Budget.QUICK, watch=watch)
    levels = record.programming.levels_us
    assert 2 <= len(levels) < 8
    assert (levels[0], levels[-1]) == (chip.spec.macro.levels_us[0], chip.spec.macro.levels_us[-1])
    assert any("too few cells for each of 8 levels" in text for text in watch.notes)


def test_macros_with_too_few_cells_for_any_law_are_refused_before_their_first_pulse(tmp_path: Path) -> None:
    chip = die(8, tmp_path)
    with (
        connect(InProcessTransport(chip, "here"), chip=chip.spec) as driver,
        pytest.raises(UsageError, match=r"have 64 cells, and \d+ of them"),
    ):
        calibrate(driver, (0,), age_s=10.0, budget=Budget.QUICK)
    assert chip.status().pulses_total == 0
