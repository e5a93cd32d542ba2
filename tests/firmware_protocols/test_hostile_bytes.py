"""Any bytes at all: nothing is raised beyond the typed errors, memory stays bounded."""

from __future__ import annotations

import contextlib
import itertools
import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from firmware_protocols.chip import ChipServer
from firmware_protocols.codec import Op, decode, encode
from firmware_protocols.errors import LocalProtocolError, MalformedMessage, RemoteProtocolError
from firmware_protocols.frames import Flag, Frame, FrameReader, encode_frame, encoded_size
from firmware_protocols.host import HostLink
from firmware_protocols.messages import CellReadings, KernelWindow, Mvm, MvmResult, Returns, Sweep, TileAddress

FRAME = Frame(Flag.LAST, 1, 7, 3, 2, 0, b"payload" * 20)
LOOSE = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@LOOSE
@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=6))
def test_a_frame_is_found_after_any_garbage_however_cut(garbage: bytes, cuts: list[int]) -> None:
    reader = FrameReader()
    data = garbage + encode_frame(FRAME)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    frames = [frame for a, b in itertools.pairwise(edges) for frame in reader.feed(data[a:b])]
    assert frames[-1] == FRAME
    assert len(reader._open) <= encoded_size(4096)


@LOOSE
@given(
    st.integers(0, 7), st.integers(0, 255), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.binary(max_size=4096)
)
def test_every_frame_comes_back(flags: int, channel: int, number: int, selective: int, payload: bytes) -> None:
    frame = Frame(flags, channel, number, number ^ 0x55, number ^ 0xAA, selective, payload)
    data = encode_frame(frame)
    assert len(data) <= encoded_size(len(payload))
    assert FrameReader().feed(data) == [frame]


def test_no_single_bit_error_is_accepted() -> None:
    data = encode_frame(FRAME)
    for bit in range(8, (len(data) - 1) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert FrameReader().feed(bytes(damaged)) == []


@pytest.mark.parametrize("filler", [b"\x01", b"\0", b"\xff", bytes(range(256))])
def test_endless_garbage_takes_no_memory(filler: bytes) -> None:
    reader = FrameReader()
    chunk = filler * (4096 // len(filler))
    tracemalloc.start()
    for _ in range(300):
        reader.feed(chunk)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 200_000
    assert reader.feed(b"\0" + encode_frame(FRAME)) == [FRAME]


@LOOSE
@given(st.sampled_from(sorted(Op)), st.binary(max_size=400))
def test_any_body_is_read_or_refused(op: int, body: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        decode(bytes((op, 0, 1, 0)) + body)


@LOOSE
@given(st.data())
def test_a_damaged_message_is_read_or_refused(samples: dict[str, Any], data: st.DataObject) -> None:
    message = samples[data.draw(st.sampled_from(sorted(samples)))]
    raw = bytearray(encode(message, 1))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    size = data.draw(st.integers(0, len(raw)))
    with contextlib.suppress(RemoteProtocolError):
        decode(bytes(raw[:size]))


def test_every_truncation_is_refused(samples: dict[str, Any]) -> None:
    for message in samples.values():
        raw = encode(message, 1)
        for size in range(len(raw)):
            with pytest.raises(MalformedMessage):
                decode(raw[:size])


def test_sizes_are_checked_before_memory_is_taken() -> None:
    tile = TileAddress(0, 0, 1, 0, 1)
    mvm = bytearray(encode(Mvm(Returns.SUMS, tile, 0, 0, 8, False, 0, 1, 0, np.ones((1, 1), np.int16))))
    mvm[-10:-2] = b"\xff" * 8  # vectors and rows
    reading = bytearray(encode(CellReadings(1, np.ones((1, 1), np.uint16))))
    reading[-6:-2] = b"\xff" * 4
    tracemalloc.start()
    for raw in (mvm, reading):
        with pytest.raises(MalformedMessage):
            decode(bytes(raw))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_a_sweep_that_would_unfold_without_end_is_refused() -> None:
    window = KernelWindow(1, 2, 2, (1, 1), (1, 1), (60000, 60000), (1, 1))
    sweep = Sweep(
        Returns.SUMS, TileAddress(0, 0, 1, 0, 1), 0, 0, 8, False, window, 0, 0, np.ones((1, 1, 2, 2), np.int16)
    )
    with pytest.raises(MalformedMessage, match="unfolds to"):
        decode(encode(sweep))


@LOOSE
@given(arrays.arrays(np.int16, arrays.array_shapes(min_dims=2, max_dims=2, max_side=8)), st.integers(0, 2**64 - 1))
def test_codes_come_back_whatever_their_range(codes: Any, sample: int) -> None:
    message = Mvm(Returns.SUMS, TileAddress(0, 0, 1, 0, 1), 0, 0, 8, True, sample, 1, 0, codes)
    read = decode(encode(message)).message
    assert isinstance(read, Mvm)
    assert read.codes.dtype == np.int16
    assert np.array_equal(read.codes, codes)
    assert read.sample == sample


@LOOSE
@given(arrays.arrays(np.int32, arrays.array_shapes(min_dims=3, max_dims=3, max_side=6)))
def test_values_come_back_whatever_their_range(values: Any) -> None:
    read = decode(encode(MvmResult(Returns.RAW, 0, 0, values))).message
    assert isinstance(read, MvmResult)
    assert read.values.dtype == np.int32
    assert np.array_equal(read.values, values)


def test_codes_travel_in_the_smallest_item() -> None:
    def size(low: int, high: int) -> int:
        codes = np.array([[low, high] * 500], np.int16)
        return len(encode(Mvm(Returns.SUMS, TileAddress(0, 0, 1, 0, 1), 0, 0, 8, True, 0, 1, 0, codes)))

    assert size(0, 255) == size(-128, 127) < 1100
    assert size(0, 256) == size(-129, 0) == size(0, 255) + 1000


def test_a_field_that_does_not_fit_is_our_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        encode(CellReadings(1 << 40, np.ones((1, 1), np.uint16)))
    with pytest.raises(LocalProtocolError):
        encode(CellReadings(1, np.ones((1, 1), np.int16)))  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError):
        encode(CellReadings(1, np.ones((0, 1), np.uint16)))
    with pytest.raises(LocalProtocolError):
        encode(MvmResult(Returns.SUMS, 0, 0, np.ones((1, 1, 1), np.int32)))


@LOOSE
@given(st.lists(st.binary(max_size=200), max_size=8), st.integers(0, 15), st.integers(0, 0xFFFF))
def test_both_ends_survive_any_valid_frame(
    kit: SimpleNamespace, payloads: list[bytes], flags: int, sequence: int
) -> None:
    host, chip = HostLink(nonce=1), ChipServer(kit.CountingChip(), boot_id=1)
    host.open(0.0)
    chip.receive(host.data_to_send(0.0), 0.0)
    host.receive(chip.data_to_send(0.0), 0.0)
    for payload in payloads:
        data = encode_frame(Frame(flags & 7, 1, 1, sequence, sequence, 0xFFFFFFFF, payload))
        for end in (host, chip):
            end.receive(data, 0.1)
            end.data_to_send(0.1)
            end.next_deadline(0.1)
