"""Frames become shorter where the line damages bits, stay long where it loses whole frames, and grow again."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from firmware_protocols.connection import LinkLimits
from firmware_protocols.frame_size import FrameSize
from firmware_protocols.messages import Mvm, MvmResult, Returns, TileAddress

MakeLine = Callable[..., Any]
BYTES_PER_S, VECTORS = 92160, 100


def feed(size: FrameSize, lost_share: Callable[[int], float], count: int, seed: int = 1) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        (size.lost if rng.random() < lost_share(size.payload) else size.arrived)(size.payload)


def bit_errors(rate: float) -> Callable[[int], float]:
    return lambda payload: 1 - (1 - rate) ** (8 * (payload + 22))


@pytest.mark.parametrize("seed", range(5))
def test_bit_errors_shorten_frames_and_a_line_that_heals_lets_them_grow(seed: int) -> None:
    size = FrameSize(4096)
    feed(size, bit_errors(1e-4), 3000, seed)
    assert 64 <= size.payload <= 512
    feed(size, lambda _: 0.0, 20000, seed)
    assert size.payload == 4096


@pytest.mark.parametrize("seed", range(5))
def test_lost_frames_do_not_shorten_frames_for_long(seed: int) -> None:
    size, lengths = FrameSize(512), []
    for _ in range(400):
        feed(size, lambda _: 0.2, 20, seed := seed + 1)
        lengths.append(size.payload)
    assert np.mean(lengths) > 256


def test_what_was_learned_stays_within_what_a_new_session_takes() -> None:
    size = FrameSize(4096)
    size.limit(512)
    assert size.payload == 512
    feed(size, bit_errors(3e-4), 1000)
    short = size.payload
    size.limit(1024)
    assert size.payload == short < 512


@pytest.mark.parametrize(
    ("faults", "share"),
    [
        ({"loss": 0.2}, 0.45),
        ({"bit_errors": 1e-6}, 0.85),
        ({"bit_errors": 1e-5}, 0.72),
        ({"bit_errors": 1e-4}, 0.40),
        ({"bit_errors": 3e-4}, 0.25),
    ],
    ids=str,
)
def test_a_bad_line_still_carries_its_share(
    make_line: MakeLine, kit: SimpleNamespace, faults: dict[str, float], share: float
) -> None:
    """Share of the byte rate at 921,600 baud and 18 ms round trip that carries input codes, window 32, payload 512."""
    chip = kit.CountingChip()
    chip.mvm = lambda request: MvmResult(request.returns, 0, 1, np.ones((1, 1), np.int32))
    limits = LinkLimits(512, 32, 1 << 20)
    line = make_line(
        chip=chip,
        faults=kit.Faults(delay_s=0.009, bytes_per_s=BYTES_PER_S, **faults),
        seed=1,
        host_limits=limits,
        chip_limits=limits,
    )
    codes = np.random.default_rng(0).integers(-128, 128, (VECTORS, 128)).astype(np.int16)
    asked = [
        line.host.request(Mvm(Returns.SUMS, TileAddress(0, 0, 128, 0, 128), 0, 0, 8, True, sample, 1, 0, codes))
        for sample in range(80)
    ]
    start_s, done = line.now_s, set()

    def complete() -> bool:
        done.update(request_id for request_id, _, _ in line.host.poll())
        return len(done) == len(asked) or line.host.failure is not None

    line.run(complete, 200.0)
    line.host.check()
    assert len(asked) * codes.size / (line.now_s - start_s) >= share * BYTES_PER_S


@pytest.mark.parametrize("faults", [{"drop": 1e-4, "insert": 1e-4}, {"loss": 0.2}], ids=str)
def test_lost_and_stray_bytes_and_a_fifth_of_all_frames_lost_change_no_answer(
    make_line: MakeLine, kit: SimpleNamespace, faults: dict[str, float]
) -> None:
    line = make_line(faults=kit.Faults(**faults), seed=2, chip_limits=LinkLimits(512, 32, 1 << 20))
    codes = np.random.default_rng(0).integers(-128, 128, (20, 128)).astype(np.int16)
    tile = TileAddress(0, 0, 128, 0, 128)
    asked = [line.host.request(Mvm(Returns.SUMS, tile, 0, 0, 8, True, sample, 1, 0, codes)) for sample in range(40)]
    answers: dict[int, Any] = {}

    def complete() -> bool:
        answers.update((request_id, reply) for request_id, reply, _ in line.host.poll())
        return len(answers) == len(asked)

    assert line.run(complete, 120.0)
    for sample, request_id in enumerate(asked):
        assert np.array_equal(answers[request_id].values, codes.astype(np.int32) * 3 + sample)
    assert sorted(line.chip.handlers.calls) == sorted(f"mvm {sample}" for sample in range(40))
