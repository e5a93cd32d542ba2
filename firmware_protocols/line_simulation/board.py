"""A simulated board: the chip role over a chip whose answers follow from the requests, with power that may fail."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Iterable
from typing import Any

import numpy as np

from firmware_protocols.chip import ChipServer
from firmware_protocols.codec import encode
from firmware_protocols.connection import LinkLimits
from firmware_protocols.extensions.memory import BoardPower, SupplyFailed
from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import (
    Capability,
    CellReadings,
    Description,
    Done,
    ErrorCode,
    HoldProgram,
    LoadLayer,
    Mvm,
    MvmResult,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Reply,
    Request,
    StatusReply,
    Sweep,
    TileProgrammed,
    Wait,
)
from firmware_protocols.states import State

Numbered = Mvm | ReadCells | ProgramTile | Pulse
"""Requests of a simulation; ``sample`` is the number of each, so that no two are the same."""


def answer_of(request: Request[Any]) -> Reply:
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
            pulses = np.full(request.targets.shape, request.sample % 50, np.uint16)
            return TileProgrammed(request.unit_ns, request.targets, pulses, request.targets > 0)
        case Pulse():
            return Done()
    raise ValueError(f"{type(request).__name__} is not a numbered request")


def traces_of(requests: Iterable[Request[Any]]) -> tuple[int, dict[int, int]]:
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


class NotingChip:
    """Handlers whose work takes time and leaves traces.

    ``broken`` is told what must not happen: between two resets, a request that runs twice or out of turn. Only a host
    that was told of a reset may ask again what it has no answer to (``may_repeat``).
    ``traces`` is a checksum of all that was written, in order.
    """

    capabilities = Capability.PROGRAM_TILE | Capability.PULSE | Capability.SUMS

    def __init__(self, power: BoardPower, broken: Callable[[str], None]) -> None:
        self.power, self._broken = power, broken
        self.chip_time_ns = self.traces = self.executed = 0
        self.outputs_on = False
        self.written: dict[int, int] = {}  # tile -> slices of it that were written last
        self.may_repeat: set[int] = set()
        self._last = 0
        self._worked_s = 0.0

    def boot(self) -> None:
        """BoardPower came back: the outputs are off, what was written stays."""
        self.outputs_on, self._last, self._worked_s = False, 0, 0.0

    def take_worked_s(self) -> float:
        """Seconds of work since the last call."""
        worked_s, self._worked_s = self._worked_s, 0.0
        return worked_s

    def _begin(self, request: Numbered) -> None:
        if request.sample <= self._last:
            if request.sample not in self.may_repeat:
                self._broken(f"request {request.sample} runs after {self._last}: twice, or out of turn")
            self.may_repeat.discard(request.sample)
        self._last = request.sample
        self.executed += 1
        self.outputs_on = True

    def _work(self, seconds: float) -> None:
        self._worked_s += seconds
        self.chip_time_ns += round(seconds * 1e9)

    def _write(self, sample: int) -> None:
        self.power.spend()
        self.traces = zlib.crc32(sample.to_bytes(8, "little"), self.traces)

    def describe(self) -> Description:
        return Description("simulated", "A", "1", "1.0", "emulated", 1, 128, 256, bytes(32), bytes(32))

    def program_tile(self, request: ProgramTile) -> Generator[Progress | None, None, TileProgrammed]:
        """``max_pulses`` slices of ``verify_reads`` ms."""
        self._begin(request)
        for done in range(request.max_pulses):
            self._work(request.verify_reads * 1e-3)
            self._write(request.sample)
            self.written[request.cells.macro] = request.sample
            yield Progress(done + 1, request.max_pulses, 0) if done % 4 == 3 else None
        reply = answer_of(request)
        assert isinstance(reply, TileProgrammed)
        return reply

    def pulse(self, request: Pulse) -> Done:
        self._begin(request)
        self._work(1e-4)
        self._write(request.sample)
        return Done()

    def read_cells(self, request: ReadCells) -> CellReadings:
        self._begin(request)
        self._work(2e-3)
        reply = answer_of(request)
        assert isinstance(reply, CellReadings)
        return reply

    def mvm(self, request: Mvm) -> MvmResult:
        self._begin(request)
        self._work(1e-6 * request.codes.size)
        reply = answer_of(request)
        assert isinstance(reply, MvmResult)
        return reply

    def outputs_off(self) -> Done:
        self.outputs_on = False
        return Done()

    def status(self) -> StatusReply:
        return StatusReply(25.0, self.outputs_on, len(self.written), self.executed)

    def reset(self) -> Done:
        return Done()

    def sweep(self, request: Sweep) -> MvmResult:
        raise Refusal(ErrorCode.UNSUPPORTED, "no sweeps here")

    def load_layer(self, request: LoadLayer) -> Done:
        raise Refusal(ErrorCode.UNSUPPORTED, "no layers here")

    def hold_program(self, request: HoldProgram) -> Done:
        raise Refusal(ErrorCode.UNSUPPORTED, "no program here")

    def wait(self, request: Wait) -> Done:
        raise Refusal(ErrorCode.UNSUPPORTED, "no waiting here")


class VirtualBoard:
    """A board that can be reset, and whose power can fail in the middle of a write."""

    def __init__(self, limits: LinkLimits, broken: Callable[[str], None]) -> None:
        self.limits, self._broken = limits, broken
        self.power = BoardPower()
        self.chip = NotingChip(self.power, broken)
        self.boots = 0
        self._was_up = False
        self.boot()

    def boot(self) -> None:
        """Start, or start again: all but what was written is forgotten."""
        self.boots += 1
        self.chip.boot()
        self.server = ChipServer(self.chip, boot_id=self.boots, limits=self.limits)
        self._was_up = False

    def receive(self, data: bytes, now_s: float) -> None:
        try:
            self.server.receive(data, now_s)
        except SupplyFailed:
            self.boot()

    def data_to_send(self, now_s: float) -> bytes:
        try:
            data = self.server.data_to_send(now_s)
        except SupplyFailed:
            self.boot()
            return b""
        self._check_outputs()
        return data

    def next_deadline(self, now_s: float) -> float | None:
        return self.server.next_deadline(now_s)

    def _check_outputs(self) -> None:
        """Without a host and without work the outputs are off."""
        if self.server.connection.state is State.UP:
            self._was_up = True
        elif self._was_up and not self.server.busy and self.chip.outputs_on:
            self._broken("the outputs are on though the link is lost and nothing runs")


def same_answer(one: Reply, other: Reply) -> bool:
    """Whether two answers have the same bytes on the wire."""
    return type(one) is type(other) and encode(one) == encode(other)
