"""Source-measure units, a pulse generator and a switch by their model files, over real VISA on real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_protocols.messages import CellBlock, ReadCells
from hil.driver.open_chip import open_chip
from hil.emulator.chip import EmulatedChip
from hil.errors import DeviceError, LinkError
from hil.server.bench.bench_file import load_bench
from hil.server.bench.faults import InstrumentSilent
from hil.server.bench.instrument import Instrument
from hil.server.bench.model_file import load_model, model_names
from hil.server.bench.orders import TextOrder
from hil.server.bench.roles import Crossing, OrderStep, carry_out
from hil.transports import open_transport
from hil.transports.visa import VisaMessages
from tests.hil.bench.benches import StillClock, between_readings_us, write_station
from tests.hil.bench.served import bench_served

SEED, READS = 7, 256


@contextmanager
def station(folder: Path, clock: StillClock | None = None, **models: str) -> Iterator[tuple[Path, EmulatedChip]]:
    path = write_station(folder, **models)
    bench = load_bench(path)
    die = EmulatedChip(bench.chip, SEED)
    with bench_served(bench, die, clock or StillClock()):
        yield path, die


def row_through_frames(die: EmulatedChip, row: int, reads: int = READS) -> NDArray[np.float64]:
    """Cells of one row, µS; the die shows them as old as they were at the last order of its bench."""
    request = ReadCells(CellBlock(0, row, 1, 0, 32), 1, reads, 1)
    return np.asarray(die.read_cells(request).readings[0] / 1e3, np.float64)


@pytest.mark.parametrize(
    ("smu", "switch"),
    [
        ("keithley-2400", "keithley-707b"),
        ("keithley-2450", "keithley-3706a"),
        ("keysight-b2900", "keithley-707b"),
        ("yokogawa-gs610", "keithley-7001"),
        ("keithley-4200a", "keithley-707b"),
    ],
)
def test_cells_through_instruments_are_those_of_the_die_through_frames(smu: str, switch: str, tmp_path: Path) -> None:
    targets_us = np.full((32, 32), np.nan, np.float32)
    targets_us[2, :4] = [2.0, 34.6, 12.9, 29.1]
    clock = StillClock()
    with station(tmp_path, clock, smu=smu, switch=switch) as (path, die), open_chip(f"bench:{path}") as chip:
        assert smu in chip.description.firmware
        outcome = chip.program_cells(0, targets_us)
        reads = READS if load_bench(path).instruments["smu"].model.uses("currents", "reads") else 16
        within_us = between_readings_us(chip.spec, reads)
        readings = []
        for age_s in (0.0, 1000.0):  # just written, and when cells have relaxed
            clock.pause(age_s)
            readings.append(chip.read_cells(0, reads=reads, lines=range(2, 3))[2])
            through_frames = row_through_frames(die, 2, reads)
            assert np.abs(readings[-1] - through_frames).max() < within_us, f"{age_s:g} s after the write"
    assert outcome.reached[2, :4].all()
    assert outcome.pulses[2, :4].sum() > 4, "SET and RESET pulses came from the generator"
    if reads == READS:
        assert np.abs(readings[1] - readings[0])[:4].max() > within_us, "cells relaxed, and both ways showed it"


@pytest.mark.parametrize("smu", ["keithley-2600", "keithley-2450-3706a"])
def test_a_row_by_tsp_is_one_script_and_one_binary_block(smu: str, tmp_path: Path) -> None:
    with station(tmp_path, smu=smu, switch="") as (path, die):
        bench = load_bench(path)
        orders = bench.instruments["smu"].model.orders
        at = {"row": 3, "column": 0, "count": 32, "reads": 2, "macro": 0}
        assert orders["currents"].send.encode(at).count(b"\n") == 0
        assert b"printbuffer(1,32," in orders["currents"].send.encode(at)
        with open_chip(f"bench:{path}") as chip:
            through_bench = chip.read_cells(0, reads=READS, lines=range(3, 4))[3]
            within_us = between_readings_us(chip.spec, READS)
        through_frames = row_through_frames(die, 3)
    assert np.abs(through_bench - through_frames).max() < within_us


def test_a_reading_at_the_compliance_is_a_trip_although_nothing_marks_it(tmp_path: Path) -> None:
    with (
        station(tmp_path, smu="keithley-2400", switch="keithley-707b", current_a="3e-6") as (path, _),
        open_chip(f"bench:{path}") as chip,
        pytest.raises(DeviceError, match=r"compliance of 3e-06 A.*row \d+, column \d+.*3e-06 A"),
    ):
        chip.read_cells(0, lines=range(1))


@pytest.mark.parametrize("name", [n for n in model_names() if n.startswith(("keithley", "keysight", "yokogawa"))])
def test_every_order_of_a_model_in_text_is_read_back_by_its_stand_in(name: str) -> None:
    values: dict[str, float | int | str] = {
        "volts_v": 1.25, "width_s": 1e-6, "current_a": 1e-4, "settle_s": 0.01, "reads": 3, "macro": 0, "row": 5,
        "column": 7, "count": 32,
    }  # fmt: skip
    for order in load_model(name, Path()).orders.values():
        assert isinstance(order.send, TextOrder)
        found = order.send.decode(order.send.encode(values))
        assert found is not None
        for key, value in found.items():
            assert value == pytest.approx(values[key], rel=1e-3), (name, order.send.template)


class Messages:
    """A VISA session that takes and gives whole messages, and drops an answer that nobody took."""

    def __init__(self) -> None:
        self.timeout, self.waiting, self.lines = 0, b"", list[bytes]()

    def write_raw(self, line: bytes) -> None:
        assert not self.waiting, "a query before the answer to the last one was taken"
        assert line.count(b"\n") == 1
        self.lines.append(line)
        self.waiting = b"1E-6\n" if b"?" in line else b""

    def close(self) -> None: ...


def test_an_instrument_of_whole_messages_is_asked_for_one_answer_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Messages()
    monkeypatch.setattr("hil.transports.visa._open", lambda *_, **__: session)

    def taken(resource: Messages, count: int) -> bytes:
        answer, resource.waiting = resource.waiting[:count], b""
        return answer

    monkeypatch.setattr("hil.transports.visa._read", taken)
    line = open_transport("visa:GPIB0::24::INSTR")
    assert isinstance(line, VisaMessages)
    bench = load_bench(write_station(tmp_path, smu="keithley-2400", switch="keithley-707b"))
    smu = Instrument(bench.instruments["smu"], line, 1e-3)
    steps: list[OrderStep] = []
    for column in ("1B33", "1B34", "1B35"):
        at = Crossing(0, ("1A01",), (column,))
        steps += smu.volts(at, 0.2) + smu.currents_a(at, 1)
    assert [float(a[0]) for a in carry_out(steps)[1::2]] == [1e-6] * 3
    assert len(session.lines) == 6


def test_a_socket_gives_out_what_has_come_without_waiting_for_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = open_transport(f"visa:TCPIP0::127.0.0.1::{listener.getsockname()[1]}::SOCKET")
        served, _ = listener.accept()
        with served:
            served.sendall(b"half an answer")
            assert line.read(4096, 3600.0) == b"half an answer"
            assert line.read(4096, 0.0) == b""
        line.close()


@pytest.mark.parametrize(("sent", "told"), [(b"#3128half", LinkError), (b"", InstrumentSilent)])
def test_an_answer_that_ends_in_the_middle_or_never_comes_is_told(
    sent: bytes, told: type[Exception], tmp_path: Path
) -> None:
    bench = load_bench(write_station(tmp_path, smu="keithley-2600", switch=""))
    entry = bench.instruments["smu"]
    quick = replace(entry, model=replace(entry.model, link=replace(entry.model.link, timeout_s=0.2)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = open_transport(f"visa:TCPIP0::127.0.0.1::{listener.getsockname()[1]}::SOCKET")
        served, _ = listener.accept()
        smu = Instrument(quick, line, 1e-3)
        served.sendall(sent)
        if sent:
            served.close()
        with pytest.raises(told):
            carry_out(smu.currents_a(Crossing(0, (1,), tuple(range(32))), 1))
        served.close()
        line.close()
