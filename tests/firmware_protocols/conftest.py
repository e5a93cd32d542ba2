"""A chip that counts what it is asked to do, a line with faults on a simulated clock, one sample of each message."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from firmware_protocols.chip import ChipServer
from firmware_protocols.connection import LinkLimits
from firmware_protocols.extensions import messages as later
from firmware_protocols.handlers import Refusal
from firmware_protocols.host import HostLink
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    CellReadings,
    Describe,
    Description,
    Done,
    ErrorCode,
    ErrorReply,
    Hello,
    HelloReject,
    HelloReply,
    HoldProgram,
    KernelWindow,
    LayerTile,
    LoadLayer,
    Mvm,
    MvmResult,
    OutputsOff,
    Polarity,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Reset,
    Returns,
    Status,
    StatusReply,
    Sweep,
    TileAddress,
    TileProgrammed,
    Wait,
)


@dataclass
class CountingChip:
    """Implements every verb with arithmetic on the request and notes each call."""

    capabilities: Capability = ~Capability(0)
    calls: list[str] = field(default_factory=list)
    steps: int = 3  # of a tile
    chip_time_ns: int = 0

    def _note(self, name: str) -> None:
        self.calls.append(name)
        self.chip_time_ns += 1000

    def describe(self) -> Description:
        self._note("describe")
        return Description("lab-128", "A", "7", "1.0", "emulated", 64, 128, 256, bytes(32), bytes(32))

    def program_tile(self, request: ProgramTile) -> Generator[Progress | None, None, TileProgrammed]:
        self._note("program_tile")
        for step in range(self.steps):
            yield Progress(step + 1, self.steps, 0)
            yield None
        self._note("programmed")
        pulses = np.full(request.targets.shape, 9, np.uint16)
        return TileProgrammed(request.unit_ns, request.targets, pulses, request.targets > 0)

    def pulse(self, request: Pulse) -> Done:
        self._note("pulse")
        if request.millivolts.max() > 3000:
            raise Refusal(ErrorCode.LIMIT, "SET voltage", float(request.millivolts.max()), 3000.0)
        return Done()

    def read_cells(self, request: ReadCells) -> CellReadings:
        self._note("read_cells")
        if request.cells.macro > 63:
            raise RuntimeError("the bus is stuck")
        return CellReadings(request.unit_ns, np.full((request.cells.rows, request.cells.columns), 5, np.uint16))

    def mvm(self, request: Mvm) -> MvmResult:
        self._note(f"mvm {request.sample}")
        values = request.codes.astype(np.int32) * 3 + request.sample
        return MvmResult(request.returns, 0, request.codes.size, values)

    def sweep(self, request: Sweep) -> MvmResult:
        self._note("sweep")
        return MvmResult(request.returns, 0, 1, np.array([[int(request.codes.sum())]], np.int32))

    def load_layer(self, request: LoadLayer) -> Done:
        self._note("load_layer")
        return Done()

    def hold_program(self, request: HoldProgram) -> Done:
        self._note("hold_program")
        return Done()

    def status(self) -> StatusReply:
        self._note("status")
        return StatusReply(25.0, True, 3, 4)

    def wait(self, request: Wait) -> Done:
        self._note("wait")
        return Done()

    def outputs_off(self) -> Done:
        self._note("outputs_off")
        return Done()

    def reset(self) -> Done:
        self._note("reset")
        return Done()


@dataclass(frozen=True)
class Faults:
    """Chance of each fault for one frame on the line, and how long a frame takes (s)."""

    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    truncate: float = 0.0
    reorder: float = 0.0
    bit_errors: float = 0.0  # chance of each bit
    drop: float = 0.0  # chance of each byte to vanish
    insert: float = 0.0  # chance of a stray byte before each byte
    delay_s: float = 0.005
    bytes_per_s: float = float("inf")


class Line:
    """Two ends and a line between them, on a clock that only this class moves."""

    def __init__(self, host: HostLink, chip: ChipServer, faults: Faults, rng: np.random.Generator) -> None:
        self.host, self.chip, self.faults, self.rng = host, chip, faults, rng
        self.now_s = 100.0
        self.cut = False  # nothing gets through
        self._events: list[tuple[float, int, str, bytes]] = []
        self._count = 0
        self._free_s = {"host": 0.0, "chip": 0.0}  # when the last byte each way has left

    def run(self, until: Callable[[], bool], limit_s: float = 60.0) -> bool:
        """Move time until ``until()`` or the limit; tells which."""
        end_s = self.now_s + limit_s
        idle = 0
        while not until():
            moved = self._collect()
            if until():
                return True
            if self.chip.busy:
                self.now_s += 0.001  # a slice of work takes time
            times = [t for t in (self.host.next_deadline(self.now_s), self.chip.next_deadline(self.now_s)) if t]
            times += [self._events[0][0]] if self._events else []
            if not times or min(times) > end_s:
                self.now_s = end_s
                return until()
            idle = 0 if moved or min(times) > self.now_s else idle + 1
            assert idle < 50, "an end asks to be called but has nothing to say"
            self.now_s = max(self.now_s, min(times))
            while self._events and self._events[0][0] <= self.now_s:
                _, _, to, data = heapq.heappop(self._events)
                (self.host if to == "host" else self.chip).receive(data, self.now_s)
        return True

    def _collect(self) -> bool:
        out = {"chip": self.host.data_to_send(self.now_s), "host": self.chip.data_to_send(self.now_s)}
        for to, data in out.items():
            for piece in data.split(b"\0"):
                if piece and not self.cut:
                    self._carry(to, b"\0" + piece + b"\0")
        return any(out.values())

    def _carry(self, to: str, data: bytes) -> None:
        faults, rng = self.faults, self.rng
        sent_s = self._free_s[to] = max(self._free_s[to], self.now_s) + len(data) / faults.bytes_per_s
        if rng.random() < faults.loss:
            return
        copies = 2 if rng.random() < faults.duplicate else 1
        for _ in range(copies):
            damaged = bytearray(data)
            damaged = self._damage_bytes(damaged)
            if rng.random() < faults.corrupt:
                damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
            if rng.random() < faults.truncate:
                del damaged[rng.integers(len(damaged)) :]
            delay_s = faults.delay_s * (1 + 8 * rng.random() * (rng.random() < faults.reorder))
            self._count += 1
            heapq.heappush(self._events, (sent_s + delay_s, self._count, to, bytes(damaged)))

    def _damage_bytes(self, data: bytearray) -> bytearray:
        """Bit errors, lost and stray bytes, each with its chance."""
        faults, rng = self.faults, self.rng
        if not (faults.bit_errors or faults.drop or faults.insert):
            return data
        for bit in np.flatnonzero(rng.random(8 * len(data)) < faults.bit_errors):
            data[bit >> 3] ^= 1 << (bit & 7)
        kept = bytearray()
        for byte, drop, insert in zip(data, rng.random(len(data)), rng.random(len(data)), strict=True):
            if insert < faults.insert:
                kept.append(int(rng.integers(256)))
            if drop >= faults.drop:
                kept.append(byte)
        return kept


MakeLine = Callable[..., Line]


@pytest.fixture
def make_line() -> MakeLine:
    """A line with both ends up: ``make_line(chip=…, faults=Faults(…), seed=…)``."""

    def make(
        chip: CountingChip | None = None,
        faults: Faults | None = None,
        seed: int = 0,
        opened: bool = True,
        host_limits: LinkLimits | None = None,
        chip_limits: LinkLimits | None = None,
    ) -> Line:
        server = ChipServer(chip or CountingChip(), boot_id=0xB007, limits=chip_limits)
        host = HostLink(nonce=0x1234, limits=host_limits)
        line = Line(host, server, faults or Faults(), np.random.default_rng(seed))
        if opened:
            host.open(line.now_s)
            assert line.run(lambda: host.up, 10.0)
        return line

    return make


@pytest.fixture
def kit() -> SimpleNamespace:
    """The classes of this file, for tests that build their own."""
    return SimpleNamespace(CountingChip=CountingChip, Faults=Faults, Line=Line)


def ints(values: list[object], dtype: type[np.generic]) -> np.ndarray:
    return np.array(values, dtype)


SAMPLES = {
    "hello": Hello(0x0100, 0x0102, 512, 16, 0xDEADBEEF),
    "describe": Describe(),
    "program_tile": ProgramTile(
        CellBlock(2, 10, 2, 34, 3), 10, 100, 50, 4, 800, 50, 2500, 900, 60, 2800, 100, 7,
        ints([[200, 2914, 65535], [4000, 0, 1]], np.uint16),
    ),
    "pulse": Pulse(CellBlock(1, 0, 1, 0, 4), Polarity.RESET, 100, 3, ints([[0, 900, 950, 3000]], np.uint16)),
    "read_cells": ReadCells(CellBlock(63, 0, 128, 0, 256), 10, 8, 1 << 40),
    "mvm_u8": Mvm(
        Returns.SUMS, TileAddress(3, 0, 4, 8, 2), 0, 1, 8, False, 9, 4, 6, ints([[0, 1, 128, 255]] * 2, np.int16)
    ),
    "mvm_i8": Mvm(Returns.RAW, TileAddress(3, 0, 2, 8, 2), 0, 0, 4, True, 9, 1, 0, ints([[-8, 7], [0, -1]], np.int16)),
    "mvm_i16": Mvm(Returns.LAYER, None, 5, 0, 8, True, 2, 1, 0, ints([[-300, 299, 32767]], np.int16)),
    "sweep": Sweep(
        Returns.SUMS, TileAddress(0, 0, 9, 0, 16), 0, 2, 8, False,
        KernelWindow(1, 3, 4, (3, 2), (1, 2), (1, 0), (1, 1)), 18, 11,
        ints([[[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 255]]]], np.int16),
    ),
    "load_layer": LoadLayer(
        5, 27, 2, -128, 127, ints([-70000, 3], np.int32), ints([1 << 30, 5], np.int32), ints([33, 34], np.int32),
        (
            LayerTile(
                TileAddress(1, 0, 27, 4, 2), 0, 0, 1, 20, ints([1 << 20, 1], np.int32), ints([-(1 << 40), 0], np.int64),
                ints([-1, 2], np.int32),
            ),
        ),
    ),
    "hold_program": HoldProgram(bytes(range(32))),
    "status": Status(),
    "wait": Wait(3_600_000_000_000),
    "outputs_off": OutputsOff(),
    "reset": Reset(),
    "hello_reply": HelloReply(
        0x0100, 0xCAFEF00D, 1, 512, 16, 1 << 20, Capability.PROGRAM_TILE | Capability.SUMS | Capability.WAIT
    ),
    "hello_reject": HelloReject(0x0200, 0x0203),
    "description": Description(
        "lab-128", "A", "chip µ7", "1.0", "emulated", 64, 128, 256, bytes(range(32)), bytes(range(32, 64))
    ),
    "progress": Progress(120, 4096, 3),
    "tile_programmed": TileProgrammed(
        10, ints([[200, 2914, 0], [3999, 5, 1]], np.uint16), ints([[1, 9, 0], [300, 2, 1]], np.uint16),
        ints([[True, True, False], [True, False, True]], np.bool_),
    ),
    "cell_readings": CellReadings(10, ints([[200, 65534]], np.uint16)),
    "mvm_result_u8": MvmResult(Returns.LAYER, 0, 6, ints([[0, 255, 3]], np.int32)),
    "mvm_result_i16": MvmResult(Returns.SUMS, 1, 64, ints([[-300, 20], [0, 7]], np.int32)),
    "mvm_result_i32": MvmResult(Returns.SUMS, 0, 64, ints([[-70000, 70000]], np.int32)),
    "mvm_result_raw": MvmResult(Returns.RAW, 2, 8, ints([[[1, -2], [127, -128]]], np.int32)),
    "status_reply": StatusReply(25.5, True, 16384, 300000),
    "done": Done(),
    "error": ErrorReply(ErrorCode.LIMIT, "SET voltage", 3.5, 3.0),
    "challenge": later.Challenge(),
    "authorise": later.Authorise(later.Level.PROGRAM, bytes(range(64, 96))),
    "drop_authority": later.DropAuthority(),
    "image_begin": later.ImageBegin(bytes(range(32)), 70000),
    "image_chunk": later.ImageChunk(2048, bytes(range(200, 240))),
    "image_status": later.ImageStatus(),
    "image_commit": later.ImageCommit(bytes(range(32))),
    "image_tile": later.ImageTile(bytes(range(32)), 1234),
    "journal": later.AskJournal(),
    "challenged": later.Challenged(bytes(range(16)), 1 << 40, later.Level.RUN, 5),
    "image_state": later.ImageState(
        bytes(range(32)), 10000, 1 << 20, False, np.array([True] * 3 + [False] * 6 + [True])
    ),
    "image_state_none": later.ImageState(bytes(32), 0, 1 << 20, False, np.zeros(0, np.bool_)),
    "journal_state": later.JournalState(
        16, (later.JournalEntry(0xDEADBEEF, 7, 0x44), later.JournalEntry(0xDEADBEEF, 8, 0x04))
    ),
}  # fmt: skip


@pytest.fixture(params=sorted(SAMPLES))
def sample(request: pytest.FixtureRequest) -> tuple[str, object]:
    """Name and message, one of each."""
    return request.param, SAMPLES[request.param]


@pytest.fixture
def samples() -> dict[str, object]:
    return dict(SAMPLES)
