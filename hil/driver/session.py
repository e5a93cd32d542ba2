"""Requests and replies over an open transport, with a deadline on everything.

One ``Session`` is one hello and what follows. It moves bytes between the transport and the
host role of the protocol, keeps several requests in flight, writes the wire log, and turns
what goes wrong into the errors of ``hil.errors``. A line that is gone for a while is opened again
(``hil.driver.reconnection``), and answers that an earlier process got come from a journal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from firmware_protocols.codec import Decoded
from firmware_protocols.connection import LinkLimits
from firmware_protocols.errors import ChipTaken, LinkFailed, RemoteProtocolError
from firmware_protocols.extensions.authority import needed, proof_of, sealer_after, session_key
from firmware_protocols.extensions.journal import JOURNALLED
from firmware_protocols.extensions.messages import AskJournal, Authorise, Challenge, Level
from firmware_protocols.host import HostLink
from firmware_protocols.messages import Capability, ErrorReply, HelloReply, OutputsOff, Progress, Reply, Request
from hil.driver.chip_clock import ComparedClock
from hil.driver.deferred_interrupts import deferred_interrupts
from hil.driver.errors import device_error, forged_counter, link_error, no_answer, no_end, no_hello, wrong_answer
from hil.driver.keys import HostKey
from hil.driver.program_image import SessionImage
from hil.driver.reconnection import Reconnection
from hil.driver.reply_checks import ReplyChecks
from hil.driver.resumed import LeftInChip
from hil.errors import HilError, LinkError, OutputError, PortError
from hil.transports import is_serial
from hil.transports.base import CHUNK, Transport
from hil.transports.dies import HeldDie
from hil.transports.journal import Journal
from hil.transports.wire_log import WireLog

log = logging.getLogger(__name__)

Watcher = Callable[[Progress], None]
R = TypeVar("R", bound=Reply)

FINISH_S = 5.0  # for what is under way when a run is ended
_IN_FLIGHT = 8  # requests sent ahead of the answer that is waited for
_SLICE_S = 0.1  # longest single read
_KEPT = 512  # first bytes each way, to tell an echo from another device
_STRANGER_S = 4.0  # bytes but no frame for so long: this is not our protocol


class Session:
    """An open link to one chip.

    Args:
        transport: the stream; closed by ``close``.
        wire_log: where messages are recorded; closed by ``close``.
        hello_s: longest time for the chip to answer hello, at most 10 s.
        silence_s: longest time without a good frame while one is due.
        answer_s: longest time without a reply or a sign of progress while the link itself is alive.
        journal: answers of this run that an earlier process got, and where those of this one go.
        reconnection: for a line that is silent or gone once the session was open; None: it is lost at once.
        key: what a chip with authority wants proved; None: this host may do what everybody may.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        wire_log: WireLog | None = None,
        hello_s: float = 10.0,
        silence_s: float = 2.0,
        answer_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
        journal: Journal | None = None,
        reconnection: Reconnection | None = None,
        key: HostKey | None = None,
    ) -> None:
        self._authority = HostAuthority(key)
        self.transport, self._log, self._clock, self.journal = transport, wire_log, clock, journal
        self._reconnection = reconnection or Reconnection()
        self._hello: HelloReply | None = None
        self._hello_s, self._silence_s, self._answer_s = hello_s, silence_s, answer_s
        self._link = self._new_link()
        self._asked: dict[int, tuple[Request[Any], Watcher | None]] = {}
        self._answers: dict[int, Reply] = {}
        self._hidden: set[int] = set()  # requests that the run knows nothing of
        self._recalled_ns: dict[int, int] = {}  # chip times of answers from the journal
        self.left_in_chip = LeftInChip()
        self.image: SessionImage | None = None  # of a chip that holds programs
        self._changes_ahead = _IN_FLIGHT
        self._first_sent = self._first_received = b""
        self._requests = self._replies = 0
        self._heard_s = 0.0  # last reply or progress
        self._free_s = 0.0  # last reply, or request of a chip that had none: since when the one that is due is at work
        self.checks = ReplyChecks(transport.address)
        self._closed = self._leaving = self._are_off = False
        self.die: HeldDie | None = None  # of a chip that is silicon
        self.chip_time_ns = self.latest_chip_time_ns = 0  # the latter: also of requests aside, by the chip's own clock
        self._compared: tuple[ComparedClock, Callable[[], float]] | None = None
        self._sent_s: dict[int, float] = {}  # of what was asked, by the clock of the comparison

    def _new_link(self) -> HostLink:
        limits = LinkLimits(max_payload=self.transport.max_payload, window=32, silence_s=self._silence_s)
        nonce, session, opening = (secrets.randbits(32), 0, 0) if self.journal is None else self.journal.opening()
        packs = is_serial(self.address)
        return HostLink(nonce=nonce, limits=limits, session=session, opening=opening, packs=packs)

    @property
    def address(self) -> str:
        return self.transport.address

    @property
    def link(self) -> HostLink:
        """The host role of the protocol."""
        return self._link

    @property
    def hello(self) -> HelloReply:
        """The chip's answer to hello; only once the session is open."""
        if self._hello is None:
            raise no_hello(self.address, self._first_sent, self._first_received, 0.0)
        return self._hello

    @property
    def counters(self) -> dict[str, int]:
        """Bytes, frames, retransmissions and so on, and the requests and replies that they carried."""
        return {"requests": self._requests, "replies": self._replies, **dataclasses.asdict(self._link.counters)}

    # --- talking --------------------------------------------------------------------------

    def open(self) -> HelloReply:
        """Say hello until the chip answers.

        Raises:
            LinkError: silent, lost, or not speaking the protocol. PortError: the chip serves another host.
            MismatchError: no common protocol version.
        """
        start_s = self._clock()
        self._link.open(start_s)
        while not self._link.up:
            self._pump(start_s + self._hello_s)
            waited_s = self._clock() - start_s
            stranger = bool(self._first_received) and self._link.last_heard_s is None and waited_s > _STRANGER_S
            if not self._link.up and (waited_s >= self._hello_s or stranger):
                raise no_hello(self.address, self._first_sent, self._first_received, waited_s)
        self._hello = self._link.hello
        if self._log is not None:
            self._log.received(self.hello, 0, 0)
        self.checks.hello(self.hello)
        self._prepare(self.hello.capabilities)
        return self.hello

    def open_anew(self) -> None:
        """Say hello as another host, after the journal was emptied; raises what ``open`` does."""
        self._link = self._new_link()
        self.open()

    def _prepare(self, can: Capability) -> None:
        """Read the depth of the chip's journal, which limits requests in flight; prove the key; set up the image."""
        if Capability.JOURNAL in can and self.journal is not None:
            self._changes_ahead = max(1, min(_IN_FLIGHT, self.ask_aside(AskJournal()).depth))
        if (level := self._authority.first_level(can)) is not None:
            self._authorise(level)
        if Capability.IMAGES in can and Capability.PROGRAM_TILE in can:
            self.image = SessionImage(self.hello.max_message, self.ask_aside)

    def _authorise(self, level: Level) -> None:
        """Prove the key; from then on, requests that change the chip carry a seal."""
        while self._link.waiting:  # what is under way bears the seal of before
            self._pump(self._clock() + self._answer_s)
        self._authority.prove(level, self._link, self.ask_aside, self.address)

    @property
    def closed(self) -> bool:
        return self._closed

    def ask(self, request: Request[R], *, allow_s: float = 0.0) -> R:
        """Send one request and wait for its answer; ``allow_s``: its expected duration."""
        usual, self._answer_s = self._answer_s, self._answer_s + allow_s
        try:
            (reply,) = self.ask_all((request,))
        finally:
            self._answer_s = usual
        return reply

    def ask_aside(self, request: Request[R]) -> R:
        """Send a request that is no part of the run and wait for its answer; neither journal nor log holds it."""
        request_id = self._send(request, None, aside=True)
        self._hidden.add(request_id)
        return self._await(request_id, request)

    def ask_all(self, requests: Iterable[Request[R]], watch: Watcher | None = None) -> Iterator[R]:
        """Send requests, several ahead, and give their answers in order.

        ``watch`` is called with each ``Progress``, in the order of the requests.

        Raises:
            DeviceError: the chip refused or failed one.
            LinkError: the chip fell silent or was lost.
        """
        rest = iter(requests)
        waiting: deque[tuple[int, Request[R]]] = deque()
        ahead = _IN_FLIGHT
        try:
            while True:
                while len(waiting) < ahead and (request := next(rest, None)) is not None:
                    waiting.append((self._send(request, watch), request))
                    ahead = self._changes_ahead if isinstance(request, JOURNALLED) else _IN_FLIGHT
                if not waiting:
                    return
                yield self._await(*waiting[0])
                waiting.popleft()
        finally:
            for request_id, _ in waiting:  # after an error their answers interest nobody
                self._asked.pop(request_id, None)
                self._answers.pop(request_id, None)

    def close(self, ending: str = "") -> None:
        """Close stream and log; ``ending`` is the error that ended the session. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self.image = None  # it asks through this session, and a circle would keep an emulated chip in memory
        try:
            self.transport.close()
        finally:
            if self.die is not None:
                self.die.release(clean=self._are_off)
            if self._log is not None:
                self._log.close(self.counters, ending)

    def compare_clocks(self, first: ComparedClock, clock: Callable[[], float]) -> None:
        """Use the chip's clock only while it agrees with the host's ``clock``; after that, use the host's.

        A replayed recording is not compared: it was made at another time.
        """
        if not self.address.startswith("replay:"):
            self._compared = first, clock

    def say(self, text: str) -> None:
        """Report one line of text to the user."""
        self._reconnection.say(text)

    # --- one request ----------------------------------------------------------------------

    def _send(self, request: Request[Any], watch: Watcher | None, *, aside: bool = False) -> int:
        if self.journal is not None and not aside:
            known = self.journal.recall(request)
            if known is not None:
                return self._recall(request, known)
            self.left_in_chip.check(self.address, request)
            for loaded in self.left_in_chip.take_loaded():
                self.ask_aside(loaded)
        give_up_s = self._clock() + self._hello_s
        while not self._link.up:  # a session is being opened anew
            self._pump(give_up_s)
            if self._clock() >= give_up_s and not self._link.up and not self._reconnection.waiting:
                raise no_hello(self.address, self._first_sent, self._first_received, self._hello_s)
        if not self._asked:
            self._heard_s = self._free_s = self._clock()
        if (level := self._authority.lacking(request)) is not None:
            self._authorise(level)
        meant = request if self.image is None else self.image.instead_of(request)
        with deferred_interrupts():
            request_id = self._link.request(meant, aside=aside)
            self._asked[request_id] = (request, watch)
            if self._compared is not None:
                self._sent_s[request_id] = self._compared[1]()
            self._requests += 1
            if self.journal is not None and not aside:
                self.journal.asked(request, request_id)
        log.debug("> %d %s", request_id, type(request).__name__)
        if self._log is not None and (not aside or isinstance(request, OutputsOff)):
            self._log.sent(request, request_id)
        return request_id

    def _recall(self, request: Request[Any], known: Decoded) -> int:
        """Take an answer from the journal instead of sending the request."""
        request_id = self._link.skip_id()
        self._asked[request_id] = (request, None)
        assert isinstance(known.message, Reply)
        self._answers[request_id], self._recalled_ns[request_id] = known.message, known.chip_time_ns
        self.left_in_chip.see(request)
        if self._log is not None:
            self._log.sent(request, request_id)
            self._log.received(known.message, request_id, known.chip_time_ns)
        return request_id

    def _await(self, request_id: int, request: Request[R]) -> R:
        while request_id not in self._answers:
            self._pump(self._heard_s + self._answer_s)
            if request_id in self._answers:
                break
            at_work = request if isinstance(request, OutputsOff) else self._waiting() or request
            now_s, allowed_s = self._clock(), self.checks.allowed_s(at_work, self._answer_s)
            if now_s - self._heard_s > self._answer_s:
                raise no_answer(self.address, request, self._answer_s)
            if now_s - self._free_s > allowed_s:
                raise no_end(self.address, at_work, allowed_s)
        del self._asked[request_id]
        self._sent_s.pop(request_id, None)
        self._hidden.discard(request_id)
        self.chip_time_ns = max(self.chip_time_ns, self._recalled_ns.pop(request_id, 0))
        self.checks.answered(request_id)
        reply = self._answers.pop(request_id)
        if isinstance(reply, ErrorReply):
            raise device_error(self.address, request, reply)
        if not isinstance(reply, request.reply_class):
            raise wrong_answer(self.address, request, reply)
        self.checks.reply(request, reply)
        return reply

    def _pump(self, until_s: float) -> None:
        """Move bytes both ways once; wait for some until ``until_s``, or until the link wants its turn."""
        try:
            if self.journal is None:
                self._move_bytes(until_s)
            else:
                with deferred_interrupts():  # what the chip answered must not be lost between wire and journal
                    self._move_bytes(until_s)
        except (LinkError, PortError) as error:
            self._begin_again(error)
        if self._reconnection.waiting:
            self._heard_s = self._free_s = self._clock()
            if self._link.up:
                self._reconnection.heard()
            else:
                self._reconnection.go_on(self.transport)

    def _begin_again(self, error: LinkError | PortError) -> None:
        """Reopen a lost line, say hello again and repeat unanswered requests, which the chip carries out once.

        Raises:
            LinkError, PortError: no session was open, the line brought invalid data, or reconnecting took too long.
        """
        failure = self._link.failure
        if self._hello is None or self._leaving or not isinstance(failure, LinkFailed | ChipTaken | None):
            raise error
        self.transport = self._reconnection.line_again(self.transport, error, broke=not isinstance(failure, LinkFailed))
        self._link.open(self._clock())

    def _move_bytes(self, until_s: float) -> None:
        now_s = self._clock()
        out = self._link.data_to_send(now_s)
        if out:
            self._first_sent = self._first_sent or out[:_KEPT]
            self.transport.write(out)
        due_s = self._link.next_deadline(now_s)
        wait_s = min(until_s, now_s + _SLICE_S if due_s is None else min(due_s, now_s + _SLICE_S)) - now_s
        data = self.transport.read(CHUNK, max(0.0, wait_s))
        if data:
            if len(self._first_received) < _KEPT:
                self._first_received += data[:_KEPT]
            before = self._link.counters.message_bytes
            self._link.receive(data, self._clock())
            if self._link.counters.message_bytes > before:  # on a slow line a long message takes its time
                self._heard_s = self._free_s = self._clock()
            self._take_replies()
        if self._link.failure is not None:
            raise link_error(self.address, self._link.failure, self._first_sent, self._first_received, self._waiting())

    def _take_replies(self) -> None:
        for request_id, reply, chip_time_ns in self._link.poll():
            hidden, self.latest_chip_time_ns = request_id in self._hidden, chip_time_ns
            if not hidden:
                self.chip_time_ns = self._checked_ns(request_id, chip_time_ns)
            alive = not isinstance(reply, Progress) or self.checks.progress(request_id, reply)
            if alive:
                self._heard_s = self._clock()
            log.debug("< %d %s", request_id, type(reply).__name__)
            if self._log is not None and not hidden:
                self._log.received(reply, request_id, chip_time_ns)
            if self.journal is not None and not isinstance(reply, Progress):
                self.journal.answered(request_id, reply, chip_time_ns)
            asked = self._asked.get(request_id)
            if isinstance(reply, Progress):
                if alive and asked is not None and asked[1] is not None:
                    asked[1](reply)
                continue
            self._free_s = self._heard_s
            self._replies += 1
            if asked is not None:
                self._answers[request_id] = reply

    def _checked_ns(self, request_id: int, chip_time_ns: int) -> int:
        if self._compared is None or request_id not in self._sent_s:
            return chip_time_ns
        compared, clock = self._compared
        return compared.checked_ns(chip_time_ns, self._sent_s[request_id], clock())

    def _waiting(self) -> Request[Any] | None:
        """The oldest unanswered request."""
        return next((request for i, (request, _) in self._asked.items() if i not in self._answers), None)

    # --- leaving --------------------------------------------------------------------------

    def finish(self, within_s: float) -> None:
        """Wait for outstanding answers, so that the journal holds them; errors meanwhile are ignored."""
        until_s = self._clock() + within_s
        with contextlib.suppress(HilError, KeyboardInterrupt):  # who asks twice to end does not wait
            while self.journal is not None and self.journal.waiting and self._link.up and self._clock() < until_s:
                self._pump(until_s)

    def outputs_off(self, within_s: float = 2.0) -> HilError | None:
        """Switch the outputs off while closing; returns an error instead of raising it."""
        usual, self._answer_s = self._answer_s, within_s
        failed: HilError | None = None
        if self._reconnection.waiting:
            return LinkError(f"no answer from {self.address}")
        self._leaving = True
        if self.journal is not None and self._link.up:
            self.finish(FINISH_S)
            with contextlib.suppress(OutputError):
                self.journal.left()
        try:
            for _ in range(2):  # a full disk under the wire log must not keep the request from being sent
                try:
                    off = OutputsOff()
                    self._await(self._send(off, None, aside=self.journal is not None), off)
                    break
                except OutputError as error:
                    failed = error
        except HilError as error:
            failed = error
        finally:
            self._answer_s = usual
        self._are_off = failed is None or isinstance(failed, OutputError)
        return failed


class HostAuthority:
    """The key of a host, or None, and the level that the chip grants it."""

    def __init__(self, key: HostKey | None) -> None:
        self._key = key
        self.level: Level | None = None  # None: the chip wants no key, or has got none

    def first_level(self, can: Capability) -> Level | None:
        """Level of authority to prove when a session begins; None: no key, or the chip wants none."""
        if self._key is None or Capability.AUTHORITY not in can:
            return None
        usual = Level.PROGRAM if Capability.PROGRAM_TILE in can else Level.SERVICE
        return usual if self._key.level is None else self._key.level

    def lacking(self, request: Request[Any]) -> Level | None:
        """Level that a request needs above the granted one; None: the granted level suffices, or no key is wanted."""
        return needed(request) if self.level is not None and needed(request) > self.level else None

    def prove(self, level: Level, link: HostLink, ask: Callable[[Request[Any]], Any], address: str) -> None:
        """Prove the key by two requests; from then on, requests that change the chip carry a seal.

        Raises:
            NotAuthorised: the key is for another level, or the chip refuses it. LinkError: the seal counter was forged.
        """
        assert self._key is not None
        key, nonce = self._key.of(level), link.nonce
        challenge = ask(Challenge())
        ask(Authorise(level, proof_of(key, challenge.nonce, level, nonce)))
        try:
            seals = sealer_after(challenge, session_key(key, challenge.nonce, level, nonce), before=link.sealer)
        except RemoteProtocolError as error:
            raise forged_counter(address, error) from error
        link.sealer, self.level = seals, level
