"""Two ends and a line between them, on a clock that only this class moves."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from firmware_protocols.errors import ProtocolError
from firmware_protocols.states import Role
from tests.line_simulation.direction import LineDirection, LinePiece
from tests.line_simulation.faults import Counts, LineFaults

MOST_IDLE = 50  # calls at one instant that an end may ask for without having anything to say


class LineEnd(Protocol):
    """A role of the protocol, or anything that behaves like one."""

    def receive(self, data: bytes, now_s: float) -> None: ...

    def data_to_send(self, now_s: float) -> bytes: ...

    def next_deadline(self, now_s: float) -> float | None: ...


class LineObserver(Protocol):
    """Sees what the ends say, and what is about to be given to them."""

    def said(self, end: Role, data: bytes) -> None: ...

    def arrives(self, end: Role, piece: LinePiece, now_s: float) -> None: ...


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

    Attributes:
        observer: may be set; sees every frame.
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
        self.observer: LineObserver | None = None
        self.cut = False  # nothing gets on the line
        self.chip_free_s = 0.0  # until then the chip works
        self._worked_s = worked_s
        self._idle = 0

    def run(self, until: Callable[[], bool], limit_s: float = 60.0) -> bool:
        """Move time until ``until()`` or the limit (s); tells which."""
        end_s = self.now_s + limit_s
        while not until():
            spoke = self._speak()
            if until():
                break
            if not self._move(spoke, end_s):
                return until()
        return True

    def step(self, end_s: float) -> bool:
        """Let both ends speak, then move time to what happens next, at most to ``end_s``; False: it is ``end_s``.

        Raises:
            EndlessCalls: an end asks to be called at once, 50 times in a row, and says nothing.
        """
        return self._move(self._speak(), end_s)

    def _move(self, spoke: bool, end_s: float) -> bool:
        due_s = self._next_s()
        if due_s is None or due_s > end_s:
            self.now_s, self._idle = end_s, 0
            return False
        self._idle = 0 if spoke or due_s > self.now_s else self._idle + 1
        if self._idle >= MOST_IDLE:
            raise EndlessCalls(f"an end asks to be called at {self.now_s:.6f} s but has nothing to say")
        self.now_s = max(self.now_s, due_s)
        self._give(Role.CHIP, self.to_chip, self.chip)
        self._give(Role.HOST, self.to_host, self.host)
        return True

    def _give(self, role: Role, direction: LineDirection, end: LineEnd) -> None:
        for piece in direction.take(self.now_s):
            if self.observer is not None:
                self.observer.arrives(role, piece, self.now_s)
            end.receive(piece.data, self.now_s)

    def _speak(self) -> bool:
        now_s, said = self.now_s, False
        data = self.host.data_to_send(now_s)
        if data:
            said = True
            self._put(Role.HOST, self.to_chip, data)
        if now_s >= self.chip_free_s:
            data = self.chip.data_to_send(now_s)
            worked_s = self._worked_s()
            if data:
                said = True
                self._put(Role.CHIP, self.to_host, data)
            if worked_s > 0:
                said = True
                self.chip_free_s = now_s + worked_s
        return said

    def _put(self, role: Role, direction: LineDirection, data: bytes) -> None:
        if self.observer is not None:
            self.observer.said(role, data)
        if not self.cut:
            direction.put(data, self.now_s)

    def _next_s(self) -> float | None:
        chip_s = self.chip.next_deadline(self.now_s)
        times = (
            self.host.next_deadline(self.now_s),
            None if chip_s is None else max(chip_s, self.chip_free_s),
            self.to_chip.next_s,
            self.to_host.next_s,
        )
        return min((time for time in times if time is not None), default=None)
