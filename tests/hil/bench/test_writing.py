"""Cells written through instruments: each is read and pulsed as often as it needs, whatever its neighbours do."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from firmware_protocols.messages import CellBlock, CellReadings, Polarity, ProgramTile, ReadCells
from hil.driver.open_chip import open_chip
from hil.emulator.chip import EmulatedChip
from hil.errors import DeviceError
from hil.server.bench.bench_file import load_bench
from hil.server.bench.chip import BenchChip
from hil.server.bench.fixture import Fixture
from hil.server.bench.instrument import Instrument
from hil.server.bench.roles import Crossing, OrderStep
from hil.server.bench.stand_in import StandIn
from tests.hil.bench.benches import WRITTEN, StillClock
from tests.hil.bench.served import bench_served

ROWS = 2


class CountingDie(EmulatedChip):
    """Counts how often each cell of its macro is read."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.read = np.zeros((self.spec.macro.rows, self.spec.macro.columns), np.int64)

    def read_cells(self, request: ReadCells) -> CellReadings:
        at = request.cells
        self.read[at.row0 : at.row0 + at.rows, at.column0 : at.column0 + at.columns] += 1
        return super().read_cells(request)


def test_a_stuck_cell_does_not_have_the_cells_that_are_done_read_again(tmp_path: Path) -> None:
    bench_path = WRITTEN["b1500a"](tmp_path)
    bench = load_bench(bench_path)
    targets_us = np.full((32, 32), np.nan, np.float32)
    targets_us[:ROWS] = 40.0
    die = CountingDie(bench.chip, 7)
    with bench_served(bench, die, StillClock()), open_chip(f"bench:{bench_path}") as chip:
        before = die.read.copy()
        outcome = chip.program_cells(0, targets_us)
        read = (die.read - before)[:ROWS]
    pulses, reached = outcome.pulses[:ROWS].astype(np.int64), outcome.reached[:ROWS]
    assert (pulses[~reached] == chip.spec.write.max_pulses).all()
    assert not reached.all()
    assert (read == pulses + 1).all()  # a verify behind each pulse, and one before the first


def test_a_write_tells_how_many_cells_are_done_while_it_works_on_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host gives a chip up that tells nothing new: an instrument may take minutes for all cells of a write."""
    monkeypatch.setattr("hil.server.bench.chip._TELLS_S", 0.0)  # at every step, however fast the machine is
    bench = load_bench(WRITTEN["arc-two"](tmp_path))
    targets = np.full((4, 32), 200, np.uint16)
    request = ProgramTile(CellBlock(0, 0, 4, 0, 32), 100, 10, 20, 1, 800, 50, 2500, 900, 60, 2800, 1000, 0, targets)
    with bench_served(bench, EmulatedChip(bench.chip, 7)):
        chip = BenchChip(bench)
        chip.prepare(request)
        told = [said for said in chip.program_tile(request) if said is not None]
        chip.close()
    assert len({said.done for said in told}) > 2


@pytest.mark.parametrize("kind", ["b1500a", "visa-station", "keithley-2600", "keithley-2450-3706a", "arc-two"])
def test_cells_reach_their_targets_through_instruments_of_every_kind(kind: str, tmp_path: Path) -> None:
    path = WRITTEN[kind](tmp_path)
    bench = load_bench(path)
    targets_us = np.full((32, 32), np.nan, np.float32)
    targets_us[3, 1:9] = [2.0, 34.6, 12.9, 29.1, 40.0, 18.3, 7.4, 23.7]
    with bench_served(bench, EmulatedChip(bench.chip, 7), StillClock()), open_chip(f"bench:{path}") as chip:
        outcome = chip.program_cells(0, targets_us)
        found_us = chip.read_cells(0, reads=64, lines=range(3, 4))[3, 1:9]
    assert outcome.reached[3, 1:9].all()
    assert np.abs(found_us - targets_us[3, 1:9]).max() < 3.0


def test_lines_stay_connected_between_a_pulse_and_its_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[Crossing] = []
    select = Instrument.select

    def watched(instrument: Instrument, at: Crossing) -> list[OrderStep]:
        connected.append(at)
        return select(instrument, at)

    monkeypatch.setattr(Instrument, "select", watched)
    path = WRITTEN["b1500a"](tmp_path)
    bench = load_bench(path)
    targets_us = np.full((32, 32), np.nan, np.float32)
    targets_us[1, :3] = [34.6, 12.9, 29.1]
    with bench_served(bench, EmulatedChip(bench.chip, 7), StillClock()), open_chip(f"bench:{path}") as chip:
        outcome = chip.program_cells(0, targets_us)
    assert outcome.pulses[1, :3].sum() > 3
    assert len(connected) == 3


def test_a_pulse_that_is_too_short_for_the_instrument_is_refused_before_outputs_go_on(tmp_path: Path) -> None:
    path = WRITTEN["b1500a"](tmp_path)
    bench = load_bench(path)
    cell = [CellBlock(0, 0, 1, 0, 1)]
    with bench_served(bench, EmulatedChip(bench.chip, 7), StillClock()), open_chip(f"bench:{path}") as chip:
        with pytest.raises(DeviceError, match=r"a pulse too short for b1500a, ns \(requested 100, limit 500000\)"):
            chip.pulse_single(cell, Polarity.SET, 1.0, 1e-7)
        chip.pulse_single(cell, Polarity.SET, 1.0, 1e-3)  # the stand-in is there still


def test_a_stand_in_puts_what_its_chip_refuses_into_the_error_queue(tmp_path: Path) -> None:
    bench = load_bench(WRITTEN["b1500a"](tmp_path))
    smu = StandIn(bench.instruments["smu"], Fixture(bench, EmulatedChip(bench.chip, 7)), lambda *_: None)
    smu.receive(b"CN 1\r\nMM 3,1;PT 0,0.0000;PV 1,0,0,1.00000,5.0000e-04;XE\r\n")
    assert b"too short" in smu.receive(b"ERRX?\r\n")


def test_a_reading_of_many_repeats_looks_at_the_link_between_a_few_hundred_orders(tmp_path: Path) -> None:
    path = WRITTEN["arc-two"](tmp_path)  # its host averages: each repeat is an order
    bench = load_bench(path)
    request = ReadCells(CellBlock(0, 0, 1, 0, 16), 10, 2000, 0)
    with bench_served(bench, EmulatedChip(bench.chip, 7), StillClock()), contextlib.closing(BenchChip(bench)) as chip:
        chip.prepare(request)
        looks = sum(1 for _ in chip.read_cells(request))
    assert looks >= 7  # 2,000 orders, all of the same cells
