"""Lines that are silent or gone for a while: waited for, opened again, given up when the time to reconnect is over."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from firmware_protocols.messages import TileAddress
from hil.driver.open_chip import connect, open_chip, reopener
from hil.driver.reconnection import Reconnection
from hil.errors import DeviceError, LinkError, PortError
from hil.server.serve import serving
from hil.transports.ports import Port

from ..fake_chip import FakeChip, small_spec
from ..faulty_board import Board
from ..virtual_line import VirtualLine

SPEC = small_spec()
TILE = TileAddress(0, 0, 9, 0, 5)
CODES = np.random.default_rng(1).integers(0, 256, (400, 9)).astype(np.int16)


@contextlib.contextmanager
def after(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def products(
    board: Board,
    reconnect_timeout_s: float,
    told: list[str],
    during: Callable[[], object],
    line: VirtualLine | None = None,
) -> np.ndarray:
    """Products over a board's line, ``during`` something that happens after the first ones."""
    line = line or VirtualLine(board.open())
    reconnection = Reconnection(reconnect_timeout_s, board.open, told.append, clock=line.clock, sleep=line.sleep)
    driver = connect(line, chip=SPEC, reconnection=reconnection, silence_s=0.2, clock=line.clock)
    try:
        driver.program_tile(TILE, np.full((9, 5), 3, np.int8))
        first = driver.mvm(TILE, CODES).values
        during()
        return np.stack([first, driver.mvm(TILE, CODES).values])
    finally:
        with contextlib.suppress(LinkError, DeviceError):
            driver.close()


def expected() -> np.ndarray:
    return products(Board(FakeChip(SPEC)), 0.0, [], lambda: None)


@pytest.mark.parametrize(
    ("fault", "for_s", "says", "opened"),
    [("stalled", 1.0, "", 1), ("plugged", 0.6, "unplugged", 2)],
    ids=["a silent port", "a cable that is plugged in again"],
)
def test_a_line_that_is_gone_for_a_while_is_waited_for_and_the_answer_is_the_same(
    fault: str, for_s: float, says: str, opened: int
) -> None:
    board, told = Board(FakeChip(SPEC)), list[str]()
    with contextlib.ExitStack() as stack:

        def happen() -> None:
            setattr(board, fault, fault == "stalled")
            stack.enter_context(after(for_s, lambda: setattr(board, fault, fault != "stalled")))

        found = products(board, 20.0, told, happen)
    np.testing.assert_array_equal(found, expected())
    assert board.opened == opened
    assert f"{says}; waiting up to 20 s" in told[0]
    assert "answers again after" in told[-1]


@pytest.mark.parametrize("fault", ["stalled", "plugged"])
def test_the_time_to_reconnect_has_an_end(fault: str) -> None:
    board, told = Board(FakeChip(SPEC)), list[str]()
    line, gone_s = VirtualLine(board.open()), list[float]()

    def happen() -> None:
        setattr(board, fault, fault == "stalled")
        gone_s.append(line.skip().clock())

    with pytest.raises(LinkError):
        products(board, 1.0, told, happen, line)
    assert 1.0 <= line.clock() - gone_s[0] < 16.0
    assert len(told) >= 1


def test_without_time_to_reconnect_a_lost_line_is_lost_at_once() -> None:
    board, told = Board(FakeChip(SPEC)), list[str]()
    with pytest.raises(LinkError, match="unplugged"):
        products(board, 0.0, told, lambda: setattr(board, "plugged", False))
    assert told == []


def test_a_chip_that_was_restarted_or_changed_meanwhile_is_refused() -> None:
    board, told = Board(FakeChip(SPEC)), list[str]()
    with contextlib.ExitStack() as stack:

        def swap() -> None:
            board.plugged = False
            board.boot()
            stack.enter_context(after(0.3, lambda: setattr(board, "plugged", True)))

        with pytest.raises(DeviceError, match="boot id 0x00000012 became 0x00000013"):
            products(board, 20.0, told, swap)


def test_a_connection_that_is_cut_is_opened_again_over_tcp() -> None:
    chip = FakeChip(SPEC)
    with (
        serving(chip, "tcp://127.0.0.1:0") as address,
        open_chip(address, chip=SPEC, reconnect_timeout_s=20.0) as driver,
    ):
        driver.program_tile(TILE, np.full((9, 5), 3, np.int8))
        first = driver.mvm(TILE, CODES).values
        driver._session.transport.close()
        np.testing.assert_array_equal(driver.mvm(TILE, CODES).values, first)


def port(device: str, usb: str) -> Port:
    return Port(device, "board", usb, 3, "")


def test_a_board_under_another_name_is_found_by_its_serial_number(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [port("/dev/ttyA", "0403:6001 serial X1"), port("/dev/ttyB", "0403:6001 serial X2")]
    opened: list[str] = []
    monkeypatch.setattr("hil.transports.ports.list_ports", lambda: ports)
    monkeypatch.setattr("hil.driver.open_chip.open_transport", lambda address, **_: opened.append(address))
    again = reopener("/dev/ttyA?baud=9600", timeout_s=1.0)
    assert again is not None
    again()
    ports[:] = [port("/dev/ttyA", "0403:6001 serial X2"), port("/dev/ttyC", "0403:6001 serial X1")]
    again()
    assert opened == ["/dev/ttyA?baud=9600", "/dev/ttyC?baud=9600"]
    ports.pop()
    with pytest.raises(PortError, match="serial X1"):
        again()


@pytest.mark.parametrize("address", ["emulated:lab-128?seed=3", "replay:wire.log"])
def test_chips_in_this_process_are_not_opened_again(address: str) -> None:
    assert reopener(address, timeout_s=1.0) is None
