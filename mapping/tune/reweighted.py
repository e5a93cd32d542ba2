"""Layers with other weights on the cells that they have: tiles, copies, orders and converter ranges stay.

A layer gives q = round((n Σ code · W + n β) m / n): W are whole weights as they stand on its tiles, n the number of
copies that are averaged, m what one level sum is worth in output codes, β the bias in level sums of one copy.

Example: a layer that stands twice and gets W = 5 has two tiles of level 5, a bias of 2 β and a factor of m / 2.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mapping.errors import CannotMap
from mapping.layout.tile import Piece, piece_levels
from mapping.operators.integer.digital_ops import INT32_HIGH
from mapping.operators.integer.scales import requantise_by
from mapping.operators.step import Step
from mapping.program.conductance import ConductanceProgram, MatrixStep, Tile
from mapping.program.exact_product import largest_sum
from mapping.program.file import program_digest
from mapping.tune.aims import aimed


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """Integers of one layer. ``weights``: int16 (groups, outputs / groups, inputs / groups), stretched to their cells
    (``mapping.layout.tile.stretch``); ``factor`` float64 (outputs,): output codes for one level sum; ``bias``
    float64 (outputs,), in level sums."""

    weights: NDArray[np.int16]
    factor: NDArray[np.float64]
    bias: NDArray[np.float64]


def reweighted(program: ConductanceProgram, layers: Mapping[str, LayerWeights]) -> ConductanceProgram:
    """The program with other weights in ``layers``, aimed as before; a chip does not hold it yet.

    Raises:
        CannotMap: a layer that is adapted to defects, or whose sums could leave 32 bits.
        ValueError: weights of another shape.
    """
    steps = tuple(
        _with_weights(step, layers[step.name], program)
        if isinstance(step, MatrixStep) and step.name in layers
        else step
        for step in program.steps
    )
    return aimed(replace(program, steps=steps), program.aims)


def only_layers(program: ConductanceProgram, layers: Collection[str]) -> ConductanceProgram:
    """The matrix steps of some layers: what is written, read and corrected with them. It has no digest."""
    return replace(program, steps=tuple(m for m in program.matrices if m.name in layers), digest="", held_as=None)


def with_steps(program: ConductanceProgram, first: Sequence[Step]) -> ConductanceProgram:
    """The program with its first steps as tuned; a chip holds it as it holds ``program``."""
    tuned = replace(program, steps=(*first, *program.steps[len(first) :]), held_as=program.held_digest, digest="")
    return replace(tuned, digest=program_digest(tuned))


def _with_weights(step: MatrixStep, new: LayerWeights, program: ConductanceProgram) -> MatrixStep:
    group, spec = step.group, program.spec
    shape = (group.groups, group.outputs // group.groups, group.inputs // group.groups)
    if new.weights.shape != shape:
        raise ValueError(f"{step.name}: weights of {new.weights.shape} for a layer of {shape}")
    ordered = step.input_order is not None or step.output_order is not None
    if ordered or any(t.cells is not None or t.signs is not None for t in group.tiles):
        raise CannotMap(f"{step.name} is adapted to defects or not written by sign", chip=spec.name)
    tiles = tuple(_tile(tile, new.weights, spec.macro.max_level) for tile in group.tiles)
    group, count = replace(group, tiles=tiles), group.averages
    bias = np.rint(new.bias * count)
    if largest_sum(group) + float(np.abs(bias).max(initial=0.0)) > INT32_HIGH:
        raise CannotMap(f"{step.name}: sums of the new weights could leave 32 bits", chip=spec.name)
    rule = requantise_by(new.factor / count, step.requantise.low, step.requantise.high)
    return replace(step, group=group, bias=bias.astype(np.int32), requantise=rule)


def _tile(tile: Tile, weights: NDArray[np.int16], max_level: int) -> Tile:
    number, left = 0, tile.multiplier
    while left > 1:
        number, left = number + 1, left // (max_level + 1)
    return replace(tile, levels=piece_levels(weights, Piece(tile.inputs, tile.outputs, number), max_level))
