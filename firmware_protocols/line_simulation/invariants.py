"""What must hold at every step of a simulation, whatever the line does."""

from __future__ import annotations

import gc
import sys
import types
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from firmware_protocols.host import HostLink
from firmware_protocols.line_simulation.asking import AskingHost
from firmware_protocols.line_simulation.board import NotingChip, VirtualBoard, traces_of
from firmware_protocols.line_simulation.line import VirtualLine
from firmware_protocols.line_simulation.plan import MAX_MESSAGE
from firmware_protocols.round_trip import RTO_MAX_S
from firmware_protocols.states import State

WEIGH_EVERY = 4096  # steps
MOST_HELD_BYTES = 16 * MAX_MESSAGE  # by one end
NOT_WEIGHED = (types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType, NotingChip)


class LinkStates(NamedTuple):
    """States of both ends together."""

    host: State
    chip: State
    asking: bool  # a request is open at the host
    working: bool  # one waits or runs at the chip
    replying: bool  # something of the chip's is not acknowledged


class Invariants:
    """Checks of one simulation; ``broken`` is told what does not hold."""

    def __init__(self, line: VirtualLine, host: AskingHost, board: VirtualBoard, broken: Callable[[str], None]) -> None:
        self._line, self._host, self._board, self._broken = line, host, board, broken
        self.most_held_bytes = self.digest = 0
        self._steps = 0
        self._calm_s = line.now_s  # last time that the chip waited for nothing from the host
        self._frames = 0  # that the host's ends before this one and the chip's took
        self._server = board.server
        self._link: HostLink = host.link
        self._accepted = [0, 0]

    def states(self) -> LinkStates:
        link, chip = self._host.link.connection, self._board.server.connection
        return LinkStates(link.state, chip.state, bool(self._host.unanswered), self._board.server.busy, not chip.idle)

    def check(self) -> LinkStates:
        """Look at both ends after a step."""
        states, line = self.states(), self._line
        self._steps += 1
        self._check_frames()
        self._check_lost_host(states)
        if self._steps % WEIGH_EVERY == 0:
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

    def _check_lost_host(self, states: LinkStates) -> None:
        """A chip that waits for its host finds out in time that it is gone; ``VirtualBoard`` looks at the outputs."""
        connection, now_s = self._board.server.connection, self._line.now_s
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
            held = held_bytes(end)
            self.most_held_bytes = max(self.most_held_bytes, held)
            if held > MOST_HELD_BYTES:
                self._broken(f"the {name} holds {held:,} bytes, more than {MOST_HELD_BYTES:,}")

    def finish(self) -> None:
        """At the end of an episode: what was written is what is written without faults."""
        self.weigh()
        if self._host.stopped or not self._host.done:
            return
        traces, written = traces_of(self._host.request_of(place)[0] for place in range(self._host.count))
        if self._board.chip.written != written:
            self._broken(f"the macros hold tiles {self._board.chip.written}, not {written}")
        if self._board.boots == 1 and self._board.chip.traces != traces:
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
