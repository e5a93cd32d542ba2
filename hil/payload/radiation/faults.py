"""Kinds of faults as rows of one table: the struck part, rate, duration, possible sites, and the change in a virtual
chip.

Sites of a kind lie in *blocks* (a tile, a layer, a step), each with ``places`` · ``bits`` of them. Cells and registers
change what the chip holds, so the layers on that macro are built anew; a bit of a sum, a conversion or a code changes
one number on the way; a bit of a rule changes a step. A value that the loader's checks refuse (a level that cells do
not have, a shift that does not exist) never runs: it is *refused*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import conversions, input_planes
from cim.chip.correction import Correction
from cim.chip.encoding import cell_lines, encode_tile
from cim.record.calibration import CalibrationRecord
from cim.simulator.modes import SimulationMode
from hil.errors import UsageError
from hil.payload.orbit import UpsetRates
from hil.payload.settings import FaultKind
from hil.simulation.virtual_chip import CopySimulator, SampledDevice, copy_tiles, layer_simulator
from mapping.operators.integer.digital_ops import INT32_HIGH, INT32_LOW, MAX_SHIFT
from mapping.operators.integer.requantise import Requantise
from mapping.operators.node import INPUT
from mapping.operators.step import Step
from mapping.program.conductance import ConductanceProgram, InputCodes, MatrixStep, Tile
from mapping.program.copies import Copy, copies_of
from mapping.program.shapes import step_shapes

TRIM_BITS = 5  # of a converter's offset register, in whole codes, with sign (assumed)
SUM_BITS, OFFSET_BITS, SHIFT_BITS, STEP_BITS = 32, 40, 6, 8

Edit = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Fault:
    """The site of one fault: ``step`` is its layer, ``tile`` the position of a tile in it (−1: none), ``place`` and
    ``bit`` count within them as its kind says."""

    kind: FaultKind
    step: str
    tile: int
    place: int
    bit: int


@dataclass(frozen=True, slots=True)
class SiteBlock:
    """Sites of one kind in one layer or tile."""

    step: str
    tile: int
    places: int
    bits: int

    @property
    def sites(self) -> int:
        return self.places * self.bits


@dataclass(frozen=True, slots=True)
class Injection:
    """What one fault changes. ``simulators``: by (layer, copy); ``sums`` and ``codes``: what becomes of a layer's level
    sums and of a step's output codes; ``steps``: rules of a step; ``table``: of the input; ``next_step``: where the
    sequencer goes from ``fault.step``; ``refused``: the loader does not take it; ``cell``: the conductance of a struck
    cell before and after (µS)."""

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
    """The virtual chip for fault injection: program, record, and the chip's cells, converters and corrections."""

    program: ConductanceProgram
    record: CalibrationRecord
    drawn: SampledDevice

    def step(self, name: str) -> MatrixStep:
        """The layer that a step multiplies by: its own, or the one that it reuses."""
        found = self.program.product_of(next(s for s in self.program.steps if s.name == name))
        assert found is not None, "no product"
        return found

    def tile(self, fault: Fault) -> tuple[Tile, int]:
        """The tile struck by a fault, and its slot."""
        tile = self.step(fault.step).group.tiles[fault.tile]
        return tile, self.program.slot(tile)

    def rebuilt(
        self, drawn: SampledDevice, slot: int | None = None, only: str | None = None
    ) -> dict[tuple[str, int], CopySimulator]:
        """New simulators of the layers on a slot (or of one layer) that differ in a chip with ``drawn``."""
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
        """Whether the chip's cells, converters and corrections in a copy's tiles equal those of ``drawn``."""
        pairs = zip(*(copy_tiles(self.program, name, copy, one) for one in (self.drawn, drawn)), strict=True)
        return all(
            a.correction is b.correction
            and np.array_equal(a.halves_us, b.halves_us)
            and np.array_equal(a.gain, b.gain)
            and np.array_equal(a.offset_codes, b.offset_codes)
            for a, b in pairs
        )


