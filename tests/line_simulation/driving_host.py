"""The driver at the host's end of a simulated line: sessions, journal and reconnection, on the simulation's clock.

Nothing here knows how a link is opened again or how a run is resumed: the driver does. When it waits for bytes, the
simulation goes on (``VirtualTransport.read``); when the process is killed, that never returns.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cim.chip.spec import ChipSpec
from firmware_protocols.codec import Decoded
from firmware_protocols.host import HostLink
from firmware_protocols.messages import ErrorCode, ErrorReply, ProgramTile, Reply, Request
from hil.driver.chip_driver import ChipDriver
from hil.driver.keys import HostKey
from hil.driver.open_chip import introduced
from hil.driver.reconnection import Reconnection
from hil.driver.session import Session
from hil.errors import HilError, PortError
from hil.transports.base import Transport, lost
from hil.transports.journal import Journal
from tests.line_simulation.board import VirtualBoard
from tests.line_simulation.plan import EpisodePlan
from tests.line_simulation.proving import KEY
from tests.line_simulation.seen import Advance, Met
from tests.line_simulation.sent_requests import EpisodeRequests, SentRequest, same_answer

CALL_S = 1e-5  # that asking for bytes takes at least
AGAIN_AFTER_S = 0.25  # a run that failed is begun again
RECONNECT_TIMEOUT_S = (0.0, 60.0, 3600.0)
IMAGE_REQUESTS = 10  # whose writes are offered as one image
SERIAL, CLEAN = "/dev/simulated", "tcp://simulated:1"  # on the first bodies are packed


class ProcessKilled(BaseException):
    """Ends a simulated process at once, as SIGKILL ends a real one."""


class VirtualTransport:
    """A stream to a chip on a simulated line, until it is unplugged."""

    def __init__(self, host: DrivingHost, address: str, max_payload: int) -> None:
        self._host, self.address, self.max_payload = host, address, max_payload
        self.broken = False

    def write(self, data: bytes) -> None:
        self._check()
        self._host.out += data

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        """The simulation goes on until something arrived, the time is over, or something happens to the process."""
        host = self._host
        self._check()
        until_s = host.now_s() + max(timeout_s, CALL_S)
        while not host.arrived:
            host.advance(until_s)
            self._check()
            if host.now_s() >= until_s:
                break
        data = bytes(host.arrived[:max_bytes])
        del host.arrived[:max_bytes]
        return data

    def close(self) -> None:
        self.broken = True

    def _check(self) -> None:
        self._host.check_process()
        if self.broken:
            raise lost(self.address, "unplugged")


class WatchedJournal(Journal):
    """The driver's journal, which says what it holds."""

    def __init__(self, path: Path, host: DrivingHost) -> None:
        self._host = host
        self._places: dict[int, int] = {}  # by id
        super().__init__(path, nonces=host.draw_nonce)

    def recall(self, request: Request[Any]) -> Decoded | None:
        known = super().recall(request)
        if known is not None and isinstance(known.message, ErrorReply):
            self._host.refusal_was_kept(known.message)
        return known

    def asked(self, request: Request[Any], request_id: int) -> None:
        super().asked(request, request_id)
        self._places[request_id] = self._place - 2  # the first request of a run is DESCRIBE
        self._host.asked(self._place - 2)

    def begin_anew(self) -> None:
        super().begin_anew()
        self._host.run_begins_anew()

    def answered(self, request_id: int, reply: Reply, chip_time_ns: int) -> None:
        before = self.answers
        super().answered(request_id, reply, chip_time_ns)
        tripped = isinstance(reply, ErrorReply) and reply.code is ErrorCode.FAULT
        self._host.heard(self._places.pop(request_id, -1), kept=self.answers > before, tripped=tripped)


