"""A direct line to a chip for tests: single frames, raw messages, and deliberate faults."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from cim.chip.spec import ChipSpec
from firmware_protocols.codec import Decoded, decode, encode
from firmware_protocols.connection import Connection, LinkLimits
from firmware_protocols.errors import ProtocolError
from firmware_protocols.extensions.authority import Sealer, needed, proof_of, sealer_after, session_key
from firmware_protocols.extensions.messages import Authorise, Challenge, Challenged, Level
from firmware_protocols.frames import Flag, Frame, FrameReader, encode_frame
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    Done,
    ErrorCode,
    ErrorReply,
    HelloReply,
    Message,
    Polarity,
    Progress,
    Pulse,
    Reply,
    Request,
)
from firmware_protocols.sending import BULK
from firmware_protocols.states import Role, State
from hil.driver.chip_driver import ChipDriver
from hil.driver.keys import HostKey
from hil.driver.open_chip import connect
from hil.errors import DeviceError, UsageError
from hil.transports.base import CHUNK, Transport

R = TypeVar("R", bound=Reply)
OpenLine = Callable[[], Transport]
"""Opens the chip's line anew."""

OPENS_S, ANSWER_S = 20.0, 60.0  # a chip under emulation may be slow, and compile what it runs first


class Heard(NamedTuple):
    """A reply or a sign of progress, with the time at which it came (s, of a monotonic clock).

    ``moved``: bytes carried by the line until then, both ways.
    """

    at_s: float
    reply: Decoded
    data: bytes
    moved: int


class FrameLine:
    """Sends and receives single frames, without the link layer."""

    def __init__(self, transport: Transport) -> None:
        self._transport, self._reader = transport, FrameReader()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        self._transport.close()

    def send(self, *frames: Frame | bytes) -> None:
        """Send frames, or bytes as they are."""
        self._transport.write(b"".join(f if isinstance(f, bytes) else encode_frame(f) for f in frames))

    def receive(self, count: int = 1, within_s: float = 3.0, *, session: int | None = None) -> list[Frame]:
        """Frames that come within a time, at most ``count``; with ``session`` only its numbered and ACK frames."""
        give_up_s, found = time.monotonic() + within_s, list[Frame]()
        while len(found) < count and time.monotonic() < give_up_s:
            for frame in self._reader.feed(self._transport.read(CHUNK, 0.1)):
                if session is None or (frame.session == session and not frame.flags & Flag.RESET):
                    found.append(frame)
        return found


