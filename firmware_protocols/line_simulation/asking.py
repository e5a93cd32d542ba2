"""A simulated host: asks numbered requests in order, and opens again what failed, as the driver does."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from firmware_protocols.connection import LinkLimits
from firmware_protocols.errors import ChipRestarted, LinkFailed
from firmware_protocols.host import HostLink
from firmware_protocols.line_simulation.board import same_answer
from firmware_protocols.messages import ErrorCode, ErrorReply, OutputsOff, Progress, Reply, Request

AGAIN_AFTER_S = 0.25  # a failed link is opened again


class AskingHost:
    """Host role with a list of requests.

    Args:
        request_of: the request of a place, from 0 on.
        count: how many there are.
        ahead: requests asked before the first of them is answered.
        told_of_restart: given the places that are asked again because the chip said that it restarted.
        broken: told what must not happen.
    """

    def __init__(
        self,
        request_of: Callable[[int], tuple[Request[Any], Reply]],
        count: int,
        *,
        limits: LinkLimits,
        rng: random.Random,
        ahead: int,
        told_of_restart: Callable[[Iterable[int]], None],
        broken: Callable[[str], None],
    ) -> None:
        self._told_of_restart = told_of_restart
        self.request_of, self.count, self._ahead = request_of, count, ahead
        self._limits, self._rng, self._broken = limits, rng, broken
        self.answered = 0  # requests with their answer
        self.stopped = 0  # of them, by outputs off
        self.restarts = self.failures = 0
        self.unplugged = False
        self.unanswered: dict[int, tuple[Request[Any], Reply]] = {}  # place -> request and its right answer
        self._next = 0  # place
        self._asked: list[int] = []  # places by their order in this life of the nonce
        self._resumed: list[int] = []  # places to ask again in a new life
        self._places: dict[int, int] = {}  # id -> place
        self._aside: set[int] = set()  # ids of outputs off
        self._off_asked = False
        self._off_at = 0  # first place that was not asked when the outputs were last switched off
        self._openings = 0
        self._nonce = rng.getrandbits(32)
        self._again_s: float | None = 0.0
        self.link = HostLink(nonce=self._nonce, limits=limits)

    @property
    def done(self) -> bool:
        return self.answered == self.count

    # --- events -------------------------------------------------------------------------------

    def unplug(self) -> None:
        self.unplugged = True

    def plug(self, now_s: float) -> None:
        self.unplugged = False
        self._again_s = now_s

    def kill(self, now_s: float) -> None:
        """The process ends and another goes on with its journal: same nonce, same ids, a later session."""
        session = self.link.connection.session
        self._openings += 1
        self.link = HostLink(nonce=self._nonce, limits=self._limits, session=session, opening=self._openings)
        self._take_up(self._asked + self._resumed, now_s)

    def outputs_off(self) -> None:
        """Ask for it, beside the requests; once while the same request is open, since a chip keeps 16 replies."""
        if self.link.up and min(self.unanswered, default=self._next) >= self._off_at:
            self._off_at = self._next
            self._aside.add(self.link.request(OutputsOff(), aside=True))
            self._off_asked = True

    def _take_up(self, places: list[int], now_s: float) -> None:
        self._again_s, self._asked, self._places, self._aside = now_s, [], {}, set()
        self._resumed = list(places)

    # --- an end of a line ---------------------------------------------------------------------

    def receive(self, data: bytes, now_s: float) -> None:
        if self.unplugged:
            return
        self.link.receive(data, now_s)
        for request_id, reply, _ in self.link.poll():
            self._take(request_id, reply)
        self._ask()

    def data_to_send(self, now_s: float) -> bytes:
        if self.unplugged:
            return b""
        self._look_after(now_s)
        self._ask()
        data = self.link.data_to_send(now_s)
        self._look_after(now_s)
        return data

    def next_deadline(self, now_s: float) -> float | None:
        if self.unplugged:
            return None
        return self._again_s if self._again_s is not None else self.link.next_deadline(now_s)

    # --- the driver's part --------------------------------------------------------------------

    def _look_after(self, now_s: float) -> None:
        """Open the link, at first and after a failure."""
        failure = self.link.failure
        if failure is not None and self._again_s is None:
            self.failures += 1
            self._again_s = now_s + AGAIN_AFTER_S
            if isinstance(failure, ChipRestarted):
                self.restarts += 1
                self._nonce = self._rng.getrandbits(32)
                self.link = HostLink(nonce=self._nonce, limits=self._limits)
                self._openings = 0
                self._take_up(sorted(self.unanswered), self._again_s)
                self._told_of_restart(self._resumed)
            elif not isinstance(failure, LinkFailed):
                self._broken(f"the host failed: {type(failure).__name__}: {failure}")
        if self._again_s is not None and now_s >= self._again_s:
            self._again_s = None
            self.link.open(now_s)

    def _ask(self) -> None:
        if not self.link.up or self._again_s is not None:
            return
        while self._resumed:
            self._ask_place(self._resumed.pop(0))
        while self._next < self.count and len(self.unanswered) < self._ahead:
            self.unanswered[self._next] = self.request_of(self._next)
            self._ask_place(self._next)
            self._next += 1

    def _ask_place(self, place: int) -> None:
        self._asked.append(place)
        if place not in self.unanswered:
            self.link.skip_id()  # answered before this process began
            return
        request_id = self.link.request(self.unanswered[place][0])
        if request_id != len(self._asked):
            self._broken(f"request {place} has id {request_id}, not {len(self._asked)}")
        self._places[request_id] = place

    def _take(self, request_id: int, reply: Reply) -> None:
        if isinstance(reply, Progress):
            return
        if request_id in self._aside:
            self._aside.discard(request_id)
            return
        place = self._places.pop(request_id, None)
        if place is None or place not in self.unanswered:
            self._broken(f"an answer to id {request_id} that no open request has: {type(reply).__name__}")
            return
        _, right = self.unanswered.pop(place)
        self.answered += 1
        if self._off_asked and isinstance(reply, ErrorReply) and reply.code is ErrorCode.STOPPED:
            self.stopped += 1
        elif not same_answer(reply, right):
            self._broken(f"the answer to request {place} is wrong: {str(reply)[:200]}")
