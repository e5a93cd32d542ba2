"""Frames and sessions, one frame at a time."""

from __future__ import annotations

import secrets
import time

import numpy as np
from cobs import cobs

from firmware_protocols.codec import decode, encode
from firmware_protocols.connection import VERSION, VERSIONS
from firmware_protocols.frames import HEADER, Flag, Frame, encode_frame
from firmware_protocols.messages import Describe, Hello, HelloReject, HelloReply
from firmware_protocols.sending import BULK, CONTROL, RESULTS
from hil.driver.selftest.line import Bench, CheckFailed, FrameLine, expect

RESET_LAST = Flag.RESET | Flag.LAST
LAST, UNKNOWN = 0xFFFF, 9  # sequence number; channel of a later version
PACED_S, MOST_FRAMES_S, TRIES = 8.0, 40.0, 3  # time that tells how long all frames take; no more is tried; sendings


def _greeting(versions: tuple[int, int] = VERSIONS, payload: int = 512, window: int = 16) -> Frame:
    """A hello frame that opens a new session, as from a new host."""
    hello = Hello(*versions, payload, window, secrets.randbits(32))
    return Frame(RESET_LAST, CONTROL, secrets.randbits(16) or 1, 0, 0, 0, encode(hello))


def _hello(line: FrameLine, payload: int = 512, window: int = 16) -> tuple[int, Frame, HelloReply]:
    """Open a session by hand: its number, the frame that answered, the reply."""
    greeting = _greeting(VERSIONS, payload, window)
    for _ in range(20):  # a board may just be starting, a line carry rests of another session
        line.send(greeting)
        for frame in line.receive(4, 0.3):
            if frame.flags == RESET_LAST and frame.session == greeting.session:
                message = decode(bytes(frame.payload)).message
                if isinstance(message, HelloReply):
                    return greeting.session, frame, message
    raise CheckFailed("no answer to 20 hellos")


def _met(bench: Bench, greeting: Frame, count: int = 1) -> list[bytes]:
    """Send a hello ``count`` times or more; returns the frames (or payloads) that arrive in its session."""
    with bench.frames() as line:
        found, sent = list[Frame](), 0
        while sent < count or (len(found) < count and sent < count + TRIES):  # a line may lose a frame
            line.send(greeting)
            sent, found = sent + 1, found + [f for f in line.receive(8, 1.0) if f.session == greeting.session]
    expect(len(found) >= count, f"{len(found)} answers to {sent} hellos")
    return [encode_frame(f) if count > 1 else bytes(f.payload) for f in found]


def hello_is_answered(bench: Bench) -> str:
    """Hello is answered in its session, within what was offered."""
    with bench.frames() as line:
        _, frame, reply = _hello(line, 256, 8)
    expect(frame.sequence == 0, f"the answer has sequence {frame.sequence}, not 0")
    expect(VERSIONS[0] <= reply.version <= VERSION, f"version {reply.version:#06x} was not offered")
    expect(64 <= reply.max_payload <= 256, f"max_payload {reply.max_payload} of 256 offered")
    expect(1 <= reply.window <= 8, f"window {reply.window} of 8 offered")
    expect(reply.max_message >= 1024, f"max_message is {reply.max_message}")
    return f"payload {reply.max_payload}, window {reply.window}, messages of {reply.max_message:,} bytes"


def a_copy_of_hello(bench: Bench) -> str:
    """A copy of the open session's hello gets the same bytes."""
    answers = _met(bench, _greeting(), 2)
    expect(len(set(answers)) == 1, "the second answer differs from the first")
    return f"{len(answers[0])} bytes"


def another_major_version(bench: Bench) -> str:
    """A host of another major version is rejected with the chip's range."""
    message = decode(_met(bench, _greeting((0x0F00, 0x0F01)))[0]).message
    expect(isinstance(message, HelloReject), f"answered {type(message).__name__}")
    return str(message)


def an_older_minor_version(bench: Bench) -> str:
    """A host of an older minor version is answered in that version."""
    reply = decode(_met(bench, _greeting((VERSIONS[0], VERSIONS[0])))[0]).message
    expect(isinstance(reply, HelloReply) and reply.version == VERSIONS[0], f"answered {reply}"[:200])
    return f"{VERSIONS[0] >> 8}.{VERSIONS[0] & 0xFF}"


def a_strange_session(bench: Bench) -> str:
    """Frames of an unknown session get a hint, at most every 100 ms."""
    with bench.frames() as line:
        session, _, _ = _hello(line)
        strange = session ^ 0x5555 or 1
        line.receive(1, 0.2)
        line.send(*[Frame(Flag.LAST, BULK, strange, n, 0, 0, encode(Describe(), 1)) for n in range(30)])
        hints = [f for f in line.receive(30, 0.5) if f.session == strange]
    expect(bool(hints), "no hint")
    expect(all(f.flags == Flag.RESET | Flag.ACK for f in hints), "the hint is not RESET with ACK")
    expect(len(hints) <= 7, f"{len(hints)} hints in 0.5 s")
    return f"{len(hints)} hints to 30 frames"


