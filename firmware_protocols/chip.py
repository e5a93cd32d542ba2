"""The chip's end: bytes in, handlers called, bytes out; runs an emulated chip or a board's own SDK.

server = ChipServer(handlers, boot_id=secrets.randbits(32))
while True:
    ... write(server.data_to_send(now_s)); read until server.next_deadline(now_s) ...
    server.receive(data, now_s)
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections import deque
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

from firmware_protocols.capability import SINCE
from firmware_protocols.codec import HEADER, decode, encode
from firmware_protocols.coding.packed import asks_packed, packed, unpacked
from firmware_protocols.connection import VERSIONS, Connection, LinkLimits
from firmware_protocols.dead_man import OFF, DeadMan
from firmware_protocols.errors import LinkCounters, MalformedMessage, UnknownOperation
from firmware_protocols.extensions import messages as later
from firmware_protocols.extensions.chip_side import OWN, Extras, Keeping
from firmware_protocols.extensions.journal import JOURNALLED
from firmware_protocols.handlers import Answer, ChipHandlers, Refusal, call, prepare
from firmware_protocols.messages import (
    Capability,
    ErrorCode,
    ErrorReply,
    Hello,
    HelloReply,
    HoldProgram,
    LoadLayer,
    Mvm,
    OutputsOff,
    ProgramTile,
    Progress,
    Pulse,
    Reply,
    Request,
    Reset,
    Returns,
    Status,
    Sweep,
    Wait,
)
from firmware_protocols.outputs import OutputState, fault_text, state_of
from firmware_protocols.plans.messages import LoadPlan, RunPlan
from firmware_protocols.receiving import Received
from firmware_protocols.request_states import CACHED_REPLIES, RequestStates, meant
from firmware_protocols.sending import EVENTS, RESULTS
from firmware_protocols.states import JobEvent, Role, State

log = logging.getLogger(__name__)

MAX_REPLY = 1 << 24  # bytes
COMMANDED_RESET = 2
RESET_STEP = 0x9E3779B9  # to the boot id of a commanded reset: not that of a start soon, which a board counts by 1


class _Job(NamedTuple):
    request_id: int
    request: Request[Any]
    size: int  # bytes of the request
    counter: int = 0  # of its seal
    packs: bool = False  # its reply


_Work = tuple[_Job, Generator[Progress | None, None, Reply]]


class ChipServer:
    """Chip role over any ``ChipHandlers``: one request at a time, each executed at most once.

    The last 16 replies are kept by request id, so a request that comes again is answered, not
    repeated. Work is done in slices inside ``data_to_send``, after what the link has to say is
    out. ``OutputsOff`` and ``Reset`` do not queue: they end all other work, which is answered
    STOPPED. ``Status`` does not queue either, and ends nothing. When a host is missed for too long
    (``DeadMan``), the outputs go off, and work waits until it is heard again.

    Example:
        >>> chip = ChipServer(hil.Board(cim.load_chip("lab-128", macros=1)), boot_id=1)
        >>> host = HostLink(nonce=7)
        >>> host.open(now_s=0.0)
        >>> chip.receive(host.data_to_send(0.0), now_s=0.0)
        >>> host.receive(chip.data_to_send(0.1), now_s=0.1)
        >>> host.up
        True
    """

    def __init__(
        self,
        handlers: ChipHandlers,
        *,
        boot_id: int,
        reset_cause: int = 1,
        limits: LinkLimits | None = None,
        versions: tuple[int, int] = VERSIONS,
        keeping: Keeping | None = None,
    ) -> None:
        self.handlers, self._version = handlers, versions[1]
        self._extras, self._now_s = Extras(keeping), 0.0
        self._slept_ns = max(self._extras.last_time_ns - handlers.chip_time_ns, 0)
        self.boot_id, self.reset_cause = boot_id, reset_cause
        self._limits = limits or LinkLimits(max_message=1 << 20)
        this = weakref.proxy(self)  # no circle: a chip is freed with the last line that holds it
        self.connection = Connection(Role.CHIP, self._limits, greet=lambda *said: this._greet(*said), versions=versions)
        self._host: int | None = None  # nonce of the host that is served
        self._queue, self._queued_bytes = deque[_Job](), 0
        self._running: _Work | None = None
        self._beside: list[_Work] = []  # what is answered while another request runs
        self._requests = RequestStates()
        self._restart_due = self._off_due = False
        self._dead_man = DeadMan(versions[1])

    @property
    def capabilities(self) -> Capability:
        """What the handlers can do in this version, and what the chip role adds."""
        added = OWN
        for capability, version in SINCE.items():
            added |= capability if self._version < version else Capability(0)
        own = self._extras.capabilities | self._dead_man.capability
        own |= Capability.PACKED if self._version >= SINCE[Capability.PACKED] else Capability(0)
        return self.handlers.capabilities & ~(added | Capability.DEAD_MAN) | own

    @property
    def chip_time_ns(self) -> int:
        """The board's clock; where that began anew, it goes on from the last entry of the journal."""
        return self.handlers.chip_time_ns + self._slept_ns

    @property
    def counters(self) -> LinkCounters:
        return self.connection.counters

    @property
    def busy(self) -> bool:
        """Whether a request waits or runs."""
        return bool(self._queue) or self._running is not None or bool(self._beside)

    @property
    def unanswered(self) -> frozenset[int]:
        """Requests that wait or run."""
        return self._requests.unanswered

    @property
    def answered(self) -> frozenset[int]:
        """Requests whose replies are kept: one that comes again is answered, not done again."""
        return self._requests.answered

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the line, any bytes. Never raises."""
        self._now_s = now_s
        self.connection.receive(data, now_s)
        for received in self.connection.messages():
            self._accept(received)

    def data_to_send(self, now_s: float) -> bytes:
        """Bytes for the line; when there are none, one slice of work and what it has to say."""
        self._now_s = now_s
        was_up = self.connection.state is State.UP
        data = self.connection.data_to_send(now_s)
        if was_up and self.connection.state is not State.UP:
            self._lose_host()
        off_s = self._dead_man.due_s(self.connection.last_heard_s)
        if off_s is not None and now_s >= off_s:
            self.miss_host()
        if not data and self._may_work():
            self._work()
            data = self.connection.data_to_send(now_s)
        if self._off_due and not self.busy:
            self._off_due = False
            self._outputs_off()
        if self._restart_due and self.connection.idle:
            self._restart()
        return data

    def miss_host(self) -> None:
        """Outputs off, and work waits for a host: nothing was heard of it, or its line is gone (a closed socket)."""
        self._dead_man.miss(self.connection.last_heard_s)
        self._outputs_off()

    def next_deadline(self, now_s: float) -> float | None:
        """When to call ``data_to_send`` again if nothing arrives before."""
        if self._may_work():
            return now_s
        times = (self.connection.next_deadline(now_s), self._dead_man.due_s(self.connection.last_heard_s))
        return min((time for time in times if time is not None), default=None)

    def _may_work(self) -> bool:
        """Work waits while its replies cannot leave: the far side's pace is ours. So it does while nobody is there."""
        held_up = self._dead_man.holds_up(self.connection.last_heard_s)
        return self.busy and not held_up and not self.connection.backed_up

    # --- sessions -------------------------------------------------------------------------

    def _greet(self, hello: Hello, version: int) -> tuple[HelloReply, int]:
        if hello.nonce != self._host:
            if self._host is not None:
                self._stop_all("another host took over")
                self._outputs_off()
            self._requests.forget_replies()
            self._host = hello.nonce
            self._recall(hello.nonce)
        self._off_due = False
        limits = self._limits
        reply = HelloReply(
            version=version,
            boot_id=self.boot_id,
            reset_cause=self.reset_cause,
            max_payload=min(hello.max_payload, limits.max_payload),
            window=min(hello.window, limits.window),
            max_message=limits.max_message,
            capabilities=self.capabilities,
        )
        return reply, self.chip_time_ns

    def _recall(self, nonce: int) -> None:
        """A new host, or one that was served before this start: answers to it that the journal holds are kept again."""
        if self._extras.authority is not None:
            self._extras.authority.drop()
        if self._extras.journal is not None:
            answers = self._extras.journal.answers_to(nonce)
            for request_id in list(answers)[-CACHED_REPLIES:]:
                self._requests.recall(request_id, answers[request_id])

    def _lose_host(self) -> None:
        """The link failed: forget what waits (a host that comes back repeats it), finish what runs, outputs off."""
        self._forget_queue()
        self._off_due = True

    def _restart(self) -> None:
        """What a commanded reset does to the link: a new boot id, nothing remembered. What was asked since ends."""
        self._restart_due = False
        self.connection.close()
        self._stop_all("the chip restarts")
        self._outputs_off()
        self.boot_id = (self.boot_id + RESET_STEP) & 0xFFFFFFFF
        self.reset_cause = COMMANDED_RESET
        self._host = None
        self._requests.forget_replies()

    # --- requests -------------------------------------------------------------------------

    def _accept(self, received: Received) -> None:
        data = received.data
        request_id = HEADER.unpack_from(data)[2] if len(data) >= HEADER.size else 0
        if request_id in self._requests:
            reply = self._requests.again(request_id)
            if reply is not None:
                self._say(reply, RESULTS)
            return
        if received.too_long:
            self._refuse(request_id, ErrorCode.LIMIT, "the message is too long", received.too_long)
            return
        try:
            data = bytes(unpacked(data, self._limits.max_message))
            message = decode(data).message
        except UnknownOperation as error:
            self._refuse(request_id, ErrorCode.UNSUPPORTED, str(error))
            return
        except MalformedMessage as error:
            self._refuse(request_id, ErrorCode.MALFORMED, error.text)
            return
        if not isinstance(message, Request):
            self._refuse(request_id, ErrorCode.UNSUPPORTED, f"{type(message).__name__} is not a request")
            return
        if missing := capabilities_for(message) & ~self.capabilities:
            self._refuse(request_id, ErrorCode.UNSUPPORTED, f"this chip has no {missing.name}")
            return
        try:
            counter = self._extras.authority.check(message, data) if self._extras.authority is not None else 0
        except Refusal as refusal:
            self._refuse(request_id, refusal.code, refusal.text, refusal.value, refusal.limit)
            return
        job = _Job(request_id, message, len(data), counter, packs=asks_packed(data))
        if isinstance(message, OFF):
            self._stop_all("the outputs were switched off")
            self._start(job)
        elif isinstance(message, Status):
            self._start(job)
        elif self._queued_bytes + job.size > 2 * self._limits.max_message:
            self._refuse(request_id, ErrorCode.BUSY, "too much is queued", self._queued_bytes + job.size)
        else:
            self._requests.move(request_id, JobEvent.QUEUE)
            self._queue.append(job)
            self._queued_bytes += job.size

    def _work(self) -> None:
        """Do one slice: start the next request, or run the long one to its next yield."""
        for job, steps in list(self._beside):
            with self._guarded(job):
                self._step(job, steps)
        if self._running is not None:
            job, steps = self._running
            with self._guarded(job):
                if self._dead_man.missed:
                    self._prepare(meant(job.request, self._extras.images))
                self._step(job, steps)
        elif self._queue:
            job = self._queue.popleft()
            self._queued_bytes -= job.size
            self._start(job)
        self._dead_man.missed = False

    def _start(self, job: _Job) -> None:
        self._requests.move(job.request_id, JobEvent.START)
        with self._guarded(job):
            answer = self._call(job)
            if not isinstance(answer, Generator):
                self._finish(job, answer)
            elif isinstance(job.request, Status):
                self._beside.append((job, answer))
            else:
                self._running = (job, answer)

    def _prepare(self, request: Request[Any]) -> None:
        """Start or resume a request: note it for the dead-man timer, and let the board switch on what it needs."""
        self._dead_man.see(request)
        prepare(self.handlers, request)

    def _ended(self, job: _Job) -> None:
        if self._running is not None and self._running[0] is job:
            self._running = None
        self._beside = [work for work in self._beside if work[0] is not job]

    def _step(self, job: _Job, steps: Generator[Progress | None, None, Reply]) -> None:
        try:
            progress = next(steps)
        except StopIteration as end:
            self._ended(job)
            self._finish(job, end.value)
            return
        if progress is not None:
            self._say(encode(progress, job.request_id, self.chip_time_ns), EVENTS)

    @contextlib.contextmanager
    def _guarded(self, job: _Job) -> Iterator[None]:
        """Turns what a handler raises into a reply."""
        try:
            yield
        except Refusal as refusal:
            self._ended(job)
            self._refuse(job.request_id, refusal.code, refusal.text, refusal.value, refusal.limit)
        except Exception as error:
            log.exception("request %d (%s) failed", job.request_id, type(job.request).__name__)
            self._ended(job)
            self._refuse(job.request_id, ErrorCode.FAULT, fault_text(error, self._outputs_off()))

    def _call(self, job: _Job) -> Answer[Reply]:
        if self._extras.authority is not None:
            self._extras.authority.take(job.counter)
        if (own := self._extras.answer(job.request, self._host or 0, self._now_s)) is not None:
            return own
        request = meant(job.request, self._extras.images)
        self._dead_man.see(request)
        return call(self.handlers, request)

    # --- answers --------------------------------------------------------------------------

    def _finish(self, job: _Job, reply: Reply) -> None:
        if not isinstance(reply, job.request.reply_class):
            wanted = job.request.reply_class.__name__
            raise TypeError(f"the handler of {type(job.request).__name__} gave {type(reply).__name__}, not {wanted}")
        data = encode(reply, job.request_id, self.chip_time_ns)
        if len(data) > MAX_REPLY:
            raise Refusal(ErrorCode.LIMIT, "the reply is too long; ask for less", len(data), MAX_REPLY)
        if self._extras.journal is not None and isinstance(job.request, JOURNALLED):
            self._extras.journal.add(self._host or 0, job.request_id, encode(job.request)[0], data)
        self._keep(job.request_id, packed(data) if job.packs else data)
        self._restart_due |= isinstance(job.request, Reset)

    def _refuse(self, request_id: int, code: ErrorCode, text: str, value: float = 0.0, limit: float = 0.0) -> None:
        if code is ErrorCode.LIMIT and not limit:
            limit = self._limits.max_message
        self._keep(request_id, encode(ErrorReply(code, text, value, limit), request_id, self.chip_time_ns))

    def _keep(self, request_id: int, data: bytes) -> None:
        self._requests.keep(request_id, data)
        self._say(data, RESULTS)

    def _forget_queue(self) -> None:
        """Drop the requests that wait."""
        for job in self._queue:
            self._requests.move(job.request_id, JobEvent.FORGET)
        self._queue.clear()
        self._queued_bytes = 0

    def _say(self, data: bytes, channel: int) -> None:
        if self.connection.state is State.UP:
            self.connection.send(data, channel)

    def _stop_all(self, why: str) -> None:
        """End the running request at its yield and refuse those that wait."""
        jobs = list(self._queue)
        self._queue.clear()
        self._queued_bytes = 0
        works = [*(() if self._running is None else (self._running,)), *self._beside]
        self._running, self._beside = None, []
        for job, steps in works:
            try:
                steps.close()
            except Exception:
                log.exception("request %d failed while it was stopped", job.request_id)
        jobs[:0] = [job for job, _ in works]
        for job in jobs:
            self._refuse(job.request_id, ErrorCode.STOPPED, why)

    def _outputs_off(self) -> OutputState:
        """Switch the outputs off without a request, and return their state."""
        off = OutputsOff()
        self._dead_man.see(off)
        try:
            call(self.handlers, off)
        except Exception:
            log.exception("outputs_off failed")
            return state_of(self.handlers, failed=True)
        return state_of(self.handlers, failed=False)


