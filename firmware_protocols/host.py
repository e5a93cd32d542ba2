"""The host's end: requests in, replies out, over one ``Connection``.

link = HostLink(nonce=secrets.randbits(32))
link.open(now_s)
... move bytes both ways until ``link.up`` ...
request_id = link.request(Describe())
... move bytes both ways ...
for request_id, reply, chip_time_ns in link.poll(): ...
link.check()                                       # raises what went wrong
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from firmware_protocols.codec import decode, encode
from firmware_protocols.coding.packed import ANSWER_PACKED, packed
from firmware_protocols.connection import VERSIONS, Connection, LinkLimits
from firmware_protocols.errors import LinkCounters, LocalProtocolError, ProtocolError, RemoteProtocolError
from firmware_protocols.extensions.authority import Sealer, needed
from firmware_protocols.extensions.messages import Level
from firmware_protocols.messages import Capability, HelloReply, OutputsOff, Progress, Reply, Request, Reset
from firmware_protocols.receiving import Received
from firmware_protocols.request_states import ASIDE
from firmware_protocols.sending import BULK, CONTROL
from firmware_protocols.states import ASKS, AskEvent, AskState, Role, State, moved

CREDIT = 15  # requests unanswered at a time; the chip remembers 16 replies, one place is for outputs off
LAST_ID = ASIDE - 1  # of requests in turn; ids above are those of requests aside
ASIDE_IDS, ASIDE_OF_AN_OPENING = 0xFFFF - LAST_ID, 64


@dataclass(slots=True, eq=False)
class _Pending:
    """A request without its final reply."""

    data: bytes
    size: int  # as the chip keeps it: not packed
    channel: int
    turn: int  # of all ids in turn, which one; 0: aside
    state: AskState = AskState.QUEUED

    def move(self, event: AskEvent) -> None:
        self.state = moved(ASKS, self.state, event)


class HostLink:
    """Host role: keeps requests within what the chip can hold, repeats them after a lost session.

    ``nonce`` must differ at each opening of a chip (``secrets.randbits(32)``): the chip keeps
    finished replies for one nonce, so that a request repeated in a new session runs once.

    A host that was killed and goes on takes its ``nonce`` again, a later ``session`` than any before, and the
    number of its ``opening``; it gives requests the ids that they had (``skip_id``), and what the chip has
    done is not done twice.

    ``packs``: bodies go packed both ways, where the chip can (capability PACKED): for a line that is slow.

    Example:
        >>> host = HostLink(nonce=7)
        >>> host.open(now_s=0.0)
        >>> len(host.data_to_send(now_s=0.0)) > 0, host.up
        (True, False)
    """

    def __init__(
        self,
        *,
        nonce: int,
        limits: LinkLimits | None = None,
        versions: tuple[int, int] = VERSIONS,
        session: int = 0,
        opening: int = 0,
        packs: bool = False,
    ) -> None:
        self.connection = Connection(Role.HOST, limits or LinkLimits(), nonce=nonce, versions=versions, session=session)
        self._packs = packs
        self._pending: dict[int, _Pending] = {}
        self._unsent: deque[int] = deque()
        self._in_flight = self._in_flight_bytes = 0
        self._next_id = 1
        self._turns = 0  # ids in turn that were taken
        self._aside = opening * ASIDE_OF_AN_OPENING
        self._session = 0
        self._arrived: list[tuple[int, Reply, int]] = []
        self._failure: ProtocolError | None = None
        self.sealer: Sealer | None = None  # of a chip that wants a key

    def open(self, now_s: float) -> None:
        """Say hello; ``up`` turns true when the chip has answered."""
        self.connection.open(now_s)

    @property
    def nonce(self) -> int:
        """Random number that this host says in its hellos."""
        return self.connection.nonce

    @property
    def up(self) -> bool:
        return self.connection.state is State.UP and self._failure is None

    @property
    def hello(self) -> HelloReply | None:
        """What the chip answered to hello; None until then."""
        return self.connection.reply

    @property
    def counters(self) -> LinkCounters:
        return self.connection.counters

    @property
    def failure(self) -> ProtocolError | None:
        """Why nothing more will come; None while the link lives."""
        return self._failure or self.connection.failure

    def check(self) -> None:
        """Raise ``failure`` if there is one."""
        if self.failure is not None:
            raise self.failure

    @property
    def waiting(self) -> frozenset[int]:
        """Requests without their final reply."""
        return frozenset(self._pending)

    @property
    def last_heard_s(self) -> float | None:
        """When the last good frame came; None before the first."""
        return self.connection.last_heard_s

    def skip_id(self) -> int:
        """Take the next id without a request: of one that was answered before this host began."""
        return self._new_id()

    def request(self, message: Request[Any], *, aside: bool = False) -> int:
        """Queue a request and give its id; replies with this id come out of ``poll``.

        ``aside``: its id is not one of those in turn, so that a host that goes on later can leave it out.

        Raises:
            LocalProtocolError: the link is not up, the message does not fit its fields, or it is
                longer than the chip takes.
        """
        self.check()
        hello = self.hello
        if not isinstance(message, Request):
            raise LocalProtocolError(f"{type(message).__name__} is not a request (hello is said by the link itself)")
        if hello is None:
            raise LocalProtocolError("requests wait until the chip has answered hello")
        request_id = self._aside_id() if aside else self._new_id()
        packs = self._packs and Capability.PACKED in hello.capabilities
        data = encode(message, request_id, flags=ANSWER_PACKED if packs else 0)
        if self.sealer is not None and needed(message) >= Level.PROGRAM:
            data = self.sealer.sealed(data)
        if len(data) > hello.max_message:
            raise LocalProtocolError(
                f"{type(message).__name__} has {len(data)} bytes, the chip takes {hello.max_message}: split it"
            )
        size, urgent = len(data), isinstance(message, OutputsOff | Reset)
        data = packed(data) if packs else data
        self._pending[request_id] = _Pending(data, size, CONTROL if urgent else BULK, 0 if aside else self._turns)
        if urgent:
            self._unsent.appendleft(request_id)
        else:
            self._unsent.append(request_id)
        self._fill()
        return request_id

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the line. Never raises; see ``failure``."""
        self.connection.receive(data, now_s)
        for received in self.connection.messages():
            self._take(received)
        if self.connection.state is State.UP:
            if self._session != self.connection.session:
                self._session = self.connection.session
                self._restart()
            self._fill()

    def data_to_send(self, now_s: float) -> bytes:
        """Everything to put on the line now."""
        self.connection.expecting = bool(self._pending)
        return self.connection.data_to_send(now_s)

    def next_deadline(self, now_s: float) -> float | None:
        """When to call ``data_to_send`` again if nothing arrives before."""
        self.connection.expecting = bool(self._pending)
        return self.connection.next_deadline(now_s)

    def poll(self) -> list[tuple[int, Reply, int]]:
        """(request id, reply, chip time in ns) of what has arrived since the last call.

        ``Progress`` leaves its request open; every other reply closes it.
        """
        arrived, self._arrived = self._arrived, []
        return arrived

    def _new_id(self) -> int:
        if len(self._pending) >= LAST_ID:
            raise LocalProtocolError(f"{LAST_ID} requests are unanswered")
        while self._next_id in self._pending:
            self._next_id = self._next_id % LAST_ID + 1
        request_id = self._next_id
        self._next_id = request_id % LAST_ID + 1
        self._turns += 1
        return request_id

    def _aside_id(self) -> int:
        while (request_id := LAST_ID + 1 + self._aside % ASIDE_IDS) in self._pending:
            self._aside += 1
        self._aside += 1
        return request_id

    def _fill(self) -> None:
        """Send queued requests while the chip has room for them, and for the replies to all since the oldest.

        After a lost session the chip may answer later ones first; it must not forget the reply to the oldest meanwhile.
        """
        if not self.up or self.hello is None:
            return
        oldest = next((pending.turn for pending in self._pending.values() if pending.turn), 0)
        while self._unsent:
            pending = self._pending[self._unsent[0]]
            full = (
                self._in_flight >= CREDIT
                or pending.turn - oldest >= CREDIT
                or self._in_flight_bytes + pending.size > self.hello.max_message
            ) and self._in_flight > 0
            if full and pending.channel != CONTROL:
                return
            self._unsent.popleft()
            pending.move(AskEvent.SEND)
            self._in_flight += 1
            self._in_flight_bytes += pending.size
            self.connection.send(pending.data, pending.channel)

    def _restart(self) -> None:
        """A new session of the same chip: everything unanswered is sent again, under its old id."""
        self._unsent = deque(self._pending)
        self._in_flight = self._in_flight_bytes = 0
        for pending in self._pending.values():
            pending.move(AskEvent.NEW_SESSION)

    def _take(self, received: Received) -> None:
        try:
            if received.too_long:
                raise RemoteProtocolError(f"a reply of {received.too_long} bytes is longer than this host takes")
            message, request_id, chip_time_ns = decode(received.data)
            if not isinstance(message, Reply):
                raise RemoteProtocolError(f"the chip sent a request, {type(message).__name__}")
        except RemoteProtocolError as error:
            self._failure = self._failure or error
            return
        pending = self._pending.get(request_id)
        if pending is None:
            return  # answered before, in an earlier session
        was = pending.state
        pending.move(AskEvent.PROGRESS if isinstance(message, Progress) else AskEvent.REPLY)
        if pending.state is AskState.ANSWERED:
            del self._pending[request_id]
            if was is AskState.SENT:
                self._in_flight -= 1
                self._in_flight_bytes -= pending.size
            else:
                self._unsent.remove(request_id)
        self._arrived.append((request_id, message, chip_time_ns))
