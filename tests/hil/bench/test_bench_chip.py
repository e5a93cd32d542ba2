"""A digital board behind a pseudo-terminal, made a chip by a bench file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from firmware_protocols.capability import COMPUTED_PRODUCTS
from firmware_protocols.messages import CellBlock, ReadCells, TileAddress
from hil.cli import run
from hil.driver.open_chip import open_chip
from hil.emulator.chip import EmulatedChip
from hil.errors import DeviceError
from hil.server.bench.bench_file import load_bench
from hil.server.bench.chip import BenchChip
from hil.server.bench.roles import OrderStep, carry_out
from tests.hil.bench.benches import StillClock, between_readings_us, write_bench
from tests.hil.bench.served import bench_served

SEED = 7


def _block(rows: int, columns: int) -> CellBlock:
    return CellBlock(0, 0, rows, 0, columns)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """The path of a bench file whose instruments stand in."""
    path = write_bench(tmp_path, port=str(tmp_path / "board"))
    bench = load_bench(path)
    with bench_served(bench, EmulatedChip(bench.chip, SEED)):
        yield path


def test_cells_written_through_a_bench_are_those_that_the_same_die_shows_through_frames(tmp_path: Path) -> None:
    path = write_bench(tmp_path, port=str(tmp_path / "board"))
    bench = load_bench(path)
    die = EmulatedChip(bench.chip, SEED)
    targets_us = np.full((32, 32), np.nan, np.float32)
    targets_us[:8] = np.random.default_rng(1).choice(bench.chip.macro.levels_us, (8, 32))
    with bench_served(bench, die, StillClock()), open_chip(f"bench:{path}") as chip:
        outcome = chip.program_cells(0, targets_us)
        through_bench = chip.read_cells(0, reads=256, lines=range(8))[:8]
        within_us = between_readings_us(chip.spec, 256)
    through_frames = die.read_cells(ReadCells(_block(8, 32), 1, 256, 1)).readings / 1e3
    assert outcome.reached[:8].mean() > 0.9
    assert np.abs(through_bench - through_frames).max() < within_us


def test_products_of_a_bench_that_drives_one_row_at_once_are_called_computed_from_single_reads(served: Path) -> None:
    with open_chip(f"bench:{served}") as bench:
        assert COMPUTED_PRODUCTS in bench.description.firmware
        assert bench.description.kind == "emulated"
        cells = bench.read_cells(0, reads=16)
        codes = np.random.default_rng(1).integers(0, 256, (4, 32))
        found = bench.mvm(TileAddress(0, 0, 32, 0, 16), codes, range_code=7)
    pairs_us = cells[:, 0::2] - cells[:, 1::2]
    expected = codes @ pairs_us / bench.spec.macro.lsb_us(7)
    assert np.corrcoef(found.values.ravel(), expected.ravel())[0, 1] > 0.95


def test_a_bench_that_drives_all_rows_at_once_measures_products(tmp_path: Path) -> None:
    path = write_bench(tmp_path, port=str(tmp_path / "board"), edit={"rows_at_once = 1": "rows_at_once = 32"})
    bench = load_bench(path)
    with bench_served(bench, EmulatedChip(bench.chip, SEED)), open_chip(f"bench:{path}") as chip:
        assert COMPUTED_PRODUCTS not in chip.description.firmware
        cells = chip.read_cells(0, reads=16)
        codes = np.random.default_rng(1).integers(0, 256, (2, 32))
        found = chip.mvm(TileAddress(0, 0, 32, 0, 16), codes, range_code=7)
    expected = codes @ (cells[:, 0::2] - cells[:, 1::2]) / chip.spec.macro.lsb_us(7)
    assert np.corrcoef(found.values.ravel(), expected.ravel())[0, 1] > 0.95


def test_a_compliance_trip_ends_with_exit_code_5_and_names_cell_voltage_and_current(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit = {"current_a = 5e-4": "current_a = 3e-6"}
    path = write_bench(tmp_path, port=str(tmp_path / "board"), edit=edit)
    bench = load_bench(path)
    with bench_served(bench, EmulatedChip(bench.chip, SEED)):
        assert run(["board", "cells", "--port", f"bench:{path}"]) == 5
    said = capsys.readouterr().err
    assert "the compliance of 3e-06 A holds the current of macro 0, row" in said
    assert "at 0.2 V: 3e-06 A" in said


def test_outputs_are_off_after_every_request_and_after_one_that_fails(served: Path) -> None:
    bench = load_bench(served)
    chip = BenchChip(bench)
    chip.switch_on()
    for _ in chip.read_cells(ReadCells(_block(32, 32), 1, 1, 1)):
        pass
    assert not chip.outputs_on
    steps = chip.read_cells(ReadCells(_block(32, 32), 1, 1, 1))
    chip.switch_on()
    next(steps, None)
    steps.close()  # as after Ctrl-C
    assert carry_out([OrderStep(chip.instruments["board"], "is_on")])[0] == 0
    chip.close()


def test_an_instrument_that_is_another_one_is_refused_by_its_identity(served: Path, tmp_path: Path) -> None:
    model = (Path(__file__).parents[3] / "hil/server/bench/models/row-board.toml").read_text()
    (tmp_path / "other.toml").write_text(model.replace('identity = "ROW-BOARD"', 'identity = "OTHER"'))
    other = tmp_path / "other_bench.toml"
    other.write_text(served.read_text().replace('model = "row-board"', 'model = "other.toml"'))
    with pytest.raises(DeviceError, match="answers 'EMULATED ROW-BOARD"):
        BenchChip(load_bench(other))


def test_bench_check_says_who_answers_what_turns_outputs_off_and_the_rate(
    served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "check", str(served), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["computes_products"]
    assert "its own timer" in found["instruments"][0]["off_by_itself"]
    assert not found["lacking"]
    assert found["rows_per_s"] > 0
    assert found["rows_per_processor_s"] > 0
