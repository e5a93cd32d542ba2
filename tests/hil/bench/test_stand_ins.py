"""Stand-ins have physics and mishaps: voltages settle, pulses trip, lines end in the middle of an answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from firmware_protocols.messages import CellBlock, CellReadings, Polarity, ProgramTile, Progress, Pulse, ReadCells
from hil.cli import run
from hil.driver.open_chip import open_chip
from hil.emulator.chip import EmulatedChip
from hil.errors import DeviceError, ExitCode
from hil.server.bench.bench_file import load_bench
from hil.server.bench.chip import BenchChip
from hil.server.bench.stand_in import Behaviour
from tests.hil.bench.benches import StillClock, between_readings_us, write_bench, write_station
from tests.hil.bench.served import bench_served

TAU_S = 1e-3


@pytest.mark.parametrize(("settle_s", "reached"), [(0.0, 0.0), (1e-3, 0.632), (8e-3, 1.0)])
def test_a_reading_before_a_voltage_has_settled_is_too_small_and_settle_s_of_the_bench_file_mends_it(
    settle_s: float, reached: float, tmp_path: Path
) -> None:
    edit = {"[read]\n": f"[read]\nsettle_s = {settle_s}\n"}
    path = write_bench(tmp_path, port=str(tmp_path / "board"), edit=edit)
    bench = load_bench(path)
    die = EmulatedChip(bench.chip, 7)
    with (
        bench_served(bench, die, StillClock(), behaviour=Behaviour(settling_s=TAU_S)),
        open_chip(f"bench:{path}") as chip,
    ):
        found_us = chip.read_cells(0, reads=256, lines=range(1))[0]
        within_us = between_readings_us(chip.spec, 256)
    true_us = die._cells[0].read(0, np.s_[:1, :32], 1_000_000, 1)[0]
    assert np.abs(found_us - reached * true_us).max() < within_us


def test_a_pulse_that_reaches_the_compliance_ends_with_cell_pulse_voltage_and_current(tmp_path: Path) -> None:
    path = write_bench(tmp_path, port=str(tmp_path / "board"), edit={"current_a = 5e-4": "current_a = 2e-5"})
    bench = load_bench(path)
    die = EmulatedChip(bench.chip, 7)
    highest = int(np.argmax(die._cells[0].conductance_us(0)[4]))
    volts_v = 4.0
    with bench_served(bench, die, StillClock()), open_chip(f"bench:{path}") as chip:
        before = die._cells[0].pulses.sum()
        request = Pulse(CellBlock(0, 4, 1, highest, 1), Polarity.SET, 1000, 1, np.array([[volts_v * 1e3]], np.uint16))
        with pytest.raises(DeviceError, match=rf"row 4, column {highest}, at 4 V: 2e-05 A") as told:
            chip._session.ask(request)
    assert told.value.exit_code == ExitCode.DEVICE
    assert die._cells[0].pulses.sum() == before


@pytest.mark.parametrize("behaviour", ["hang_up_after=40", "silent_after=40"])
def test_a_station_whose_line_ends_in_the_middle_of_an_answer_is_told_and_can_be_used_again(
    behaviour: str, tmp_path: Path
) -> None:
    path = write_station(tmp_path, smu="keithley-2400", switch="keithley-707b")
    model = (Path(__file__).parents[3] / "hil/server/bench/models/keithley-2400.toml").read_text()
    (tmp_path / "quick.toml").write_text(model.replace("timeout_s = 5.0", "timeout_s = 1.0"))
    path.write_text(path.read_text().replace('"keithley-2400"', '"quick.toml"'))
    bench = load_bench(path)
    with (
        bench_served(bench, EmulatedChip(bench.chip, 7), StillClock(), behaviour=Behaviour.parse([behaviour])),
        open_chip(f"bench:{path}") as chip,
    ):
        with pytest.raises(DeviceError, match=r"lost|does not answer"):
            chip.read_cells(0, lines=range(4))
        assert np.isfinite(chip.read_cells(0, lines=range(1))[0]).all()


def test_a_setting_that_no_stand_in_has_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_bench(tmp_path, port=str(tmp_path / "board"))
    assert run(["emulate", "--bench", str(path), "--set", "hangs=3"]) == ExitCode.USAGE
    assert "settling_s=NUMBER, reading_s=NUMBER, hang_up_after=NUMBER, silent_after=NUMBER" in capsys.readouterr().err


def test_a_slow_instrument_leaves_time_to_look_at_the_link(tmp_path: Path) -> None:
    path = write_bench(tmp_path, port=str(tmp_path / "board"))
    bench = load_bench(path)
    slow = Behaviour.parse(["reading_s=0.01"])
    with (
        bench_served(bench, EmulatedChip(bench.chip, 7), behaviour=slow),
        contextlib.closing(BenchChip(bench)) as chip,
    ):
        chip.switch_on()
        looks = sum(1 for _ in chip.read_cells(ReadCells(CellBlock(0, 0, 32, 0, 32), 1, 4, 0)))
    assert looks >= 5  # 32 orders of 40 ms, and no slice of more than a few


@pytest.mark.parametrize("ranges", ["[ranges]", "[ranges]\nreads = { low = 1, high = 64, step = 1 }"])
def test_what_prepares_a_reading_is_in_its_message(ranges: str, tmp_path: Path) -> None:
    model = resources.files("hil.server.bench").joinpath("models", "row-board.toml").read_text("utf-8")
    small = model.replace("most_bytes = 4096", "most_bytes = 58")  # two readings and a half
    (tmp_path / "small.toml").write_text(small.replace("[ranges]", ranges))
    path = write_bench(tmp_path, port=str(tmp_path / "board"), edit={'"row-board"': '"small.toml"'})
    bench = load_bench(path)
    die = EmulatedChip(bench.chip, 7)
    with bench_served(bench, die, StillClock()), open_chip(f"bench:{path}") as chip:
        found_us = chip.read_cells(0, reads=256, lines=range(8))[:8]
        within_us = between_readings_us(chip.spec, 256)
    through_frames = die.read_cells(ReadCells(CellBlock(0, 0, 8, 0, 32), 1, 256, 1)).readings / 1e3
    assert np.abs(found_us - through_frames).max() < within_us


def test_work_that_was_held_up_goes_on_with_its_lines_and_voltages(tmp_path: Path) -> None:
    path = write_station(tmp_path, smu="keithley-2400", switch="keithley-707b")
    bench = load_bench(path)
    die, reads, found, looks = EmulatedChip(bench.chip, 7), 256, list[CellReadings](), 0  # three orders a cell
    with bench_served(bench, die, StillClock()), contextlib.closing(BenchChip(bench)) as chip:

        def whole() -> Iterator[object]:
            found.append((yield from chip.read_cells(ReadCells(CellBlock(0, 3, 1, 0, 4), 1, reads, 0))))

        chip.switch_on()
        for looks, _ in enumerate(whole(), 1):  # noqa: B007
            chip.outputs_off()
            chip.switch_on()
    assert looks > 4
    through_frames = die.read_cells(ReadCells(CellBlock(0, 3, 1, 0, 4), 1, reads, 1)).readings / 1e3
    assert np.abs(found[0].readings / 1e3 - through_frames).max() < between_readings_us(bench.chip, reads)


def test_a_slow_instrument_tells_its_progress_while_it_writes(tmp_path: Path) -> None:
    path = write_bench(tmp_path, port=str(tmp_path / "board"))
    bench = load_bench(path)
    targets = np.full((8, 32), 20_000, np.uint16)
    pulses = (800, 50, 2000, 900, 50, 2200, round(bench.chip.write.pulse_width_ns))
    request = ProgramTile(CellBlock(0, 0, 8, 0, 32), 1, 500, 2, 8, *pulses, 0, targets)
    with (
        bench_served(bench, EmulatedChip(bench.chip, 7), behaviour=Behaviour(reading_s=0.02)),
        contextlib.closing(BenchChip(bench)) as chip,
    ):
        chip.switch_on()
        told = [step for step in chip.program_tile(request) if step is not None]
    assert len(told) > 3  # three turns of more than a second each, and its end
    assert all(isinstance(one, Progress) and one.total == targets.size for one in told)
