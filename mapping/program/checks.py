"""Checks of a program of unknown origin: shapes, places and ranges of all steps fit each other and the chip."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
from numpy.typing import NDArray

from cim.chip.blocks import grid
from cim.chip.encoding import check_cells
from cim.chip.spec import MacroSpec
from cim.chip.windows import Window
from mapping.network.task import TaskKind
from mapping.operators.integer.digital_ops import INT32_HIGH, code_type
from mapping.operators.node import INPUT, LARGEST_MAP, MOST_AXES
from mapping.operators.step import ProgramRecordError, Shape, Span, Step, check_rule, check_step, is_wide, need
from mapping.program.adapter import largest_on_the_way
from mapping.program.conductance import Adapter, AgainStep, ConductanceProgram, MatrixStep
from mapping.program.exact_product import largest_sum
from mapping.program.limits import MOST_RANK, MOST_READS
from mapping.program.shapes import step_shape

MOST_TURNS = 1 << 12


MOST_RECIPE = 1 << 12  # signs of its text


def check_program(program: ConductanceProgram) -> None:
    """Raise ``ProgramRecordError`` unless shapes, places and ranges of all steps fit each other and the chip."""
    shapes: dict[str, Shape] = {INPUT: program.input.shape}
    if program.input.table.shape != (program.input.shape[0], 256):
        raise ProgramRecordError(f"input table {program.input.table.shape} is not ({program.input.shape[0]}, 256)")
    if not program.steps:
        raise ProgramRecordError("it has no steps")
    spans: dict[str, Span] = {INPUT: (int(program.input.table.min()), int(program.input.table.max()))}
    _check_rounds(program)
    _check_aims(program)
    turns: set[tuple[str, int]] = set()
    for step in program.steps:
        if isinstance(step, AgainStep):
            need(step.layer in shapes and (step.layer, step.turn) not in turns, step, f"is no new use of {step.layer}")
            turns.add((step.layer, step.turn))
        if step.name in shapes or any(name not in shapes for name in step.inputs):
            raise ProgramRecordError(f"step {step.name!r:.80} has a name used twice, or reads a later step")
        given = [spans[name] for name in step.inputs]
        wide = any(map(is_wide, given))
        shapes[step.name] = _output_shape(step, [shapes[name] for name in step.inputs], program, wide)
        spans[step.name] = (program.product_of(step) or step).span(given)
    bits, layers = program.layer_weight_bits, {m.name for m in program.matrices}
    if not bits.keys() <= layers or not all(2 <= b <= 8 for b in bits.values()):
        raise ProgramRecordError(f"weight bits of layers {dict(bits)!r:.80} must be 2 to 8 of its layers")
    if program.outputs and program.classes:
        raise ProgramRecordError("it has classes and outputs")
    if program.task not in (None, TaskKind.CLASSIFY) and not program.outputs:
        raise ProgramRecordError(f"it is to {program.task} and has no outputs")
    _check_preprocess(program)
    if shapes[program.steps[-1].name] != (program.width,):
        what = "an element of its outputs" if program.outputs else "a class"
        raise ProgramRecordError(f"logits {shapes[program.steps[-1].name]} are not one {what} ({program.width})")


def _check_preprocess(program: ConductanceProgram) -> None:
    """Require one mean and one positive deviation a channel, where they are given, and a scale of logits where
    needed."""
    rule, scale = program.preprocess, program.scales.get(program.steps[-1].name)
    if rule is not None and not (
        {len(rule.mean), len(rule.std)} == {program.input.shape[0]} and min(rule.std, default=0.0) > 0
    ):
        raise ProgramRecordError(
            f"its preprocessing is not one mean and deviation for {program.input.shape[0]} channels"
        )
    if program.outputs and not (scale is not None and scale > 0):
        raise ProgramRecordError(f"one code of its outputs stands for {scale!r:.40}")


def _check_rounds(program: ConductanceProgram) -> None:
    """Require that rounds count from 0 without a gap, in the order of the steps, and that no tiles share cells in
    one."""
    now = -1
    taken: dict[int, list[tuple[range, range]]] = {}
    for step in program.matrices:
        for tile in step.group.tiles:
            need(tile.copy >= 0, step, f"has a copy {tile.copy}")
            in_order = max(now, 0) <= tile.round <= now + 1
            need(in_order, step, f"is in round {tile.round} after {f'round {now}' if now >= 0 else 'none'}")
            now = tile.round
            rows, outputs = tile.levels.shape
            here = (range(tile.row0, tile.row0 + rows), range(tile.output0, tile.output0 + outputs))
            others = taken.setdefault(program.slot(tile), [])
            free = not any(_meet(here[0], r) and _meet(here[1], o) for r, o in others)
            need(free, step, f"has a tile on cells of another tile of macro {tile.macro}")
            others.append(here)


def highest_aim_us(spec: MacroSpec) -> float:
    """The highest target that cells are written to: one write-verify window above the highest level."""
    return spec.levels_us[-1] + spec.tolerance_us


def _check_aims(program: ConductanceProgram) -> None:
    """Require one target a level, ascending, inside the window of the cells, and a digest where cells are held by
    one."""
    aims, levels = program.aims, program.spec.macro.levels_us
    if program.recipe is not None and len(program.recipe) > MOST_RECIPE:
        raise ProgramRecordError(f"its recipe is a text of {len(program.recipe)} signs, over {MOST_RECIPE}")
    if program.held_as is not None and not re.fullmatch(r"[0-9a-f]{64}", program.held_as):
        raise ProgramRecordError(f"held_as is {program.held_as!r:.80}, no SHA-256 digest")
    if aims is None:
        return
    rising = all(a < b for a, b in itertools.pairwise(aims.targets_us))
    inside = all(levels[0] <= t <= highest_aim_us(program.spec.macro) + 1e-3 for t in aims.targets_us)
    if len(aims.targets_us) != len(levels) or not rising or not inside or aims.age_s < 0:
        raise ProgramRecordError(f"its aims {aims.targets_us!r:.120} are not {len(levels)} rising targets of its cells")


def _meet(a: range, b: range) -> bool:
    return a.start < b.stop and b.start < a.stop


def _output_shape(step: Step, inputs: list[Shape], program: ConductanceProgram, wide: bool) -> Shape:
    """The step's shape (``step_shape``), once its inputs and its own fields were checked."""
    need(len(inputs) >= 1, step, "has no input")
    if isinstance(step, MatrixStep):
        need(len(inputs) == 1, step, f"multiplies {len(inputs)} inputs")
        need(not wide, step, "takes codes of more than 16 bits")
        _check_matrix(step, inputs[0], program)
    elif isinstance(step, AgainStep):
        layer = program.layers.get(step.layer)
        good = layer is not None and len(inputs) == 1 and 1 <= step.turn < MOST_TURNS and program.rounds == 1
        need(good and not wide, step, f"reads {step.layer!r:.80} again, turn {step.turn}, in {program.rounds} rounds")
        assert layer is not None
        _check_matrix(layer, inputs[0], program)
        return step_shape(layer, inputs, {})
    else:
        check_step(step, inputs, wide=wide)
    shape = step_shape(step, inputs, {})
    good = 1 <= len(shape) <= MOST_AXES and 1 <= math.prod(shape) <= LARGEST_MAP and min(shape) >= 1
    need(good, step, f"has the shape {shape!r:.80}")
    return shape


