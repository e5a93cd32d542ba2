"""``hil.Board``: limits hold whatever a verb forgets, outputs are known, and a slow SDK keeps its line."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from cim.chip.file import load_chip
from firmware_protocols import dead_man
from firmware_protocols import messages as wire
from firmware_protocols.messages import Capability, CellBlock, Mvm, Polarity, Pulse, ReadCells, Returns
from hil import Board
from hil.driver.session import Session
from hil.errors import DeviceError
from hil.server.serve import serving
from hil.transports import open_transport

SPEC = load_chip("lab-128", macros=1)


class ForgetfulBoard(Board):
    """Its verbs look at nothing; each call of its SDK takes ``call_s``, and a permit where there are any."""

    capabilities = Capability.PULSE | Capability.PROGRAM_TILE | Capability.RAW

    def __init__(self, call_s: float = 0.0) -> None:
        super().__init__(SPEC)
        self.call_s, self.on, self.calls = call_s, False, 0
        self.off = threading.Event()
        self.permits: threading.Semaphore | None = None

    def describe(self) -> wire.Description:
        macro, digest = SPEC.macro, bytes.fromhex(SPEC.digest)
        return wire.Description("slow", "A", "1", "1", "emulated", 1, macro.rows, macro.columns, digest, bytes(32))

    def switch_on(self) -> None:
        self.on = True
        self.off.clear()

    def _call(self) -> None:
        assert self.on
        self.calls += 1
        time.sleep(self.call_s)
        if self.permits is not None:
            self.permits.acquire()

    def pulse(self, request: Pulse) -> Generator[None, None, wire.Done]:
        for _ in range(request.millivolts.size):
            self._call()
            yield
        return wire.Done()

    def program_tile(self, request: wire.ProgramTile) -> Generator[None, None, wire.TileProgrammed]:
        self._call()
        yield
        shape = request.targets.shape
        return wire.TileProgrammed(10, request.targets, np.zeros(shape, np.uint16), np.ones(shape, np.bool_))

    def read_cells(self, request: ReadCells) -> wire.CellReadings:
        for _ in range(request.cells.rows * request.cells.columns):
            self._call()  # blocks, all of it
        return wire.CellReadings(request.unit_ns, np.zeros((request.cells.rows, request.cells.columns), np.uint16))

    def mvm(self, request: Mvm) -> wire.MvmResult:
        self._call()
        return wire.MvmResult(Returns.RAW, 0, 1, np.zeros((len(request.codes), 8, 1), np.int32))

    def outputs_off(self) -> wire.Done:
        self.on = False
        self.off.set()
        return wire.Done()


def pulse(cells: int, millivolts: int = 900, polarity: Polarity = Polarity.SET, **others: int) -> Pulse:
    at = {"macro": 0, "row0": 0, "rows": 1, "column0": 0, "columns": cells} | others
    width = at.pop("width", 100)
    return Pulse(CellBlock(**at), polarity, width, 0, np.full((1, cells), millivolts, np.uint16))


def tile(**others: int) -> wire.ProgramTile:
    numbers = {
        "unit_ns": 10, "tolerance": 100, "max_pulses": 5, "verify_reads": 4, "set_start_mv": 800, "set_step_mv": 50,
        "set_stop_mv": 2500, "reset_start_mv": 900, "reset_step_mv": 60, "reset_stop_mv": 2800, "pulse_width_ns": 100,
        "sample": 0,
    } | others  # fmt: skip
    return wire.ProgramTile(CellBlock(0, 0, 1, 0, 1), **numbers, targets=np.ones((1, 1), np.uint16))


def product(**others: Any) -> Mvm:
    numbers: dict[str, Any] = {
        "returns": Returns.RAW, "tile": wire.TileAddress(0, 0, 4, 0, 2), "layer": 0, "range_code": 0, "input_bits": 8,
        "input_signed": False, "sample": 0, "vectors_per_sample": 1, "first_vector": 0,
        "codes": np.zeros((1, 4), np.int16),
    } | others  # fmt: skip
    return Mvm(**numbers)


LIMITS = SPEC.limits
SET_MV, RESET_MV = round(LIMITS.set_v * 1000), round(LIMITS.reset_v * 1000)
FORBIDDEN = [
    pulse(1, SET_MV + 1),
    pulse(1, RESET_MV + 1, Polarity.RESET),
    pulse(1, width=round(LIMITS.pulse_width_ns) + 1),
    pulse(1, width=0),
    pulse(1, macro=1),
    pulse(1, row0=128),
    pulse(2, column0=SPEC.macro.columns - 1),
    tile(max_pulses=LIMITS.pulses_per_cell + 1),
    tile(set_stop_mv=SET_MV + 1),
    tile(reset_start_mv=RESET_MV + 1),
    tile(pulse_width_ns=round(LIMITS.pulse_width_ns) + 1),
    tile(verify_reads=0),
    ReadCells(CellBlock(0, 127, 2, 0, 1), 10, 1, 0),
    ReadCells(CellBlock(0, 0, 1, 0, 1), 10, 0, 0),
    product(tile=wire.TileAddress(1, 0, 4, 0, 2)),
    product(range_code=len(SPEC.macro.adc.full_scales_us)),
    product(codes=np.full((1, 4), 256, np.int16)),
]


def test_a_board_refuses_what_the_chip_file_forbids_though_no_verb_looks() -> None:
    board = ForgetfulBoard()
    with serving(board, "tcp://127.0.0.1:0") as address:
        session = Session(open_transport(address))
        session.open()
        for request in FORBIDDEN:
            with pytest.raises(DeviceError, match=r"limit|range"):
                session.ask(request)
        assert (board.calls, board.on) == (0, False)
        for request in (pulse(1, SET_MV), pulse(1, RESET_MV, Polarity.RESET), tile(), product()):
            session.ask(request)
        assert board.calls == 4
        session.close()


def test_its_status_knows_whether_the_outputs_are_on() -> None:
    board = ForgetfulBoard()
    with serving(board, "tcp://127.0.0.1:0") as address:
        session = Session(open_transport(address))
        session.open()
        told = [session.ask(wire.Status()).outputs_on]
        for request in (pulse(1), wire.Describe(), wire.OutputsOff(), pulse(1)):
            session.ask(request)
            told.append(session.ask(wire.Status()).outputs_on)
            assert told[-1] == board.on
        assert told == [False, True, True, False, True]
        session.close()


def test_a_host_is_heard_between_two_calls_of_a_slow_sdk() -> None:
    """A few of the thirty calls may end; the others only after the answers: they hold nobody up."""
    board = ForgetfulBoard()
    board.permits = threading.Semaphore(0)
    with serving(board, "tcp://127.0.0.1:0") as address:
        session = Session(open_transport(address))
        session.open()
        session._send(pulse(30), None)
        while not board.calls:
            session._pump(time.monotonic() + 0.01)
        for request in (wire.Status(), wire.OutputsOff()):
            request_id = session._send(request, None)
            session._pump(time.monotonic())  # on its way while a call is under way
            board.permits.release(3)
            session._await(request_id, request)
        assert board.calls <= 7
        assert not board.on
        board.permits.release(30)
        session.close()


def test_an_sdk_that_blocks_keeps_its_line() -> None:
    board = ForgetfulBoard(call_s=0.1)
    with serving(board, "tcp://127.0.0.1:0") as address:
        session = Session(open_transport(address), silence_s=2.0)
        session.open()
        request = ReadCells(CellBlock(0, 0, 1, 0, 25), 10, 1, 0)
        asked = session._send(request, None)
        while not board.calls:
            session._pump(time.monotonic() + 0.01)
        assert session.ask_aside(wire.Status()).outputs_on
        session._await(asked, request)
        assert session.counters["resyncs"] == 0
        session.close()


def test_a_host_that_is_killed_leaves_no_output_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_man, "DEAD_MAN_S", 1.0)
    for in_work in (False, True):
        board = ForgetfulBoard(call_s=0.05)
        with serving(board, "pty") as address:
            session = Session(open_transport(address))
            session.open()
            session.ask(pulse(1))
            if in_work:
                session._send(pulse(100), None)
                session._pump(time.monotonic() + 0.05)
            assert board.calls
            assert board.off.wait(30.0)  # nobody moves bytes at the host's end
            assert not board.on
            calls = board.calls
            time.sleep(0.3)
            assert board.calls == calls
            if in_work:  # the host was not dead after all
                until_s = time.monotonic() + 30.0
                while not (goes_on := board.on and board.calls > calls) and time.monotonic() < until_s:
                    session._pump(time.monotonic() + 0.1)
                assert goes_on
            session.close()