def garbage_is_dropped(bench: Bench) -> str:
    """Garbage, broken checksums and endless frames are dropped, never answered."""
    rng = np.random.default_rng(1)
    with bench.frames() as line:
        session, _, _ = _hello(line)
        asks = Frame(Flag.LAST, BULK, session, 0, 0, 0, encode(Describe(), 1))
        line.send(b"\0" + rng.bytes(6000) + b"\0" + b"\x01" * 9000 + b"\0" + b"".join(_damaged(asks)))
        answers = line.receive(1, 1.0, session=session)
        expect(not answers, f"{len(answers)} frames came back")
        line.send(asks)
        expect(any(f.channel == RESULTS for f in line.receive(2, 5.0, session=session)), "silent after garbage")
    return "15 KB of it"


def _damaged(frame: Frame) -> list[bytes]:
    """Copies of a frame with one wrong bit in payload or checksum; their framing is intact."""
    raw = cobs.decode(encode_frame(frame)[1:-1])
    found = []
    for at in (HEADER.size, HEADER.size + 2, -3, -1):  # operation, request id, checksum
        broken = bytearray(raw)
        broken[at] ^= 0x10
        found.append(b"\0" + cobs.encode(bytes(broken)) + b"\0")
    return found


def a_probe_is_acknowledged(bench: Bench) -> str:
    """A probe is acknowledged, also twice, and on a channel of a later version."""
    with bench.frames() as line:
        session, _, _ = _hello(line)
        for sequence, channel in ((0, CONTROL), (0, CONTROL), (1, 9)):
            line.send(Frame(0, channel, session, sequence, 0, 0, b""))
            acks = line.receive(1, 5.0, session=session)
            expect(bool(acks), f"frame {sequence} on channel {channel} got no acknowledgement")
            expect(acks[0].ack == sequence + 1, f"acknowledged up to {acks[0].ack}, not {sequence + 1}")
    return "3 of 3"


def _sequences_begin_anew(bench: Bench) -> str:
    """A message spans sequence numbers 65,535 and 0, and is joined correctly."""
    message = encode(Describe(), 1)
    with bench.frames() as line:
        session, _, reply = _hello(line)
        began_s, acked, silent = time.monotonic(), 0, 0
        while acked < LAST - 1:
            first, end = acked, min(acked + reply.window, LAST - 1)
            line.send(*(Frame(0, UNKNOWN, session, n, 0, 0, b"") for n in range(first, end)))
            while acked < end and (frames := line.receive(1, 2.0, session=session)):
                acked = frames[0].ack
            silent = 0 if acked > first else silent + 1  # a line may lose a frame
            expect(silent < TRIES, f"frames from {acked} on were not acknowledged, {TRIES} times")
            taken_s = time.monotonic() - began_s
            if taken_s > PACED_S and (lasts_s := taken_s * LAST / max(acked, 1)) > MOST_FRAMES_S:
                return f"none over number {LAST:,}: {lasts_s:.0f} s on this line"
        parts, answers = (message[:2], message[2:3], message[3:]), list[Frame]()
        for _ in range(TRIES):
            for n, part in enumerate(parts, LAST - 1):
                line.send(Frame(Flag.LAST if n > LAST else 0, BULK, session, n & LAST, 0, 0, part))
            answers += [f for f in line.receive(4, 1.0, session=session) if f.channel == RESULTS]
            if answers:
                break
    expect(bool(answers), "no reply to a message that came in frames 65,534, 65,535 and 0")
    return f"3 more over number {LAST:,}"


def frames_out_of_order(bench: Bench) -> str:
    """Frames out of order are held, said to be held, and joined in order."""
    message = encode(Describe(), 77) + bytes((200, 90, 0)) + bytes(90)  # an optional field that nobody knows
    parts = [message[:40], message[40:70], message[70:]]
    with bench.frames() as line:
        session, _, _ = _hello(line)
        for sequence in (2, 1, 0):
            line.send(Frame(Flag.LAST if sequence == 2 else 0, BULK, session, sequence, 0, 0, parts[sequence]))
            if sequence == 1:
                held = line.receive(2, 1.0, session=session)
                expect(bool(held) and held[-1].ack == 0, "early frames were acknowledged as if in order")
                expect(held[-1].selective & 3 == 3, f"selective {held[-1].selective:#x}, not bits 0 and 1")
        frames = [f for f in line.receive(3, 5.0, session=session) if f.channel == RESULTS]
    expect(bool(frames), "no reply to a message that came in pieces")
    return f"3 pieces, last first, {_sequences_begin_anew(bench)}"


CHECKS = (
    hello_is_answered, a_copy_of_hello, another_major_version, an_older_minor_version, a_strange_session,
    garbage_is_dropped, a_probe_is_acknowledged, frames_out_of_order,
)  # fmt: skip