def _check_matrix(step: MatrixStep, first: tuple[int, ...], program: ConductanceProgram) -> None:
    group, macro = step.group, program.spec.macro
    window = group.window
    if window is None:
        need(first == (group.inputs,), step, f"takes {group.inputs} inputs, not {first}")
    else:
        fits = first == (window.channels, window.height, window.width) and group.inputs == window.rows
        need(fits, step, f"its window does not fit {first}")
    need(step.bias.shape == (group.outputs,), step, f"has {step.bias.shape} biases for {group.outputs} outputs")
    need(0 <= group.range_code < len(macro.adc.full_scales_us), step, f"has no ADC range {group.range_code}")
    need(2 <= group.input_bits <= macro.inputs.bits, step, f"has {group.input_bits}-bit inputs")
    check_rule(step, step.requantise, (group.outputs,))
    _check_order(step, step.input_order, first[0], "inputs")
    _check_order(step, step.output_order, group.outputs, "outputs")
    need(bool(group.tiles), step, "has no tiles")
    for tile in group.tiles:
        rows, outputs = tile.levels.shape
        need((rows, outputs) == (len(tile.inputs), len(tile.outputs)), step, "has a tile whose levels do not fit it")
        inside = tile.inputs.stop <= group.inputs and tile.outputs.stop <= group.outputs
        need(inside, step, "has a tile outside its matrix")
        on_chip = (
            0 <= tile.macro < program.spec.macros
            and 0 <= tile.row0 <= len(macro.word_lines) - rows
            and 0 <= tile.output0 <= macro.outputs - outputs
            and rows <= macro.logical_rows
        )
        need(on_chip, step, f"has a tile outside macro {tile.macro}")
        need(
            bool(np.isin(tile.levels, macro.weight_values).all()),
            step,
            "has a level beyond the cells, or none of theirs",
        )
        need(1 <= tile.multiplier < 1 << 16, step, f"has a slice of weight {tile.multiplier}")
        if tile.cells is not None:
            check_cells(tile.cells, macro, tile.levels.shape)
        if tile.signs is not None:
            signed = tile.signs.shape == (outputs,) and bool((np.abs(tile.signs) == 1).all()) and macro.paired
            need(signed, step, "has signs of columns that are not −1 or 1, or no pairs")
    need(largest_sum(group) <= INT32_HIGH, step, "has sums beyond 32 bits")
    _check_copies(step, window)
    _check_residual(step)
    if step.adapter is not None:
        _check_adapter(step, step.adapter)


