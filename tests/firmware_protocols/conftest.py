"""A chip that counts what it is asked to do, a line with faults on a simulated clock, one sample of each message."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

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
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan
from tests.line_simulation.faults import LineFaults
from tests.line_simulation.line import LineEnd, VirtualLine

BAD_LINES = [
    {"loss": 0.05},
    {"drop": 1e-4, "insert": 1e-4},
    {"loss": 0.2},
    {"duplicate": 0.3},
    {"corrupt": 0.1},
    {"truncate": 0.1},
    {"reorder": 0.3},
    {"loss": 0.05, "duplicate": 0.05, "corrupt": 0.05, "truncate": 0.05, "reorder": 0.2},
    {"delay_s": 0.5, "loss": 0.05},
]


def exchange(line: Any, requests: list[Any], limit_s: float = 120.0) -> dict[int, Any]:
    """Final replies of ``requests`` by their place in the list."""
    places = {line.host.request(message): place for place, message in enumerate(requests)}
    final: dict[int, Any] = {}

    def complete() -> bool:
        for request_id, reply, _ in line.host.poll():
            if not isinstance(reply, Progress):
                assert places[request_id] not in final, "two final replies to one request"
                final[places[request_id]] = reply
        return len(final) == len(requests) or line.host.failure is not None

    line.run(complete, limit_s)
    return final


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


class WorkingEnd(LineEnd, Protocol):
    """A chip's end that says whether it has work."""

    @property
    def busy(self) -> bool: ...


class TestedLine(VirtualLine):
    """A virtual line whose chip works 1 ms at each call while it has work."""

    chip: WorkingEnd

    def __init__(self, host: HostLink, chip: WorkingEnd, faults: LineFaults, seed: int = 0) -> None:
        super().__init__(host, chip, faults, random.Random(seed), worked_s=lambda: 0.001 if self.chip.busy else 0.0)


MakeLine = Callable[..., TestedLine]


@pytest.fixture
def make_line() -> MakeLine:
    """A line with both ends up: ``make_line(chip=…, faults=LineFaults(…), seed=…)``."""

    def make(
        chip: CountingChip | None = None,
        faults: LineFaults | None = None,
        seed: int = 0,
        opened: bool = True,
        host_limits: LinkLimits | None = None,
        chip_limits: LinkLimits | None = None,
    ) -> TestedLine:
        server = ChipServer(chip or CountingChip(), boot_id=0xB007, limits=chip_limits)
        host = HostLink(nonce=0x1234, limits=host_limits)
        line = TestedLine(host, server, faults or LineFaults(), seed)
        if opened:
            host.open(line.now_s)
            assert line.run(lambda: host.up, 10.0)
        return line

    return make


@pytest.fixture
def kit() -> SimpleNamespace:
    """The classes of this file, for tests that build their own."""
    return SimpleNamespace(CountingChip=CountingChip, Faults=LineFaults, Line=TestedLine)


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
    "mvm_reads": Mvm(
        Returns.SUMS, TileAddress(3, 0, 4, 8, 2), 0, 1, 8, False, 9, 4, 6, ints([[0, 1, 128, 255]], np.int16), 32
    ),
    "sweep_reads": Sweep(
        Returns.SUMS, TileAddress(0, 0, 2, 0, 16), 0, 2, 8, False,
        KernelWindow(1, 2, 2, (2, 1), (1, 1), (0, 0), (1, 1)), 0, 11, ints([[[[0, 1], [4, 255]]]], np.int16), 256,
    ),
    "load_layer_reads": LoadLayer(
        6, 27, 2, -128, 127, ints([-7, 3], np.int32), ints([1 << 30, 5], np.int32), ints([33, 34], np.int32),
        tuple(
            LayerTile(
                TileAddress(1, row0, 27, 4, 2), 0, 0, multiplier, 20, ints([1 << 20, 1], np.int32),
                ints([-9, 0], np.int64), ints([0, 0], np.int32), reads,
            )
            for row0, multiplier, reads in ((0, 8, 8), (27, 1, 2))
        ),
    ),
    "load_plan": LoadPlan(9, 2, ints([1, -70_000, 3], np.int32)),
    "run_plan": RunPlan(3, 5, 1 << 32, np.arange(12, dtype=np.uint8).reshape(2, 3, 2, 1)),
    "plan_result": PlanResult(
        ints([1, 0], np.uint32), ints([70_000, 6], np.uint32), ints([[[1, -2], [300, 4]]], np.int32)
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
