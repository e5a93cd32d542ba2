"""Programs that mean the same with other places, signs and cells, for tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import WeightForm, form_cells
from mapping.operators.integer.requantise import Requantise
from mapping.program.conductance import ConductanceProgram, MatrixStep, Tile, TileGroup
from mapping.program.file import program_digest


def ordered(program: ConductanceProgram, rng: np.random.Generator) -> ConductanceProgram:
    """Channels and outputs of every layer that allows it in a random order."""

    def moved(step: MatrixStep) -> MatrixStep:
        channels = step.group.window.channels if step.group.window else step.group.inputs
        if not permutes(step.group):
            return step
        return permuted_step(step, rng.permutation(channels), rng.permutation(step.group.outputs))

    return with_steps(program, moved)


def swapped(
    program: ConductanceProgram, rng: np.random.Generator, form: WeightForm = WeightForm.BALANCED
) -> ConductanceProgram:
    """Random columns with plus and minus cells in exchanged roles."""
    top = program.spec.macro.max_level

    def turned(tile: Tile) -> Tile:
        signs = rng.choice(np.array([-1, 1], np.int8), len(tile.outputs))
        return dataclasses.replace(tile, cells=form_cells(tile.levels * signs, form, top), signs=signs)

    def moved(step: MatrixStep) -> MatrixStep:
        tiles = tuple(turned(t) for t in step.group.tiles)
        return dataclasses.replace(step, group=dataclasses.replace(step.group, tiles=tiles))

    return with_steps(program, moved)


def with_steps(program: ConductanceProgram, change) -> ConductanceProgram:  # type: ignore[no-untyped-def]
    steps = tuple(change(s) if isinstance(s, MatrixStep) else s for s in program.steps)
    changed = dataclasses.replace(program, steps=steps)
    return dataclasses.replace(changed, digest=program_digest(changed))


def permutes(group: TileGroup) -> bool:
    """Whether the tiles of every bit slice cover the whole matrix, so that any order fits them."""
    return all(bool(covered.all()) for covered in _assembled(group, [np.ones_like(t.levels) for t in group.tiles]))


def channel_rows(group: TileGroup, order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Rows of the unfolded input in an order of channels (of features, for a vector)."""
    area = group.window.kernel[0] * group.window.kernel[1] if group.window else 1
    return np.asarray((order[:, None] * area + np.arange(area)).reshape(-1))


def permuted_step(step: MatrixStep, inputs: NDArray[np.intp], outputs: NDArray[np.intp]) -> MatrixStep:
    """A step whose place c holds what stood at place ``inputs[c]``, and column j what stood at ``outputs[j]``.

    Raises:
        ValueError: the layer's tiles leave places out, or columns are swapped already.
    """
    group = step.group
    if not permutes(group) or any(t.signs is not None for t in group.tiles):
        raise ValueError(f"{group.layer}: only a whole matrix without swapped columns can be put in another order")
    at = np.ix_(channel_rows(group, inputs), outputs)
    slices = {t.multiplier: n for n, t in enumerate(_first_of_slices(group))}
    levels = [matrix[at] for matrix in _assembled(group, [t.levels for t in group.tiles])]
    halves: list[list[NDArray[np.int8]]] = []
    if all(t.cells is not None for t in group.tiles):
        parts = [np.asarray(t.cells) for t in group.tiles]
        halves = [[matrix[at] for matrix in _assembled(group, [p[half] for p in parts])] for half in (0, 1)]

    def moved(tile: Tile) -> Tile:
        number = slices[tile.multiplier]
        here = (slice(tile.inputs.start, tile.inputs.stop), slice(tile.outputs.start, tile.outputs.stop))
        cells = np.stack([half[number][here] for half in halves]) if halves else None
        return replace(tile, levels=np.ascontiguousarray(levels[number][here]), cells=cells)

    def composed(old: NDArray[np.int32] | None, order: NDArray[np.intp]) -> NDArray[np.int32]:
        return (order if old is None else old[order]).astype(np.int32)

    rule = step.requantise
    many = len(rule.multiplier) > 1
    return replace(
        step,
        group=replace(group, tiles=tuple(moved(t) for t in group.tiles)),
        bias=step.bias[outputs],
        requantise=Requantise(rule.multiplier[outputs], rule.shift[outputs], rule.low, rule.high) if many else rule,
        input_order=composed(step.input_order, inputs),
        output_order=composed(step.output_order, outputs),
    )


def _first_of_slices(group: TileGroup) -> list[Tile]:
    return list({t.multiplier: t for t in reversed(group.tiles)}.values())


def _assembled(group: TileGroup, parts: Sequence[NDArray[np.int8]]) -> list[NDArray[np.int8]]:
    """Arrays of the tiles (rows, outputs) put together, one matrix (inputs, outputs) a slice, zeros elsewhere."""
    numbers = {t.multiplier: n for n, t in enumerate(_first_of_slices(group))}
    whole = [np.zeros((group.inputs, group.outputs), np.int8) for _ in numbers]
    for tile, part in zip(group.tiles, parts, strict=True):
        there = whole[numbers[tile.multiplier]]
        there[tile.inputs.start : tile.inputs.stop, tile.outputs.start : tile.outputs.stop] = part
    return whole