# --- what the chip holds ----------------------------------------------------------------


def strike(chip: ChipUnderTest, drawn: SampledDevice, fault: Fault) -> SampledDevice | None:
    """The chip ``drawn`` after a fault of its cells, converters, registers, levels or corrections.

    Several faults are applied one after the other. None: the loader refuses the struck value.
    """
    held = FAULTS[fault.kind].held
    assert held is not None, f"{fault.kind} changes nothing that the chip holds"
    return held(chip, drawn, fault)


def inject(chip: ChipUnderTest, fault: Fault) -> Injection:
    """The changes that a fault makes to a chip's answers; the chip object is not modified."""
    on_the_way = FAULTS[fault.kind].on_the_way
    if on_the_way is not None:
        return on_the_way(chip, fault)
    drawn = strike(chip, chip.drawn, fault)
    if drawn is None:
        return Injection(fault, refused=True)
    if fault.kind in (FaultKind.CONVERTER_RANGE, FaultKind.CORRECTION):
        return Injection(fault, chip.rebuilt(drawn, only=fault.step))
    slot, cell = chip.tile(fault)[1], None
    if fault.kind in CELLS:
        at = _crossing(*_cell_lines(chip, fault)[1:], fault)
        cell = float(chip.drawn.cells_us[slot][at]), float(drawn.cells_us[slot][at])
    return Injection(fault, chip.rebuilt(drawn, slot), cell=cell)


def _cell_lines(chip: ChipUnderTest, fault: Fault) -> tuple[int, NDArray[np.intp], NDArray[np.intp]]:
    """Slot, word lines and bit lines of a fault's tile."""
    tile, slot = chip.tile(fault)
    return slot, *cell_lines(chip.program.spec.macro, tile.row0, len(tile.inputs), tile.output0, len(tile.outputs))


