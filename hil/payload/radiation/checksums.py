"""Checksum columns on the array: a column whose weights are the sums of a layer's (algorithm-based fault tolerance).

For a layer y = W x, a column of c_r = Σ_o W[o, r] answers Σ_o y_o, so that

    residual = Σ_o y_o − Σ_s (k_max + 1)^s · check_s,      c_r in signed digits c_s of the cells' levels

is noise without a fault. Columns lie on free outputs of the macros that hold the layer's rows (arXiv 2404.09818).
A checked program has one more step before each product, whose result no other step reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mapping.layout.tile import digit, slices_needed
from mapping.operators.integer.digital_ops import INT32_HIGH, INT32_LOW
from mapping.operators.integer.requantise import Requantise
from mapping.operators.step import Step
from mapping.program.conductance import ConductanceProgram, MatrixStep, Tile, TileGroup
from mapping.program.training_inputs import LayerInputs, training_inputs
from mapping.quantise.ranges import range_errors

SUFFIX = ".check"
Taken = dict[int, NDArray[np.bool_]]
"""Of each macro, (rows, outputs) in use."""


@dataclass(frozen=True, slots=True)
class CheckedProgram:
    """A program with checksum columns. ``checks``: check step of each layer with room; ``cells`` that they take."""

    program: ConductanceProgram
    checks: dict[str, MatrixStep]
    unchecked: tuple[str, ...]
    cells: int
    reads_share: float  # conversions of the checks over those of the layers


def checked_program(program: ConductanceProgram) -> CheckedProgram:
    """Add checksum columns to every layer whose macros have outputs free."""
    inputs = training_inputs(program)
    taken = _taken(program)
    steps: list[Step] = []
    checks: dict[str, MatrixStep] = {}
    unchecked = []
    for step in program.steps:
        if isinstance(step, MatrixStep):
            check = _check(program, step, inputs, taken)
            if check is None:
                unchecked.append(step.name)
            else:
                checks[step.name] = check
                steps.append(check)
        steps.append(step)
    spec = program.spec.macro
    per_output = 2 if spec.paired else 1
    cells = sum(t.levels.size for check in checks.values() for t in check.group.tiles) * per_output
    made = sum(_conversions(check) for check in checks.values())
    whole = sum(_conversions(step) for step in program.matrices)
    # The step that gives the logits stays the last one, and the digest is of no file: nothing holds these cells yet.
    return CheckedProgram(
        replace(program, steps=tuple(steps), digest=""), checks, tuple(unchecked), cells, made / whole
    )


def _conversions(step: MatrixStep) -> int:
    positions = 1 if step.group.window is None else step.group.window.positions
    return positions * sum(len(t.outputs) for t in step.group.matrix_tiles)


def _taken(program: ConductanceProgram) -> Taken:
    spec = program.spec.macro
    taken = {macro: np.zeros((len(spec.word_lines), spec.outputs), np.bool_) for macro in program.macros}
    for step in program.matrices:
        for t in step.group.tiles:
            taken[t.macro][t.row0 : t.row0 + len(t.inputs), t.output0 : t.output0 + len(t.outputs)] = True
    return taken


def _check(
    program: ConductanceProgram,
    step: MatrixStep,
    inputs: LayerInputs,
    taken: Taken,
) -> MatrixStep | None:
    """The check step of one layer; its outputs are marked as taken; None: a macro has no room."""
    spec, group = program.spec.macro, step.group
    if not spec.even_levels:
        return None
    marked = {macro: places.copy() for macro, places in taken.items()}
    tiles: list[Tile] = []
    parts = {(t.copy, t.inputs.start, t.inputs.stop): t for t in group.tiles}
    for (copy, start, stop), first in sorted(parts.items()):
        same = [t for t in group.tiles if (t.copy, t.inputs.start, t.inputs.stop) == (copy, start, stop)]
        sums = sum(t.multiplier * t.levels.astype(np.int32).sum(1) for t in same)
        assert isinstance(sums, np.ndarray)
        largest = int(np.abs(sums).max(initial=1))
        if largest > np.iinfo(np.int16).max:
            return None
        digits = slices_needed(largest, spec.max_level)
        for number in range(digits):
            place = _free(marked, same)
            if place is None:
                return None
            macro, row0, output0 = place
            marked[macro][row0 : row0 + stop - start, output0] = True
            levels = digit(sums.astype(np.int16)[:, None], number, spec.max_level)
            multiplier = (spec.max_level + 1) ** number
            tiles.append(Tile(macro, row0, output0, first.inputs, range(1), multiplier, levels, copy))
    taken.update(marked)
    rule = Requantise(np.ones(1, np.int32), np.zeros(1, np.int32), INT32_LOW, INT32_HIGH)
    plain = TileGroup(
        step.name + SUFFIX, group.window, group.inputs, 1, group.input_bits, group.input_signed, 0, 0.0, tuple(tiles)
    )
    chosen = range_errors(plain, spec, inputs[step.name]).best()
    plain = replace(plain, range_code=chosen.range_code, saturated_share=chosen.saturated_share)
    return MatrixStep(
        name=step.name + SUFFIX,
        inputs=step.inputs,
        group=plain,
        bias=np.zeros(1, np.int32),
        requantise=rule,
        input_order=step.input_order,
    )


def _free(taken: Taken, tiles: Sequence[Tile]) -> tuple[int, int, int] | None:
    """A free column beside tiles of the same rows: macro, first row and output."""
    for tile in tiles:
        free = ~taken[tile.macro][tile.row0 : tile.row0 + len(tile.inputs)].any(axis=0)
        if free.any():
            return tile.macro, tile.row0, int(np.flatnonzero(free)[0])
    return None