class DrivingHost:
    """Host role by ``hil.driver``: a run with a journal, resumed by another process when one ends."""

    def __init__(
        self,
        plan: EpisodePlan,
        board: VirtualBoard,
        clock: Callable[[], float],
        broken: Callable[[str], None],
        *,
        spec: ChipSpec,
        folder: Path,
    ) -> None:
        self.now_s, self._plan, self._board, self._broken, self._spec = clock, plan, board, broken, spec
        self.requests, self.count = EpisodeRequests(plan), plan.requests
        self.answered = self.stopped = self.begun_anew = 0
        self.unanswered: dict[int, SentRequest] = {}
        self.met: Counter[Met] = Counter()
        self.arrived, self.out = bytearray(), bytearray()
        self._rng = random.Random(f"{plan.seed}/driver")
        self._timeout_s = self._rng.choice(RECONNECT_TIMEOUT_S)
        self._address = self._rng.choice((SERIAL, CLEAN))
        self._path = folder / "journal"
        self._transport: VirtualTransport | None = None
        self._killed = self._interrupted = self._leaving = False
        self._begins_s = 0.0
        self._unplugged = False
        self._served = (0, 0)  # nonce and boot id when a process last had the chip
        self._first_link = HostLink(nonce=1, limits=plan.host)
        self._session: Session | None = None
        self.advance: Advance = lambda until_s: None

    @property
    def link(self) -> HostLink:
        """The protocol's host role in the process that was started last."""
        return self._first_link if self._session is None else self._session.link

    @property
    def done(self) -> bool:
        return self.answered == self.count and not self._leaving

    @property
    def offs(self) -> frozenset[int]:
        return frozenset()  # the driver's own

    @property
    def waiting(self) -> dict[int, SentRequest]:
        return {self.id_of(place): asked for place, asked in self.unanswered.items()}

    def id_of(self, place: int) -> int:
        return place + 2  # the first request of a run is DESCRIBE

    # --- an end of a line -----------------------------------------------------------------

    def receive(self, data: bytes, now_s: float) -> None:
        if self._transport is not None and not self._transport.broken:
            self.arrived += data

    def data_to_send(self, now_s: float) -> bytes:
        data, self.out = bytes(self.out), bytearray()
        return b"" if self._unplugged else data

    def next_deadline(self, now_s: float) -> float | None:
        return now_s if self.out else None

    # --- events -----------------------------------------------------------------------------

    def unplug(self) -> None:
        self._unplugged = True
        if self._transport is not None:
            self._transport.broken = True
        self.arrived.clear()
        self.out.clear()

    def plug(self, now_s: float) -> None:
        self._unplugged = False

    def kill(self, now_s: float) -> None:
        """End the process as SIGKILL does; another resumes the run later."""
        self._killed, self._begins_s = True, now_s

    def begin_anew(self, now_s: float) -> None:
        self.kill(now_s)  # without its journal a run of the driver is another run

    def outputs_off(self, *, reset: bool = False) -> None:
        """Somebody asks the process to end, which switches the outputs off."""
        self._interrupted = True

    def check_process(self) -> None:
        """Raises what ends the process."""
        if self._killed:
            raise ProcessKilled
        if self._interrupted and not self._leaving:
            self._interrupted = False
            raise KeyboardInterrupt

    def asked(self, place: int) -> None:
        """The driver asks the request at this place."""
        if place >= 0:
            self.unanswered[place] = self.requests[place]

    def heard(self, place: int, *, kept: bool, tripped: bool) -> None:
        """Its answer came; one that the journal does not keep is asked for again later, and it may run again."""
        self.met[Met.TRIPPED] += tripped
        if kept:
            self.unanswered.pop(place, None)
        else:
            self._board.chip.allow_again([place], True)

    def refusal_was_kept(self, refusal: ErrorReply) -> None:
        """What the chip could not do once it may do later, so it is asked again."""
        self._broken(f"the driver's journal answers for the chip: {refusal}"[:200])

    def run_begins_anew(self) -> None:
        """The driver forgets all answers, and will ask for them as another host."""
        self._board.chip.allow_again(range(self.count), True)
        self.unanswered.clear()
        self.met[Met.ANEW] += 1

    def draw_nonce(self) -> int:
        return self._rng.getrandbits(32)

    # --- one process ------------------------------------------------------------------------

    def go_on(self, advance: Advance) -> None:
        """Run one process of the host, until its run is over or something ends it."""
        self.advance = advance
        self._killed = self._interrupted = False
        while self.now_s() < self._begins_s or self._unplugged:
            advance(max(self._begins_s, self.now_s() + 1.0) if self._unplugged else self._begins_s)
        self.answered = 0
        with contextlib.suppress(ProcessKilled, KeyboardInterrupt, HilError):
            with contextlib.closing(WatchedJournal(self._path, self)) as journal:
                self._run(journal)
            return
        self.answered = 0
        if not self._killed:
            self._begins_s = self.now_s() + AGAIN_AFTER_S
        if self._transport is not None:
            self._transport.close()
        self.arrived.clear()
        self.out.clear()

    def _run(self, journal: Journal) -> None:
        session = self._session = Session(
            self._opened(),
            journal=journal,
            reconnection=Reconnection(self._timeout_s, self._opened, clock=self.now_s, sleep=self._sleep),
            key=HostKey(KEY) if self._plan.keyed else None,
            silence_s=self._plan.host.silence_s,
            clock=self.now_s,
        )
        chip = introduced(session, chip=self._spec)
        before, self._served = self._served, (self.link.nonce, session.hello.boot_id)
        self.met[Met.RESUMED] += journal.answers > 1
        self.met[Met.PROVED] += self._plan.keyed
        if before != self._served:
            other_ids = before[0] != self.link.nonce
            self._board.chip.allow_again(self.unanswered, other_ids)
            self.begun_anew += other_ids
        error: KeyboardInterrupt | HilError | None = None
        try:
            self._ask(session)
        except (HilError, KeyboardInterrupt) as failed:
            error = failed
        self._leave(chip, error)
        if error is not None:
            raise error

    def _ask(self, session: Session) -> None:
        for place, reply in enumerate(session.ask_all(self._requests_of(session))):
            if not same_answer(reply, self.requests[place].answer):
                self._broken(f"the answer to request {place} is wrong: {str(reply)[:200]}")
            self.answered = place + 1

    def _requests_of(self, session: Session) -> Iterator[Request[Any]]:
        for place in range(self.count):
            if session.image is not None and place % IMAGE_REQUESTS == 0:
                coming = (self.requests[i].request for i in range(place, min(place + IMAGE_REQUESTS, self.count)))
                session.image.offer([request for request in coming if isinstance(request, ProgramTile)])
            yield self.requests[place].request

    def _leave(self, chip: ChipDriver, error: KeyboardInterrupt | HilError | None) -> None:
        """End a run as ``hil`` does: switch the outputs off, or note that they may be on."""
        before, self._leaving = self._board.chip.switched_off, True
        try:
            if error is None:
                told = chip.leave() is not None
            else:
                chip.__exit__(type(error), error, None)
                told = bool(getattr(error, "__notes__", ()))
        finally:
            self._leaving = False
        self.met[Met.OFF] += not told
        if not told and self._board.chip.switched_off == before:
            self._broken("the driver left the chip as if its outputs were off, and they did not go off")

    def _opened(self) -> Transport:
        """Opens the port. Raises ``PortError`` while it is unplugged."""
        self.check_process()
        if self._unplugged:
            raise PortError(f"there is no port {self._address}")
        self.arrived.clear()
        self.out.clear()
        self._transport = VirtualTransport(self, self._address, self._plan.host.max_payload)
        return self._transport

    def _sleep(self, seconds: float) -> None:
        until_s = self.now_s() + seconds
        while self.now_s() < until_s:
            self.check_process()
            self.advance(until_s)
