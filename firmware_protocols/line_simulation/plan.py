"""What an episode of a simulation is made of, drawn from its seed: line, limits, work, faults and their times."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from firmware_protocols.codec import encode
from firmware_protocols.connection import LinkLimits
from firmware_protocols.line_simulation.board import answer_of
from firmware_protocols.line_simulation.faults import LineFault, LineFaults
from firmware_protocols.messages import (
    CellBlock,
    Mvm,
    Polarity,
    ProgramTile,
    Pulse,
    ReadCells,
    Reply,
    Request,
    Returns,
    TileAddress,
)

BAUDS = (9600, 57600, 115200, 921600, 921600, 3_000_000)
MAX_MESSAGE = 1 << 16
GHOST_S = 5.0
LONGEST_S = 180.0  # a tile that takes its time
EVENTS = (LineFault.BURST, LineFault.STALL, LineFault.UNPLUG, LineFault.RESET, LineFault.KILL)


@dataclass(frozen=True, slots=True)
class EpisodePlan:
    """One life of a line, from clean to quiet again.

    Attributes:
        seed: of everything below and of what happens.
        faults: of both directions while the line is bad.
        host, chip: limits of both ends.
        requests: how many are asked.
        ahead: how many of them before the first is answered.
        every_s: mean time between two events of a kind, s; kinds that do not happen are left out.
        off_every_s: mean time between two orders to switch the outputs off, s; 0: none.
        state_resets: chance that the chip is reset when both ends together get into a state for the first time.
        tile_share: share of requests that write a tile, which takes from 1 s to 5 min.
        bad_s: longest time that the line is bad.
    """

    seed: str
    faults: LineFaults
    host: LinkLimits
    chip: LinkLimits
    requests: int
    ahead: int
    every_s: dict[LineFault, float]
    off_every_s: float
    state_resets: float
    tile_share: float
    bad_s: float


def plan_of(seed: str) -> EpisodePlan:
    """The plan of a seed: of each kind of fault none, few or many."""
    rng = random.Random(seed)

    def some(few: float, many: float, share: float = 0.5) -> float:
        return _log_uniform(rng, few, many) if rng.random() < share else 0.0

    delay_s = _log_uniform(rng, 2e-4, 0.25) if rng.random() < 0.95 else rng.uniform(0.25, 1.5)
    faults = LineFaults(
        loss=some(1e-3, 0.2),
        duplicate=some(1e-2, 0.3),
        corrupt=some(1e-2, 0.1, 0.6),
        truncate=some(1e-2, 0.1),
        reorder=some(1e-2, 0.3),
        late=some(1e-2, 0.1),
        bit_errors=some(1e-6, 3e-4),
        drop=some(1e-4, 1e-3),
        insert=some(1e-5, 3e-4),
        delay_s=delay_s,
        bytes_per_s=rng.choice(BAUDS) / 10,
    )
    payloads, windows = (64, 128, 512, 512, 4096), (1, 4, 16, 32, 32)
    host = LinkLimits(rng.choice(payloads), rng.choice(windows), silence_s=rng.choice((2.0, 10.0)))
    chip = LinkLimits(rng.choice(payloads), rng.choice(windows), MAX_MESSAGE)
    every_s = {kind: _log_uniform(rng, 12.0, 90.0) for kind in EVENTS if rng.random() < 0.6}
    state_resets = rng.choice((0.0, 0.0, 0.1))
    if LineFault.RESET not in every_s and not state_resets:  # a chip that restarted knows no old hello from a new one
        faults = replace(faults, ghost_s=rng.choice((0.0, GHOST_S)))
    return EpisodePlan(
        seed,
        faults,
        host,
        chip,
        requests=rng.randint(60, 300),
        ahead=rng.choice((1, 2, 8, 8, 20)),
        every_s=every_s,
        off_every_s=some(30.0, 300.0, 0.2),
        state_resets=state_resets,
        tile_share=rng.choice((0.0, 0.02, 0.05, 0.15)),
        bad_s=3600.0,
    )


def _log_uniform(rng: random.Random, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def longest_s(plan: EpisodePlan, request: Request[Any]) -> float:
    """What a request takes at most on a clean line: the chip's work, and its bytes both ways."""
    work_s = request.max_pulses * request.verify_reads * 1e-3 if isinstance(request, ProgramTile) else 0.1
    size = len(encode(request)) + len(encode(answer_of(request)))
    return work_s + 4 * size / plan.faults.bytes_per_s + 4 * plan.faults.delay_s * (2 + size / 64)


def requests_of(plan: EpisodePlan) -> Callable[[int], tuple[Request[Any], Reply]]:
    """Place of a request -> the request and its right answer."""

    def request_of(place: int) -> tuple[Request[Any], Reply]:
        request = _request(random.Random(f"{plan.seed}/{place}"), place + 1, plan.tile_share)
        return request, answer_of(request)

    return request_of


def _request(rng: random.Random, sample: int, tile_share: float) -> Request[Any]:
    if rng.random() < tile_share:
        slice_ms = rng.choice((50, 500, 700, 900))
        slices = max(1, round(_log_uniform(rng, 1.0, LONGEST_S) * 1000 / slice_ms))
        rows = rng.choice((1, 8, 64))
        cells = CellBlock(rng.randrange(8), 0, rows, 0, 8)
        targets = np.full((rows, 8), sample % 60000, np.uint16)
        return ProgramTile(cells, 10, 100, min(slices, 5000), slice_ms, 8, 1, 9, 9, 1, 9, 100, sample, targets)
    kind = rng.random()
    if kind < 0.2:
        cells = CellBlock(0, 0, rng.choice((1, 16, 128)), 0, rng.choice((1, 16, 32)))
        return ReadCells(cells, 10, 1, sample)
    if kind < 0.3:
        return Pulse(CellBlock(0, 0, 1, 0, 1), Polarity.SET, 100, sample, np.ones((1, 1), np.uint16))
    rows, vectors = rng.choice((4, 32, 128)), rng.choice((1, 1, 8, 8, 64))
    codes = np.frombuffer(rng.randbytes(rows * vectors), np.int8).astype(np.int16).reshape(vectors, rows)
    return Mvm(Returns.SUMS, TileAddress(0, 0, rows, 0, rows), 0, 0, 8, True, sample, 1, 0, codes)
