"""One direction of a simulated line: frames put on it arrive later, at the pace of a UART, changed by seeded faults."""

from __future__ import annotations

import heapq
import random
from dataclasses import replace
from typing import NamedTuple

from firmware_protocols.codec import decode, encode
from firmware_protocols.errors import RemoteProtocolError
from firmware_protocols.extensions.authority import MOST_COUNTER, MOST_STEP
from firmware_protocols.extensions.messages import Challenged
from firmware_protocols.frames import FrameReader, encode_frame
from tests.line_simulation.faults import Counts, Gaps, LineFault, LineFaults

LONGEST_CHALLENGED = 64  # bytes on the line
LAST = (1 << 64) - 1  # counter


class LinePiece(NamedTuple):
    """Bytes that arrive together. ``whole``: a frame of the sender that is in them, with its delimiters, or empty."""

    due_s: float
    order: int
    data: bytes
    whole: bytes


def forged_counter(counter: int, rng: random.Random) -> int:
    """One that ends the numbers, one just within or beyond what either end takes, a lower one, any."""
    near, within = MOST_STEP + rng.randrange(-1, 2), MOST_COUNTER - rng.getrandbits(20)
    return rng.choice((LAST, LAST - 65, MOST_COUNTER + 1, within, counter + near, counter // 2, rng.getrandbits(48)))


class LineDirection:
    """Bytes in at one end, pieces out at the other; ``counts`` is shared by all that belong to one simulation."""

    def __init__(self, faults: LineFaults, rng: random.Random, counts: Counts) -> None:
        self.faults, self._rng, self._counts = faults, rng, counts
        self.bytes_put = self.bytes_arrived = self.frames_arrived = 0
        self.longest_pause_s = 0.0  # between two frames, in which nothing was on the line
        self._pieces: list[LinePiece] = []
        self._order = self._newest = 0
        self._free_s = self._held_s = 0.0  # when the last byte has left; before which nothing arrives
        self._stalled_s, self._deaf = float("-inf"), False
        self.change(faults)

    def change(self, faults: LineFaults) -> None:
        """Use other chances of faults from now on."""
        self.faults = faults
        self._bits = Gaps(faults.bit_errors, self._rng)
        self._drops = Gaps(faults.drop, self._rng)
        self._inserts = Gaps(faults.insert, self._rng)

    @property
    def next_s(self) -> float | None:
        """When the next piece arrives; None: nothing is under way."""
        return max(self._pieces[0].due_s, self._stalled_s) if self._pieces else None

    def put(self, data: bytes, now_s: float) -> None:
        """Send bytes; each frame in them has its own fate."""
        for piece in data.split(b"\0"):
            if piece:
                self._carry(self._forged(b"\0" + piece + b"\0"), now_s)

    def stray(self, data: bytes, now_s: float) -> None:
        """Put bytes on the line that no end has sent."""
        self._count(LineFault.BURST)
        self._order += 1
        heapq.heappush(self._pieces, LinePiece(max(now_s + self.faults.delay_s, self._held_s), self._order, data, b""))

    def take(self, now_s: float) -> list[LinePiece]:
        """Remove and give the pieces that have arrived by ``now_s``."""
        found: list[LinePiece] = []
        if now_s < self._stalled_s:
            return found
        while self._pieces and self._pieces[0].due_s <= now_s:
            piece = heapq.heappop(self._pieces)
            self.frames_arrived += bool(piece.whole)
            self.bytes_arrived += len(piece.data)
            if piece.order < self._newest:
                self._count(LineFault.REORDER)
            self._newest = max(self._newest, piece.order)
            found.append(piece)
        return found

    def stall(self, until_s: float, *, deaf: bool) -> None:
        """Nothing arrives before ``until_s``; ``deaf``: what is put meanwhile is lost, else it is late."""
        self._stalled_s, self._deaf = until_s, deaf

    def cut(self) -> None:
        """What is under way is gone."""
        self._pieces.clear()

    def _count(self, kind: LineFault, times: int = 1) -> None:
        self._counts[kind] = self._counts.get(kind, 0) + times

    def _happens(self, kind: LineFault, chance: float) -> bool:
        if chance <= 0.0 or self._rng.random() >= chance:
            return False
        self._count(kind)
        return True

    def _forged(self, frame: bytes) -> bytes:
        """The frame, or what somebody in the line puts in its place: another counter in CHALLENGED."""
        if not self.faults.forge or len(frame) > LONGEST_CHALLENGED:
            return frame
        (whole,) = FrameReader().feed(frame)
        try:
            said, request_id, chip_time_ns = decode(whole.payload)
        except RemoteProtocolError:  # no message, or a piece of one
            return frame
        if not isinstance(said, Challenged) or not self._happens(LineFault.FORGE, self.faults.forge):
            return frame
        forged = replace(said, counter=forged_counter(said.counter, self._rng))
        return encode_frame(whole._replace(payload=encode(forged, request_id, chip_time_ns)))

    def _carry(self, frame: bytes, now_s: float) -> None:
        faults, rng = self.faults, self._rng
        if self.bytes_put:
            self.longest_pause_s = max(self.longest_pause_s, now_s - self._free_s)
        self.bytes_put += len(frame)
        took_s = len(frame) / faults.bytes_per_s
        self._free_s = max(self._free_s, now_s) + took_s
        if (self._deaf and now_s < self._stalled_s) or self._happens(LineFault.LOSS, faults.loss):
            return
        for copy in range(1 + self._happens(LineFault.DUPLICATE, faults.duplicate)):
            data = self._damaged(frame)
            due_s = max(self._free_s + faults.delay_s, self._held_s)
            if self._happens(LineFault.LATE, faults.late):
                due_s = self._held_s = due_s + rng.random() * faults.late_s
            if faults.reorder and rng.random() < faults.reorder:
                due_s += 8 * rng.random() * max(faults.delay_s, took_s)
            if copy:
                due_s += faults.ghost_s * rng.random() ** 3
            self._order += 1
            whole = frame if data is frame or frame[1:-1] in data.split(b"\0") else b""
            heapq.heappush(self._pieces, LinePiece(due_s, self._order, data, whole))

    def _damaged(self, frame: bytes) -> bytes:
        faults, rng = self.faults, self._rng
        wrong = self._bits.hits(8 * len(frame))
        if wrong:
            self._count(LineFault.BIT_ERROR, len(wrong))
        if self._happens(LineFault.CORRUPT, faults.corrupt):
            wrong.append(rng.randrange(8 * len(frame)))
        keep = rng.randrange(len(frame)) if self._happens(LineFault.TRUNCATE, faults.truncate) else len(frame)
        drops, inserts = self._drops.hits(len(frame)), self._inserts.hits(len(frame))
        if not (wrong or drops or inserts) and keep == len(frame):
            return frame
        if drops:
            self._count(LineFault.DROP, len(drops))
        if inserts:
            self._count(LineFault.INSERT, len(inserts))
        data = bytearray(frame)
        for bit in wrong:
            data[bit >> 3] ^= 1 << (bit & 7)
        if drops or inserts:
            pieces = [data[at : at + 1] for at in range(len(data))]
            for at in drops:
                pieces[at] = bytearray()
            for at in inserts:
                pieces[at] = bytearray((rng.randrange(256),)) + pieces[at]
            data = bytearray(b"".join(pieces))
        return bytes(data[:keep])
