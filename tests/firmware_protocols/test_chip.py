"""What the chip role makes of requests, refusals, faults and interruptions."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from firmware_protocols.chip import ChipServer
from firmware_protocols.codec import decode, encode
from firmware_protocols.connection import Connection, LinkLimits
from firmware_protocols.errors import ChipRestarted
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    Describe,
    Description,
    Done,
    ErrorCode,
    ErrorReply,
    OutputsOff,
    Polarity,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Reset,
    Status,
    TileProgrammed,
)
from firmware_protocols.request_states import CACHED_REPLIES
from firmware_protocols.sending import BULK
from firmware_protocols.states import Role

MakeLine = Callable[..., Any]
TARGETS = np.full((4, 4), 300, np.uint16)
PROGRAM = ProgramTile(CellBlock(0, 0, 4, 0, 4), 10, 100, 50, 4, 1, 1, 1, 1, 1, 1, 100, 0, TARGETS)


def answers(line: Any, *requests: Any) -> list[tuple[int, Any, int]]:
    """All replies until every request is answered."""
    for request in requests:
        line.host.request(request)
    arrived: list[tuple[int, Any, int]] = []

    def complete() -> bool:
        arrived.extend(line.host.poll())
        return not line.host.waiting or line.host.failure is not None

    assert line.run(complete, 30.0)
    arrived.extend(line.host.poll())
    return arrived


class RawHost:
    """A host that sends any bytes as messages, joined to one server."""

    def __init__(self, server: ChipServer) -> None:
        self.server, self.now_s = server, 0.0
        self.link = Connection(Role.HOST, LinkLimits(), nonce=secrets.randbits(32))
        self.link.open(0.0)
        self.pump()

    def pump(self) -> list[Any]:
        replies = []
        for _ in range(200):
            out = self.link.data_to_send(self.now_s)
            self.server.receive(out, self.now_s)
            back = self.server.data_to_send(self.now_s)
            self.link.receive(back, self.now_s)
            replies += [decode(received.data) for received in self.link.messages()]
            if not out and not back and not self.server.busy:
                break
        return replies

    def send(self, data: bytes) -> list[Any]:
        self.link.send(data, BULK)
        return self.pump()


@pytest.fixture
def raw_host(kit: SimpleNamespace) -> RawHost:
    return RawHost(ChipServer(kit.CountingChip(), boot_id=1, limits=LinkLimits(max_message=4096)))


def test_progress_comes_before_the_reply_and_carries_chip_time(make_line: MakeLine) -> None:
    line = make_line()
    got = answers(line, PROGRAM)
    assert [reply for _, reply, _ in got[:-1]] == [Progress(1, 3, 0), Progress(2, 3, 0), Progress(3, 3, 0)]
    _, reply, chip_time_ns = got[-1]
    assert isinstance(reply, TileProgrammed)
    assert np.array_equal(reply.readings, TARGETS)
    assert chip_time_ns == line.chip.handlers.chip_time_ns == 2000


def test_a_refusal_arrives_with_its_numbers(make_line: MakeLine) -> None:
    pulse = Pulse(CellBlock(0, 0, 1, 0, 1), Polarity.SET, 100, 0, np.array([[3500]], np.uint16))
    ((_, reply, _),) = answers(make_line(), pulse)
    assert reply == ErrorReply(ErrorCode.LIMIT, "SET voltage", 3500.0, 3000.0)


def test_a_handler_that_breaks_switches_the_outputs_off(make_line: MakeLine) -> None:
    line = make_line()
    ((_, reply, _),) = answers(line, ReadCells(CellBlock(64, 0, 1, 0, 1), 10, 1, 0))
    assert reply.code is ErrorCode.FAULT
    assert "RuntimeError: the bus is stuck; outputs ordered off, not read back" in reply.text
    assert line.chip.handlers.calls == ["read_cells", "outputs_off"]
    ((_, reply, _),) = answers(line, Describe())
    assert isinstance(reply, Description)


def test_a_missing_capability_never_reaches_the_handler(make_line: MakeLine, kit: SimpleNamespace) -> None:
    line = make_line(chip=kit.CountingChip(capabilities=Capability.SUMS))
    ((_, reply, _),) = answers(line, PROGRAM)
    assert (reply.code, reply.text) == (ErrorCode.UNSUPPORTED, "this chip has no PROGRAM_TILE")
    assert line.chip.handlers.calls == []


def test_outputs_off_overtakes_and_stops_all_other_work(make_line: MakeLine, kit: SimpleNamespace) -> None:
    line = make_line(chip=kit.CountingChip(steps=10**9))
    line.host.request(PROGRAM)
    line.host.request(Describe())
    line.run(lambda: any(isinstance(reply, Progress) for _, reply, _ in line.host.poll()), 5.0)
    got = [reply for _, reply, _ in answers(line, OutputsOff()) if not isinstance(reply, Progress)]
    assert [getattr(reply, "code", None) for reply in got] == [ErrorCode.STOPPED, ErrorCode.STOPPED, None]
    assert isinstance(got[-1], Done)
    assert line.chip.handlers.calls == ["program_tile", "outputs_off"]


def test_a_commanded_reset_changes_the_boot_id(make_line: MakeLine) -> None:
    line = make_line()
    ((_, reply, _),) = answers(line, Reset())
    assert isinstance(reply, Done)
    line.run(lambda: line.chip.boot_id != 0xB007, 5.0)
    line.host.request(Status())
    line.run(lambda: line.host.failure is not None, 10.0)
    assert isinstance(line.host.failure, ChipRestarted)
    assert line.host.failure.reset_cause == 2


def test_an_unknown_operation_is_answered_unsupported(raw_host: RawHost) -> None:
    ((reply, request_id, _),) = raw_host.send(b"\x7f\x00\x05\x00whatever")
    assert (reply.code, request_id) == (ErrorCode.UNSUPPORTED, 5)


def test_a_reply_sent_to_a_chip_is_answered_unsupported(raw_host: RawHost) -> None:
    ((reply, _, _),) = raw_host.send(encode(Done(), 6))
    assert reply.code is ErrorCode.UNSUPPORTED


def test_a_broken_body_is_answered_malformed(raw_host: RawHost) -> None:
    for data, request_id in ((encode(PROGRAM, 7)[:-1], 7), (b"\x20", 0), (b"\x20\x00\x08\x00", 8)):
        ((reply, answered, _),) = raw_host.send(data)
        assert (reply.code, answered) == (ErrorCode.MALFORMED, request_id)
    assert raw_host.server.handlers.calls == []


def test_a_message_too_long_is_refused_with_both_numbers(raw_host: RawHost) -> None:
    ((reply, request_id, _),) = raw_host.send(encode(PROGRAM, 9) + bytes(5000))
    assert (reply.code, reply.limit, request_id) == (ErrorCode.LIMIT, 4096.0, 9)
    assert reply.value == len(encode(PROGRAM, 9)) + 5000


def test_optional_fields_that_are_unknown_are_skipped(raw_host: RawHost) -> None:
    ((reply, _, _),) = raw_host.send(encode(Describe(), 3) + b"\x63\x04\x00abcd" + b"\xee\x00\x00")
    assert isinstance(reply, Description)


def test_a_repeated_request_id_is_answered_from_memory(raw_host: RawHost) -> None:
    first = raw_host.send(encode(Describe(), 3))
    assert raw_host.send(encode(Describe(), 3)) == first
    assert raw_host.server.handlers.calls == ["describe"]


def test_sixteen_replies_are_remembered_and_no_more(raw_host: RawHost) -> None:
    for request_id in range(1, CACHED_REPLIES + 2):
        raw_host.send(encode(Describe(), request_id))
    raw_host.send(encode(Describe(), 2))
    assert len(raw_host.server.handlers.calls) == CACHED_REPLIES + 1
    raw_host.send(encode(Describe(), 1))
    assert len(raw_host.server.handlers.calls) == CACHED_REPLIES + 2


def test_a_host_that_queues_without_end_is_told_busy(raw_host: RawHost) -> None:
    for request_id in range(1, 200):
        raw_host.link.send(encode(PROGRAM, request_id), BULK)
    replies = [reply for reply, _, _ in raw_host.pump() if not isinstance(reply, Progress)]
    assert any(getattr(reply, "code", None) is ErrorCode.BUSY for reply in replies)
    assert raw_host.server._queued_bytes <= 2 * 4096


def test_a_handler_that_answers_nonsense_is_a_fault(kit: SimpleNamespace) -> None:
    class Nonsense(kit.CountingChip):
        def describe(self) -> Any:
            return None

    ((reply, _, _),) = RawHost(ChipServer(Nonsense(), boot_id=1)).send(encode(Describe(), 1))
    assert reply.code is ErrorCode.FAULT
