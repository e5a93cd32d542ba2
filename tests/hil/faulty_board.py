"""A chip role that outlives the lines to it, and a line with faults: in the host's own process, in real time."""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass, field

import numpy as np

from firmware_protocols.chip import ChipServer
from firmware_protocols.connection import LinkLimits
from firmware_protocols.extensions.chip_side import keeping_of
from firmware_protocols.handlers import ChipHandlers
from hil.errors import LinkError, PortError
from hil.transports.base import Transport
from hil.transports.in_process import MAX_MESSAGE


@dataclass(frozen=True)
class WireFaults:
    """Chances of each fault of one frame, of bits and bytes, and the most that a frame is late (s)."""

    loss: float = 0.0
    duplicate: float = 0.0
    bit_errors: float = 0.0
    drop: float = 0.0
    insert: float = 0.0
    late_s: float = 0.0  # uniform from 0: frames overtake each other

    def __bool__(self) -> bool:
        return self != WireFaults()


@dataclass
class Board:
    """A board with a cable: ``plugged`` in or not, ``stalled`` or not. ``resets``: at which requests it restarts."""

    chip: ChipHandlers
    faults: WireFaults = WireFaults()
    seed: int = 0
    plugged: bool = True
    stalled: bool = False
    opened: int = 0
    written: int = 0  # pieces that the host put on the line
    boot_id: int = 17
    server: ChipServer = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.boot()

    def boot(self) -> None:
        """Start, or restart, the firmware; the chip keeps what a reset leaves."""
        self.boot_id += 1
        limits = LinkLimits(window=32, max_message=MAX_MESSAGE)
        self.server = ChipServer(self.chip, boot_id=self.boot_id, limits=limits, keeping=keeping_of(self.chip))

    def open(self, *_: object, **__: object) -> Transport:
        if not self.plugged:
            raise PortError("no such port")
        self.opened += 1
        return Cable(self)

    def stepped(self) -> None:
        """Called at each piece that the host writes; tests put their events here."""


class Cable:
    """One opening of a line to a ``Board``."""

    address, max_payload = "board", 512

    def __init__(self, board: Board) -> None:
        self.board = board
        self._late: list[tuple[float, int, bool, bytes]] = []  # due, order, to the chip, bytes
        self._order = 0

    def write(self, data: bytes) -> None:
        self.board.written += 1
        self.board.stepped()
        self._check()
        if not self.board.stalled:
            self._carry(data, True)
            self._arrive()

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        self._check()
        if self.board.stalled:
            time.sleep(min(timeout_s, 0.005))
            return b""
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._carry(self.board.server.data_to_send(time.monotonic()), False)
            data = self._arrive()
            if data or time.monotonic() >= deadline_s:
                return data
            if not self.board.server.busy:
                time.sleep(0.0005)

    def close(self) -> None:
        self._late.clear()

    def _check(self) -> None:
        if not self.board.plugged:
            raise LinkError("connection to board lost: unplugged")

    def _carry(self, data: bytes, to_chip: bool) -> None:
        now_s, faults, rng = time.monotonic(), self.board.faults, self.board.rng
        pieces = [b"\0" + piece + b"\0" for piece in data.split(b"\0") if piece] if faults else [data]
        for piece in filter(None, pieces):
            if faults.loss and rng.random() < faults.loss:
                continue
            for _ in range(1 + (faults.duplicate > 0 and rng.random() < faults.duplicate)):
                self._order += 1
                late_s = faults.late_s * rng.random() if faults.late_s else 0.0
                heapq.heappush(self._late, (now_s + late_s, self._order, to_chip, self._damaged(piece)))

    def _damaged(self, piece: bytes) -> bytes:
        faults, rng = self.board.faults, self.board.rng
        if not (faults.bit_errors or faults.drop or faults.insert):
            return piece
        data = bytearray(piece)
        for bit in np.flatnonzero(rng.random(8 * len(data)) < faults.bit_errors):
            data[bit >> 3] ^= 1 << (bit & 7)
        kept = bytearray()
        for byte, drop, insert in zip(data, rng.random(len(data)), rng.random(len(data)), strict=True):
            if insert < faults.insert:
                kept.append(int(rng.integers(256)))
            if drop >= faults.drop:
                kept.append(byte)
        return bytes(kept)

    def _arrive(self) -> bytes:
        """Give what is due: to the chip, and back to the host."""
        now_s, back = time.monotonic(), b""
        while self._late and self._late[0][0] <= now_s:
            _, _, to_chip, data = heapq.heappop(self._late)
            if to_chip:
                self.board.server.receive(data, now_s)
            else:
                back += data
        return back
