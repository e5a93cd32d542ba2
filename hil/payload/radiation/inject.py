"""One fault put into a virtual chip: which parts of it change, as an ``Injection``.

Cells and registers change what the chip holds, so the layers on that macro are built anew from it; a bit of a sum, of a
conversion or of a code changes one number on the way; a bit of a rule changes a step. A value that the loader's checks
refuse (a level that cells do not have, a shift that does not exist) never runs: it is *refused*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import input_planes
from cim.chip.correction import Correction
from cim.chip.encoding import cell_lines, encode_tile
from cim.record.calibration import CalibrationRecord
from cim.simulator.modes import SimulationMode
from hil.payload.radiation.kinds import FaultKind
from hil.payload.radiation.space import OFFSET_BITS, SHIFT_BITS, SUM_BITS, Fault, stored_bits
from hil.simulation.virtual_chip import CopySimulator, SampledDevice, copy_tiles, layer_simulator
from mapping.operators.integer.digital_ops import INT32_HIGH, INT32_LOW, MAX_SHIFT
from mapping.operators.integer.requantise import Requantise
from mapping.operators.step import Step
from mapping.program.conductance import ConductanceProgram, InputCodes, MatrixStep, Tile
from mapping.program.copies import Copy, copies_of

Edit = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Injection:
    """What one fault changes. ``simulators``: by (layer, copy); ``sums`` and ``codes``: what becomes of a layer's level
    sums and of a step's output codes; ``steps``: rules of a step; ``table``: of the input; ``next_step``: where the
    sequencer goes from ``fault.step``; ``refused``: the loader does not take it; ``cell``: slot, row, column and the
    conductance before and after (µS) of a struck cell."""

    fault: Fault
    simulators: Mapping[tuple[str, int], CopySimulator] = field(default_factory=dict)
    sums: Mapping[str, Edit] = field(default_factory=dict)
    codes: Mapping[str, Edit] = field(default_factory=dict)
    steps: Mapping[str, Step] = field(default_factory=dict)
    table: InputCodes | None = None
    next_step: int | None = None
    refused: bool = False
    cell: tuple[float, float] | None = None


@dataclass(frozen=True)
class ChipUnderTest:
    """The virtual chip that faults are put into: ``base``, the program that answers, ``program``, the same with its
    check steps (``hil.payload.radiation.checksums``), the record, and what the chip holds."""

    base: ConductanceProgram
    program: ConductanceProgram
    record: CalibrationRecord
    drawn: SampledDevice

    def step(self, name: str) -> MatrixStep:
        """The layer of that name, or the one that a step of that name reads again."""
        found = self.program.product_of(next(s for s in self.program.steps if s.name == name))
        assert found is not None, "no product"
        return found

    def rebuilt(
        self, drawn: SampledDevice, slot: int | None = None, only: str | None = None
    ) -> dict[tuple[str, int], CopySimulator]:
        """Layers on a slot (or one layer) that are not the same in a chip that holds ``drawn``."""
        found = {}
        for step in self.program.matrices:
            if only is not None and step.name != only:
                continue
            for copy in copies_of(step.group):
                key = (step.name, copy.number)
                here = slot is None or any(self.program.slot(t) == slot for t in copy.group.tiles)
                if here and not self._holds(step.name, copy, drawn):
                    found[key] = layer_simulator(self.program, self.record, step.name, copy, drawn, SimulationMode.FAST)
        return found

    def _holds(self, name: str, copy: Copy, drawn: SampledDevice) -> bool:
        """Whether the chip itself holds what ``drawn`` holds in the tiles of a copy."""
        pairs = zip(*(copy_tiles(self.program, name, copy, one) for one in (self.drawn, drawn)), strict=True)
        return all(
            a.correction is b.correction
            and np.array_equal(a.halves_us, b.halves_us)
            and np.array_equal(a.gain, b.gain)
            and np.array_equal(a.offset_codes, b.offset_codes)
            for a, b in pairs
        )


def inject(chip: ChipUnderTest, fault: Fault) -> Injection:
    """Put a fault into a chip; the chip itself stays as it is."""
    return _held(chip, fault) if fault.kind in HELD else _ON_THE_WAY[fault.kind](chip, fault)


# --- what the chip holds ----------------------------------------------------------------


def strike(chip: ChipUnderTest, drawn: SampledDevice, fault: Fault) -> SampledDevice | None:
    """What a chip that holds ``drawn`` holds after a fault of cells, converters, registers, levels or corrections.

    Faults add up by striking one after the other. None: the loader refuses it.

    Raises:
        KeyError: a kind that changes nothing that the chip holds.
    """
    return HELD[fault.kind](chip, drawn, fault)


def _held(chip: ChipUnderTest, fault: Fault) -> Injection:
    drawn = strike(chip, chip.drawn, fault)
    if drawn is None:
        return Injection(fault, refused=True)
    slot = _tile(chip, fault)[2]
    if fault.kind in (FaultKind.CONVERTER_RANGE, FaultKind.CORRECTION):
        return Injection(fault, chip.rebuilt(drawn, only=fault.step))
    cell = None
    if fault.kind in (FaultKind.CELL_NEIGHBOUR, FaultKind.CELL_EXTREME):
        at = _crossing(*_cell_lines(chip, fault)[1:], fault)
        cell = float(chip.drawn.cells_us[slot][at]), float(drawn.cells_us[slot][at])
    return Injection(fault, chip.rebuilt(drawn, slot), cell=cell)


def _cell_lines(chip: ChipUnderTest, fault: Fault) -> tuple[int, NDArray[np.intp], NDArray[np.intp]]:
    """Slot, word lines and bit lines of a fault's tile."""
    spec, tile, slot = _tile(chip, fault)
    return slot, *cell_lines(spec, tile.row0, len(tile.inputs), tile.output0, len(tile.outputs))


