"""Requests of an episode, each with its right answer, drawn from the seed and the place of each."""

from __future__ import annotations

import hashlib
import random
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from firmware_protocols.codec import encode
from firmware_protocols.extensions.bodies import chunks_of
from firmware_protocols.extensions.messages import CHUNK, ImageBegin, ImageChunk, ImageCommit, ImageState, ImageTile
from firmware_protocols.messages import (
    CellBlock,
    CellReadings,
    Done,
    ErrorCode,
    ErrorReply,
    Mvm,
    MvmResult,
    Polarity,
    ProgramTile,
    Pulse,
    ReadCells,
    Reply,
    Request,
    Returns,
    TileAddress,
    TileProgrammed,
    Wait,
)
from tests.line_simulation.plan import EpisodePlan, log_uniform

LONGEST_S, LONGEST_IN_IMAGE_S = 60.0, 10.0  # of tiles that take their time
GROUP = 30  # places, of which the first bring an image and write its tiles
MOST_TILES = 4  # of an image
_LENGTH = struct.Struct("<I")
SPOILT_SHARE = 0.3  # of images
SPOILT = ErrorReply(ErrorCode.MALFORMED, "another digest", 0.0, 0.0)
REFUSED = ErrorReply(ErrorCode.UNSUPPORTED, "this chip has no WAIT", 0.0, 0.0)

Numbered = Mvm | ReadCells | ProgramTile | Pulse
"""Requests that the chip itself carries out; ``sample`` is the number of each, so that no two are the same."""
WRITES = (ProgramTile, Pulse)


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request as it is sent.

    ``carried``: what the chip does for it, itself or the tile of an image that it names; None: nothing with cells.
    ``alone``: asked when all before it are answered, and answered before any after it, as pieces of an image are.
    ``spoilt``: the commit of an image that has another digest than it was begun with.
    """

    request: Request[Any]
    carried: Numbered | None
    alone: bool = False
    spoilt: bool = False

    @property
    def writes(self) -> bool:
        """Whether the answer goes into the journal of a chip that has one."""
        return isinstance(self.carried, WRITES)

    @property
    def refused(self) -> bool:
        """Whether the chip refuses it as soon as it arrives, before those that wait are done."""
        return isinstance(self.request, Wait)

    @property
    def answer(self) -> Reply:
        """The right one; of an image's state digest and size only."""
        if self.carried is not None:
            return answer_of(self.carried)
        if self.spoilt:
            return SPOILT
        if isinstance(self.request, ImageBegin):
            received = np.zeros(chunks_of(self.request.size), np.bool_)
            return ImageState(self.request.digest, self.request.size, 0, False, received)
        return REFUSED if self.refused else Done()

    def longest_s(self, plan: EpisodePlan) -> float:
        """What it takes at most on a clean line: the chip's work, and its bytes both ways."""
        tile = self.carried if isinstance(self.carried, ProgramTile) else None
        work_s = tile.max_pulses * tile.verify_reads * 1e-3 if tile is not None else 0.1
        size = len(encode(self.request)) + len(encode(self.answer))
        return work_s + 4 * size / plan.faults.bytes_per_s + 4 * plan.faults.delay_s * (2 + size / 64)


class EpisodeRequests:
    """The requests of an episode by their place in it: drawn from its seed when asked for, the same ones each time."""

    def __init__(self, plan: EpisodePlan) -> None:
        self._plan = plan
        self._group = lru_cache(maxsize=4)(self._drawn_group)
        self._at = lru_cache(maxsize=64)(self._drawn)

    def __getitem__(self, place: int) -> SentRequest:
        return self._at(place)

    def _drawn(self, place: int) -> SentRequest:
        if self._plan.images:
            group, number = divmod(place, GROUP)
            asked = self._group(group)
            if number < len(asked):
                return asked[number]
        rng = self._rng(place)
        if rng.random() < self._plan.refused_share:
            return SentRequest(Wait(1), None)
        drawn = _request(rng, place + 1, self._plan.tile_share)
        return SentRequest(drawn, drawn)

    def _rng(self, place: int | str) -> random.Random:
        return random.Random(f"{self._plan.seed}/{place}")

    def _drawn_group(self, group: int) -> list[SentRequest]:
        """An image in pieces of any order, then its tiles."""
        rng = self._rng(f"image {group}")
        tiles, offsets, data = [], [], b""
        for _ in range(rng.randint(1, MOST_TILES)):
            tiles.append(_tile(rng, 0, LONGEST_IN_IMAGE_S))
        pieces = chunks_of(sum(_LENGTH.size + len(encode(tile)) for tile in tiles))
        spoilt = rng.random() < SPOILT_SHARE  # one piece is another first, and the whole is sent again
        first = (
            group * GROUP + (2 if spoilt else 1) * (pieces + 2) + 1
        )  # number of the first tile, after begin, pieces and commit
        tiles = [_numbered(tile, first + number) for number, tile in enumerate(tiles)]
        for tile in tiles:
            message = encode(tile)
            offsets.append(len(data))
            data += _LENGTH.pack(len(message)) + message
        digest = hashlib.sha256(data).digest()
        chunks = [ImageChunk(at, data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)]
        rng.shuffle(chunks)
        begin, commit = SentRequest(ImageBegin(digest, len(data)), None, True), ImageCommit(digest)
        sent = [SentRequest(chunk, None, True) for chunk in chunks]
        before = [begin, *sent, SentRequest(commit, None, True)]
        if spoilt:
            wrong = ImageChunk(chunks[0].offset, bytes(byte ^ 1 for byte in chunks[0].data))
            first_try = [begin, SentRequest(wrong, None, True), *sent[1:], SentRequest(commit, None, True, True)]
            before = [*first_try, *before]
        named = (SentRequest(ImageTile(digest, at), tile) for at, tile in zip(offsets, tiles, strict=True))
        return [*before, *named]


