"""A host's port in simulated time: the chip role at its far end, and a line with its pace and its faults between."""

from __future__ import annotations

import random

from firmware_protocols.chip import ChipServer
from tests.line_simulation.direction import LineDirection
from tests.line_simulation.faults import Counts, LineFaults

SERIAL = LineFaults(delay_s=0.009, bytes_per_s=92_160)  # 921,600 baud, 18 ms round trip


class PacedLine:
    """Both directions of a line with a chip role at its end, moved by whoever has the clock.

    Attributes:
        now_s: time that was reached; busy_s: of it, while bytes were under way.
        counts: faults that happened, by kind.
    """

    def __init__(self, chip: ChipServer, faults: LineFaults = SERIAL, *, seed: int = 0, now_s: float = 100.0) -> None:
        self.chip, self.now_s, self.busy_s = chip, now_s, 0.0
        self.counts: Counts = {}
        rng = random.Random(seed)
        self.to_chip, self.to_host = (LineDirection(faults, rng, self.counts) for _ in range(2))

    @property
    def bytes_both(self) -> int:
        return self.to_chip.bytes_put + self.to_host.bytes_put

    @property
    def next_s(self) -> float | None:
        """When bytes arrive next, at either end."""
        return min((t for t in (self.to_chip.next_s, self.to_host.next_s) if t is not None), default=None)

    def move(self, now_s: float) -> bytes:
        """Time comes to ``now_s``: bytes reach the chip, which works and speaks; those that reached the host."""
        if self.next_s is not None:
            self.busy_s += now_s - self.now_s
        self.now_s = now_s
        for piece in self.to_chip.take(now_s):
            self.chip.receive(piece.data, now_s)
        self.to_host.put(self.chip.data_to_send(now_s), now_s)
        return b"".join(piece.data for piece in self.to_host.take(now_s))


class SimulatedPort:
    """One opening of a serial port (``hil.transports.base.Transport``); time moves while the host waits to read.

    Neither end takes any time to compute, so that all time is the line's.
    """

    def __init__(self, line: PacedLine, address: str = "/dev/simulated", max_payload: int = 512) -> None:
        self.line, self.address, self.max_payload = line, address, max_payload

    def clock(self) -> float:
        return self.line.now_s

    def write(self, data: bytes) -> None:
        self.line.to_chip.put(data, self.line.now_s)

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        line, end_s = self.line, self.line.now_s + max(timeout_s, 1e-5)  # asking takes time, too
        data = line.move(line.now_s)
        while not data and line.now_s < end_s:
            due = (line.next_s, line.chip.next_deadline(line.now_s), end_s)
            data = line.move(max(line.now_s, min(t for t in due if t is not None)))
        return data

    def close(self) -> None:
        """What is under way is lost."""
        self.line.to_chip.cut()
        self.line.to_host.cut()