def _crossing(lines: NDArray[np.intp], columns: NDArray[np.intp], fault: Fault) -> tuple[int, int]:
    """The cell of a fault within its tile."""
    return int(lines[fault.place // len(columns)]), int(columns[fault.place % len(columns)])


def strike_cells(chip: ChipUnderTest, drawn: SampledDevice, faults: Iterable[Fault]) -> SampledDevice:
    """What a chip that holds ``drawn`` holds after faults of cells, one after the other."""
    changed: dict[int, NDArray[np.floating]] = {}
    known: dict[tuple[str, int], tuple[int, NDArray[np.intp], NDArray[np.intp]]] = {}
    spec = chip.program.spec.macro
    low, high = spec.levels_us[0], spec.levels_us[-1]
    for fault in faults:
        tile = fault.step, fault.tile
        if tile not in known:
            known[tile] = _cell_lines(chip, fault)
            slot = known[tile][0]
            changed.setdefault(slot, np.array(drawn.cells_us[slot], copy=True))
        slot, lines, columns = known[tile]
        cells, at = changed[slot], _crossing(lines, columns, fault)
        before = float(cells[at])
        if fault.kind is FaultKind.CELL_EXTREME:
            cells[at] = high if fault.bit else low
            continue
        step = spec.level_step_us * (1 if fault.bit else -1)
        if not low - abs(step) / 2 <= before + step <= high + abs(step) / 2:
            step = -step  # an outermost level has one neighbour
        cells[at] = before + step
    return replace(drawn, cells_us={**drawn.cells_us, **changed})


def _cell(chip: ChipUnderTest, drawn: SampledDevice, fault: Fault) -> SampledDevice:
    return strike_cells(chip, drawn, (fault,))


def _row(chip: ChipUnderTest, drawn: SampledDevice, fault: Fault) -> SampledDevice:
    """The word line is never driven: its cells add nothing, on the whole macro."""
    spec, tile, slot = _tile(chip, fault)
    lines = cell_lines(spec, tile.row0 + fault.place, 1, tile.output0, len(tile.outputs))[0]
    cells = np.array(drawn.cells_us[slot], copy=True)
    cells[lines] = 0.0
    return _with_cells(drawn, slot, cells)


def _trim(chip: ChipUnderTest, drawn: SampledDevice, fault: Fault) -> SampledDevice:
    """The offset of one converter moves by 2^bit codes, up or down as the bit was 0 or 1 (here: by the converter)."""
    slot = _tile(chip, fault)[2]
    columns = drawn.columns[slot]
    adcs = np.unique(columns.adc)
    offset = columns.offset_codes.copy()
    offset[columns.adc == adcs[fault.place % len(adcs)]] += (1 << fault.bit) * (1 if fault.place % 2 else -1)
    return replace(drawn, columns={**drawn.columns, slot: replace(columns, offset_codes=offset)})


def _range(chip: ChipUnderTest, drawn: SampledDevice, fault: Fault) -> SampledDevice | None:
    """The macro converts in another range: codes scale by the ratio of the steps."""
    spec, _, slot = _tile(chip, fault)
    old = chip.step(fault.step).group.range_code
    new = old ^ (1 << fault.bit)
    if new >= len(spec.adc.full_scales_us):
        return None
    columns = drawn.columns[slot]
    scaled = replace(columns, gain=columns.gain * (spec.lsb_us(old) / spec.lsb_us(new)))
    return replace(drawn, columns={**drawn.columns, slot: scaled})


def _level(chip: ChipUnderTest, drawn: SampledDevice, fault: Fault) -> SampledDevice | None:
    """The weight is written with one bit of its two's complement turned over."""
    spec, tile, slot = _tile(chip, fault)
    bits = chip.program.weight_bits_of(fault.step)
    row, output = divmod(fault.place, len(tile.outputs))
    level = flipped(int(tile.levels[row, output]), fault.bit, bits, signed=True)
    if level not in spec.weight_values or tile.cells is not None:
        return None
    levels = tile.levels.copy()
    levels[row, output] = level
    aims = None if chip.program.aims is None else chip.program.aims.targets_us
    was = encode_tile(tile.levels, spec, tile.row0, tile.output0, None, aims)
    now = encode_tile(levels, spec, tile.row0, tile.output0, None, aims)
    cells = np.array(drawn.cells_us[slot], copy=True)
    block = np.ix_(was.word_lines, was.bit_lines)
    cells[block] = np.maximum(cells[block] + now.targets_us - was.targets_us, 0.0)
    return _with_cells(drawn, slot, cells)


def _correction(chip: ChipUnderTest, drawn: SampledDevice, fault: Fault) -> SampledDevice:
    corrections = list(drawn.corrections[fault.step])
    own = corrections[fault.tile]
    gain, offset = own.gain.copy(), own.offset.copy()
    if fault.bit < SUM_BITS:
        gain[fault.place] = flipped(int(gain[fault.place]), fault.bit, SUM_BITS, signed=True)
    else:
        offset[fault.place] = flipped(int(offset[fault.place]), fault.bit - SUM_BITS, OFFSET_BITS, signed=True)
    corrections[fault.tile] = Correction(gain, offset, own.input_gain, own.shift)
    return replace(drawn, corrections={**drawn.corrections, fault.step: tuple(corrections)})


def _with_cells(drawn: SampledDevice, slot: int, cells: NDArray[np.floating]) -> SampledDevice:
    return replace(drawn, cells_us={**drawn.cells_us, slot: cells})


# --- tables and rules -------------------------------------------------------------------


def _table(chip: ChipUnderTest, fault: Fault) -> Injection:
    rule = chip.program.input
    table = rule.table.copy()
    place = divmod(fault.place, table.shape[1])
    table[place] = flipped(int(table[place]), fault.bit, rule.bits, signed=rule.signed)
    return Injection(fault, table=replace(rule, table=table))


def _requantise(chip: ChipUnderTest, fault: Fault) -> Injection:
    """Words of a rule in order: biases of 32 bits, multipliers of 32, shifts of 6."""
    step: Any = next(s for s in chip.program.steps if s.name == fault.step)
    rule: Requantise = step.requantise
    place, bias = fault.place, getattr(step, "bias", None)
    if bias is not None and place < SUM_BITS * len(bias):
        bias = bias.copy()
        bias[place // SUM_BITS] = flipped(int(bias[place // SUM_BITS]), place % SUM_BITS, SUM_BITS, signed=True)
        return Injection(fault, steps={fault.step: replace(step, bias=bias)})
    place -= 0 if bias is None else SUM_BITS * len(bias)
    multiplier, shift = rule.multiplier.copy(), rule.shift.copy()
    if place < SUM_BITS * len(multiplier):
        channel, bit = divmod(place, SUM_BITS)
        multiplier[channel] = flipped(int(multiplier[channel]), bit, SUM_BITS, signed=True)
        refused = bool(multiplier[channel] < 0)
    else:
        channel, bit = divmod(place - SUM_BITS * len(multiplier), SHIFT_BITS)
        shift[channel] = int(shift[channel]) ^ (1 << bit)
        refused = bool(shift[channel] > MAX_SHIFT)
    changed = replace(step, requantise=replace(rule, multiplier=multiplier, shift=shift))
    return Injection(fault, refused=True) if refused else Injection(fault, steps={fault.step: changed})


# --- numbers on their way ---------------------------------------------------------------


def _conversion(chip: ChipUnderTest, fault: Fault) -> Injection:
    """One bit of one code: the sum moves by gain · slice · plane weight · 2^bit, up or down by the place's parity."""
    step = chip.step(fault.step)
    tile, correction = step.group.tiles[fault.tile], chip.drawn.corrections[step.name][fault.tile]
    planes = input_planes(chip.program.spec.macro.inputs, step.group.input_bits, step.group.input_signed)
    place, plane = divmod(fault.place, len(planes))
    output, position = divmod(place, _positions(step))
    codes = planes[plane].weight * (1 << fault.bit) * (1 if place % 2 else -1)
    moved = round(codes * int(correction.gain[output]) / 2.0**correction.shift) * tile.multiplier

    def edit(sums: NDArray[Any]) -> NDArray[Any]:
        return _added(sums, tile.outputs.start + output, position, moved)

    return Injection(fault, sums={fault.step: edit})


def _accumulator(chip: ChipUnderTest, fault: Fault) -> Injection:
    output, position = divmod(fault.place, _positions(chip.step(fault.step)))

    def edit(sums: NDArray[Any]) -> NDArray[Any]:
        return _turned(sums, output, position, fault.bit, SUM_BITS, signed=True)

    return Injection(fault, sums={fault.step: edit})


def _activation(chip: ChipUnderTest, fault: Fault) -> Injection:
    bits, signed = stored_bits(chip.program, fault.step)

    def edit(codes: NDArray[Any]) -> NDArray[Any]:
        positions = int(np.prod(codes.shape[2:], dtype=np.int64))
        return _turned(codes, fault.place // positions, fault.place % positions, fault.bit, bits, signed=signed)

    return Injection(fault, codes={fault.step: edit})


def _sequencer(chip: ChipUnderTest, fault: Fault) -> Injection:
    """The number of the step under way has one bit turned over: the program goes on from there."""
    number = [s.name for s in chip.base.steps].index(fault.step)
    return Injection(fault, next_step=number ^ (1 << fault.bit))


# --- parts ------------------------------------------------------------------------------


def flipped(value: int, bit: int, bits: int, *, signed: bool) -> int:
    """A number with one bit of its two's complement (or of its plain binary form) turned over.

    Example: 5 in 4 signed bits is 0101; bit 3 gives 1101, which is −3.
    """
    raw = (value & ((1 << bits) - 1)) ^ (1 << bit)
    return raw - (1 << bits) if signed and raw >> (bits - 1) else raw


def _tile(chip: ChipUnderTest, fault: Fault) -> tuple[Any, Tile, int]:
    tile = chip.step(fault.step).group.tiles[fault.tile]
    return chip.program.spec.macro, tile, chip.program.slot(tile)


def _positions(step: MatrixStep) -> int:
    return 1 if step.group.window is None else step.group.window.positions


def _place(shape: tuple[int, ...], channel: int, position: int) -> tuple[Any, ...]:
    if len(shape) == 2:
        return (slice(None), channel)
    return (slice(None), channel, *np.unravel_index(position, shape[2:]))


def _added(values: NDArray[Any], channel: int, position: int, by: int) -> NDArray[Any]:
    out = values.copy(order="K")
    at = _place(values.shape, channel, position)
    out[at] = np.clip(values[at].astype(np.int64) + by, INT32_LOW, INT32_HIGH)
    return out


def _turned(values: NDArray[Any], channel: int, position: int, bit: int, bits: int, *, signed: bool) -> NDArray[Any]:
    out = values.copy(order="K")
    at = _place(values.shape, channel, position)
    raw = (values[at].astype(np.int64) & ((1 << bits) - 1)) ^ (1 << bit)
    out[at] = np.where((raw >> (bits - 1)) & 1, raw - (1 << bits), raw) if signed else raw
    return out


HELD: dict[FaultKind, Callable[[ChipUnderTest, SampledDevice, Fault], SampledDevice | None]] = {
    FaultKind.CELL_NEIGHBOUR: _cell,
    FaultKind.CELL_EXTREME: _cell,
    FaultKind.CONVERTER_TRIM: _trim,
    FaultKind.CONVERTER_RANGE: _range,
    FaultKind.ROW_ENABLE: _row,
    FaultKind.IMAGE_LEVEL: _level,
    FaultKind.CORRECTION: _correction,
}
"""Kinds that change what the chip holds."""
_ON_THE_WAY: dict[FaultKind, Callable[[ChipUnderTest, Fault], Injection]] = {
    FaultKind.CONVERSION: _conversion,
    FaultKind.ACCUMULATOR: _accumulator,
    FaultKind.ACTIVATION: _activation,
    FaultKind.IMAGE_TABLE: _table,
    FaultKind.REQUANTISE: _requantise,
    FaultKind.SEQUENCER: _sequencer,
}
