"""The C chip role on a bad line, against the Python host role, on a simulated clock and under sanitizers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from firmware_protocols.codec import decode, encode
from firmware_protocols.frames import Flag, Frame, FrameReader, encode_frame
from firmware_protocols.host import HostLink
from firmware_protocols.messages import (
    CellBlock,
    Describe,
    Done,
    ErrorCode,
    ErrorReply,
    Hello,
    HelloReject,
    HoldProgram,
    Mvm,
    OutputsOff,
    Polarity,
    Pulse,
    ReadCells,
    Reset,
    Returns,
    Status,
    StatusReply,
    TileAddress,
    Wait,
)

from .conftest import BAD_LINES
from .conftest import exchange as exchanged
from .firmware_bench import FirmwareBench

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
NONCE = 0x1234


def mvm(sample: int, vectors: int = 6) -> Mvm:
    codes = np.random.default_rng(sample).integers(-128, 128, (vectors, 64)).astype(np.int16)
    return Mvm(Returns.SUMS, TileAddress(0, 0, 64, 0, 32), 0, 4, 8, True, sample, 1, 0, codes)


def pulse(sample: int) -> Pulse:
    millivolts = np.full((2, 4), 1500, np.uint16)
    return Pulse(CellBlock(1, 0, 2, 0, 4), Polarity.SET, 1000, sample, millivolts)


def work(count: int) -> list[Any]:
    """Requests that change the chip and requests that read it."""
    made: list[Any] = []
    for sample in range(count):
        made += [mvm(sample), pulse(sample), ReadCells(CellBlock(1, 0, 8, 0, 64), 10, 2, sample)]
    return made


@pytest.fixture
def line(kit: SimpleNamespace) -> Iterator[Any]:
    """Makes lines to fresh firmware: ``line(faults=…, seed=…)``; every firmware must end well."""
    benches: list[FirmwareBench] = []

    def make(faults: dict[str, float] | None = None, seed: int = 0, packs: bool = False) -> Any:
        benches.append(FirmwareBench())
        made = kit.Line(HostLink(nonce=NONCE, packs=packs), benches[-1], kit.Faults(**(faults or {})), seed)
        made.host.open(made.now_s)
        assert made.run(lambda: made.host.up, 10.0)
        return made

    yield make
    for bench in benches:
        bench.close()


def exchange(line: Any, requests: list[Any], limit_s: float = 300.0) -> list[Any]:
    final = exchanged(line, requests, limit_s)
    line.host.check()
    return [final[place] for place in range(len(requests))]


def plain(replies: list[Any]) -> list[bytes]:
    return [encode(reply) for reply in replies]


@pytest.fixture(scope="module")
def undisturbed(request: pytest.FixtureRequest) -> Any:
    return {}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("faults", BAD_LINES, ids=str)
def test_a_bad_line_changes_no_result(line: Any, undisturbed: Any, faults: dict[str, float], seed: int) -> None:
    requests = work(12)
    if "clean" not in undisturbed:
        undisturbed["clean"] = plain(exchange(line(), requests))
    made = line(faults, seed)
    assert plain(exchange(made, requests)) == undisturbed["clean"]
    (status,) = exchange(made, [Status()])  # it does not wait for what was asked before
    assert isinstance(status, StatusReply)
    assert status.pulses_total == 12 * 8  # each pulse request ran once


@pytest.mark.parametrize("faults", [{}, {"loss": 0.1, "duplicate": 0.05, "corrupt": 0.05, "reorder": 0.2}], ids=str)
def test_packed_bodies_change_no_result(line: Any, undisturbed: Any, faults: dict[str, float]) -> None:
    requests = [*work(12), mvm(99, vectors=120)]
    wanted, plain_line = plain(exchange(made := line(), requests)), made
    packing = line(faults, seed=3, packs=True)
    assert plain(exchange(packing, requests)) == wanted
    if not faults:
        sent = [one.host.counters.bytes_received for one in (packing, plain_line)]
        assert sent[0] < 0.95 * sent[1]


def test_a_clean_line_needs_no_repetition(line: Any) -> None:
    made = line()
    exchange(made, work(10))
    assert made.host.counters.retransmissions == made.host.counters.fast_retransmissions == 0
    counters = made.chip.counters()
    assert counters["retransmissions"] == counters["fast_retransmissions"] == counters["duplicates"] == 0


@pytest.mark.parametrize(("bytes_per_s", "most"), [(92160, 0), (11520, 2), (960, 8)])
def test_frames_whose_acknowledgement_waits_behind_long_messages_are_not_repeated(
    line: Any, bytes_per_s: float, most: int
) -> None:
    made = line({"delay_s": 0.001, "bytes_per_s": bytes_per_s})
    for _ in range(30):
        exchange(made, [Status()])
    for sample in range(10):
        exchange(made, [mvm(sample, vectors=120), Status(), mvm(sample, 1), Status(), mvm(sample, 2)], 3600.0)
    seen = [made.chip.counters(), asdict(made.host.counters)]
    repeated = sum(one["retransmissions"] + one["fast_retransmissions"] for one in seen)
    assert repeated <= most, repeated


def test_outputs_off_overtakes_and_stops_what_waits(line: Any) -> None:
    made = line()
    asked = [made.host.request(mvm(s, vectors=30)) for s in range(8)]
    made.run(lambda: False, 0.03)  # the first is under way
    asked.append(made.host.request(OutputsOff()))
    replies = {}
    made.run(lambda: replies.update((i, r) for i, r, _ in made.host.poll()) or len(replies) == len(asked), 60.0)
    *stopped, last = (replies[request_id] for request_id in asked)
    assert isinstance(last, Done)
    codes = [reply.code for reply in stopped if isinstance(reply, ErrorReply)]
    assert codes
    assert set(codes) == {ErrorCode.STOPPED}
    (status,) = exchange(made, [Status()])
    assert not status.outputs_on


def test_outputs_off_leaves_a_message_alone_that_is_arriving(line: Any) -> None:
    """Its first pieces lay behind the requests that were stopped, whose bytes were then taken for its own."""
    made = line()
    asked = [made.host.request(mvm(s, vectors=30)) for s in range(8)]
    made.run(lambda: False, 0.03)  # some wait
    asked.append(made.host.request(mvm(9, vectors=150)))
    made.chip.receive(made.host.data_to_send(made.now_s), made.now_s)  # as many frames as may be on their way
    asked.append(made.host.request(OutputsOff(), aside=True))
    replies: dict[int, Any] = {}
    made.run(lambda: replies.update((i, r) for i, r, _ in made.host.poll()) or len(replies) == len(asked), 60.0)
    assert set(replies) == set(asked)
    assert [isinstance(replies[i], ErrorReply) for i in asked[-4:]] == [True, True, False, False]


def test_another_host_takes_the_chip_over_and_the_outputs_go_off(line: Any, kit: SimpleNamespace) -> None:
    first = line()
    exchange(first, [mvm(1)])
    second = kit.Line(HostLink(nonce=NONCE + 1), first.chip, kit.Faults())
    second.now_s = first.now_s + 1.0
    second.host.open(second.now_s)
    assert second.run(lambda: second.host.up, 5.0)
    (status,) = exchange(second, [Status()])
    assert not status.outputs_on


def test_a_reset_gives_a_new_boot_id_and_forgets_the_session(line: Any) -> None:
    made = line()
    before = made.host.hello.boot_id
    exchange(made, [Reset()])
    made.run(lambda: False, 0.2)  # the reply is acknowledged, then it restarts
    again = HostLink(nonce=99)
    made.host = again
    again.open(made.now_s)
    assert made.run(lambda: again.up, 5.0)
    assert again.hello is not None
    assert again.hello.boot_id not in range(before, before + 1000)  # a start soon, counted by 1, has another
    assert again.hello.reset_cause == 2


def test_refusals_name_their_cause(line: Any) -> None:
    wrong = mvm(1)
    beyond = Mvm(*[getattr(wrong, name) if name != "range_code" else 9 for name in wrong.__slots__])
    made = line()
    requests = [
        ReadCells(CellBlock(2, 0, 1, 0, 1), 10, 1, 0),
        beyond,
        Mvm(Returns.LAYER, None, 3, 0, 8, False, 0, 1, 0, np.zeros((1, 4), np.int16)),
        Pulse(CellBlock(0, 0, 1, 0, 1), Polarity.SET, 1000, 0, np.full((1, 1), 4001, np.uint16)),
    ]
    codes = [reply.code for reply in exchange(made, requests)]
    assert codes == [ErrorCode.OUT_OF_RANGE, ErrorCode.OUT_OF_RANGE, ErrorCode.NO_SUCH_LAYER, ErrorCode.LIMIT]


def test_a_held_program_is_forgotten_at_the_next_write(line: Any) -> None:
    made, digest = line(), bytes(range(32))
    _, described, _, after, _ = exchange(made, [HoldProgram(digest), Describe(), pulse(1), Describe(), Wait(10**9)])
    assert described.program_digest == digest
    assert after.program_digest == bytes(32)


def test_garbage_is_dropped_and_a_strange_session_is_told_so_rarely(line: Any) -> None:
    made = line()
    rng = np.random.default_rng(4)
    made.chip.receive(rng.bytes(200_000) + b"\0", made.now_s)
    strange = encode_frame(Frame(Flag.LAST, 1, 0x4444, 0, 0, 0, b"hello"))
    made.chip.receive(strange * 50, made.now_s)
    hints = [f for f in FrameReader().feed(made.chip.data_to_send(made.now_s)) if f.flags == Flag.RESET | Flag.ACK]
    assert [f.session for f in hints] == [0x4444]
    assert len(exchange(made, [Status()])) == 1


def test_a_host_of_another_major_version_is_told_ours() -> None:
    bench = FirmwareBench()
    hello = encode(Hello(0x0200, 0x0201, 512, 16, 7))
    bench.receive(encode_frame(Frame(Flag.RESET | Flag.LAST, 0, 5, 0, 0, 0, hello)), 1.0)
    (frame,) = FrameReader().feed(bench.data_to_send(1.0))
    assert decode(bytes(frame.payload)).message == HelloReject(0x0100, 0x0104)
    bench.close()


def test_a_silent_host_loses_the_session_after_ten_seconds(line: Any) -> None:
    made = line()
    made.host.request(mvm(1))
    made.chip.receive(made.host.data_to_send(made.now_s), made.now_s)
    assert made.chip.data_to_send(made.now_s)
    for second in range(1, 16):
        made.chip.data_to_send(made.now_s + second)
    late = encode_frame(Frame(Flag.ACK, 0, made.host.connection.session, 0, 0, 0, b""))
    made.chip.receive(late, made.now_s + 16)
    (frame,) = FrameReader().feed(made.chip.data_to_send(made.now_s + 16))
    assert frame.flags == Flag.RESET | Flag.ACK