def _request(rng: random.Random, sample: int, tile_share: float) -> Numbered:
    if rng.random() < tile_share:
        return _tile(rng, sample, LONGEST_S)
    kind = rng.random()
    if kind < 0.2:
        cells = CellBlock(0, 0, rng.choice((1, 16, 128)), 0, rng.choice((1, 8, 16)))
        return ReadCells(cells, 10, 1, sample)
    if kind < 0.3:
        return Pulse(CellBlock(0, 0, 1, 0, 1), Polarity.SET, 100, sample, np.ones((1, 1), np.uint16))
    rows, vectors = rng.choice((4, 32, 128)), rng.choice((1, 1, 8, 8, 32))
    codes = np.frombuffer(rng.randbytes(rows * vectors), np.int8).astype(np.int16).reshape(vectors, rows)
    return Mvm(Returns.SUMS, TileAddress(0, 0, rows, 0, rows), 0, 0, 8, True, sample, 1, 0, codes)


def _tile(rng: random.Random, sample: int, longest_s: float) -> ProgramTile:
    slice_ms = rng.choice((200, 500, 700, 900))
    slices = max(1, round(log_uniform(rng, 1.0, longest_s) * 1000 / slice_ms))
    rows = rng.choice((1, 8, 64))
    cells = CellBlock(rng.randrange(8), 0, rows, 0, 8)
    targets = np.full((rows, 8), sample % 60000, np.uint16)
    return ProgramTile(cells, 10, 100, min(slices, 5000), slice_ms, 8, 1, 9, 9, 1, 9, 100, sample, targets)


def _numbered(tile: ProgramTile, sample: int) -> ProgramTile:
    return replace(tile, sample=sample, targets=np.full_like(tile.targets, sample % 60000))


def answer_of(request: Numbered) -> Reply:
    """What a chip answers to a numbered request, whatever the line does."""
    match request:
        case Mvm():
            return MvmResult(
                request.returns, 0, request.codes.size, request.codes.astype(np.int32) * 3 + request.sample
            )
        case ReadCells():
            counts = np.arange(request.cells.rows * request.cells.columns, dtype=np.uint32) * 7 + request.sample
            return CellReadings(
                request.unit_ns,
                (counts % 60000).astype(np.uint16).reshape(request.cells.rows, request.cells.columns),
            )
        case ProgramTile():
            pulses = np.full(request.targets.shape, min(request.sample % 50, request.max_pulses), np.uint16)
            return TileProgrammed(request.unit_ns, request.targets, pulses, request.targets > 0)
        case Pulse():
            return Done()


def same_answer(reply: Reply, right: Reply) -> bool:
    """Whether an answer is the right one, to the byte on the wire; of an image's state digest and size, of a refusal
    its code.
    """
    if right is SPOILT:  # asked again after a restart, its pieces are missing
        return isinstance(reply, ErrorReply) and reply.code in (SPOILT.code, ErrorCode.OUT_OF_RANGE)
    if isinstance(reply, ImageState) and isinstance(right, ImageState):
        return (reply.digest, reply.size) == (right.digest, right.size)
    if isinstance(reply, ErrorReply) and isinstance(right, ErrorReply):
        return reply.code == right.code
    return type(reply) is type(right) and encode(reply) == encode(right)


def traces_of(requests: Iterable[Numbered | None]) -> tuple[int, dict[int, int]]:
    """``traces`` and ``written`` of a chip that carried out ``requests`` once each, in order."""
    traces, written = 0, {}
    for request in requests:
        if isinstance(request, ProgramTile | Pulse):
            times = request.max_pulses if isinstance(request, ProgramTile) else 1
            for _ in range(times):
                traces = zlib.crc32(request.sample.to_bytes(8, "little"), traces)
        if isinstance(request, ProgramTile):
            written[request.cells.macro] = request.sample
    return traces, written
