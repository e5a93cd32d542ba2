"""All places where a fault can strike a program on its chip, counted, and one of them by its number.

Sites of a kind lie in *blocks* (a tile, a layer, a step), each with ``places`` · ``bits`` of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cim.chip.converters import conversions, input_planes
from cim.chip.encoding import cell_lines
from hil.errors import UsageError
from hil.payload.radiation.kinds import FaultKind
from mapping.operators.integer.requantise import Requantise
from mapping.operators.node import INPUT
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.shapes import step_shapes

TRIM_BITS = 5  # of a converter's offset register, in whole codes, with sign (assumed)
SUM_BITS, OFFSET_BITS, SHIFT_BITS, STEP_BITS = 32, 40, 6, 8


@dataclass(frozen=True, slots=True)
class Fault:
    """One site: ``step`` is its layer, ``tile`` the position of a tile in it (−1: none), ``place`` and ``bit`` count
    within them as its kind says (``hil.payload.radiation.inject``)."""

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
class FaultSpace:
    """Blocks of sites by kind; ``units``: what the rates of an orbit file count (``rate_per_day``)."""

    blocks: Mapping[FaultKind, tuple[SiteBlock, ...]]
    units: Mapping[FaultKind, int]

    @property
    def population(self) -> int:
        return sum(self.sites(kind) for kind in self.blocks)

    def sites(self, kind: FaultKind) -> int:
        return sum(block.sites for block in self.blocks[kind])

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


def fault_space(program: ConductanceProgram) -> FaultSpace:
    """Count every site of a program.

    Raises:
        UsageError: the program goes over several rounds: what it holds changes under way.
    """
    if program.rounds > 1:
        raise UsageError(
            f"the network is written in {program.rounds} rounds; campaigns take one that the chip holds whole",
            hint="compile for a chip of more macros: --macros N",
        )
    blocks: dict[FaultKind, list[SiteBlock]] = {kind: [] for kind in FaultKind}
    spec = program.spec.macro
    cells = converters = 0
    for use in program.steps:
        step = program.product_of(use)
        if step is None:
            continue
        group = step.group
        planes = len(input_planes(spec.inputs, group.input_bits, group.input_signed))
        positions = 1 if group.window is None else group.window.positions
        for number, tile in enumerate(group.tiles):
            rows, outputs = len(tile.inputs), len(tile.outputs)
            lines, columns = cell_lines(spec, tile.row0, rows, tile.output0, outputs)
            blocks[FaultKind.CONVERSION].append(
                SiteBlock(use.name, number, outputs * positions * planes, spec.adc.bits)
            )
            if use is not step:
                continue  # its cells, converters and corrections are those of the first use
            converted = conversions(spec, outputs)
            cells += len(lines) * len(columns)
            converters += -(-converted // spec.adc.shared_by)
            ranges = max(1, math.ceil(math.log2(len(spec.adc.full_scales_us))))
            here = (
                (FaultKind.CELL_NEIGHBOUR, len(lines) * len(columns), 2),
                (FaultKind.CELL_EXTREME, len(lines) * len(columns), 2),
                (FaultKind.CONVERTER_TRIM, -(-converted // spec.adc.shared_by), TRIM_BITS),
                (FaultKind.CONVERTER_RANGE, 1, ranges),
                (FaultKind.ROW_ENABLE, rows, 1),
                (FaultKind.IMAGE_LEVEL, rows * outputs, program.weight_bits_of(step.name)),
                (FaultKind.CORRECTION, outputs, SUM_BITS + OFFSET_BITS),
            )
            for kind, places, bits in here:
                blocks[kind].append(SiteBlock(step.name, number, places, bits))
        blocks[FaultKind.ACCUMULATOR].append(SiteBlock(use.name, -1, group.outputs * positions, SUM_BITS))
    blocks[FaultKind.ACTIVATION] += [SiteBlock(*block) for block in _stored_codes(program)]
    blocks[FaultKind.IMAGE_TABLE].append(SiteBlock(INPUT, -1, program.input.table.size, program.input.bits))
    for name, words in _rules(program):
        blocks[FaultKind.REQUANTISE].append(SiteBlock(name, -1, words, 1))
    blocks[FaultKind.SEQUENCER] += [SiteBlock(step.name, -1, 1, STEP_BITS) for step in program.steps]
    units = {kind: sum(block.sites for block in found) for kind, found in blocks.items()}
    units |= {FaultKind.CELL_NEIGHBOUR: cells, FaultKind.CELL_EXTREME: cells, FaultKind.CONVERSION: converters}
    units[FaultKind.SEQUENCER] = STEP_BITS
    return FaultSpace({kind: tuple(found) for kind, found in blocks.items()}, units)


def stored_bits(program: ConductanceProgram, name: str) -> tuple[int, bool]:
    """Bits and sign of the codes of a step or of the input, as they lie in memory."""
    if name == INPUT:
        return program.input.bits, program.input.signed
    step = next(s for s in program.steps if s.name == name)
    step = program.product_of(step) or step
    rule = getattr(step, "requantise", None)
    if not isinstance(rule, Requantise):
        rescales: tuple[Requantise, ...] = getattr(step, "rescale", ())
        if not rescales:
            return stored_bits(program, step.inputs[0])
        rule = rescales[0]
    signed = rule.low < 0
    return max(int(rule.high).bit_length(), int(-rule.low - 1).bit_length() if signed else 0) + signed, signed


def _stored_codes(program: ConductanceProgram) -> Iterator[tuple[str, int, int, int]]:
    shapes = step_shapes(program)
    yield INPUT, -1, math.prod(program.input.shape), stored_bits(program, INPUT)[0]
    for step in program.steps:
        yield step.name, -1, math.prod(shapes[step.name]), stored_bits(program, step.name)[0]


def _rules(program: ConductanceProgram) -> Iterator[tuple[str, int]]:
    """Steps with a rule of their own, and its bits: bias (of a product), multiplier and shift of every channel."""
    for step in program.steps:
        rule = getattr(step, "requantise", None)
        if isinstance(rule, Requantise):
            bias = SUM_BITS * len(step.bias) if isinstance(step, MatrixStep) else 0
            yield step.name, bias + len(rule.multiplier) * (SUM_BITS + SHIFT_BITS)
