"""A source-measure unit by FLEX, and a board whose decoder chooses the cell: several instruments as one chip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from firmware_protocols.messages import CellBlock, ReadCells
from hil.driver.open_chip import open_chip
from hil.emulator.chip import EmulatedChip
from hil.server.bench.bench_file import load_bench
from hil.server.bench.faults import BenchFileError
from tests.hil.bench.benches import StillClock, between_readings_us, chip_text, write_bench, write_smu_bench
from tests.hil.bench.served import bench_served

SEED = 7


@pytest.fixture
def smu_bench(tmp_path: Path) -> Iterator[tuple[Path, EmulatedChip]]:
    path = write_smu_bench(tmp_path)
    bench = load_bench(path)
    die = EmulatedChip(bench.chip, SEED)
    with bench_served(bench, die, StillClock()):
        yield path, die


def test_cells_written_by_an_smu_behind_a_decoder_are_those_that_the_die_shows(
    smu_bench: tuple[Path, EmulatedChip],
) -> None:
    path, die = smu_bench
    targets_us = np.full((32, 32), np.nan, np.float32)
    targets_us[3, :6] = [2.0, 40.0, 7.4, 34.6, 12.9, 29.1]
    with open_chip(f"bench:{path}") as chip:
        chip.program_cells(0, targets_us)
        through_bench = chip.read_cells(0, reads=256, lines=range(3, 4))[3, :6]
        within_us = between_readings_us(chip.spec, 256)
    through_frames = die.read_cells(ReadCells(CellBlock(0, 3, 1, 0, 6), 1, 256, 1)).readings[0] / 1e3
    assert np.abs(through_bench - through_frames).max() < within_us


def test_a_pulse_that_an_instrument_cannot_give_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    path = write_smu_bench(tmp_path)
    (tmp_path / "macro-32.toml").write_text(chip_text())
    with pytest.raises(BenchFileError, match=r"longest pulse of .* is 1e-05 s, and b1500a goes from 0.0005 to 2 s"):
        load_bench(path)


def test_a_model_whose_currents_nothing_would_limit_is_refused(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "hil/server/bench/models/b1500a.toml").read_text()
    (tmp_path / "unlimited.toml").write_text(
        text.replace("DV 1,0,{volts_v:.5f},{current_a:.4e}", "DV 1,0,{volts_v:.5f}")
    )
    path = write_bench(tmp_path, edit={'model = "row-board"': 'model = "unlimited.toml"'})
    with pytest.raises(BenchFileError, match=r"orders.volts.send: has no \{current_a\}, and there is no orders.limits"):
        load_bench(path)
