"""Made-up answers of a chip that only counts: with the size and, for packed bodies, the spread of real ones.

Spreads are those of an emulated lab-128 in a calibration and a deployment.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import code_limits, conversions, input_planes
from cim.chip.spec import ChipSpec
from cim.chip.windows import Window
from firmware_protocols.extensions.write_rounds import LEAVE_ALONE
from firmware_protocols.frames import DEFAULT_PAYLOAD
from firmware_protocols.messages import (
    Capability,
    CellReadings,
    Describe,
    Description,
    Done,
    Hello,
    HelloReply,
    LoadLayer,
    Mvm,
    MvmResult,
    ProgramTile,
    ReadCells,
    Reply,
    Request,
    Returns,
    Status,
    StatusReply,
    Sweep,
    TileProgrammed,
)
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan
from hil.driver.loaded import Loaded
from hil.driver.requests import block_slices, to_counts, to_microsiemens

MAX_MESSAGE = 1 << 24
_INT32 = (-(1 << 31), (1 << 31) - 1)
CELL_SPREAD_US = 1.2  # of cells about their targets, relaxed and read
PULSES = 9.0  # of a cell, mean
RAW_SPREAD = (4.0, 60.0)  # codes about their mean: with nothing driven, and more for each share of rows that are
SUM_SPREAD = 0.08  # of the ends of a layer's level sums


class MadeUpAnswers:
    """Makes up an answer for each request.

    Args:
        spread: numbers are drawn with a typical spread, which decides the size of packed bodies; else they lie
            at the ends of their scale.
    """

    def __init__(self, spec: ChipSpec, *, spread: bool = False) -> None:
        self.spec, self._loaded, self._rng = spec, Loaded(), np.random.default_rng(0)
        self._spread = spread
        self._cells: dict[int, NDArray[np.float32]] = {}  # targets of each macro as written last, µS

    def answer(self, request: Request[Any]) -> Reply:
        match request:
            case Hello():
                return HelloReply(0x0100, 0, 0, DEFAULT_PAYLOAD, 16, MAX_MESSAGE, Capability(0))
            case Describe():
                return description(self.spec)
            case Status():
                return StatusReply(0.0, False, 0, 0)
            case ProgramTile():
                return self._programmed(request)
            case ReadCells():
                return CellReadings(request.unit_ns, self._readings(request))
            case Mvm():
                return self._product(request, len(request.codes))
            case Sweep():
                w = request.window
                window = Window(w.channels, w.height, w.width, w.kernel, w.stride, w.padding, w.dilation)
                return self._product(request, len(request.codes) * window.positions)
            case LoadLayer() | LoadPlan():
                self._loaded.see(request)
                return Done()
            case RunPlan():
                return self._plan_result(request)
            case _:
                return Done()

    def _programmed(self, request: ProgramTile) -> TileProgrammed:
        targets = request.targets
        cells, used = self._macro(request.cells.macro), targets != LEAVE_ALONE
        at, reached = block_slices(request.cells), np.ones(targets.shape, np.bool_)
        cells[at] = np.where(used, to_microsiemens(targets, request.unit_ns), cells[at])
        if not self._spread:
            pulses = np.full(targets.shape, min(request.max_pulses, 255), np.uint16)
            return TileProgrammed(request.unit_ns, np.zeros(targets.shape, np.uint16), pulses, reached)
        pulses = np.minimum(self._rng.geometric(1 / PULSES, targets.shape), request.max_pulses).astype(np.uint16)
        readings = self._seen(cells[at], request.unit_ns)
        return TileProgrammed(request.unit_ns, np.where(used, readings, 0), np.where(used, pulses, 0), reached)

    def _readings(self, request: ReadCells) -> NDArray[np.uint16]:
        if not self._spread:
            cells = (request.cells.rows, request.cells.columns)
            return np.ones(cells, np.uint16)  # a chip that reads 0 alone is dead
        return self._seen(self._macro(request.cells.macro)[block_slices(request.cells)], request.unit_ns)

    def _macro(self, macro: int) -> NDArray[np.float32]:
        shape = (self.spec.macro.rows, self.spec.macro.columns)
        return self._cells.setdefault(macro, np.zeros(shape, np.float32))

    def _seen(self, cells_us: NDArray[np.float32], unit_ns: int) -> NDArray[np.uint16]:
        seen_us = cells_us + self._rng.normal(0.0, CELL_SPREAD_US, cells_us.shape)
        return to_counts(np.maximum(seen_us, 0.0), unit_ns)

    def _plan_result(self, request: RunPlan) -> PlanResult:
        """Answers of a plan, drawn over the range of its last layer's sums."""
        plan = self._loaded.plan
        assert plan is not None
        counts = np.full(len(plan.steps), (1 << 32) - 1, np.uint32)
        low, high = self._loaded.ends(self.spec)
        shape = (request.passes, len(request.pixels), plan.answer.size)
        return PlanResult(counts, counts, self._drawn(shape, low, high, SUM_SPREAD * (high - low)))

    def _product(self, request: Mvm | Sweep, vectors: int) -> MvmResult:
        macro = self.spec.macro
        low, high = code_limits(macro.adc.bits, macro.adc_signed)
        shape: tuple[int, ...]
        share = float(np.mean(request.codes != 0))
        spread = RAW_SPREAD[0] + RAW_SPREAD[1] * share
        if request.tile is None:
            layer = self._loaded.layers[request.layer]
            low, high, shape = layer.low, layer.high, (vectors, layer.outputs)
            spread = (high - low) / 4
        elif request.returns is Returns.RAW:
            planes = input_planes(macro.inputs, request.input_bits, request.input_signed)
            shape = (vectors, len(planes), conversions(macro, request.tile.outputs))
        else:  # weights of planes come to 2^bits, and typical sums stay well inside
            top = (1 << (request.input_bits - 1)) * request.reads
            low, high, shape = low * top, high * top, (vectors, request.tile.outputs)
            spread = SUM_SPREAD * (high - low)
        return MvmResult(request.returns, 0, 0, self._drawn(shape, low, high, spread))

    def _drawn(self, shape: tuple[int, ...], low: int, high: int, spread: float) -> NDArray[np.int32]:
        """Numbers spread about the middle of a scale, or at its ends."""
        low, high = max(low, _INT32[0]), min(high, _INT32[1])
        values: NDArray[np.int32] = np.full(shape, high, np.int32)
        if self._spread:
            drawn = self._rng.normal((low + high) / 2, spread, shape)
            values = np.clip(np.rint(drawn), low, high).astype(np.int32)
        values.flat[0] = low
        return values


def description(spec: ChipSpec) -> Description:
    macro = spec.macro
    names = (spec.name, spec.revision, "SN-0000", "0.0", "paper")
    return Description(*names, spec.macros, macro.rows, macro.columns, bytes.fromhex(spec.digest), bytes(32))
