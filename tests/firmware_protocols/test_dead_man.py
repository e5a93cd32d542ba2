"""The dead-man timer: a host that is killed leaves no voltage on the array, whether or not its last reply was taken."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cim.chip.file import load_chip
from firmware_protocols.chip import ChipServer
from firmware_protocols.dead_man import DEAD_MAN_S
from firmware_protocols.host import HostLink
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    ErrorReply,
    Mvm,
    OutputsOff,
    Polarity,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Reset,
    Returns,
    Status,
    StatusReply,
    TileAddress,
)
from hil.driver.session import Session
from hil.emulator.chip import EmulatedChip
from hil.server.firmware_build import build, config_header
from hil.server.firmware_launch import die_serial, running_firmware
from hil.server.firmware_targets import FirmwareTarget
from hil.transports import open_transport
from tests.line_simulation.faults import LineFaults
from tests.line_simulation.line import VirtualLine

from ..scripts import loaded
from .firmware_bench import FirmwareBench
from .qemu_monitor import QemuMonitor, symbols

INSTANTS = int(os.environ.get("HIL_INSTANTS", "24"))
ROOT = Path(__file__).parents[2]
QEMU_INSTANTS = int(os.environ.get("HIL_QEMU_INSTANTS", "2"))  # each takes as long as the timer, by the clock
QEMU_BOARDS = min(QEMU_INSTANTS, 10)  # side by side
CHIP = load_chip("lab-128", macros=1)
TICK_S = 0.01  # of its clock
ON_ITS_WAY_S = 1.0  # from a host that was killed to a board whose clock runs on meanwhile
SLICE_S = 0.1  # of work, within which the timer may end
TARGETS = np.full((2, 8), 1500, np.uint16)
PROGRAM = ProgramTile(CellBlock(0, 0, 2, 0, 8), 10, 100, 20, 4, 800, 50, 2500, 900, 60, 2800, 100, 7, TARGETS)
PULSE = Pulse(CellBlock(0, 0, 4, 0, 16), Polarity.SET, 100, 3, np.full((4, 16), 900, np.uint16))
READ = ReadCells(CellBlock(0, 0, 8, 0, 16), 10, 2, 0)
PRODUCT = Mvm(Returns.SUMS, TileAddress(0, 0, 8, 0, 4), 0, 0, 8, False, 0, 1, 0, np.full((20, 8), 100, np.int16))
CONVERSIONS = dataclasses.replace(PRODUCT, returns=Returns.RAW)


class Firmware:
    """The C firmware; its outputs are those of the die."""

    def __init__(self, call_ms: float) -> None:
        self.end = FirmwareBench(settings={"call_ms": call_ms})
        self.worked_s = self.end.take_worked_s

    @property
    def outputs_on(self) -> bool:
        return bool(self.end.ask("U")[0])

    def close(self) -> None:
        self.end.close()


class Emulated:
    """The emulated chip behind the chip role."""

    def __init__(self, call_ms: float) -> None:
        self.chip = EmulatedChip(load_chip("lab-128", macros=1), 7)
        self.end = ChipServer(self.chip, boot_id=1)

    def worked_s(self) -> float:
        return 0.002 if self.end.busy else 0.0

    @property
    def outputs_on(self) -> bool:
        return self.chip.status().outputs_on

    def close(self) -> None:
        pass


class Bridged:
    """The board of examples/bridge.py: an SDK behind ``hil.Board``; its outputs are those that the SDK was told."""

    def __init__(self, call_ms: float) -> None:
        module: Any = loaded(ROOT / "examples" / "bridge.py")
        self.board = module.AcmeBoard()
        self.board.powered = False
        self.end = ChipServer(module.AcmeChip(self.board), boot_id=1)

    def worked_s(self) -> float:
        return 0.002 if self.end.busy else 0.0

    @property
    def outputs_on(self) -> bool:
        return bool(self.board.powered)

    def close(self) -> None:
        pass


no_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
BOARDS = [pytest.param(Firmware, marks=no_gcc, id="native C"), pytest.param(Emulated, id="emulator")]


def opened(board: Any, nonce: int = 1) -> Any:
    line = VirtualLine(HostLink(nonce=nonce), board.end, LineFaults(), random.Random(0), worked_s=board.worked_s)
    line.host.open(line.now_s)
    assert line.run(lambda: line.host.up, 10.0)
    return line


@pytest.mark.parametrize(
    ("make", "call_ms"),
    [
        pytest.param(Firmware, 0.0, marks=no_gcc, id="native C"),
        pytest.param(Firmware, 50.0, marks=no_gcc, id="native C, slow macros"),
        pytest.param(Emulated, 0.0, id="emulator"),
        pytest.param(Bridged, 0.0, id="hil.Board"),
    ],
)
def test_outputs_are_off_in_time_at_whatever_instant_the_host_is_killed(
    make: Callable[[float], Any], call_ms: float
) -> None:
    rng, on, latest_s = random.Random(3), 0, 0.0
    for number in range(INSTANTS):
        board = make(call_ms)
        line = opened(board)
        assert Capability.DEAD_MAN in line.host.hello.capabilities
        for request in (READ, PROGRAM, PULSE, PRODUCT, CONVERSIONS):
            line.host.request(request)
        acknowledged = number % 4 == 0  # all of it, and nothing is on its way
        killed_s = rng.uniform(60.0, 69.0) if acknowledged else rng.uniform(0.0, 20.0 if call_ms else 0.1)
        line.run(lambda: False, killed_s)
        line.cut = True
        line.run(lambda: False, 0.001)
        was_on, heard_s = board.outputs_on, line.now_s
        on += was_on
        while board.outputs_on and line.now_s - heard_s < DEAD_MAN_S + SLICE_S:
            line.run(lambda: False, 0.01)
        latest_s = max(latest_s, line.now_s - heard_s if was_on else 0.0)
        line.run(lambda: False, heard_s + DEAD_MAN_S + SLICE_S - line.now_s)
        assert not board.outputs_on, (number, killed_s, line.now_s - heard_s)
        line.run(lambda: False, 30.0)
        assert not board.outputs_on
        board.close()
    print(f"{INSTANTS} instants, outputs on at {on}, off after {latest_s:.2f} s at the latest")
    assert on > INSTANTS // 2  # else this test has seen nothing


@pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None, reason="no QEMU"
)
def test_the_outputs_of_a_board_under_qemu_are_off_in_time_at_whatever_instant_the_host_is_killed(
    tmp_path: Path,
) -> None:
    def judged(number: int) -> list[tuple[bool, float]]:
        monitor = tmp_path / f"qmp{number}"
        rng = random.Random(number)
        with running_firmware(FirmwareTarget.QEMU, CHIP, seed=3, where="127.0.0.1:0", monitor=monitor) as address:
            places = symbols(build(FirmwareTarget.QEMU, config_header(CHIP, 3, {}, die_serial(CHIP, 3))))
            with QemuMonitor(monitor) as board:
                return [_off_after_a_kill(address, board, places, rng) for _ in range(QEMU_INSTANTS // QEMU_BOARDS)]

    with ThreadPoolExecutor(QEMU_BOARDS) as pool:
        seen = [one for board in pool.map(judged, range(QEMU_BOARDS)) for one in board]
    latest_s = max(last_s for _, last_s in seen)
    print(f"{len(seen)} instants, outputs on at {sum(on for on, _ in seen)}, on until {latest_s:.2f} s at the latest")
    assert any(on for on, _ in seen)  # else this test has seen nothing
    assert latest_s < DEAD_MAN_S + SLICE_S + ON_ITS_WAY_S


def _off_after_a_kill(
    address: str, board: QemuMonitor, places: dict[str, int], rng: random.Random
) -> tuple[bool, float]:
    """Kill a host; whether the outputs were on after that, and for how long by the board's clock they were, s.

    They are looked at past the timer, in the board's memory: any question to the firmware would be hearing the host.
    """
    port, link = open_transport(address), HostLink(nonce=rng.getrandbits(32))
    link.open(time.monotonic())
    acknowledged, asked, answered = rng.random() < 0.25, 0, 0
    kill_s, give_up_s = float("inf"), time.monotonic() + 60.0
    while (now_s := time.monotonic()) < kill_s:
        assert now_s < give_up_s, "the board does not answer"
        if link.up and not asked:
            asked = len([link.request(one) for one in (READ, PROGRAM, PULSE, PRODUCT, CONVERSIONS)])
            kill_s = kill_s if acknowledged else now_s + rng.uniform(0.0, 1.0)
        port.write(link.data_to_send(now_s))
        link.receive(port.read(1 << 16, 0.01), time.monotonic())
        answered += sum(not isinstance(reply, Progress) for _, reply, _ in link.poll())
        if acknowledged and asked and answered == asked:
            kill_s = min(kill_s, now_s + 0.3)
    port.close()
    killed_at, killed_s, was_on, last_s, since_s = board.word(places["ticks"]), time.monotonic(), False, 0.0, 0.0
    while since_s < DEAD_MAN_S + SLICE_S + ON_ITS_WAY_S + 1.0:
        assert time.monotonic() - killed_s < 300.0, "the clock of the board stands still"
        since_s = TICK_S * (board.word(places["ticks"]) - killed_at)
        if board.word(places["die_outputs_on"]) & 0xFF:
            was_on, last_s = True, since_s
        time.sleep(0.05)
    return was_on, last_s


@pytest.mark.parametrize("make", BOARDS)
def test_a_host_that_is_back_after_the_timer_gets_the_answers_it_would_have_got(make: Callable[[float], Any]) -> None:
    def answers(away_s: float) -> list[Any]:
        board = make(20.0)
        line, found = opened(board), {}
        asked = [line.host.request(request) for request in (PROGRAM, PULSE, READ)]
        line.run(lambda: False, 1.0)
        line.cut = bool(away_s)
        line.run(lambda: False, away_s)
        line.cut = False
        if line.host.failure is not None:
            line.host.open(line.now_s)

        def done() -> bool:
            found.update({i: reply for i, reply, _ in line.host.poll() if not isinstance(reply, Progress)})
            return len(found) == 3

        assert line.run(done, 300.0)
        assert not any(isinstance(reply, ErrorReply) for reply in found.values())
        board.close()
        return [str(found[i]) for i in asked]

    assert answers(0.0) == answers(15.0) == answers(60.0)


@pytest.mark.parametrize("make", BOARDS)
def test_outputs_stay_on_while_the_host_is_heard_and_come_back_with_the_next_product(
    make: Callable[[float], Any],
) -> None:
    board = make(0.0)
    line = opened(board)

    def ask(request: Any) -> Any:
        asked, got = line.host.request(request), []
        line.run(lambda: bool(got.extend(r for i, r, _ in line.host.poll() if i == asked) or got), 30.0)
        return got[-1]

    ask(PRODUCT)
    for _ in range(5):
        line.run(lambda: False, DEAD_MAN_S - 1.0)
        assert ask(Status()).outputs_on
    line.run(lambda: False, DEAD_MAN_S + 1.0)
    off = ask(Status())
    assert isinstance(off, StatusReply)
    assert not off.outputs_on
    session = line.host.connection.session
    ask(PRODUCT)
    assert ask(Status()).outputs_on
    assert line.host.connection.session == session  # a host that computes for long loses nothing
    board.close()


@pytest.mark.parametrize("make", BOARDS)
@pytest.mark.parametrize("behind", [(), (OutputsOff(),)], ids=["work", "outputs off and work"])
def test_a_reset_leaves_no_voltage_and_happens_whatever_is_asked_behind_it(
    make: Callable[[float], Any], behind: tuple[Any, ...]
) -> None:
    board = make(20.0)
    line = opened(board)
    before = line.host.hello.boot_id
    for request in (Reset(), *behind, PROGRAM, PULSE, READ):
        line.host.request(request)
    line.run(lambda: False, 3.0)
    assert not board.outputs_on
    line.host = HostLink(nonce=2)
    line.host.open(line.now_s)
    assert line.run(lambda: line.host.up, 10.0)
    assert line.host.hello.boot_id != before
    board.close()


def test_a_chip_of_an_earlier_version_does_not_claim_a_timer(kit: SimpleNamespace) -> None:
    assert Capability.DEAD_MAN not in ChipServer(kit.CountingChip(), boot_id=1, versions=(0x0100, 0x0102)).capabilities


@pytest.mark.parametrize("acknowledged", [True, False], ids=["acknowledged", "not acknowledged"])
def test_boards_that_run_here_switch_off_by_their_own_clocks(acknowledged: bool) -> None:
    targets = [FirmwareTarget.NATIVE] if shutil.which("gcc") else []
    if shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm"):
        targets.append(FirmwareTarget.QEMU)
    if not targets:
        pytest.skip("no gcc")
    with contextlib.ExitStack() as stack:
        sessions = []
        for target in targets:
            address = stack.enter_context(running_firmware(target, load_chip("lab-128", macros=1)))
            session = Session(open_transport(address))
            stack.callback(session.close)
            session.open()
            session.ask(PRODUCT)
            assert session.ask(Status()).outputs_on
            if acknowledged:
                session._pump(time.monotonic() + 0.1)
            sessions.append(session)
        began_s = time.monotonic()
        for session, late_s in zip(sessions, (SLICE_S + 0.1, 5.0), strict=False):  # QEMU's clock lags on a busy machine
            time.sleep(max(0.0, began_s + DEAD_MAN_S + late_s - time.monotonic()))  # nobody moves bytes meanwhile
            assert not session.ask(Status()).outputs_on
