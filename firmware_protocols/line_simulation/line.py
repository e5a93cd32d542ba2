"""Two ends and a line between them, on a clock that only this class moves."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from firmware_protocols.errors import ProtocolError
from firmware_protocols.line_simulation.direction import LineDirection
from firmware_protocols.line_simulation.faults import Counts, LineFaults

MOST_IDLE = 50  # calls at one instant that an end may ask for without having anything to say


class LineEnd(Protocol):
    """A role of the protocol, or anything that behaves like one."""

    def receive(self, data: bytes, now_s: float) -> None: ...

    def data_to_send(self, now_s: float) -> bytes: ...

    def next_deadline(self, now_s: float) -> float | None: ...


class EndlessCalls(ProtocolError):
    """An end asks to be called again and again but has nothing to say."""


class VirtualLine:
    """A host and a chip joined by two directions.

    Args:
        host, chip: the ends; may be replaced at any time.
        faults: of both directions.
        rng: draws the faults.
        worked_s: seconds of work that the chip did in its last call; while they last it hears but does not speak.
        counts: faults that happened, by kind.
    """

    def __init__(
        self,
        host: LineEnd,
        chip: LineEnd,
        faults: LineFaults,
        rng: random.Random,
        *,
        worked_s: Callable[[], float] = lambda: 0.0,
        counts: Counts | None = None,
        now_s: float = 100.0,
    ) -> None:
        self.host, self.chip, self.now_s = host, chip, now_s
        self.counts: Counts = {} if counts is None else counts
        self.to_chip = LineDirection(faults, rng, self.counts)
        self.to_host = LineDirection(faults, rng, self.counts)
        self.cut = False  # nothing gets on the line
        self.chip_free_s = 0.0  # until then the chip works
        self._worked_s = worked_s
        self._idle = 0

    def run(self, until: Callable[[], bool], limit_s: float = 60.0) -> bool:
        """Move time until ``until()`` or the limit (s); tells which."""
        end_s = self.now_s + limit_s
        while not until():
            if not self.step(end_s):
                return until()
        return True

    def step(self, end_s: float) -> bool:
        """Let both ends speak, then move time to what happens next, at most to ``end_s``; False: it is ``end_s``.

        Raises:
            EndlessCalls: an end asks to be called at once, 50 times in a row, and says nothing.
        """
        spoke = self._speak()
        due_s = self._next_s()
        if due_s is None or due_s > end_s:
            self.now_s, self._idle = end_s, 0
            return False
        self._idle = 0 if spoke or due_s > self.now_s else self._idle + 1
        if self._idle >= MOST_IDLE:
            raise EndlessCalls(f"an end asks to be called at {self.now_s:.6f} s but has nothing to say")
        self.now_s = max(self.now_s, due_s)
        for piece in self.to_chip.take(self.now_s):
            self.chip.receive(piece.data, self.now_s)
        for piece in self.to_host.take(self.now_s):
            self.host.receive(piece.data, self.now_s)
        return True

    def _speak(self) -> bool:
        now_s, said = self.now_s, False
        data = self.host.data_to_send(now_s)
        if data:
            said = True
            if not self.cut:
                self.to_chip.put(data, now_s)
        if now_s >= self.chip_free_s:
            data = self.chip.data_to_send(now_s)
            worked_s = self._worked_s()
            if data:
                said = True
                if not self.cut:
                    self.to_host.put(data, now_s)
            if worked_s > 0:
                said = True
                self.chip_free_s = now_s + worked_s
        return said

    def _next_s(self) -> float | None:
        chip_s = self.chip.next_deadline(self.now_s)
        times = (
            self.host.next_deadline(self.now_s),
            None if chip_s is None else max(chip_s, self.chip_free_s),
            self.to_chip.next_s,
            self.to_host.next_s,
        )
        return min((time for time in times if time is not None), default=None)
