"""One end of a link: bytes and a clock in, bytes and whole messages out; the same class for host and chip.

It opens a session by hello, numbers and repeats frames, and says when it wants to be called
next. It never reads, waits or sleeps: ``now_s`` is any clock that does not run backwards.

    host.open(now_s)
    chip.receive(host.data_to_send(now_s), now_s)
    host.receive(chip.data_to_send(now_s), now_s)      # both are up
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from firmware_protocols.codec import decode, encode
from firmware_protocols.errors import (
    ChipRestarted,
    ChipTaken,
    LinkCounters,
    LinkFailed,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    VersionMismatch,
)
from firmware_protocols.frame_size import FrameSize
from firmware_protocols.frames import (
    ACK_BIT,
    DEFAULT_PAYLOAD,
    LAST_BIT,
    MAX_PAYLOAD,
    MIN_PAYLOAD,
    RESET_BIT,
    Frame,
    FrameReader,
    encode_frame,
)
from firmware_protocols.messages import ErrorCode, ErrorReply, Hello, HelloReject, HelloReply
from firmware_protocols.receiving import Received, ReceiveWindow
from firmware_protocols.round_trip import RTO_MAX_S
from firmware_protocols.sending import CONTROL, MAX_TRIES, MAX_WINDOW, SendWindow
from firmware_protocols.states import LINK, LinkEvent, Role, State, moved, takes

VERSION = 0x0104  # major << 8 | minor
VERSIONS = (0x0100, VERSION)  # lowest and highest that are spoken
HELLO_TRIES, HELLO_EVERY_S, HELLO_SLOWEST_S, HELLO_TOTAL_S = 20, 0.1, 1.6, 10.0
HINT_EVERY_S = 0.1  # at most one "I do not know this session" in this time
PROBE_AFTER_S = 1.0  # of silence while something is expected
HEARD_LATELY_S = 2.0  # the line lives, and only long frames do not pass
MAX_RESYNCS, RESYNC_SPAN_S = 3, 30.0
ANY_SESSION = 0  # of a frame for whoever opened a line; no session has this number
RETIRED_SESSIONS = 8  # that a late copy of a hello cannot open again


def taken_frame() -> bytes:
    """What a server sends to a host on a line of its own while it serves another one."""
    busy = encode(ErrorReply(ErrorCode.BUSY, "another host is served", 0.0, 0.0))
    return encode_frame(Frame(RESET_BIT | LAST_BIT, CONTROL, ANY_SESSION, 0, 0, 0, busy))


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """What this end takes: bytes, frames, bytes, seconds without a good frame while one is due."""

    max_payload: int = DEFAULT_PAYLOAD
    window: int = 16
    max_message: int = 1 << 24
    silence_s: float = 10.0

    def __post_init__(self) -> None:
        if not MIN_PAYLOAD <= self.max_payload <= MAX_PAYLOAD:
            raise LocalProtocolError(f"max_payload {self.max_payload} is outside {MIN_PAYLOAD}..{MAX_PAYLOAD} bytes")
        if not 1 <= self.window <= MAX_WINDOW:
            raise LocalProtocolError(f"window {self.window} is outside 1..{MAX_WINDOW} frames")


class Connection:
    """One end of the link.

    Args:
        role: who says hello first.
        limits: what this end takes.
        nonce: host only, u32 that no other opening of the same chip uses (take it from ``secrets``);
            the session id follows from it.
        greet: chip only; answers a hello, given the version chosen, with the reply (its window and
            payload are lowered to what the host takes) and the chip time in ns.
        versions: lowest and highest version spoken.
        session: host only; sessions are numbered from the next one on, 0: from the nonce.
    """

    def __init__(
        self,
        role: Role,
        limits: LinkLimits,
        *,
        nonce: int = 0,
        greet: Callable[[Hello, int], tuple[HelloReply, int]] | None = None,
        versions: tuple[int, int] = VERSIONS,
        session: int = 0,
    ) -> None:
        if (role is Role.CHIP) != (greet is not None):
            raise LocalProtocolError("a chip answers hello with greet, a host has none")
        self.role, self.limits, self.versions = role, limits, versions
        self.counters = LinkCounters()
        self.state = State.CLOSED
        self.failure: ProtocolError | None = None
        self.hello: Hello | None = None  # the host's, of the session that is open
        self.reply: HelloReply | None = None  # the chip's
        self.session = session
        self.expecting = False  # set by the owner: an answer is due, so probe a silent peer
        self.last_heard_s: float | None = None
        self._nonce, self._greet = nonce, greet
        self._reader = FrameReader(MAX_PAYLOAD, self.counters)
        self._urgent: list[bytes] = []  # encoded frames that are not numbered
        self._inbox: list[Received] = []
        self._retired: deque[tuple[int, int]] = deque(maxlen=RETIRED_SESSIONS)
        self._resyncs: deque[float] = deque(maxlen=MAX_RESYNCS)
        self._hint_s = self._opened_s = self._hello_s = float("-inf")
        self._hello_wait_s, self._tries = HELLO_EVERY_S, 0
        self._opening_s = 0.0  # from the first hello to its answer
        self._boot_id: int | None = None
        self._echo = False
        self._reply_frame = b""
        self._size = FrameSize(limits.max_payload)
        self._send = SendWindow(1, self._size, self.counters)
        self._receive = ReceiveWindow(limits.max_message, self.counters)

    @property
    def nonce(self) -> int:
        """Random number by which a host's hellos are told from those of another."""
        return self._nonce

    # --- the owner's side -----------------------------------------------------------------

    def open(self, now_s: float) -> None:
        """Host: start a new session; what was queued in the old one is gone."""
        if not self._takes(LinkEvent.OPEN):
            raise LocalProtocolError("the host opens the link, a chip answers")
        self._greet_chip(LinkEvent.OPEN, now_s)

    def _greet_chip(self, event: LinkEvent, now_s: float) -> None:
        self._move(event)
        self.session = (self.session + 1 if self.session else self._nonce) & 0xFFFF or 1
        self.failure, self.reply = None, None
        self.hello = Hello(*self.versions, self.limits.max_payload, self.limits.window, self._nonce)
        self._opened_s, self._hello_s, self._hello_wait_s, self._tries = now_s, now_s, 0.0, 0
        self._inbox.clear()
        self._urgent.clear()

    def close(self) -> None:
        """Forget the session; a chip then waits for the next hello."""
        self._forget(LinkEvent.CLOSE)

    def send(self, message: bytes, channel: int) -> None:
        """Queue a message; raises ``LocalProtocolError`` when the link is not up."""
        if self.state is not State.UP:
            raise LocalProtocolError(f"the link is {self.state.value}, not up")
        if not message:
            raise LocalProtocolError("an empty message cannot be sent")
        self._send.queue(channel, message)
        self.counters.messages_sent += 1

    def messages(self) -> list[Received]:
        """Messages that arrived since the last call."""
        arrived, self._inbox = self._inbox, []
        return arrived

    @property
    def idle(self) -> bool:
        """Whether everything sent has been acknowledged."""
        return self._send.idle

    @property
    def backed_up(self) -> bool:
        """Whether messages wait for room in the window."""
        return self.state is State.UP and self._send.backed_up

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the line, any bytes. Never raises; see ``failure``."""
        for frame in self._reader.feed(data):
            if frame.flags & RESET_BIT:
                self._take_reset(frame, now_s)
            elif self.state is not State.UP or frame.session != self.session:
                self.counters.wrong_session += 1
                self._hint(frame.session, now_s)
            else:
                self.last_heard_s = now_s
                self._send.acknowledge(frame.ack, frame.selective, now_s)
                if not frame.flags & ACK_BIT:
                    if self._receive.takes(frame.sequence):
                        self._send.heard(len(frame.payload), now_s)
                    self._inbox += self._receive.take(frame)

    def data_to_send(self, now_s: float) -> bytes:
        """Everything to put on the line now; empty when there is nothing to say."""
        self._tick(now_s)
        out, self._urgent = self._urgent, []
        if self.state is State.UP:
            ack, selective = self._receive.expected, self._receive.selective
            for flight in self._send.take(now_s):
                at = (flight.flags, flight.channel, self.session, flight.sequence)
                out.append(encode_frame(Frame(*at, ack, selective, flight.payload)))
                self._receive.ack_due = False
            if self._receive.ack_due:
                self._receive.ack_due = False
                self.counters.acks_sent += 1
                frame = Frame(ACK_BIT, CONTROL, self.session, self._send.next_sequence, ack, selective, b"")
                out.append(encode_frame(frame))
            if self._send.out_of_tries:
                self._give_up_frame(now_s)
        data = b"".join(out)
        self.counters.bytes_sent += len(data)
        return data

    def next_deadline(self, now_s: float) -> float | None:
        """When to call ``data_to_send`` again if nothing arrives before; None: no need."""
        if self._urgent:
            return now_s
        if self.state is State.OPENING:
            return min(self._hello_s + self._hello_wait_s, self._opened_s + HELLO_TOTAL_S)
        if self.state is not State.UP:
            return None
        if self._receive.ack_due or self._send.ready:
            return now_s
        times = [self._send.deadline_s, self._silent_at_s(), self._probe_at_s()]
        return min((time for time in times if time is not None), default=None)

    # --- the clock ------------------------------------------------------------------------

    def _tick(self, now_s: float) -> None:
        if self.state is State.OPENING:
            self._tick_opening(now_s)
        elif self.state is State.UP:
            silent_at_s, probe_at_s = self._silent_at_s(), self._probe_at_s()
            if silent_at_s is not None and now_s >= silent_at_s:
                self._fail(f"no good frame for {self.limits.silence_s:g} s")
            elif probe_at_s is not None and now_s >= probe_at_s:
                self._send.queue_probe()

    def _tick_opening(self, now_s: float) -> None:
        if now_s >= self._opened_s + HELLO_TOTAL_S:
            self._fail(
                f"no answer to {self._tries} hellos in {HELLO_TOTAL_S:g} s"
                + ("; the line returns our own frames (echo or loop-back)" if self._echo else "")
            )
        elif self.hello is not None and now_s >= self._hello_s + self._hello_wait_s:
            self._tries += 1
            self._hello_s = now_s
            slower = self._tries > HELLO_TRIES
            self._hello_wait_s = min(2 * self._hello_wait_s, HELLO_SLOWEST_S) if slower else HELLO_EVERY_S
            self.counters.hellos += 1
            self._urgent.append(self._reset_frame(encode(self.hello), self.session))

    def _silent_at_s(self) -> float | None:
        since_s = self._send.waiting_since_s
        if since_s is None:
            return None
        trip_s = min(self._send.round_trip_s or self._opening_s, RTO_MAX_S)  # on a long line silence begins later
        return max(since_s, self.last_heard_s or since_s) + self.limits.silence_s + 2 * trip_s

    def _probe_at_s(self) -> float | None:
        if not self.expecting or self.last_heard_s is None or not self._send.idle:
            return None
        return self.last_heard_s + PROBE_AFTER_S

    def _give_up_frame(self, now_s: float) -> None:
        """A frame did not get through: in a new session the same message goes in shorter frames."""
        heard = self.last_heard_s is not None and now_s - self.last_heard_s < HEARD_LATELY_S
        again = heard and self.role is Role.HOST and self._size.payload > MIN_PAYLOAD
        self._size.halve()
        if again:
            self._resync(now_s)
        else:
            self._fail(f"a frame got no acknowledgement in {MAX_TRIES} tries")

    def _fail(self, text: str) -> None:
        if self.role is Role.CHIP:
            self._forget(LinkEvent.BROKEN)  # the next hello starts anew
        else:
            self._stop(LinkEvent.BROKEN, LinkFailed(text, self.counters, heard=self.last_heard_s is not None))

    def _stop(self, event: LinkEvent, failure: ProtocolError) -> None:
        self._move(event)
        self.failure = failure
        self._urgent.clear()

    def _forget(self, event: LinkEvent) -> None:
        self._move(event)
        if self.role is Role.CHIP and self.hello is not None:
            self._retired.append((self.session, self.hello.nonce))
        self.hello = None
        self._urgent.clear()

    # --- states ---------------------------------------------------------------------------

    def _takes(self, event: LinkEvent) -> bool:
        return takes(LINK[self.role], self.state, event)

    def _move(self, event: LinkEvent) -> None:
        self.state = moved(LINK[self.role], self.state, event)

    # --- hello ----------------------------------------------------------------------------

    def _reset_frame(self, payload: bytes, session: int, flags: int = RESET_BIT | LAST_BIT) -> bytes:
        return encode_frame(Frame(flags, CONTROL, session, 0, 0, 0, payload))

    def _hint(self, session: int, now_s: float) -> None:
        """Tell a host, rarely, that its session is not known here."""
        if self.role is Role.CHIP and session and now_s >= self._hint_s + HINT_EVERY_S:
            self._hint_s = now_s
            self._urgent.append(self._reset_frame(b"", session, RESET_BIT | ACK_BIT))

    def _take_reset(self, frame: Frame, now_s: float) -> None:
        if frame.flags & ACK_BIT:
            if self._takes(LinkEvent.SESSION_UNKNOWN) and frame.session == self.session:
                self._resync(now_s)
            return
        try:
            message = decode(frame.payload).message
        except RemoteProtocolError:
            self.counters.bad_length += 1
            return
        if isinstance(message, Hello):
            if self._takes(LinkEvent.HELLO):
                self._take_hello(message, frame.session, now_s)
            else:
                self._echo = True
        elif isinstance(message, ErrorReply):
            if message.code is ErrorCode.BUSY and frame.session == ANY_SESSION and self._takes(LinkEvent.HELLO_REPLY):
                self._stop(LinkEvent.REFUSED, ChipTaken("another host is served"))
        elif self._takes(LinkEvent.HELLO_REPLY) and frame.session == self.session:
            self.last_heard_s = now_s
            if isinstance(message, HelloReject):
                theirs = (message.version_min, message.version_max)
                self._stop(LinkEvent.REFUSED, VersionMismatch(self.versions, theirs))
            elif isinstance(message, HelloReply):
                self._take_reply(message, now_s)
        elif self._takes(LinkEvent.REFUSED) and frame.session == self.session and isinstance(message, HelloReply):
            self._check_boot(message)  # a chip that restarted took a late copy of our hello

    def _resync(self, now_s: float) -> None:
        """The chip does not know the session: say hello again, but not for ever."""
        if len(self._resyncs) == MAX_RESYNCS and now_s - self._resyncs[0] < RESYNC_SPAN_S:
            self._fail(f"the session was lost {MAX_RESYNCS + 1} times in {RESYNC_SPAN_S:g} s")
            return
        self._resyncs.append(now_s)
        self.counters.resyncs += 1
        self._greet_chip(LinkEvent.SESSION_UNKNOWN, now_s)

    def _take_hello(self, hello: Hello, session: int, now_s: float) -> None:
        if self._greet is None or session == 0 or hello.max_payload < MIN_PAYLOAD or hello.window < 1:
            return
        if self._takes(LinkEvent.HELLO_COPY) and (session, hello) == (self.session, self.hello):
            self._move(LinkEvent.HELLO_COPY)
            self._urgent.append(self._reply_frame)  # our answer was lost
            return
        if (session, hello.nonce) in self._retired:
            return  # a late copy
        version = min(hello.version_max, self.versions[1])
        if version >> 8 < max(hello.version_min, self.versions[0]) >> 8:
            self._move(LinkEvent.HELLO_REJECTED)
            self._urgent.append(self._reset_frame(encode(HelloReject(*self.versions)), session))
            return
        if self.state is State.UP and self.hello is not None:
            self._retired.append((self.session, self.hello.nonce))
        reply, chip_time_ns = self._greet(hello, version)
        self.session, self.hello, self.reply, self.last_heard_s = session, hello, reply, now_s
        self.counters.hellos += 1
        self._reply_frame = self._reset_frame(encode(reply, chip_time_ns=chip_time_ns), session)
        self._urgent = [self._reply_frame]
        self._start(LinkEvent.HELLO, reply)

    def _take_reply(self, reply: HelloReply, now_s: float) -> None:
        limits = self.limits
        fits = MIN_PAYLOAD <= reply.max_payload <= limits.max_payload and 1 <= reply.window <= limits.window
        if not fits or not self.versions[0] <= reply.version <= self.versions[1]:
            error = RemoteProtocolError(f"the chip answered hello with values that were not offered: {reply}")
            self._stop(LinkEvent.REFUSED, error)
            return
        self._opening_s = now_s - self._opened_s
        if self._check_boot(reply):
            self._boot_id, self.reply = reply.boot_id, reply
            self._start(LinkEvent.HELLO_REPLY, reply)

    def _check_boot(self, reply: HelloReply) -> bool:
        """Whether the chip has not restarted since the last hello; else the link stops with the cause of the reset."""
        if self._boot_id in (None, reply.boot_id):
            return True
        old, self._boot_id = self._boot_id, reply.boot_id
        self._stop(LinkEvent.REFUSED, ChipRestarted(old or 0, reply.boot_id, reply.reset_cause))
        return False

    def _start(self, event: LinkEvent, reply: HelloReply) -> None:
        self._move(event)
        self._inbox.clear()
        self._size.limit(reply.max_payload)
        self._send = SendWindow(reply.window, self._size, self.counters)
        self._receive = ReceiveWindow(self.limits.max_message, self.counters)
