"""Instruments of other kinds: a maker's library, a board of ASCII lines, one that acknowledges every line."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest

from firmware_protocols.messages import CellBlock, Polarity, ReadCells
from hil.driver.open_chip import open_chip
from hil.emulator.chip import EmulatedChip
from hil.errors import DeviceError, PortError
from hil.server.bench.bench_file import load_bench
from hil.server.bench.faults import BenchFileError
from hil.server.bench.model_file import load_model
from hil.server.bench.stand_in import Behaviour
from hil.transports import open_transport
from hil.transports.arc_two import ArcTwoCalls
from tests.hil.bench.benches import (
    StillClock,
    between_readings_us,
    write_arc_two,
    write_openmena,
    write_source,
    write_station,
)
from tests.hil.bench.served import bench_served

VALUES: dict[str, float | int] = {
    "row": 33, "column": 16, "count": 3, "volts_v": 0.2, "width_s": 1e-6, "macro": 0, "reads": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("write", "side", "reads"),
    [(write_arc_two, 32, 16), (write_openmena, 8, 4), (partial(write_source, model="keithley-4200a-pmu"), 32, 16)],
    ids=["arc-two", "openmena", "keithley-4200a-pmu"],
)
def test_cells_through_such_an_instrument_are_those_of_the_die_through_frames(
    write: Callable[[Path], Path], side: int, reads: int, tmp_path: Path
) -> None:
    path = write(tmp_path)
    bench = load_bench(path)
    die = EmulatedChip(bench.chip, 7)
    targets_us = np.full((side, side), np.nan, np.float32)
    targets_us[2, :4] = [2.0, 34.6, 12.9, 29.1]
    with bench_served(bench, die, StillClock()), open_chip(f"bench:{path}") as chip:
        assert chip.description.kind == "emulated"
        outcome = chip.program_cells(0, targets_us)
        through_bench = chip.read_cells(0, reads=reads, lines=range(2, 3))[2]
        within_us = between_readings_us(chip.spec, reads)
    request = ReadCells(CellBlock(0, 2, 1, 0, side), 1, reads, 1)
    through_frames = die.read_cells(request).readings[0] / 1e3
    assert outcome.pulses[2, :4].min() > 0
    assert np.abs(through_bench - through_frames).max() < within_us


def test_every_order_for_an_arc_two_is_a_call_of_the_installed_library_with_its_signature() -> None:
    pyarc2 = pytest.importorskip("pyarc2", reason="its wheels are for x86-64")
    instrument = create_autospec(pyarc2.Instrument, instance=True)
    instrument.read_slice_masked.return_value = np.array([np.nan, 1e-6, 2e-6, 3e-6, np.nan], np.float32)
    instrument.busy.return_value = False
    model, line = load_model("arc-two", Path()), ArcTwoCalls("arc2:0", instrument)
    for name, order in model.orders.items():
        for data in model.lines(name, VALUES):
            line.write(data)
        assert (order.reply is None) == (not (answer := line.read(4096, 0.0))), name
        if name == "currents":
            assert [float(x) for x in answer.split(b",")] == pytest.approx([1e-6, 2e-6, 3e-6])
    called = [call[0] for call in instrument.method_calls]
    assert called == [
        "ground_all", "execute", "wait", "read_slice_masked", "pulse_one", "ground_all_fast", "execute", "wait", "busy",
    ]  # fmt: skip
    chan, mask, vread = instrument.read_slice_masked.call_args.args
    assert (chan, mask.tolist(), vread) == (33, [16, 17, 18], 0.2)
    assert instrument.pulse_one.call_args.args == (33, 16, 0.2, 1000)


def test_an_address_of_an_arc_two_without_its_firmware_is_refused() -> None:
    with pytest.raises(PortError, match=r"arc2:0 names no instrument"):
        open_transport("arc2:0")


def test_an_instrument_that_limits_no_current_is_used_only_where_the_bench_file_agrees(tmp_path: Path) -> None:
    path = write_arc_two(tmp_path)
    path.write_text(path.read_text().replace("without_compliance = true\n", ""))
    with pytest.raises(BenchFileError, match=r"nothing limits the currents of arc-two"):
        load_bench(path)


def test_cells_are_written_one_by_one_where_a_pulse_generator_stands_before_a_decoder(tmp_path: Path) -> None:
    path = write_station(tmp_path, smu="keithley-2600", switch="")
    bench = load_bench(path)
    assert bench.wiring.columns_at_once == 32
    targets_us = np.full((32, 32), np.nan, np.float32)
    targets_us[2, :4] = [2.0, 34.6, 12.9, 29.1]
    with bench_served(bench, EmulatedChip(bench.chip, 7), StillClock()), open_chip(f"bench:{path}") as chip:
        assert chip.program_cells(0, targets_us).reached[2, :4].all()


def test_a_pulse_that_is_not_done_in_time_is_told_and_outputs_are_off(tmp_path: Path) -> None:
    model = "keithley-4200a-pmu"
    path, name = write_source(tmp_path, model=model), tmp_path / "hasty.toml"
    text = resources.files("hil.server.bench").joinpath("models", f"{model}.toml").read_text("utf-8")
    name.write_text(text.replace("within_s = 30.0", "within_s = 0.2"))
    path.write_text(path.read_text().replace(f'"{model}"', '"hasty.toml"'))
    bench, log = load_bench(path), io.StringIO()
    with bench_served(bench, EmulatedChip(bench.chip, 7), outputs_log=log, behaviour=Behaviour(working_s=2.0)):
        with (
            open_chip(f"bench:{path}") as chip,
            pytest.raises(DeviceError, match=r"is not done with pulse after 0.2 s: it still says '1"),
        ):
            chip.pulse_single([CellBlock(0, 2, 1, 3, 1)], Polarity.SET, 1.0, 1e-6)
        assert log.getvalue().splitlines()[-1].split(",")[1:3] == ["smu", "off"]