class MessageLine:
    """Whole messages as bytes over a link that works; any bytes, also wrong ones.

    Args:
        nonce, session: those of an earlier host; None: of a new host.
        key: proved at once on a chip that wants it, so that messages are sealed where they must be.
    """

    def __init__(
        self, transport: Transport, *, nonce: int | None = None, session: int = 0, key: HostKey | None = None
    ) -> None:
        self._transport = transport
        limits = LinkLimits(max_payload=transport.max_payload, window=16)
        self.nonce = secrets.randbits(32) if nonce is None else nonce
        self.sealer: Sealer | None = None
        self.log = list[Heard]()  # all that was heard
        self._ids, self._newest_ns = itertools.count(0x4000 if nonce is None else 0x8000), 0
        self.moved = 0  # bytes that the line carried, both ways
        self._link = Connection(Role.HOST, limits, nonce=self.nonce, session=session)
        self._link.open(time.monotonic())
        try:
            self._until(lambda: self._link.state is State.UP)
            if key is not None and self._link.reply and Capability.AUTHORITY in self._link.reply.capabilities:
                self.authorise(key, Level.SERVICE if key.level is None else key.level)
        except BaseException:
            transport.close()
            raise

    def authorise(self, key: HostKey, level: Level) -> Message:
        """Prove the key; returns the chip's answer."""
        challenge = self.answer(Challenge()).message
        if not isinstance(challenge, Challenged):
            return challenge
        own = key.of(level)
        proof = proof_of(own, challenge.nonce, level, self.nonce)
        said = self.answer(Authorise(level, proof)).message
        if isinstance(said, Done):
            self.sealer = sealer_after(challenge, session_key(own, challenge.nonce, level, self.nonce))
        return said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    @property
    def hello(self) -> HelloReply:
        """What the chip answered to the latest hello."""
        assert self._link.reply is not None
        return self._link.reply

    @property
    def max_message(self) -> int:
        return self.hello.max_message

    @property
    def session(self) -> int:
        return self._link.session

    def send(self, *messages: bytes, channel: int = BULK, plain: bool = False) -> None:
        """Queue messages (``plain``: without a seal); they leave as soon as bytes are moved."""
        for message in messages:
            self._link.send(message if plain else self._sealed(message), channel)

    def hear(self, done: Callable[[list[Heard]], bool], within_s: float = ANSWER_S) -> list[Heard]:
        """All messages that arrive, progress too, until ``done`` accepts them or time is up."""
        heard, give_up_s = list[Heard](), time.monotonic() + within_s
        while not done(heard) and time.monotonic() < give_up_s:
            self._move()
            now_s = time.monotonic()
            heard += [Heard(now_s, decode(m.data), bytes(m.data), self.moved) for m in self._link.messages()]
        self.log += heard
        return heard

    def wait_for(self, request_ids: Iterable[int], within_s: float = ANSWER_S) -> bool:
        """Whether these requests are answered, already or within a time."""
        wanted = {number for number in request_ids if not ends(self.log, number)}
        heard = self.hear(lambda heard: wanted <= {one.reply.request_id for one in ends(heard)}, within_s)
        return wanted <= {one.reply.request_id for one in ends(heard)}

    def watch(self, byte_s: float) -> Callable[[Heard], float]:
        """A function that gives an answer's delay from now, s, less the time that the line needed for its bytes.

        So a slow line does not count as a slow chip, while it still carries the answer of other work.
        """
        began_s, moved = time.monotonic(), self.moved
        return lambda heard: heard.at_s - began_s - (heard.moved - moved) * byte_s

    def be_silent(self, seconds: float) -> None:
        """Send nothing for a while, not even acknowledgements; then process what arrived meanwhile."""
        until_s, late = time.monotonic() + seconds, b""
        while (left_s := until_s - time.monotonic()) > 0:
            late += self._transport.read(CHUNK, min(left_s, 0.1))
        self._link.receive(late, time.monotonic())
        self.settle(1.0)  # where the chip took this host for lost, a new session begins
        self._link.messages()  # what came meanwhile came at another time

    def ask(self, *messages: bytes, channel: int = BULK, plain: bool = False) -> list[bytes]:
        """Send messages (``plain``: without a seal) and wait for their final replies.

        Raises:
            TimeoutError: fewer replies came, and no sign of progress either.
        """
        self.send(*messages, channel=channel, plain=plain)
        missing, answered = len(messages), list[Heard]()
        while missing:
            heard = self.hear(lambda heard, missing=missing: len(ends(heard)) >= missing)  # type: ignore[misc]
            found = ends(heard)
            answered, missing = answered + found, max(0, missing - len(found))
            if missing and len(found) == len(heard):
                raise TimeoutError(f"no answer within {ANSWER_S:g} s")
        return [one.data for one in answered]

    def begin(self, *requests: Request[Any], channel: int = BULK) -> list[int]:
        """Send requests; their ids."""
        ids = [next(self._ids) for _ in requests]
        self.send(*map(encode, requests, ids), channel=channel)
        return ids

    def answer(self, message: bytes | Request[Any], *, channel: int = BULK, plain: bool = False) -> Decoded:
        """The reply to a request, or to raw bytes with their own id, after a check that chip time did not run back."""
        data = message if isinstance(message, bytes) else encode(message, next(self._ids))
        reply = decode(self.ask(data, channel=channel, plain=plain)[0])
        before_ns, self._newest_ns = self._newest_ns, reply.chip_time_ns
        expect(reply.chip_time_ns >= before_ns, f"chip time ran back from {before_ns} to {reply.chip_time_ns} ns")
        return reply

    def get(self, request: Request[R], *, channel: int = BULK) -> R:
        """The reply to a request that must be carried out; raises ``CheckFailed``."""
        said = self.answer(request, channel=channel).message
        if not isinstance(said, request.reply_class):
            raise CheckFailed(f"{type(request).__name__} was answered {said}"[:200])
        return said

    def refused(
        self, message: bytes | Request[Any], *codes: ErrorCode, what: str = "", plain: bool = False
    ) -> ErrorReply:
        """Check that a request is refused, with one of ``codes`` if given; raises ``CheckFailed`` otherwise."""
        said = self.answer(message, plain=plain).message
        if not isinstance(said, ErrorReply) or (codes and said.code not in codes):
            wanted = " or ".join(code.name for code in codes) or "an error"
            raise CheckFailed(f"{what or type(message).__name__}: answered {said}, not {wanted}"[:250])
        return said

    def settle(self, seconds: float) -> None:
        """Move bytes for a while, so that acknowledgements reach the chip; the link may end meanwhile."""
        until_s = time.monotonic() + seconds
        with contextlib.suppress(ProtocolError):
            self._until(lambda: time.monotonic() > until_s)

    def _sealed(self, message: bytes) -> bytes:
        if self.sealer is None:
            return message
        try:
            request = decode(message).message
        except ProtocolError:
            return message
        must = isinstance(request, Request) and needed(request) >= Level.PROGRAM
        return self.sealer.sealed(message) if must else message

    def _until(self, complete: Callable[[], bool]) -> None:
        give_up_s = time.monotonic() + OPENS_S
        while not complete():
            if time.monotonic() > give_up_s:
                raise TimeoutError(f"no answer within {OPENS_S:g} s")
            self._move()

    def _move(self) -> None:
        """Move the bytes that are waiting, both ways."""
        if self._link.failure is not None:
            raise self._link.failure
        out = self._link.data_to_send(time.monotonic())
        if out:
            self._transport.write(out)
        data = self._transport.read(CHUNK, 0.02)
        self.moved += len(out) + len(data)
        if data:
            self._link.receive(data, time.monotonic())


