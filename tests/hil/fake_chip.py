"""A small exact chip for driver tests: cells hold what they are given, converters only round.

Single pulses move a cell by a fixed step towards SET or RESET, so host-run write-verify has
something to do. ``capabilities`` can be cut to test what the driver does without them.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Generator

import numpy as np

from cim.chip.converters import conversions, input_planes, quantise_adc, shift_add, split_planes
from cim.chip.correction import Correction, apply_correction
from cim.chip.encoding import tile_halves_us
from cim.chip.file import idealised, load_chip
from cim.chip.spec import ChipSpec, Encoding, PairSubtraction
from cim.chip.windows import Window, unfold
from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    CellReadings,
    Description,
    Done,
    ErrorCode,
    HoldProgram,
    LoadLayer,
    Mvm,
    MvmResult,
    Polarity,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Returns,
    StatusReply,
    Sweep,
    TileAddress,
    TileProgrammed,
    Wait,
)

ALL = Capability(2 ** len(Capability) - 1)


def small_spec(rows: int = 16, columns: int = 16, macros: int = 2) -> ChipSpec:
    """An ideal lab-128 cut small."""
    spec = idealised(load_chip("lab-128", macros=macros))
    macro = dataclasses.replace(
        spec.macro, rows=rows, columns=columns, rows_per_read=rows, column_order=tuple(range(columns))
    )
    return dataclasses.replace(spec, macro=macro)


class FakeChip:
    """``ChipHandlers`` over one array of conductances, (macros, rows, columns) µS."""

    def __init__(self, spec: ChipSpec, capabilities: Capability = ALL, *, step_us: float = 3.0) -> None:
        self.spec, self._capabilities, self._step_us = spec, capabilities, step_us
        self.cells_us = np.full((spec.macros, spec.macro.rows, spec.macro.columns), spec.macro.levels_us[0])
        self.stuck = np.zeros(self.cells_us.shape, np.bool_)
        self.pulses = 0
        self.time_ns = 0
        self.held = bytes(32)
        self.layers: dict[int, LoadLayer] = {}
        self.outputs_on = False
        self.slow_s = 0.0  # each product takes so long, for tests of silence
        self.hang = threading.Event()  # set: products never come
        self.samples: list[int] = []

    @property
    def capabilities(self) -> Capability:
        return self._capabilities

    @property
    def chip_time_ns(self) -> int:
        return self.time_ns

    def describe(self) -> Description:
        s = self.spec
        return Description(
            s.name, s.revision, "0001", "fake 1.0", "emulated", s.macros, s.macro.rows, s.macro.columns,
            bytes.fromhex(s.digest), self.held,
        )  # fmt: skip

    # --- cells ----------------------------------------------------------------------------

    def program_tile(self, request: ProgramTile) -> Generator[Progress | None, None, TileProgrammed]:
        self.outputs_on = True
        cells = self._block(request.cells)
        wanted = request.targets != 0xFFFF
        total = int(wanted.sum())
        yield Progress(0, total, 0)
        stuck = self.stuck[request.cells.macro][self._at(request.cells)]
        cells[...] = np.where(wanted & ~stuck, request.targets * request.unit_ns / 1000, cells)
        self.time_ns += 1000 * total
        self.held = bytes(32)
        yield Progress(total, total, int((stuck & wanted).sum()))
        counts = self._counts(cells, request.unit_ns)
        return TileProgrammed(request.unit_ns, counts, wanted.astype(np.uint16), ~(stuck & wanted))

    def pulse(self, request: Pulse) -> Done:
        self.outputs_on = True
        cells = self._block(request.cells)
        chosen = (request.millivolts > 0) & ~self.stuck[request.cells.macro][self._at(request.cells)]
        sign = 1 if request.polarity is Polarity.SET else -1
        volts = request.millivolts / 1000
        cells[chosen] += sign * self._step_us * np.clip(volts[chosen] - 1.0, 0.1, 0.4)
        self.pulses += int(chosen.sum())
        self.time_ns += 1000
        return Done()

    def read_cells(self, request: ReadCells) -> CellReadings:
        self.samples.append(request.sample)
        self.time_ns += 100 * request.reads
        return CellReadings(request.unit_ns, self._counts(self._block(request.cells), request.unit_ns))

    def _at(self, block: CellBlock) -> tuple[slice, slice]:
        return slice(block.row0, block.row0 + block.rows), slice(block.column0, block.column0 + block.columns)

    def _block(self, block: CellBlock) -> np.ndarray:
        if block.macro >= self.spec.macros:
            raise Refusal(ErrorCode.OUT_OF_RANGE, "no such macro", block.macro, self.spec.macros - 1)
        return self.cells_us[block.macro][self._at(block)]

    def _counts(self, cells: np.ndarray, unit_ns: int) -> np.ndarray:
        return np.clip(np.rint(cells * 1000 / unit_ns), 0, 0xFFFE).astype(np.uint16)

    # --- products -------------------------------------------------------------------------

    def mvm(self, request: Mvm) -> Generator[None, None, MvmResult]:
        while self.hang.is_set():
            yield None
            time.sleep(0.01)
        if self.slow_s:
            time.sleep(self.slow_s)
        self.time_ns += 10 * len(request.codes)
        if request.tile is None:
            return self._layer(self.layers[request.layer], request.codes, request)
        return self._product(request.tile, request.codes, request)

    def sweep(self, request: Sweep) -> MvmResult:
        window = Window(**dataclasses.asdict(request.window))
        vectors = unfold(request.codes, window).reshape(-1, window.rows)
        self.time_ns += 10 * len(vectors)
        if request.tile is None:
            return self._layer(self.layers[request.layer], vectors, request)
        return self._product(request.tile, vectors[:, request.row_skip : request.row_skip + request.tile.rows], request)

    def _product(self, tile: TileAddress, codes: np.ndarray, request: Mvm | Sweep) -> MvmResult:
        macro = self.spec.macro
        halves = tile_halves_us(self.cells_us[tile.macro], macro, tile.row0, tile.rows, tile.output0, tile.outputs)
        planes = split_planes(codes, macro.inputs, request.input_bits, request.input_signed).astype(np.float64)
        plus, minus = planes @ halves[0].astype(np.float64), planes @ halves[1].astype(np.float64)
        if macro.paired and macro.pair_subtraction is PairSubtraction.ANALOG:
            currents = plus - minus
        elif macro.paired:
            currents = np.concatenate([plus, minus], axis=-1)
        else:
            currents = np.concatenate([plus, minus[..., :1]], -1) if macro.encoding is Encoding.OFFSET_COLUMN else plus
        raw = quantise_adc(currents, macro.lsb_us(request.range_code), macro.adc.bits, macro.adc_signed)
        raw = np.ascontiguousarray(raw.transpose(1, 0, 2))
        made = len(codes) * raw.shape[1] * conversions(macro, tile.outputs)
        if request.returns is Returns.RAW:
            return MvmResult(Returns.RAW, 0, made, raw)
        steps = input_planes(macro.inputs, request.input_bits, request.input_signed)
        sums = shift_add(raw, macro, steps) * request.reads  # there is no noise
        return MvmResult(Returns.SUMS, 0, made * request.reads, sums)

    def load_layer(self, request: LoadLayer) -> Done:
        self.layers[request.layer] = request
        return Done()

    def _layer(self, layer: LoadLayer, codes: np.ndarray, request: Mvm | Sweep) -> MvmResult:
        total = np.broadcast_to(layer.bias, (len(codes), layer.outputs)).astype(np.int64)
        made = 0
        for tile in layer.tiles:
            part = codes[:, tile.first_input : tile.first_input + tile.address.rows]
            sums = self._product(tile.address, part, dataclasses.replace(request, returns=Returns.SUMS))
            made += sums.conversions
            correction = Correction(tile.gain, tile.offset, tile.input_gain, tile.shift)
            levels = apply_correction(sums.values, part.sum(1, dtype=np.int64), correction)
            total[:, tile.first_output : tile.first_output + tile.address.outputs] += tile.multiplier * levels
        scaled = total * layer.multiplier
        half = np.where(layer.shift > 0, 1 << np.maximum(layer.shift - 1, 0), 0)
        rounded = np.sign(scaled) * ((np.abs(scaled) + half) >> layer.shift)
        return MvmResult(Returns.LAYER, 0, made, np.clip(rounded, layer.low, layer.high).astype(np.int32))

    # --- the rest -------------------------------------------------------------------------

    def hold_program(self, request: HoldProgram) -> Done:
        self.held = request.digest
        return Done()

    def status(self) -> StatusReply:
        return StatusReply(25.0, self.outputs_on, 0, self.pulses)

    def wait(self, request: Wait) -> Done:
        self.time_ns += request.duration_ns
        return Done()

    def outputs_off(self) -> Done:
        self.outputs_on = False
        return Done()

    def reset(self) -> Done:
        return Done()
