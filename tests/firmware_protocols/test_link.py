"""Host and chip joined back to back: whole requests over good and bad lines, on a simulated clock."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from firmware_protocols.chip import ChipServer
from firmware_protocols.connection import VERSIONS, LinkLimits
from firmware_protocols.dead_man import DEAD_MAN_S
from firmware_protocols.errors import ChipRestarted, LinkFailed, LocalProtocolError, VersionMismatch
from firmware_protocols.host import CREDIT, HostLink
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    Describe,
    Mvm,
    MvmResult,
    OutputsOff,
    ProgramTile,
    Returns,
    Status,
    TileAddress,
)

from .conftest import BAD_LINES, exchange

MakeLine = Callable[..., Any]


def mvm(sample: int, vectors: int = 20, rows: int = 128) -> Mvm:
    codes = np.random.default_rng(sample).integers(-128, 128, (vectors, rows)).astype(np.int16)
    return Mvm(Returns.SUMS, TileAddress(0, 0, rows, 0, rows), 0, 0, 8, True, sample, 1, 0, codes)


def assert_all_answered_once(line: Any, requests: list[Mvm], final: dict[int, Any]) -> None:
    line.host.check()
    calls = line.chip.handlers.calls
    assert sorted(calls) == sorted(f"mvm {m.sample}" for m in requests)
    for place, message in enumerate(requests):
        assert np.array_equal(final[place].values, message.codes.astype(np.int32) * 3 + message.sample)


def test_requests_are_answered_in_order_over_a_clean_line(make_line: MakeLine) -> None:
    line = make_line()
    requests = [mvm(sample) for sample in range(40)]
    assert_all_answered_once(line, requests, exchange(line, requests))
    assert line.chip.handlers.calls == [f"mvm {sample}" for sample in range(40)]
    assert line.host.counters.retransmissions == line.chip.counters.retransmissions == 0


def test_bytes_may_come_one_at_a_time(kit: SimpleNamespace) -> None:
    host, chip = HostLink(nonce=9), ChipServer(kit.CountingChip(), boot_id=1)
    host.open(0.0)
    replies: list[Any] = []
    for step in range(200):
        now_s = step * 0.001
        for byte in host.data_to_send(now_s):
            chip.receive(bytes((byte,)), now_s)
        for byte in chip.data_to_send(now_s):
            host.receive(bytes((byte,)), now_s)
        replies += host.poll()
        if host.up and not host.waiting and not replies:
            host.request(mvm(3))
    assert np.array_equal(replies[0][1].values, mvm(3).codes.astype(np.int32) * 3 + 3)
    assert len(replies) == 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("faults", BAD_LINES, ids=str)
def test_a_bad_line_changes_no_result(
    make_line: MakeLine, kit: SimpleNamespace, faults: dict[str, float], seed: int
) -> None:
    line = make_line(faults=kit.Faults(**faults), seed=seed, chip_limits=LinkLimits(512, 32, 1 << 16))
    requests = [mvm(sample) for sample in range(30)]
    assert_all_answered_once(line, requests, exchange(line, requests))


@pytest.mark.parametrize(
    ("loss", "delay_s", "bytes_per_s", "share"),
    [(0.2, 0.009, 92160, 0.40), (0.0, 0.009, 11520, 0.94), (0.0, 0.25, 11520, 0.85)],
)
def test_the_line_is_used_well(
    make_line: MakeLine, kit: SimpleNamespace, loss: float, delay_s: float, bytes_per_s: float, share: float
) -> None:
    """Share of the byte rate of a UART that carries input codes; quick lines: tests/line_simulation/floors.py."""
    chip = kit.CountingChip()
    chip.mvm = lambda request: MvmResult(request.returns, 0, 1, np.ones((1, 1), np.int32))
    line = make_line(chip=chip, faults=kit.Faults(loss=loss, delay_s=delay_s, bytes_per_s=bytes_per_s), seed=1)
    started_s = line.now_s
    count = int(bytes_per_s * 10 / 12800)
    final = exchange(line, [mvm(sample, vectors=100) for sample in range(count)])
    assert len(final) == count
    assert count * 12800 / (line.now_s - started_s) >= share * bytes_per_s


def test_short_exchanges_do_not_make_the_timer_flood_a_slow_line(make_line: MakeLine, kit: SimpleNamespace) -> None:
    line = make_line(
        faults=kit.Faults(delay_s=0.001, bytes_per_s=11520),
        host_limits=LinkLimits(4096, 16),
        chip_limits=LinkLimits(4096, 16),
    )
    for _ in range(30):
        exchange(line, [Status()])
    exchange(line, [mvm(sample, vectors=100) for sample in range(10)])
    line.host.check()
    repeated = line.host.counters.retransmissions + line.host.counters.fast_retransmissions
    assert repeated <= 1, repeated


@pytest.mark.parametrize(
    ("bytes_per_s", "payload", "window", "most"),
    [(92160, 512, 32, 0), (11520, 512, 16, 2), (960, 4096, 4, 8)],  # until the timer knows how long one frame takes
)
def test_frames_whose_acknowledgement_waits_behind_long_replies_are_not_repeated(
    make_line: MakeLine, kit: SimpleNamespace, bytes_per_s: float, payload: int, window: int, most: int
) -> None:
    limits = LinkLimits(payload, window)
    faults = kit.Faults(delay_s=0.001, bytes_per_s=bytes_per_s)
    line = make_line(faults=faults, host_limits=limits, chip_limits=limits)
    for _ in range(30):
        exchange(line, [Status()])
    long = payload * window // 256
    for sample in range(10):
        exchange(line, [mvm(sample, vectors=long), Status(), mvm(sample, vectors=1), Status(), mvm(sample, 2)], 3600.0)
    counted = (line.host.counters, line.chip.counters)
    repeated = sum(one.retransmissions + one.fast_retransmissions for one in counted)
    assert repeated <= most, repeated


def test_a_frame_that_was_lost_before_a_stream_of_replies_is_repeated_within_a_window_of_them(
    make_line: MakeLine, kit: SimpleNamespace
) -> None:
    line = make_line(faults=kit.Faults(delay_s=0.001, bytes_per_s=11520))
    exchange(line, [Status() for _ in range(10)])
    line.host.request(mvm(0, vectors=800))
    line.run(lambda: line.to_host.frames_arrived > 40, 60.0)
    line.to_chip.stall(line.now_s + 0.001, deaf=True)
    off = line.host.request(OutputsOff())
    asked_s = line.now_s
    assert line.run(lambda: off in {request_id for request_id, _, _ in line.host.poll()}, 60.0)
    assert line.now_s - asked_s < 3 * 16 * 0.046, line.now_s - asked_s  # three windows of 16 frames


def test_a_chip_whose_host_is_gone_switches_off_and_finishes_the_tile_when_it_is_back(
    make_line: MakeLine, kit: SimpleNamespace
) -> None:
    line = make_line(chip=kit.CountingChip(steps=10))
    cells = CellBlock(0, 0, 1, 0, 1)
    tile = ProgramTile(cells, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, np.ones((1, 1), np.uint16))
    for message in (tile, tile, mvm(1)):
        line.host.request(message)
    line.run(lambda: line.chip.busy, 5.0)
    line.cut, calls, heard_s = True, line.chip.handlers.calls, line.now_s
    line.run(lambda: "outputs_off" in calls, 30.0)
    assert calls[-1] == "outputs_off"
    assert line.now_s - heard_s <= DEAD_MAN_S + 0.1
    done = len(calls)
    line.run(lambda: False, 30.0)
    assert len(calls) == done  # nothing runs while nobody is there
    line.cut = False
    line.host.open(line.now_s)
    line.run(lambda: not line.host.waiting, 30.0)
    assert calls.count("program_tile") == calls.count("programmed") == 2
    assert not line.chip.busy


def test_half_of_all_frames_lost_ends_in_an_answer_or_an_error(make_line: MakeLine, kit: SimpleNamespace) -> None:
    for seed in range(5):
        line = make_line(faults=kit.Faults(loss=0.5), seed=seed)
        requests = [mvm(sample) for sample in range(10)]
        final = exchange(line, requests, 60.0)
        assert line.host.failure is not None or len(final) == len(requests)
        done = [call for call in line.chip.handlers.calls if call.startswith("mvm")]
        assert len(set(done)) == len(done)


def test_sequence_numbers_wrap(make_line: MakeLine) -> None:
    line = make_line()
    for end in (line.host.connection, line.chip.connection):
        end._send.next_sequence = end._receive.expected = 0xFFF0
    requests = [mvm(sample) for sample in range(20)]
    assert_all_answered_once(line, requests, exchange(line, requests))
    assert line.host.connection._send.next_sequence < 0x1000


def test_a_silent_chip_fails_the_link_in_ten_seconds(make_line: MakeLine) -> None:
    line = make_line()
    line.cut = True
    started_s = line.now_s
    line.host.request(Status())
    line.run(lambda: line.host.failure is not None, 30.0)
    assert isinstance(line.host.failure, LinkFailed)
    assert line.host.failure.heard
    assert line.now_s - started_s <= 10.5


def test_a_chip_that_dies_while_it_works_is_found_by_a_probe(make_line: MakeLine, kit: SimpleNamespace) -> None:
    line = make_line(chip=kit.CountingChip(steps=10**9))
    cells = CellBlock(0, 0, 1, 0, 1)
    line.host.request(ProgramTile(cells, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, np.ones((1, 1), np.uint16)))
    assert line.run(lambda: bool(line.host.poll()) and line.host.connection.idle, 5.0)
    line.cut = True
    started_s = line.now_s
    line.run(lambda: line.host.failure is not None, 30.0)
    assert isinstance(line.host.failure, LinkFailed)
    assert line.now_s - started_s <= 12.0
    assert len(line.chip.connection._send._outbox[3]) <= 1, "work must stop when its news cannot leave"


def test_nobody_answers_hello(make_line: MakeLine) -> None:
    line = make_line(opened=False)
    line.cut = True
    line.host.open(line.now_s)
    started_s = line.now_s
    line.run(lambda: line.host.failure is not None, 30.0)
    assert isinstance(line.host.failure, LinkFailed)
    assert not line.host.failure.heard
    assert 9.9 <= line.now_s - started_s <= 10.1
    assert 20 < line.host.counters.hellos < 30


def test_a_line_that_echoes_is_named() -> None:
    host = HostLink(nonce=5)
    host.open(0.0)
    for step in range(120):
        host.receive(host.data_to_send(step * 0.1), step * 0.1)
    assert "echo" in str(host.failure)


def test_a_chip_of_another_major_version_is_refused_with_both_ranges(kit: SimpleNamespace) -> None:
    chip = ChipServer(kit.CountingChip(), boot_id=1, versions=(0x0200, 0x0203))
    host = HostLink(nonce=5)
    host.open(0.0)
    chip.receive(host.data_to_send(0.0), 0.0)
    host.receive(chip.data_to_send(0.0), 0.0)
    assert isinstance(host.failure, VersionMismatch)
    assert (host.failure.ours, host.failure.theirs) == (VERSIONS, (0x0200, 0x0203))
    assert "host 1.0 to 1.4, chip 2.0 to 2.3" in str(host.failure)


def test_the_lower_minor_version_is_spoken(kit: SimpleNamespace) -> None:
    chip = ChipServer(kit.CountingChip(), boot_id=1, versions=(0x0100, 0x0105))
    host = HostLink(nonce=5, versions=(0x0100, 0x0103))
    host.open(0.0)
    chip.receive(host.data_to_send(0.0), 0.0)
    host.receive(chip.data_to_send(0.0), 0.0)
    assert host.hello is not None
    assert host.hello.version == 0x0103


def test_payload_and_window_are_the_smaller_of_both(make_line: MakeLine) -> None:
    line = make_line(host_limits=LinkLimits(4096, 32), chip_limits=LinkLimits(64, 4, 4096))
    assert (line.host.hello.max_payload, line.host.hello.window) == (64, 4)
    requests = [mvm(1)]
    assert_all_answered_once(line, requests, exchange(line, requests))
    with pytest.raises(LocalProtocolError, match="the chip takes 4096"):
        line.host.request(mvm(2, vectors=100))


def test_a_restarted_chip_is_found_by_its_boot_id(make_line: MakeLine, kit: SimpleNamespace) -> None:
    line = make_line()
    line.chip = ChipServer(kit.CountingChip(), boot_id=0xB008, reset_cause=3)
    line.host.request(Status())
    line.run(lambda: line.host.failure is not None, 10.0)
    assert isinstance(line.host.failure, ChipRestarted)
    failure = line.host.failure
    assert (failure.old_boot_id, failure.new_boot_id, failure.reset_cause) == (0xB007, 0xB008, 3)


def test_a_session_lost_without_restart_repeats_nothing(make_line: MakeLine) -> None:
    line = make_line()
    requests = [mvm(sample) for sample in range(40)]
    places = [line.host.request(message) for message in requests]
    replies: list[int] = []

    def some() -> bool:
        replies.extend(request_id for request_id, _, _ in line.host.poll())
        return len(replies) >= 10

    line.run(some, 10.0)
    line.chip.connection.close()
    line.run(lambda: some() and len(replies) == 40, 20.0)
    line.host.check()
    assert sorted(replies) == sorted(places)
    assert line.chip.handlers.calls == [f"mvm {sample}" for sample in range(40)]
    assert line.host.counters.resyncs == 1


def test_a_second_host_takes_over_and_the_outputs_go_off(make_line: MakeLine) -> None:
    line = make_line()
    exchange(line, [mvm(1)])
    line.host = HostLink(nonce=0x9999)
    line.host.open(line.now_s)
    assert line.run(lambda: line.host.up, 5.0)
    assert line.chip.handlers.calls == ["mvm 1", "outputs_off"]
    exchange(line, [mvm(2)])  # has the request id of the other host's first request
    assert line.chip.handlers.calls[-1] == "mvm 2"


def test_a_late_copy_of_an_old_hello_does_not_end_the_session(make_line: MakeLine) -> None:
    line = make_line(opened=False)
    first = HostLink(nonce=1)
    first.open(line.now_s)
    old_hello = first.data_to_send(line.now_s)
    line.chip.receive(old_hello, line.now_s)
    line.chip.data_to_send(line.now_s)
    line.host.open(line.now_s)
    line.run(lambda: line.host.up, 5.0)
    line.chip.receive(old_hello, line.now_s)
    assert len(exchange(line, [mvm(1)])) == 1
    assert line.host.counters.resyncs == 0


def test_the_host_never_has_more_unanswered_than_the_chip_can_hold(make_line: MakeLine) -> None:
    line = make_line(chip_limits=LinkLimits(512, 16, 8192))
    for sample in range(60):
        line.host.request(mvm(sample))  # about 2.6 kB each
    most = 0

    def watch() -> bool:
        nonlocal most
        most = max(most, line.chip._queued_bytes)
        assert len(line.chip.unanswered) <= CREDIT
        return not line.host.waiting

    assert line.run(watch, 60.0)
    assert 0 < most <= 8192
    assert len(line.chip.handlers.calls) == 60


def test_large_messages_pass_in_both_directions(make_line: MakeLine) -> None:
    line = make_line(host_limits=LinkLimits(4096, 32), chip_limits=LinkLimits(4096, 32, 1 << 22))
    requests = [mvm(5, vectors=8000)]
    assert_all_answered_once(line, requests, exchange(line, requests))


def test_a_request_before_hello_is_our_mistake(make_line: MakeLine) -> None:
    line = make_line(opened=False)
    with pytest.raises(LocalProtocolError):
        line.host.request(Describe())


def test_capabilities_arrive_with_hello(make_line: MakeLine, kit: SimpleNamespace) -> None:
    line = make_line(chip=kit.CountingChip(capabilities=Capability.SUMS | Capability.PULSE))
    of_the_role = Capability.DEAD_MAN | Capability.PACKED
    assert line.host.hello.capabilities == Capability.SUMS | Capability.PULSE | of_the_role
