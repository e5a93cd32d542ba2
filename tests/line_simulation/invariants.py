"""What must hold at every step of a simulation, whatever the line does."""

from __future__ import annotations

import gc
import sys
import types
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from firmware_protocols.chip import ChipServer
from firmware_protocols.extensions.memory import BoardMemory
from firmware_protocols.frames import RESET_BIT
from firmware_protocols.host import CREDIT, LAST_ID, HostLink
from firmware_protocols.round_trip import RTO_MAX_S
from firmware_protocols.states import Role, State
from tests.line_simulation.arrivals import EndArrivals
from tests.line_simulation.board import NotingChip, VirtualBoard
from tests.line_simulation.direction import LinePiece
from tests.line_simulation.line import VirtualLine
from tests.line_simulation.plan import MAX_MESSAGE
from tests.line_simulation.seen import SeenHost
from tests.line_simulation.sent_requests import traces_of

WEIGH_EVERY, WEIGH_AFTER_BYTES = 4096, 300_000  # steps, bytes that arrived
MOST_HELD_BYTES = 4 * MAX_MESSAGE  # by one end
MOST_SEALS = 1 << 32  # of an episode, all steps that a forger may cost it included
LEFT_SESSIONS = 8  # the latest, none of which opens again
REMEMBERED_SESSIONS = 64
A_MICROSECOND_S = 1e-6  # to which the firmware's clock is rounded
NOT_WEIGHED = (types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType, NotingChip, BoardMemory)


class LinkStates(NamedTuple):
    """States of host and chip at one time."""

    host: State
    chip: State
    asking: bool  # a request is open at the host
    working: bool  # one waits or runs at the chip
    replying: bool  # something of the chip's is not acknowledged


