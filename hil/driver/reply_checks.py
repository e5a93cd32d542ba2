"""Answers checked against their requests, in one place: shapes, counts, units, ranges, texts, signs of progress.

A message that can be decoded may still be nonsense: rows and columns swapped, fewer vectors than were asked for, a
unit of 0 or of 4 S, sums that no converter gives, a name that clears the screen. Such a message never reaches a caller.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cim.chip.converters import code_limits, conversions, input_cycles, input_planes, sum_limits
from cim.chip.spec import ChipSpec
from cim.chip.windows import Window
from firmware_protocols.extensions.messages import CHUNK, ImageBegin, ImageState
from firmware_protocols.messages import (
    Capability,
    CellReadings,
    Description,
    HelloReply,
    LoadLayer,
    Mvm,
    MvmResult,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Reply,
    Request,
    Returns,
    StatusReply,
    Sweep,
    TileAddress,
    TileProgrammed,
    Wait,
)
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan
from hil.driver.errors import describe_request, shown
from hil.driver.loaded import Loaded
from hil.errors import DeviceError, LinkError

LEAST_MESSAGE = 256  # bytes; below, not even a row of cells fits
MOST_TEXT = 256  # characters of a chip's name, serial number and so on
MOST_COUNT = 0xFFFF  # of a reading
LEAST_C, MOST_C = -273.15, 500.0  # of a chip that answers
FILE_TIMES, ANSWER_TIMES = 100, 10  # work on an array that shows progress may take so many times the chip file's time,
# or the longest silence: boards are slower than their cells, but not without end
ALL_ONES = (1 << 32) - 1  # a count of erased memory, or of a register that nobody answers for


@dataclass
class ReplyChecks:
    """Facts about a chip that its answers are checked against.

    ``spec`` is set once the chip's description was compared with its file; before, and for
    requests that need it, only what the request itself says is checked.
    """

    address: str
    spec: ChipSpec | None = None
    _tells_temperature: bool = True
    _loaded: Loaded = field(default_factory=Loaded)
    _progress: dict[int, tuple[int, int]] = field(default_factory=dict)  # by request: done, failed

    def hello(self, hello: HelloReply) -> None:
        """Raises ``DeviceError`` if the chip's longest message is too short to be useful."""
        if hello.max_message < LEAST_MESSAGE:
            raise DeviceError(
                f"the chip takes messages of at most {hello.max_message} bytes; {LEAST_MESSAGE} are the least",
                where=self.address,
                likely="its firmware says a wrong max_message in HELLO_REPLY",
            )
        self._tells_temperature = Capability.TEMPERATURE in hello.capabilities

    def reply(self, request: Request[Any], reply: Reply) -> None:
        """Raises ``LinkError`` when a reply of the right class does not answer the request."""
        match request, reply:
            case ProgramTile(), TileProgrammed():
                shape = request.targets.shape
                for name in ("readings", "pulses", "reached"):
                    self._same(request, name, getattr(reply, name).shape, shape)
                self._readings(request, reply)
                most = int(reply.pulses.max(initial=0))
                text = f"{most} pulses of one cell; {request.max_pulses} were allowed"
                self._need(most <= request.max_pulses, request, text)
            case ReadCells(), CellReadings():
                self._same(request, "readings", reply.readings.shape, (request.cells.rows, request.cells.columns))
                self._readings(request, reply)
            case ((Mvm() | Sweep()), MvmResult()):
                self._products(request, reply)
            case _, Description():
                for name in ("name", "revision", "serial", "firmware", "kind"):
                    self._text(request, name, getattr(reply, name))
            case _, StatusReply():
                unknown = math.isnan(reply.temperature_c) and not self._tells_temperature
                good = unknown or LEAST_C < reply.temperature_c <= MOST_C
                self._need(good, request, f"a temperature of {reply.temperature_c:g} °C")
                for name in ("programmed_cells", "pulses_total"):
                    text = f"{name.replace('_', ' ')} of {ALL_ONES:,}: all bits of the count are set"
                    self._need(getattr(reply, name) != ALL_ONES, request, text)
                cells = math.inf
                if self.spec is not None:
                    cells = self.spec.macros * self.spec.macro.rows * self.spec.macro.columns
                text = f"{reply.programmed_cells:,} programmed cells; it has {cells:,}"
                self._need(reply.programmed_cells <= cells, request, text)
            case ImageBegin(), ImageState():
                has = (reply.digest.hex()[:12], reply.size, len(reply.received))
                wanted = (request.digest.hex()[:12], request.size, -(-request.size // CHUNK))
                self._need(has == wanted, request, f"an image (digest, bytes, pieces) {has}, {wanted} was begun")
            case RunPlan(), PlanResult():
                self._plan(request, reply)
            case ((LoadLayer() | LoadPlan()), _):
                self._loaded.see(request)

    def progress(self, request_id: int, said: Progress) -> bool:
        """Whether a progress report is genuine: more work done than before, and no more than the total."""
        new = (said.done, said.failed) > self._progress.get(request_id, (-1, -1))
        new = new and said.done <= said.total and said.failed <= said.total
        if new:
            self._progress[request_id] = (said.done, said.failed)
        return new

    def allowed_s(self, request: Request[Any], answer_s: float) -> float:
        """Longest time from the previous answer to that of ``request``, whatever progress the chip reports, s.

        ``FILE_TIMES`` times the duration by its chip file, at least ``ANSWER_TIMES`` times the silence ``answer_s``.
        A request without a duration in the chip file, as STATUS, may take the longest silence.
        """
        work_s = 0.0 if self.spec is None else longest_s(self.spec, request, self._loaded)
        return max(ANSWER_TIMES * answer_s, FILE_TIMES * work_s) if work_s else answer_s

    def answered(self, request_id: int) -> None:
        self._progress.pop(request_id, None)

    def _products(self, request: Mvm | Sweep, reply: MvmResult) -> None:
        asked, got = request.returns, reply.returns
        self._need(got is asked, request, f"{got.name} results, {asked.name} were requested")
        layer, vectors = self._loaded.layers.get(request.layer), vectors_of(request)
        outputs = request.tile.outputs if request.tile is not None else None if layer is None else layer.outputs
        shape: tuple[int, ...] = (vectors, *reply.values.shape[1:])
        if asked is not Returns.RAW and outputs is not None:
            shape = (vectors, outputs)
        elif asked is Returns.RAW and outputs is not None and self.spec is not None:
            macro = self.spec.macro
            planes = input_planes(macro.inputs, request.input_bits, request.input_signed)
            shape = (vectors, len(planes), conversions(macro, outputs))
        self._same(request, "values", reply.values.shape, shape)
        text = f"{reply.saturated} saturated conversions of {reply.conversions}"
        self._need(reply.saturated <= reply.conversions, request, text)
        if self.spec is None or (request.tile is None and layer is None):
            return
        tiles = [(t.address, t.reads) for t in layer.tiles] if layer is not None and request.tile is None else []
        if request.tile is not None:
            tiles = [(request.tile, request.reads)]
        macro = self.spec.macro
        planes = input_planes(macro.inputs, request.input_bits, request.input_signed)
        most = vectors * len(planes) * sum(reads * conversions(macro, tile.outputs) for tile, reads in tiles)
        self._need(reply.conversions <= most, request, f"{reply.conversions} conversions; it takes {most}")
        low, high = code_limits(macro.adc.bits, macro.adc_signed)
        if asked is Returns.SUMS:
            low, high = sum_limits(macro, planes, request.reads)
        elif layer is not None and request.tile is None:
            low, high = layer.low, layer.high
        least, largest = int(reply.values.min(initial=high)), int(reply.values.max(initial=low))
        text = f"{asked.name} of {least} to {largest}; its converters give {low} to {high}"
        self._need(low <= least and largest <= high, request, text)

    def _plan(self, request: RunPlan, reply: PlanResult) -> None:
        """Answers of every pass and image, and no more conversions than the plan's products make."""
        plan = self._loaded.plan
        self._need(plan is not None, request, "answers of a plan that was not loaded")
        assert plan is not None
        answer, images = plan.answer, (request.passes, len(request.pixels))
        self._same(request, "values", reply.values.shape, (*images, answer.size))
        self._same(request, "conversions", reply.conversions.shape, (len(plan.steps),))
        ended, made = int(reply.saturated.sum(dtype=np.uint64)), int(reply.conversions.sum(dtype=np.uint64))
        text = f"{ended} saturated conversions of {made}"
        self._need(bool((reply.saturated <= reply.conversions).all()), request, text)
        kind = np.iinfo(np.int16 if answer.item == 2 else np.int32)
        least, largest = int(reply.values.min()), int(reply.values.max())
        text = f"answers of {least} to {largest} in {8 * answer.item} bits"
        self._need(kind.min <= least and largest <= kind.max, request, text)

    def _readings(self, request: ReadCells | ProgramTile, reply: CellReadings | TileProgrammed) -> None:
        """Check that readings have the requested unit and that it is fine enough to separate levels."""
        unit, largest = reply.unit_ns, int(reply.readings.max(initial=0))
        self._need(unit > 0, request, f"readings in units of {unit} nS")
        if self.spec is not None:
            gap_ns = max(1000.0 * self.spec.macro.level_gap_us, request.unit_ns)
            text = f"readings in units of {unit} nS; its levels lie {gap_ns:g} nS apart"
            self._need(unit <= gap_ns, request, text)
        scale_us = 1e-3 * MOST_COUNT * request.unit_ns
        text = f"a cell of {1e-3 * unit * largest:g} µS; the requested scale ends at {scale_us:g} µS"
        self._need(unit * largest <= MOST_COUNT * request.unit_ns, request, text)

    def _same(self, request: Request[Any], what: str, got: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        self._need(got == wanted, request, f"{what} of shape {got}, {wanted} were requested")

    def _text(self, request: Request[Any], name: str, text: str) -> None:
        good = len(text) <= MOST_TEXT and text.isprintable()
        self._need(good, request, f"a {name} of {len(text)} characters, not all of them printable: {shown(text)[:60]}")

    def _need(self, good: bool, request: Request[Any], text: str) -> None:
        if not good:
            raise LinkError(
                f"the chip answered {describe_request(request)} with {text}",
                where=self.address,
                likely="its firmware is broken or speaks another version",
            )


def longest_s(spec: ChipSpec, request: Request[Any], loaded: Loaded | None = None) -> float:
    """Chip time of a request, s, by the chip file's [timing]: each cell takes all of its pulses, nothing overlaps.

    Args:
        loaded: layers and plan that an ``Mvm`` or ``Sweep`` without a tile, or a ``RunPlan``, runs.

    Example: 128 x 128 cells of lab-128, at most 500 pulses of 1.5 µs each with one verify of 1 µs: 20.5 s.
    """
    timing = spec.timing
    match request:
        case ProgramTile():
            turn_ns = timing.pulse_ns + request.verify_reads * timing.verify_ns
            return request.targets.size * (request.max_pulses + 1) * turn_ns * 1e-9
        case Pulse():
            return request.millivolts.size * max(timing.pulse_ns, float(request.width_ns)) * 1e-9
        case ReadCells():
            return request.cells.rows * request.cells.columns * request.reads * timing.cell_read_ns * 1e-9
        case Mvm() | Sweep():
            layer = loaded.of(request) if loaded is not None else None
            tiles = [(t.address, t.reads) for t in layer.tiles] if layer is not None else []
            if request.tile is not None:
                tiles = [(request.tile, request.reads)]
            return vectors_of(request) * _vector_s(spec, request.input_bits, request.input_signed, tiles)
        case RunPlan():
            return sum(
                vectors
                * _vector_s(
                    spec, product.input_bits, bool(product.input_signed), [(t.address, t.reads) for t in layer.tiles]
                )
                for product, layer, vectors in (loaded or Loaded()).products(request)
            )
        case Wait():
            return request.duration_ns * 1e-9
        case _:
            return 0.0


def _vector_s(spec: ChipSpec, bits: int, signed: bool, tiles: Sequence[tuple[TileAddress, int]]) -> float:
    """Chip time of one vector on tiles that are read so many times each, one after the other, s."""
    inputs, timing, reads_ns = spec.macro.inputs, spec.timing, 0.0
    for tile, reads in tiles:
        converted_ns = conversions(spec.macro, tile.outputs) * timing.conversion_ns
        for plane in input_planes(inputs, bits, signed):
            cycles_ns = input_cycles(inputs, plane) * timing.input_cycle_ns
            reads_ns += reads * (timing.row_setup_ns + cycles_ns + converted_ns)
    return reads_ns * 1e-9


def vectors_of(request: Mvm | Sweep) -> int:
    """Vectors that a product multiplies, those of kernel windows included."""
    if isinstance(request, Mvm):
        return len(request.codes)
    return len(request.codes) * Window(**dataclasses.asdict(request.window)).positions
