"""A simulated host: asks numbered requests in order, and opens again what failed, as the driver does."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable

from firmware_protocols.connection import LinkLimits
from firmware_protocols.errors import ChipRestarted, LinkFailed
from firmware_protocols.extensions.messages import ImageTile
from firmware_protocols.host import HostLink
from firmware_protocols.messages import Capability, ErrorCode, ErrorReply, OutputsOff, Progress, Reply, Reset
from tests.line_simulation.proving import KeyProof
from tests.line_simulation.seen import Advance, Met
from tests.line_simulation.sent_requests import EpisodeRequests, SentRequest, same_answer

AGAIN_AFTER_S = 0.25  # a failed link is opened again


class AskingHost:
    """Host role with a list of requests.

    Args:
        requests: the request of a place, from 0 on.
        count: how many there are.
        ahead: requests asked before the first of them is answered.
        in_turn: none is asked that lies ``ahead`` or more behind the oldest without an answer, as a journal wants.
        asks_again: given the places that may run once more, because the chip said that it restarted, and whether that
            holds also of what a journal has, because a process without one asks them.
        switched_off: how often the chip's outputs went off so far.
        broken: told what must not happen.
    """

    def __init__(
        self,
        requests: EpisodeRequests,
        count: int,
        *,
        limits: LinkLimits,
        rng: random.Random,
        ahead: int,
        in_turn: bool,
        asks_again: Callable[[Iterable[int], bool], None],
        switched_off: Callable[[], int],
        broken: Callable[[str], None],
    ) -> None:
        self._asks_again, self._switched_off = asks_again, switched_off
        self.requests, self.count, self._ahead, self._in_turn = requests, count, ahead, in_turn
        self._limits, self._rng, self._broken = limits, rng, broken
        self.answered = 0  # requests with their answer
        self.stopped = 0  # of them, by outputs off
        self.restarts = self.failures = self.begun_anew = 0
        self.unplugged = False
        self.unanswered: dict[int, SentRequest] = {}  # by place
        self.met: Counter[Met] = Counter()
        self._kept_ns = 0  # chip time of the latest answer to a write
        self._kept_before_ns: dict[int, int] = {}  # place -> the same, when it was asked first
        self._boot_id: int | None = None  # of the chip, when its hello was last seen
        self._next = 0  # place
        self._asked: list[int] = []  # places by their order in this life of the nonce
        self._resumed: list[int] = []  # places to ask again in a new life
        self._places: dict[int, int] = {}  # id -> place
        self._ids: dict[int, int] = {}  # place -> id, of this life
        self._proof: KeyProof | None = None  # to a chip that wants a key
        self._refused = False  # the chip took no seal of this life, or forgot who we are
        self._aside: dict[int, int] = {}  # ids of outputs off, and how often they had gone off before
        self._journalled = False  # the chip keeps what it finished without power
        self._new_process, self._other_ids = True, False  # it has not been up yet; it asks under ids of its own
        self._off_asked = False
        self._off_at = 0  # first place that was not asked when the outputs were last switched off
        self._openings = 0
        self._nonce = rng.getrandbits(32)
        self._again_s: float | None = 0.0
        self.link = HostLink(nonce=self._nonce, limits=limits)

    @property
    def done(self) -> bool:
        return self.answered == self.count

    @property
    def offs(self) -> frozenset[int]:
        return frozenset(self._aside)

    @property
    def waiting(self) -> dict[int, SentRequest]:
        """Requests without an answer by their ids under the nonce of this life; also while no process runs."""
        asked = enumerate(self._asked + self._resumed, 1)
        return {request_id: self.unanswered[place] for request_id, place in asked if place in self.unanswered}

    def id_of(self, place: int) -> int:
        return self._ids.get(place, 0)

    def go_on(self, advance: Advance) -> None:
        """Live on by one step: all is done when the line calls."""
        advance(math.inf)

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

    def begin_anew(self, now_s: float) -> None:
        """The process ends and another begins without its journal: what has no answer is asked under other ids."""
        self._nonce, self._openings = self._rng.getrandbits(32), 0
        self.link = HostLink(nonce=self._nonce, limits=self._limits)
        self.begun_anew += 1
        self._take_up(sorted(self.unanswered), now_s)
        self._other_ids = True

    def outputs_off(self, *, reset: bool = False) -> None:
        """Ask for it, or for a RESET, beside the requests; once while the same one is open: a chip keeps 16 replies.

        Not beside a piece of an image: stopped, it would be missing.
        """
        if any(waiting.alone for waiting in self.unanswered.values()):
            return
        if reset and (self._new_process or (self._proof is not None and not self._proof.done)):
            return
        if self.link.up and min(self.unanswered, default=self._next) >= self._off_at:
            self._off_at = self._next
            order = Reset() if reset else OutputsOff()
            self._aside[self.link.request(order, aside=True)] = self._switched_off()
            self._off_asked = True

    def _take_up(self, places: list[int], now_s: float) -> None:
        self._again_s, self._asked, self._places, self._aside = now_s, [], {}, {}
        self._resumed, self._new_process = list(places), True
        self._ids = {place: request_id for request_id, place in enumerate(places, 1)}
        self._proof, self._refused = None, False

    # --- an end of a line ---------------------------------------------------------------------

    def receive(self, data: bytes, now_s: float) -> None:
        if self.unplugged:
            return
        self.link.receive(data, now_s)
        for request_id, reply, chip_time_ns in self.link.poll():
            if self._proof is not None and self._proof.take(request_id, reply):
                self.met[Met.PROVED] += self._proof.done
            else:
                self._take(request_id, reply, chip_time_ns)
        if self._refused or (self._proof is not None and self._proof.forged):
            self.begin_anew(now_s)
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
                self._after_restart(self._again_s)
            elif not isinstance(failure, LinkFailed):
                self._broken(f"the host failed: {type(failure).__name__}: {failure}")
        if self._again_s is not None and now_s >= self._again_s:
            self._again_s = None
            self.link.open(now_s)

    def _after_restart(self, now_s: float) -> None:
        """Ask again: a chip with a journal under the same ids, any other as a new host."""
        self.restarts += 1
        if self._journalled:
            self.kill(now_s)
            self._asks_again(self.unanswered, False)
        else:
            self.begin_anew(now_s)

    def _see_hello(self) -> None:
        """A process that goes on may find that the chip restarted since the one before saw it."""
        hello = self.link.hello
        assert hello is not None
        self._journalled = Capability.JOURNAL in hello.capabilities
        if Capability.AUTHORITY in hello.capabilities:
            self._proof = KeyProof(self.link)
        if self._other_ids or hello.boot_id != self._boot_id:
            self._asks_again(self.unanswered, self._other_ids)
        self._boot_id, self._new_process, self._other_ids = hello.boot_id, False, False

    def _ask(self) -> None:
        if not self.link.up or self._again_s is not None:
            return
        if self._new_process:
            self._see_hello()
        if self._proof is not None and not self._proof.done:
            return
        while self._resumed:
            self._ask_place(self._resumed.pop(0))
        while self._next < self.count and self._may_ask(self.requests[self._next]):
            self.unanswered[self._next] = self.requests[self._next]
            self._kept_before_ns[self._next] = self._kept_ns
            self._ask_place(self._next)
            self._next += 1

    def _may_ask(self, asked: SentRequest) -> bool:
        if asked.alone and self._aside:
            return False
        if not self.unanswered:
            return True
        if asked.alone or any(waiting.alone for waiting in self.unanswered.values()):
            return False
        ahead = self._next - min(self.unanswered) if self._in_turn else len(self.unanswered)
        return ahead < self._ahead

    def _ask_place(self, place: int) -> None:
        self._asked.append(place)
        self._ids[place] = len(self._asked)
        if place not in self.unanswered:
            self.link.skip_id()  # answered before this process began
            return
        request_id = self.link.request(self.unanswered[place].request)
        if request_id != len(self._asked):
            self._broken(f"request {place} has id {request_id}, not {len(self._asked)}")
        self._places[request_id] = place

    def _take(self, request_id: int, reply: Reply, chip_time_ns: int) -> None:
        if isinstance(reply, Progress):
            return
        if request_id in self._aside:
            before = self._aside.pop(request_id)
            self.met[Met.OFF] += 1
            if self._proof is not None and isinstance(reply, ErrorReply) and reply.code is ErrorCode.NOT_AUTHORISED:
                self._refused = True
                return
            if isinstance(reply, ErrorReply) or self._switched_off() == before:
                self._broken(f"OUTPUTS_OFF or RESET was answered {reply}, and the outputs did not go off"[:200])
            return
        place = self._places.pop(request_id, None)
        if place is None or place not in self.unanswered:
            self._broken(f"an answer to id {request_id} that no open request has: {type(reply).__name__}")
            return
        if self._proof is not None and isinstance(reply, ErrorReply) and reply.code is ErrorCode.NOT_AUTHORISED:
            self._refused = True  # a forged counter was believed, or the chip restarted unseen: another life asks again
            return
        asked = self.unanswered.pop(place)
        self.met[Met.IMAGE_TILES] += isinstance(asked.request, ImageTile)
        self.answered += 1
        if chip_time_ns < self._kept_before_ns.pop(place):
            self._broken(f"the chip's clock ran back: request {place} was answered before one that was sent later")
        if asked.writes and not isinstance(reply, ErrorReply):
            self._kept_ns = max(self._kept_ns, chip_time_ns)
        if self._off_asked and isinstance(reply, ErrorReply) and reply.code is ErrorCode.STOPPED:
            self.stopped += 1
        elif not same_answer(reply, asked.answer):
            self._broken(f"the answer to request {place} is wrong: {str(reply)[:200]}")