def _crossing(lines: NDArray[np.intp], columns: NDArray[np.intp], fault: Fault) -> tuple[int, int]:
    """Word line and bit line of the cell struck by a fault."""
    return int(lines[fault.place // len(columns)]), int(columns[fault.place % len(columns)])


def strike_cells(chip: ChipUnderTest, drawn: SampledDevice, faults: Iterable[Fault]) -> SampledDevice:
    """The chip ``drawn`` after faults of cells, applied one after the other."""
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
    """A word line is never driven again: its cells add no current, on the whole macro."""
    tile, slot = chip.tile(fault)
    lines = cell_lines(chip.program.spec.macro, tile.row0 + fault.place, 1, tile.output0, len(tile.outputs))[0]
    cells = np.array(drawn.cells_us[slot], copy=True)
    cells[lines] = 0.0
    return replace(drawn, cells_us={**drawn.cells_us, slot: cells})


def _trim(chip: ChipUnderTest, drawn: SampledDevice, fault: Fault) -> SampledDevice:
    """The offset of one converter moves by 2^bit codes, up or down as the bit was 0 or 1 (here: by the converter)."""
    slot = chip.tile(fault)[1]
    columns = drawn.columns[slot]
    adcs = np.unique(columns.adc)
    offset = columns.offset_codes.copy()
    offset[columns.adc == adcs[fault.place % len(adcs)]] += (1 << fault.bit) * (1 if fault.place % 2 else -1)
    return replace(drawn, columns={**drawn.columns, slot: replace(columns, offset_codes=offset)})


def _range(chip: ChipUnderTest, drawn: SampledDevice, fault: Fault) -> SampledDevice | None:
    """The macro converts in another range: codes scale by the ratio of the steps."""
    spec, slot = chip.program.spec.macro, chip.tile(fault)[1]
    old = chip.step(fault.step).group.range_code
    new = old ^ (1 << fault.bit)
    if new >= len(spec.adc.full_scales_us):
        return None
    columns = drawn.columns[slot]
    scaled = replace(columns, gain=columns.gain * (spec.lsb_us(old) / spec.lsb_us(new)))
    return replace(drawn, columns={**drawn.columns, slot: scaled})


def _level(chip: ChipUnderTest, drawn: SampledDevice, fault: Fault) -> SampledDevice | None:
    """The weight is written with one bit of its two's complement flipped."""
    spec, (tile, slot) = chip.program.spec.macro, chip.tile(fault)
    row, output = divmod(fault.place, len(tile.outputs))
    level = flipped(int(tile.levels[row, output]), fault.bit, chip.program.weight_bits_of(fault.step), signed=True)
    if level not in spec.weight_values or tile.cells is not None:
        return None
    levels = tile.levels.copy()
    levels[row, output] = level
    aims = None if chip.program.aims is None else chip.program.aims.targets_us
    was, now = (encode_tile(one, spec, tile.row0, tile.output0, None, aims) for one in (tile.levels, levels))
    cells = np.array(drawn.cells_us[slot], copy=True)
    block = np.ix_(was.word_lines, was.bit_lines)
    cells[block] = np.maximum(cells[block] + now.targets_us - was.targets_us, 0.0)
    return replace(drawn, cells_us={**drawn.cells_us, slot: cells})


def _correction(chip: ChipUnderTest, drawn: SampledDevice, fault: Fault) -> SampledDevice:
    corrections = list(drawn.corrections[fault.step])
    own = corrections[fault.tile]
    gain, offset = own.gain.copy(), own.offset.copy()
    values: NDArray[Any] = gain
    bit, bits = fault.bit, SUM_BITS
    if fault.bit >= SUM_BITS:
        values, bit, bits = offset, fault.bit - SUM_BITS, OFFSET_BITS
    values[fault.place] = flipped(int(values[fault.place]), bit, bits, signed=True)
    corrections[fault.tile] = Correction(gain, offset, own.input_gain, own.shift)
    return replace(drawn, corrections={**drawn.corrections, fault.step: tuple(corrections)})


# --- tables and rules -------------------------------------------------------------------


def _table(chip: ChipUnderTest, fault: Fault) -> Injection:
    rule = chip.program.input
    table = rule.table.copy()
    place = divmod(fault.place, table.shape[1])
    table[place] = flipped(int(table[place]), fault.bit, rule.bits, signed=rule.signed)
    return Injection(fault, table=replace(rule, table=table))


def rule_words(step: Any) -> Iterator[tuple[str, NDArray[Any], int]]:
    """Words of a step's rule in the order of its sites, and their bits: biases (of a product), multipliers, shifts."""
    if getattr(step, "bias", None) is not None:
        yield "bias", step.bias, SUM_BITS
    yield "multiplier", step.requantise.multiplier, SUM_BITS
    yield "shift", step.requantise.shift, SHIFT_BITS


def _requantise(chip: ChipUnderTest, fault: Fault) -> Injection:
    step: Any = next(s for s in chip.program.steps if s.name == fault.step)
    place = fault.place
    for name, values, bits in rule_words(step):
        if place >= bits * len(values):
            place -= bits * len(values)
            continue
        changed = values.copy()
        word, bit = divmod(place, bits)
        changed[word] = flipped(int(values[word]), bit, bits, signed=bits == SUM_BITS)
        if name == "bias":
            return Injection(fault, steps={fault.step: replace(step, bias=changed)})
        if not 0 <= changed[word] <= (MAX_SHIFT if name == "shift" else INT32_HIGH):
            return Injection(fault, refused=True)
        rule = replace(step.requantise, **{name: changed})
        return Injection(fault, steps={fault.step: replace(step, requantise=rule)})
    raise AssertionError("a number beyond the rule")


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
        out = sums.copy(order="K")
        at = _place(sums.shape, tile.outputs.start + output, position)
        out[at] = np.clip(sums[at].astype(np.int64) + moved, INT32_LOW, INT32_HIGH)
        return out

    return Injection(fault, sums={fault.step: edit})


def _turned(fault: Fault, bits: int, *, signed: bool) -> Edit:
    """An edit that flips one bit of one number, for every image."""

    def edit(values: NDArray[Any]) -> NDArray[Any]:
        out = values.copy(order="K")
        at = _place(values.shape, *divmod(fault.place, int(np.prod(values.shape[2:], dtype=np.int64))))
        raw = (values[at].astype(np.int64) & ((1 << bits) - 1)) ^ (1 << fault.bit)
        out[at] = np.where((raw >> (bits - 1)) & 1, raw - (1 << bits), raw) if signed else raw
        return out

    return edit


def _accumulator(chip: ChipUnderTest, fault: Fault) -> Injection:
    return Injection(fault, sums={fault.step: _turned(fault, SUM_BITS, signed=True)})


def _activation(chip: ChipUnderTest, fault: Fault) -> Injection:
    bits, signed = code_bits(chip.program, fault.step)
    return Injection(fault, codes={fault.step: _turned(fault, bits, signed=signed)})


def _sequencer(chip: ChipUnderTest, fault: Fault) -> Injection:
    """The number of the current step has one bit flipped: the sequencer continues from there."""
    number = [s.name for s in chip.program.steps].index(fault.step)
    return Injection(fault, next_step=number ^ (1 << fault.bit))


def flipped(value: int, bit: int, bits: int, *, signed: bool) -> int:
    """A number with one bit of its two's complement (or plain binary form) flipped.

    Example: 5 in 4 signed bits is 0101; bit 3 gives 1101, which is −3.
    """
    raw = (value & ((1 << bits) - 1)) ^ (1 << bit)
    return raw - (1 << bits) if signed and raw >> (bits - 1) else raw


def _positions(step: MatrixStep) -> int:
    return 1 if step.group.window is None else step.group.window.positions


def _place(shape: tuple[int, ...], channel: int, position: int) -> tuple[Any, ...]:
    return (slice(None), channel, *(np.unravel_index(position, shape[2:]) if len(shape) > 2 else ()))


# --- sites ------------------------------------------------------------------------------


def code_bits(program: ConductanceProgram, name: str) -> tuple[int, bool]:
    """Bits and sign of the codes of a step or of the input, as they lie in memory."""
    if name == INPUT:
        return program.input.bits, program.input.signed
    step = next(s for s in program.steps if s.name == name)
    step = program.product_of(step) or step
    rule = getattr(step, "requantise", None)
    if not isinstance(rule, Requantise):
        rescales: tuple[Requantise, ...] = getattr(step, "rescale", ())
        if not rescales:
            return code_bits(program, step.inputs[0])
        rule = rescales[0]
    signed = rule.low < 0
    return max(int(rule.high).bit_length(), int(-rule.low - 1).bit_length() if signed else 0) + signed, signed


Sites = Callable[[ConductanceProgram], Iterator[SiteBlock]]


def _in_tiles(count: Callable[[ConductanceProgram, MatrixStep, Tile], tuple[int, int]]) -> Sites:
    """Sites in every tile of every layer: places and bits of one tile. A layer that is read again is counted once."""

    def blocks(program: ConductanceProgram) -> Iterator[SiteBlock]:
        for step in program.matrices:
            for number, tile in enumerate(step.group.tiles):
                yield SiteBlock(step.name, number, *count(program, step, tile))

    return blocks


def _cells_of(program: ConductanceProgram, step: MatrixStep, tile: Tile) -> tuple[int, int]:
    macro = program.spec.macro
    lines, columns = cell_lines(macro, tile.row0, len(tile.inputs), tile.output0, len(tile.outputs))
    return len(lines) * len(columns), 2


def _converters_of(program: ConductanceProgram, step: MatrixStep, tile: Tile) -> tuple[int, int]:
    macro = program.spec.macro
    return -(-conversions(macro, len(tile.outputs)) // macro.adc.shared_by), TRIM_BITS


def _ranges_of(program: ConductanceProgram, step: MatrixStep, tile: Tile) -> tuple[int, int]:
    return 1, max(1, math.ceil(math.log2(len(program.spec.macro.adc.full_scales_us))))


def _weights_of(program: ConductanceProgram, step: MatrixStep, tile: Tile) -> tuple[int, int]:
    return tile.levels.size, program.weight_bits_of(step.name)


def _corrections_of(program: ConductanceProgram, step: MatrixStep, tile: Tile) -> tuple[int, int]:
    return len(tile.outputs), SUM_BITS + OFFSET_BITS


def _uses(program: ConductanceProgram) -> Iterator[tuple[str, MatrixStep]]:
    """Every product by the name of its step, with the layer that it reads."""
    for use in program.steps:
        step = program.product_of(use)
        if step is not None:
            yield use.name, step


def _conversions(program: ConductanceProgram) -> Iterator[SiteBlock]:
    macro = program.spec.macro
    for name, step in _uses(program):
        planes = len(input_planes(macro.inputs, step.group.input_bits, step.group.input_signed))
        for number, tile in enumerate(step.group.tiles):
            yield SiteBlock(name, number, len(tile.outputs) * _positions(step) * planes, macro.adc.bits)


def _sums(program: ConductanceProgram) -> Iterator[SiteBlock]:
    for name, step in _uses(program):
        yield SiteBlock(name, -1, step.group.outputs * _positions(step), SUM_BITS)


def _codes(program: ConductanceProgram) -> Iterator[SiteBlock]:
    shapes = {INPUT: program.input.shape, **step_shapes(program)}
    for name in (INPUT, *(step.name for step in program.steps)):
        yield SiteBlock(name, -1, math.prod(shapes[name]), code_bits(program, name)[0])


def _pixels(program: ConductanceProgram) -> Iterator[SiteBlock]:
    yield SiteBlock(INPUT, -1, program.input.table.size, program.input.bits)


def _rules(program: ConductanceProgram) -> Iterator[SiteBlock]:
    for step in program.steps:
        if isinstance(getattr(step, "requantise", None), Requantise):
            yield SiteBlock(step.name, -1, sum(bits * len(values) for _, values, bits in rule_words(step)), 1)


def _steps(program: ConductanceProgram) -> Iterator[SiteBlock]:
    return (SiteBlock(step.name, -1, 1, STEP_BITS) for step in program.steps)


# --- the table --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One kind. ``rate``: field of ``UpsetRates``; ``lasts``: persistent until corrected, or one image only; ``sites``:
    its blocks; ``held``: its effect on the chip's state, or ``on_the_way``: on an answer."""

    rate: str
    lasts: bool
    sites: Sites
    held: Callable[[ChipUnderTest, SampledDevice, Fault], SampledDevice | None] | None = None
    on_the_way: Callable[[ChipUnderTest, Fault], Injection] | None = None


_CELL_SITES = _in_tiles(_cells_of)
_REGISTER, _MEMORY, _STORED = "register_bit_per_day", "memory_bit_per_day", "stored_bit_per_day"
FAULTS: dict[FaultKind, FaultRow] = {
    FaultKind.CELL_NEIGHBOUR: FaultRow("cell_per_day", True, _CELL_SITES, _cell),
    FaultKind.CELL_EXTREME: FaultRow("cell_per_day", True, _CELL_SITES, _cell),
    FaultKind.CONVERTER_TRIM: FaultRow(_REGISTER, True, _in_tiles(_converters_of), _trim),
    FaultKind.CONVERTER_RANGE: FaultRow(_REGISTER, True, _in_tiles(_ranges_of), _range),
    FaultKind.ROW_ENABLE: FaultRow(_REGISTER, True, _in_tiles(lambda p, s, t: (len(t.inputs), 1)), _row),
    FaultKind.CONVERSION: FaultRow("conversion_per_day", False, _conversions, on_the_way=_conversion),
    FaultKind.ACCUMULATOR: FaultRow(_MEMORY, False, _sums, on_the_way=_accumulator),
    FaultKind.ACTIVATION: FaultRow(_MEMORY, False, _codes, on_the_way=_activation),
    FaultKind.IMAGE_LEVEL: FaultRow(_STORED, True, _in_tiles(_weights_of), _level),
    FaultKind.IMAGE_TABLE: FaultRow(_STORED, True, _pixels, on_the_way=_table),
    FaultKind.CORRECTION: FaultRow(_MEMORY, True, _in_tiles(_corrections_of), _correction),
    FaultKind.REQUANTISE: FaultRow(_MEMORY, True, _rules, on_the_way=_requantise),
    FaultKind.SEQUENCER: FaultRow("sequencer_bit_per_day", False, _steps, on_the_way=_sequencer),
}
CELLS = (FaultKind.CELL_NEIGHBOUR, FaultKind.CELL_EXTREME)
REGISTERS = (FaultKind.CONVERTER_TRIM, FaultKind.CONVERTER_RANGE, FaultKind.ROW_ENABLE)
STORED = (FaultKind.IMAGE_LEVEL, FaultKind.IMAGE_TABLE, FaultKind.CORRECTION, FaultKind.REQUANTISE)
"""Kinds whose sites are bits of stored words (``hil.payload.radiation.stored_words``)."""


@dataclass(frozen=True, slots=True)
class FaultSpace:
    """Blocks of sites by kind; ``units``: number of units (bits, cells) to which an orbit file's rates apply."""

    blocks: Mapping[FaultKind, tuple[SiteBlock, ...]]
    units: Mapping[FaultKind, int]

    @property
    def population(self) -> int:
        return sum(self.sites(kind) for kind in self.blocks)

    def sites(self, kind: FaultKind) -> int:
        return sum(block.sites for block in self.blocks[kind])

    def per_day(self, kind: FaultKind, rates: UpsetRates, exposure: float = 1.0) -> float:
        """Upsets of a kind in a day, over all units, in the share of time in which they can do harm (``exposures``)."""
        rate = float(getattr(rates, FAULTS[kind].rate))
        if kind in CELLS:
            rate *= rates.extreme_share if kind is FaultKind.CELL_EXTREME else 1.0 - rates.extreme_share
        return rate * self.units[kind] * exposure

    def draw(self, kind: FaultKind, rng: np.random.Generator, high_share: float) -> Fault:
        """A site of a kind, each as likely as any other, but that ``high_share`` of cells that go to an end of the
        window go to the highest level."""
        number = int(rng.integers(self.sites(kind)))
        for block in self.blocks[kind]:
            if number < block.sites:
                place, bit = divmod(number, block.bits)
                if kind is FaultKind.CELL_EXTREME:
                    bit = int(rng.random() < high_share)
                return Fault(kind, block.step, block.tile, place, bit)
            number -= block.sites
        raise AssertionError("a number beyond all sites")


def exposures(busy_share: float) -> dict[FaultKind, float]:
    """Share of the time in which a fault of each kind can do harm: a conversion, a sum, a code and the step number
    only while an image is processed (``busy_share``), persistent faults always."""
    return {kind: 1.0 if row.lasts else busy_share for kind, row in FAULTS.items()}


def fault_space(program: ConductanceProgram) -> FaultSpace:
    """Count every place where a fault can strike a program on its chip.

    Raises:
        UsageError: the program takes several rounds, so the chip's content changes during an image.
    """
    if program.rounds > 1:
        raise UsageError(
            f"the network is written in {program.rounds} rounds; campaigns take one that the chip holds whole",
            hint="compile for a chip of more macros: --macros N",
        )
    blocks = {kind: tuple(row.sites(program)) for kind, row in FAULTS.items()}
    units = {kind: sum(block.sites for block in found) for kind, found in blocks.items()}
    units |= {kind: units[kind] // 2 for kind in CELLS}  # a cell, whichever way it goes
    units |= {FaultKind.CONVERSION: units[FaultKind.CONVERTER_TRIM] // TRIM_BITS, FaultKind.SEQUENCER: STEP_BITS}
    return FaultSpace(blocks, units)
