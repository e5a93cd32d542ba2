"""Share of a line's byte rate that carries input codes, in virtual time."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np

from firmware_protocols.chip import ChipServer
from firmware_protocols.connection import LinkLimits
from firmware_protocols.errors import LinkCounters, LocalProtocolError
from firmware_protocols.extensions.memory import BoardPower
from firmware_protocols.host import HostLink
from firmware_protocols.messages import (
    CellBlock,
    Describe,
    Mvm,
    MvmResult,
    Polarity,
    Progress,
    Pulse,
    ReadCells,
    Returns,
    TileAddress,
)
from tests.line_simulation.board import NotingChip, VirtualBoard
from tests.line_simulation.faults import LineFaults
from tests.line_simulation.line import VirtualLine

LIMITS = LinkLimits(512, 32, 1 << 20)  # of a serial line
VECTORS, ROWS = 100, 128
AHEAD = 8  # requests, as the driver
NEXT_ANSWERS = 10  # of a session, after its first


@dataclass(frozen=True, slots=True)
class Goodput:
    """``share`` of the byte rate that was input codes (or counts of cells), and what the host's end counted.

    ``longest_pause_s``: in which the line to the chip (or to the host) stood still though there was more to send.
    """

    share: float
    seconds: float
    longest_pause_s: float
    counters: LinkCounters


class _Sink(NotingChip):
    """Takes products in no time and answers zeros."""

    def mvm(self, request: Mvm) -> MvmResult:
        return MvmResult(request.returns, 0, 1, np.zeros((1, 1), np.int32))


def virtual_goodput(
    faults: LineFaults, *, seconds: float = 15.0, seed: int = 0, limits: LinkLimits = LIMITS
) -> Goodput:
    """Send input codes for about ``seconds`` of the line at its full rate.

    Raises:
        LocalProtocolError: the line has no finite byte rate.
        ProtocolError: the link failed.
    """
    if not 0 < faults.bytes_per_s < float("inf"):
        raise LocalProtocolError("goodput is a share of a byte rate: bytes_per_s must be finite")
    chip = ChipServer(_Sink(BoardPower(), lambda text: None), boot_id=1, limits=limits)
    host = HostLink(nonce=1, limits=limits)
    line = VirtualLine(host, chip, faults, random.Random(seed))
    host.open(line.now_s)
    line.run(lambda: host.up or host.failure is not None)
    host.check()
    codes = np.random.default_rng(seed).integers(-128, 128, (VECTORS, ROWS)).astype(np.int16)
    count = max(1, round(seconds * faults.bytes_per_s / codes.size))
    asked = answered = 0
    start_s, pause_s = line.now_s, 0.0

    def complete() -> bool:
        nonlocal asked, answered, pause_s
        if not answered:  # the line stood still before the first request
            line.to_chip.longest_pause_s = 0.0
        elif asked < count:
            pause_s = line.to_chip.longest_pause_s
        answered += sum(not isinstance(reply, Progress) for _, reply, _ in host.poll())
        while asked < count and asked - answered < AHEAD and host.up:
            asked += 1
            tile = TileAddress(0, 0, ROWS, 0, ROWS)
            host.request(Mvm(Returns.SUMS, tile, 0, 0, 8, True, asked, 1, 0, codes))
        return answered == count or host.failure is not None

    line.run(complete, 1000 * seconds)
    host.check()
    took_s = line.now_s - start_s
    return Goodput(count * codes.size / took_s / faults.bytes_per_s, took_s, pause_s, host.counters)


def one_way(board: VirtualBoard, faults: LineFaults, *, to_host: bool, seconds: float, max_payload: int) -> Goodput:
    """Readings of blocks of cells, or pulses on them, for about ``seconds`` of the line at its full rate.

    Raises:
        ProtocolError: the link failed.
    """
    host = HostLink(nonce=1, limits=replace(LIMITS, max_payload=max_payload))
    line = VirtualLine(host, board, faults, random.Random(0), worked_s=board.chip.take_worked_s)
    way = line.to_host if to_host else line.to_chip
    host.open(line.now_s)
    line.run(lambda: host.up or host.failure is not None)
    host.check()
    cells = CellBlock(0, 0, VECTORS, 0, 16)
    pulses = np.full((cells.rows, cells.columns), 0x0101, np.uint16)
    count = max(1, round(seconds * faults.bytes_per_s / pulses.nbytes))
    asked = answered = 0
    start_s, pause_s = line.now_s, 0.0

    def complete() -> bool:
        nonlocal asked, answered, pause_s
        if not answered:  # the line stood still before the first request
            way.longest_pause_s = 0.0
        elif asked < count:
            pause_s = way.longest_pause_s
        answered += sum(not isinstance(reply, Progress) for _, reply, _ in host.poll())
        while asked < count and asked - answered < AHEAD and host.up:
            asked += 1
            pulse = Pulse(cells, Polarity.SET, 100, asked, pulses)
            host.request(ReadCells(cells, 10, 1, asked) if to_host else pulse)
        return answered == count or host.failure is not None

    line.run(complete, 1000 * seconds)
    host.check()
    took_s = line.now_s - start_s
    return Goodput(count * pulses.nbytes / took_s / faults.bytes_per_s, took_s, pause_s, host.counters)


def answers_s(faults: LineFaults, sessions: int = 60) -> tuple[float, float]:
    """Mean time of the first answer since the first hello, and of the next ones since they were asked for, one at a
    time, s, of so many sessions on lines of their own.

    Raises:
        ProtocolError: a link failed.
    """
    seen = [_answers_s(faults, number) for number in range(sessions)]
    return float(np.mean([first for first, _ in seen])), float(np.mean([later for _, later in seen]))


def _answers_s(faults: LineFaults, seed: int) -> tuple[float, float]:
    chip = ChipServer(_Sink(BoardPower(), lambda text: None), boot_id=1, limits=LIMITS)
    host = HostLink(nonce=seed + 1, limits=LIMITS)
    line = VirtualLine(host, chip, faults, random.Random(seed))
    times_s = [line.now_s]
    host.open(line.now_s)
    line.run(lambda: host.up or host.failure is not None)
    host.check()
    for _ in range(1 + NEXT_ANSWERS):
        host.request(Describe())
        line.run(lambda: bool(host.poll()) or host.failure is not None)
        host.check()
        times_s.append(line.now_s)
    return times_s[1] - times_s[0], (times_s[-1] - times_s[1]) / NEXT_ANSWERS
