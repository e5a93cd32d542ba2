"""Checks of messages (known, unknown, cut, too long, repeated), and of a link that loses frames."""

from __future__ import annotations

import time
from typing import Any

from firmware_protocols.codec import Op, decode, encode
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    Describe,
    Description,
    ErrorCode,
    Hello,
    ReadCells,
    Request,
    Reset,
    Status,
    Wait,
)
from hil.driver.selftest.line import Bench, FaultyTransport, NotTried, expect
from hil.driver.session import Session
from hil.errors import FirmwareLacks

MOST_TOO_LONG_S, PROBE_BYTES = 30.0, 4096  # more is not sent; so many tell how long that would take
FAULTY_REQUESTS, FAULT_SHARE = 40, 0.03  # of frames, for each of three faults


def it_describes_itself(bench: Bench) -> str:
    """The chip's description of itself agrees with its chip file."""
    with bench.messages() as line:
        reply = line.get(Describe())
    found = (reply.name, reply.revision, reply.macros, reply.rows, reply.columns, reply.spec_digest.hex())
    spec = bench.spec
    wanted = (spec.name, spec.revision, spec.macros, spec.macro.rows, spec.macro.columns, spec.digest)
    expect(found == wanted, f"{found} is not {wanted}")
    return f"{reply.name} {reply.revision}, serial {reply.serial[:32]}"


def what_is_no_request(bench: Bench) -> str:
    """An unassigned operation, hello inside a session, and a reply sent as a request are UNSUPPORTED."""
    with bench.messages() as line:
        line.refused(bytes((0x6F, 0, 3, 0)), ErrorCode.UNSUPPORTED)
        line.refused(encode(Hello(0x0100, 0x0100, 512, 16, 1), 4), ErrorCode.UNSUPPORTED)
        return line.refused(bytes((Op.DONE, 0, 5, 0)) + bytes(8), ErrorCode.UNSUPPORTED).text[:60]


def a_cut_body(bench: Bench) -> str:
    """A body that is cut is MALFORMED under its own request id."""
    whole = encode(ReadCells(CellBlock(0, 0, 1, 0, 1), 10, 1, 0), 0x1234)
    with bench.messages() as line:
        for size in (4, 9, len(whole) - 1):
            line.refused(whole[:size], ErrorCode.MALFORMED)
            expect(line.log[-1].reply.request_id == 0x1234, f"answered request {line.log[-1].reply.request_id}")
    return "3 of 3"


def optional_fields(bench: Bench) -> str:
    """Optional fields of a later version are skipped."""
    with bench.messages() as line:
        reply = line.answer(encode(Describe(), 6) + bytes((200, 3, 0, 1, 2, 3))).message
    expect(isinstance(reply, Description), f"answered {type(reply).__name__}")
    return "one of 3 bytes"


def a_repeated_request(bench: Bench) -> str:
    """A request id that comes again is answered with the same bytes, and not run again."""
    request = encode(ReadCells(CellBlock(0, 0, 2, 0, 2), 10, 1, 5), 9)
    with bench.messages() as line:
        (first,) = line.ask(request)
        (second,) = line.ask(request)
    expect(first == second, "the replies differ")
    return f"{len(first)} bytes, chip time {decode(first).chip_time_ns} ns"


def a_message_too_long(bench: Bench) -> str:
    """A message longer than max_message is refused as LIMIT, and the next one is answered."""
    with bench.messages() as line:
        probe = bytes((Op.PROGRAM_TILE, 0, 7, 0)) + bytes(min(PROBE_BYTES, line.max_message // 2))
        began_s = time.monotonic()
        line.ask(probe)
        lasts_s = (time.monotonic() - began_s) * line.max_message / len(probe)
        if lasts_s > MOST_TOO_LONG_S:
            raise NotTried(f"the chip takes {line.max_message:,} bytes, {lasts_s:.0f} s on this line")
        long = bytes((Op.PROGRAM_TILE, 0, 8, 0)) + bytes(line.max_message)
        text = line.refused(long, ErrorCode.LIMIT).text[:60]
        line.get(Describe())
    return text


def a_missing_capability(bench: Bench) -> str:
    """A request whose capability the chip lacks is UNSUPPORTED."""
    has = bench.needs()
    requests: dict[Capability, Request[Any]] = {Capability.WAIT: Wait(1), Capability.RESET: Reset()}
    for need, request in requests.items():
        if need not in has:
            with bench.messages() as line:
                return line.refused(request, ErrorCode.UNSUPPORTED).text[:60]
    raise NotTried("it can do all that has a harmless request")


def a_bad_line(bench: Bench) -> str:
    """On a line that loses, doubles and damages frames every request is answered and runs once."""
    line, macro = FaultyTransport(bench.open(), seed=1, share=FAULT_SHARE), bench.spec.macro
    session = Session(line, silence_s=10.0, key=bench.key)
    try:
        hello = session.open()
        pulses = Capability.PULSE in hello.capabilities
        before = _pulses_told(session)
        pulse = bench.pulse(CellBlock(0, 0, 1, 0, 2), 1)
        read = ReadCells(CellBlock(0, 0, min(8, macro.rows), 0, min(16, macro.columns)), 10, 1, 0)
        requests = [pulse if pulses and n % 2 else read for n in range(FAULTY_REQUESTS)]
        replies = list(session.ask_all(requests))
        after = _pulses_told(session)
    finally:
        session.close()
    expect(len(replies) == FAULTY_REQUESTS, f"{len(replies)} replies")
    if before is None or after is None or (pulses and not after):
        return f"{FAULTY_REQUESTS} requests, {line.faults} faults; no STATUS counts pulses"
    given = after - before
    wanted = 2 * (FAULTY_REQUESTS // 2) if pulses else 0
    expect(given == wanted, f"{given} pulses of {wanted} requested")
    return f"{FAULTY_REQUESTS} requests, {line.faults} faults, {given} pulses"


def _pulses_told(session: Session) -> int | None:
    """Pulses counted by the chip since power-on; None without STATUS."""
    try:
        return session.ask(Status()).pulses_total
    except FirmwareLacks:
        return None


CHECKS = (
    it_describes_itself, what_is_no_request, a_cut_body, optional_fields, a_repeated_request,
    a_message_too_long, a_missing_capability, a_bad_line,
)  # fmt: skip
