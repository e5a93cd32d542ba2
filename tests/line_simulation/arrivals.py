"""Frames that arrived at each end, seen from the line: an end acknowledges those, all of those, and no others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cobs import cobs

from firmware_protocols.frames import ACK_BIT, HEADER, RESET_BIT
from firmware_protocols.states import State
from tests.line_simulation.seen import SeenConnection

SESSIONS = 4  # whose arrivals are remembered
AT_ONCE_S = 0.05  # an end that is free to speak acknowledges within it
NOT_NUMBERED = RESET_BIT | ACK_BIT
HALF = 0x8000  # of all sequence numbers: what is further ahead lies behind


class FrameHead(NamedTuple):
    """Header of a frame; the first byte holds version and flags."""

    first: int
    channel: int
    session: int
    sequence: int
    ack: int
    selective: int


def head_of(encoded: bytes) -> FrameHead:
    """Header of a whole frame between its delimiters."""
    return FrameHead(*HEADER.unpack_from(cobs.decode(encoded)))


class SessionArrivals:
    """Sequence numbers of one session that arrived."""

    def __init__(self) -> None:
        self._next = 0  # all before it arrived
        self._early: set[int] = set()

    def add(self, sequence: int) -> None:
        if (sequence - self._next) & 0xFFFF >= HALF:
            return
        self._early.add(sequence)
        while self._next in self._early:
            self._early.discard(self._next)
            self._next = (self._next + 1) & 0xFFFF

    def hold(self, sequence: int) -> bool:
        """Whether this frame arrived."""
        return (self._next - 1 - sequence) & 0xFFFF < HALF or sequence in self._early

    def far_ahead(self, sequence: int, window: int) -> bool:
        """Whether a frame lies beyond what an end holds: of a sender that began before the end did."""
        return window <= (sequence - self._next) & 0xFFFF < HALF

    def hold_all_before(self, ack: int) -> bool:
        return (self._next - ack) & 0xFFFF < HALF


def acknowledged(head: FrameHead) -> Iterator[int]:
    """Sequence numbers that a frame says to hold beside all before ``ack``."""
    bits = head.selective
    while bits:
        low = bits & -bits
        bits ^= low
        yield (head.ack + low.bit_length()) & 0xFFFF


class EndArrivals:
    """What arrived at one end, and what it says about that; ``broken`` is told when the two do not agree."""

    def __init__(self, name: str, broken: Callable[[str], None], *, reads_later: bool = False) -> None:
        """``reads_later``: what arrives may lie in a port until the end reads it, and opens its session before."""
        self._name, self._broken, self._reads_later = name, broken, reads_later
        self.begin_anew()

    def begin_anew(self) -> None:
        """The end knows nothing any more."""
        self._sessions: OrderedDict[int, SessionArrivals] = OrderedDict()
        self._owed: dict[int, float] = {}  # sequence of a frame that was not acknowledged -> when it arrived
        self._owed_session = 0

    def arrived(self, encoded: bytes, *, unharmed: bool, connection: SeenConnection, now_s: float) -> FrameHead:
        """A whole frame is about to be given to the end; ``unharmed``: with its delimiters. Gives its header."""
        head = head_of(encoded)
        listens = connection.state is State.UP and connection.session == head.session
        if head.first & NOT_NUMBERED or not (listens or self._reads_later):
            return head
        arrivals = self._sessions.get(head.session)
        if arrivals is None:
            arrivals = self._sessions[head.session] = SessionArrivals()
            if len(self._sessions) > SESSIONS:
                self._sessions.popitem(last=False)
        arrivals.add(head.sequence)
        if unharmed and listens and not arrivals.far_ahead(head.sequence, connection.limits.window):
            if self._owed_session != head.session:
                self._owed, self._owed_session = {}, head.session
            self._owed.setdefault(head.sequence, now_s)
        return head

    def said(self, data: bytes) -> None:
        """The end speaks: each of its frames acknowledges."""
        for encoded in data.split(b"\0"):
            if not encoded:
                continue
            head = head_of(encoded)
            if head.first & RESET_BIT:
                continue
            arrivals = self._sessions.get(head.session) or SessionArrivals()
            selective = set(acknowledged(head)) if head.selective else set()
            if not arrivals.hold_all_before(head.ack) or not all(map(arrivals.hold, selective)):
                self._broken(f"the {self._name} acknowledges frames of session {head.session} that did not arrive")
            if self._owed and head.session == self._owed_session:
                self._owed = {
                    sequence: since_s
                    for sequence, since_s in self._owed.items()
                    if (head.ack - 1 - sequence) & 0xFFFF >= HALF and sequence not in selective
                }

    def check(self, connection: SeenConnection, now_s: float, free_s: float) -> None:
        """``free_s``: when the end was last free to speak."""
        if not self._owed:
            return
        if connection.state is not State.UP or connection.session != self._owed_session:
            self._owed = {}
        elif now_s > max(free_s, min(self._owed.values())) + AT_ONCE_S:
            self._broken(f"the {self._name} does not acknowledge a frame that arrived")