class Invariants:
    """Checks of one simulation; ``broken`` is told what does not hold."""

    def __init__(self, line: VirtualLine, host: SeenHost, board: VirtualBoard, broken: Callable[[str], None]) -> None:
        self._line, self._host, self._board, self._broken = line, host, board, broken
        self.most_held_bytes = self.digest = 0
        self._steps = 0
        self._calm_s = line.now_s  # last time that the chip waited for nothing from the host
        self._frames = 0  # that the host's ends before this one and the chip's took
        self._server = board.server
        self._link: HostLink = host.link
        self._accepted = [0, 0]
        self._arrivals = {role: EndArrivals(role.value, broken, reads_later=role is Role.HOST) for role in Role}
        self._boots, self._session = board.boots, (0, 0)  # of the chip: session and nonce
        self._answered: tuple[tuple[int, int], frozenset[int]] = ((0, 0), frozenset())  # a chip's life and kept replies
        self._left: deque[tuple[int, int]] = deque(maxlen=LEFT_SESSIONS)
        self._opened: OrderedDict[int, int] = OrderedDict()  # session of the host -> starts of the chip until then
        self._weighed_bytes = 0
        self._whole_s = line.now_s  # when the end of a whole frame last arrived at the chip
        self._unended = False  # one has arrived there but for its last delimiter
        line.observer = self

    def states(self) -> LinkStates:
        link, chip = self._host.link.connection, self._board.server.connection
        return LinkStates(link.state, chip.state, bool(self._host.unanswered), self._board.server.busy, not chip.idle)

    def said(self, end: Role, data: bytes) -> None:
        self._notice_start()
        self._arrivals[end].said(data)

    def arrives(self, end: Role, piece: LinePiece, now_s: float) -> None:
        self._notice_start()
        if end is Role.CHIP:
            ends = piece.data.endswith(b"\0")
            if (piece.whole and ends) or (self._unended and b"\0" in piece.data):
                self._whole_s = now_s
            self._unended = not ends and (bool(piece.whole) or (self._unended and b"\0" not in piece.data))
        if piece.whole:
            connection = (self._host.link if end is Role.HOST else self._board.server).connection
            unharmed = piece.data == piece.whole
            head = self._arrivals[end].arrived(piece.whole[1:-1], unharmed=unharmed, connection=connection, now_s=now_s)
            if end is Role.CHIP and head.first & RESET_BIT:
                self._late_hello(head.session)

    def _late_hello(self, session: int) -> None:
        """A known hole: a chip that restarts while a hello is under way, or between two copies of one, takes what the
        host asks in that session, though the host has not been told that it restarted.
        """
        if self._opened.get(session, self._boots) != self._boots:
            self._board.chip.allow_again(self._host.unanswered, False)

    def unplugged(self) -> None:
        """The host's end is shut and opened anew."""
        self._arrivals[Role.HOST].begin_anew()

    def check(self) -> LinkStates:
        """Look at both ends after a step."""
        states, line = self.states(), self._line
        self._steps += 1
        self._check_frames()
        self._check_session()
        self._check_answers()
        if self._host.offs & self._board.server.unanswered:
            self._broken("OUTPUTS_OFF waits for the work at the chip")
        self._arrivals[Role.HOST].check(self._host.link.connection, line.now_s, line.now_s)
        self._arrivals[Role.CHIP].check(self._board.server.connection, line.now_s, line.chip_free_s)
        self._check_lost_host(states)
        arrived = line.to_chip.bytes_arrived + line.to_host.bytes_arrived
        if self._steps % WEIGH_EVERY == 0 or arrived - self._weighed_bytes > WEIGH_AFTER_BYTES:
            self._weighed_bytes = arrived
            self.weigh()
        summary = (line.now_s, line.to_chip.bytes_put, line.to_host.bytes_put, line.to_chip.frames_arrived)
        self.digest = zlib.crc32(repr(summary).encode(), self.digest)
        return states

    def _check_frames(self) -> None:
        """No end takes more frames than arrived whole: what was damaged is not taken."""
        server, link = self._board.server, self._host.link
        if server is not self._server:
            self._accepted[0] += self._server.counters.frames_received
            self._server = server
        if link is not self._link:
            self._accepted[1] += self._link.counters.frames_received
            self._link = link
        if self._accepted[0] + server.counters.frames_received > self._line.to_chip.frames_arrived:
            self._broken("the chip took a frame that was damaged on the line")
        if self._accepted[1] + link.counters.frames_received > self._line.to_host.frames_arrived:
            self._broken("the host took a frame that was damaged on the line")

    def _notice_start(self) -> None:
        """Note a restart of the chip: what it forgot may happen again without breaking an invariant."""
        if self._board.boots != self._boots:
            self._boots, self._session = self._board.boots, (0, 0)
            self._left.clear()
            self._arrivals[Role.CHIP].begin_anew()

    def _check_session(self) -> None:
        """A chip that left a session does not open it again in the same life; another host finds the outputs off."""
        self._notice_start()
        link = self._host.link.connection
        self._opened.setdefault(link.session, self._boots)
        if len(self._opened) > REMEMBERED_SESSIONS:
            self._opened.popitem(last=False)
        connection = self._board.server.connection
        if connection.hello is None or (connection.session, connection.hello.nonce) == self._session:
            return
        self._left.append(self._session)
        before, self._session = self._session, (connection.session, connection.hello.nonce)
        if before[1] not in (0, connection.hello.nonce) and self._board.chip.outputs_on:
            self._broken("another host finds the outputs on")
        if self._session in self._left:
            self._broken(f"the chip opens session {connection.session} again, which was left before")

    def _check_answers(self) -> None:
        """What was answered is over. The host asks nothing far behind its oldest request, and the chip forgets no reply
        for which it waits: the request could come again, and be done again. A refusal may be forgotten: it was said
        before requests that wait are done, their replies may take its place, and it is said again.
        """
        server = self._board.server
        nonce = 0 if server.connection.hello is None else server.connection.hello.nonce
        (life, before), answered = self._answered, server.answered
        self._answered = ((server.boot_id, nonce), answered)
        at_work, self._board.chip.at_work = self._board.chip.at_work, set()
        if nonce != self._host.link.nonce:
            return
        again = sorted(sample for sample in at_work if self._host.id_of(sample - 1) in before)
        if again and self._answered[0] == life:
            self._broken(f"request {again[0]} continues though it was answered")
        if not self._host.unanswered:
            return
        waiting = self._host.waiting
        newest = max((i for i in answered | server.unanswered if i <= LAST_ID), default=0)
        if newest - min(waiting) >= CREDIT:
            self._broken(f"the host asks request {newest} while it waits for {min(waiting)}, {CREDIT} or more before")
        lost = {i for i in before - answered if i in waiting and not waiting[i].refused}
        if lost and self._answered[0] == life:
            self._broken(f"the chip forgot its answer to request {min(lost)}, for which the host still waits")

    def _check_lost_host(self, states: LinkStates) -> None:
        """A chip that waits for its host finds out in time that it is gone; ``VirtualBoard`` looks at the outputs."""
        connection, now_s = self._board.server.connection, self._line.now_s
        if (connection.last_heard_s or 0.0) > self._whole_s + A_MICROSECOND_S:
            self._broken("the chip takes for a sign of its host what is no whole frame")
        if states.chip is not State.UP or not states.replying:
            self._calm_s = now_s
            return
        since_s = max(self._calm_s, connection.last_heard_s or 0.0)
        late_s = now_s - max(since_s, self._line.chip_free_s) - connection.limits.silence_s - 3 * RTO_MAX_S
        if late_s > 1.0:
            self._broken(f"the chip waits for a lost host since {now_s - since_s:.1f} s")

    def weigh(self) -> None:
        """What both ends hold is bounded."""
        for name, end in (("host", self._host.link), ("chip", self._board.server)):
            if not isinstance(end, HostLink | ChipServer):  # the firmware's memory was allotted when it was built
                continue
            held = held_bytes(end)
            self.most_held_bytes = max(self.most_held_bytes, held)
            if held > MOST_HELD_BYTES:
                self._broken(f"the {name} holds {held:,} bytes, more than {MOST_HELD_BYTES:,}")

    def finish(self) -> None:
        """At the end of an episode: what was written is what is written without faults; no forger led the chip on."""
        self.weigh()
        if self._board.seals_taken > MOST_SEALS:
            self._broken(f"the chip followed a forged counter to {self._board.seals_taken:,}")
        if self._host.stopped or not self._host.done:
            return
        traces, written = traces_of(self._host.requests[place].carried for place in range(self._host.count))
        if self._board.chip.written != written:
            self._broken(f"the macros hold tiles {self._board.chip.written}, not {written}")
        if self._board.boots == 1 and not self._host.begun_anew and self._board.chip.traces != traces:
            self._broken("what the chip wrote, in order, is not what it writes without faults")


def held_bytes(root: object) -> int:
    """Bytes of an object and of all that it holds; the chip's own handlers, classes and code left out."""
    seen, waiting, total = {id(root)}, [root], 0
    while waiting:
        one = waiting.pop()
        total += one.nbytes if isinstance(one, np.ndarray) else sys.getsizeof(one)
        for other in gc.get_referents(one):
            if id(other) not in seen and not isinstance(other, NOT_WEIGHED):
                seen.add(id(other))
                waiting.append(other)
    return total