def ends(heard: list[Heard], request_id: int | None = None) -> list[Heard]:
    """The final answers, without progress reports: all, or those to one request."""
    wanted = [one for one in heard if request_id in (None, one.reply.request_id)]
    return [one for one in wanted if not isinstance(one.reply.message, Progress)]


class FaultyTransport:
    """A transport that loses, doubles and damages whole frames each way, by seed."""

    max_payload = 128  # many frames, so many chances

    def __init__(self, inner: Transport, seed: int, share: float) -> None:
        self._inner, self._rng, self._share = inner, np.random.default_rng(seed), share
        self._open = b""
        self.faults = 0

    @property
    def address(self) -> str:
        return self._inner.address

    def write(self, data: bytes) -> None:
        self._inner.write(b"".join(self._carried(p) for p in data.split(b"\0") if p))

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        *whole, self._open = (self._open + self._inner.read(max_bytes, timeout_s)).split(b"\0")
        return b"".join(self._carried(p) for p in whole if p)

    def close(self) -> None:
        self._inner.close()

    def _carried(self, piece: bytes) -> bytes:
        framed, fault = b"\0" + piece + b"\0", self._rng.random() / self._share
        if fault >= 3.0:
            return framed
        self.faults += 1
        if fault < 1.0:
            return b""
        if fault < 2.0:
            return framed * 2
        damaged = bytearray(framed)
        damaged[int(self._rng.integers(1, len(piece) + 1))] ^= 0x10
        return bytes(damaged)


# --- what a check works with ---

UNJUDGED_S = 10.0  # silence of a chip that is only asked what it is, maybe on a busy machine
BUSY = "as on a busy machine"  # in the reasons of what could not be tried, and can be on another day


class CheckFailed(DeviceError):
    """The chip does not do what the protocol says."""


class NotTried(DeviceError):
    """The check cannot be made on this bench; the text says what would make it possible."""


class NotThere(NotTried):
    """The chip lacks an optional function that the check needs."""


def expect(good: bool, text: str) -> None:
    if not good:
        raise CheckFailed(text)


@dataclass(frozen=True, slots=True)
class Bench:
    """One chip under test; each check opens the line anew, so the chip must accept one host after another."""

    address: str
    open: OpenLine
    known: ChipSpec | None = None
    key: HostKey | None = None
    cut_power: Callable[[], None] | None = None  # takes the chip's power and gives it back; None: nobody can
    lag_s: float = 0.0  # by which the chip's clock may lag behind ours: of a processor that is emulated here

    @property
    def spec(self) -> ChipSpec:
        if self.known is None:
            raise UsageError("the chip's description is not known yet")
        return self.known

    def pulse(self, cells: CellBlock, millivolts: int, polarity: Polarity = Polarity.SET) -> Pulse:
        """The same pulse for every cell of a block, with the width of the chip file's write recipe; it is not sent."""
        volts = np.full((cells.rows, cells.columns), millivolts, np.uint16)
        return Pulse(cells, polarity, round(self.spec.write.pulse_width_ns), 0, volts)

    def frames(self) -> FrameLine:
        return FrameLine(self.open())

    def messages(self, *, nonce: int | None = None, session: int = 0, authorised: bool = True) -> MessageLine:
        return MessageLine(self.open(), nonce=nonce, session=session, key=self.key if authorised else None)

    def needs(self, *needs: Capability) -> Capability:
        """The chip's capabilities; raises ``NotThere`` if one of ``needs`` is missing."""
        with self.driver(*needs, silence_s=UNJUDGED_S) as driver:
            return driver.capabilities

    def driver(self, *needs: Capability, silence_s: float = 2.0) -> ChipDriver:
        """A driver for the chip; raises ``NotThere`` if the chip lacks one of ``needs``."""
        driver = connect(self.open(), chip=self.known, key=self.key, silence_s=silence_s)
        lacking = [need.name for need in needs if need not in driver.capabilities]
        if lacking:
            driver.close()
            raise NotThere(f"no {lacking[0]}")
        return driver