_NEEDS: dict[type, Capability] = {
    ProgramTile: Capability.PROGRAM_TILE,
    Pulse: Capability.PULSE,
    Sweep: Capability.SWEEP,
    LoadLayer: Capability.LAYER,
    LoadPlan: Capability.PLAN | Capability.LAYER,
    RunPlan: Capability.PLAN | Capability.LAYER,
    HoldProgram: Capability.HELD_PROGRAM,
    Wait: Capability.WAIT,
    Reset: Capability.RESET,
    later.AskJournal: Capability.JOURNAL,
    later.ImageTile: Capability.IMAGES | Capability.PROGRAM_TILE,
    **dict.fromkeys((later.ImageBegin, later.ImageChunk, later.ImageStatus, later.ImageCommit), Capability.IMAGES),
    **dict.fromkeys((later.Challenge, later.Authorise, later.DropAuthority), Capability.AUTHORITY),
}
_RETURNS = {Returns.RAW: Capability.RAW, Returns.SUMS: Capability.SUMS, Returns.LAYER: Capability.LAYER}


def capabilities_for(request: Request[Any]) -> Capability:
    """Capabilities that a chip needs for a request."""
    needs = _NEEDS.get(type(request), Capability(0))
    if isinstance(request, Mvm | Sweep):
        needs |= _RETURNS[request.returns]
    if _reads(request) > 1:
        needs |= Capability.REPEATED_READS
    return needs


def _reads(request: Request[Any]) -> int:
    """Most reads of one product."""
    if isinstance(request, LoadLayer):
        return max((tile.reads for tile in request.tiles), default=1)
    return request.reads if isinstance(request, Mvm | Sweep) else 1