def _check_adapter(step: MatrixStep, adapter: Adapter) -> None:
    """Require that the adapter's matrices fit the layer, and that no sum on the way leaves 32 bits."""
    group, (down, up) = step.group, (adapter.down, adapter.up)
    rank = len(down) if down.ndim == 2 else 0
    fits = 1 <= rank <= MOST_RANK and down.shape == (rank, group.inputs) and up.shape == (group.outputs, rank)
    matrix = (group.outputs, group.inputs)
    need(fits, step, f"has an adapter of {up.shape} and {down.shape} for a matrix of {matrix}")
    check_rule(step, adapter.narrow, (rank,))
    check_rule(step, adapter.wide, (group.outputs,))
    need(code_type(adapter.narrow) is np.int16, step, "has an adapter of more than 16 bits inside")
    need(largest_on_the_way(adapter, group) <= INT32_HIGH, step, "has an adapter with sums beyond 32 bits")


def _check_copies(step: MatrixStep, window: Window | None) -> None:
    """Require that copies hold the same matrix, all in one round, with a block of the output map for each."""
    tiles, copies = step.group.tiles, step.group.copies
    if copies == 1:
        return
    rows, width = (1, 1) if window is None else (window.out_height, window.out_width)
    need(copies <= rows * width, step, f"has {copies} copies for an output map of {rows} x {width}")
    grid(rows, width, copies)
    need(len({t.round for t in tiles}) == 1, step, "has copies in different rounds")
    first = step.group.matrix_tiles
    for number in range(copies):
        own = tiles[number * len(first) : (number + 1) * len(first)]
        same = len(tiles) == copies * len(first) and all(
            (a.copy, a.inputs, a.outputs, a.multiplier) == (number, b.inputs, b.outputs, b.multiplier)
            and np.array_equal(a.levels, b.levels)
            for a, b in zip(own, first, strict=True)
        )
        need(same, step, f"has another matrix in copy {number} than in copy 0")


def _check_residual(step: MatrixStep) -> None:
    """Require two or more residual slices of each weight, all in round 0, in one copy, with a bounded number of
    reads."""
    group = step.group
    need(0 <= group.residual_reads <= MOST_READS, step, f"reads its highest slice {group.residual_reads} times")
    need(1 <= group.mean_reads <= MOST_READS, step, f"reads every product {group.mean_reads} times")
    if group.residual_reads:
        whole = group.copies == 1 and not any(t.round for t in group.tiles)
        need(whole, step, "has residual slices in several rounds or copies")
        need(len({t.multiplier for t in group.tiles}) > 1, step, "has residual slices of one slice")


def _check_order(step: Step, order: NDArray[np.int32] | None, size: int, what: str) -> None:
    if order is not None:
        whole = np.array_equal(np.sort(order), np.arange(size))
        need(whole, step, f"has an order of {what} that is not a permutation")
