"""Copies of a layer that are averaged: the same weights on other cells, read with the same inputs, sums added.

n copies give n W x, so the bias counts n times and the requantisation factor is divided by n; nothing
else in a program changes. Errors of cells, converters and reads are independent from copy to copy and fall by √n in the
result, for n times the cells, reads and conversions. Where they lie: ``mapping.layout.free_cells``. (Copies that answer
other blocks of the output map, ``mapping.program.copies``, are for speed and average nothing.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from mapping.errors import CannotMap
from mapping.layout.free_cells import Area, Copies
from mapping.operators.integer.digital_ops import INT32_HIGH
from mapping.operators.integer.scales import requantise_by
from mapping.program.conductance import ConductanceProgram, MatrixStep, Tile
from mapping.program.exact_product import largest_sum
from mapping.tune.aims import aimed


def layer_areas(program: ConductanceProgram) -> dict[str, tuple[Area, ...]]:
    """The cells of every layer's tiles, by layer; layers with copies for speed are left out."""
    return {step.name: areas_of(step.group.tiles) for step in program.matrices if step.group.copies == 1}


def averaged(program: ConductanceProgram, copies: Copies) -> ConductanceProgram:
    """The program with further ``copies`` of layers, whose answers are averaged; its targets beside levels stay.

    Raises:
        CannotMap: sums that could leave 32 bits, or copies for speed in that layer.
        ValueError: a copy of other tiles than the layer's.
    """
    steps = tuple(
        _averaged(step, copies[step.name], program.spec.name)
        if isinstance(step, MatrixStep) and step.name in copies
        else step
        for step in program.steps
    )
    return aimed(replace(program, steps=steps), program.aims)


def _averaged(step: MatrixStep, copies: Sequence[Sequence[Area]], chip: str) -> MatrixStep:
    if step.group.copies > 1:
        raise CannotMap(f"{step.name} has copies for speed: average it in a program without them", chip=chip)
    tiles, count = list(step.group.tiles), 1 + len(copies)
    for places in copies:
        for tile, at in zip(step.group.tiles, places, strict=True):
            if (at.rows, at.outputs) != tile.levels.shape or at.round != tile.round:
                raise ValueError(f"{step.name}: {at} does not hold a tile of {tile.levels.shape} in round {tile.round}")
            tiles.append(replace(tile, macro=at.macro, row0=at.row0, output0=at.output0))
    return summed(step, tuple(sorted(tiles, key=lambda tile: tile.round)), count, chip)


def summed(step: MatrixStep, tiles: tuple[Tile, ...], count: int, chip: str) -> MatrixStep:
    """The step on ``tiles`` whose sums are ``count`` times those of before; its outputs are the same.

    Raises:
        CannotMap: sums that could leave 32 bits.
    """
    group = replace(step.group, tiles=tiles)
    bias = step.bias.astype(np.int64) * count
    if largest_sum(group) + int(np.abs(bias).max(initial=0)) > INT32_HIGH:
        raise CannotMap(f"{step.name}: sums of {count} copies could leave 32 bits", chip=chip)
    rule = step.requantise
    factor = rule.multiplier / np.exp2(rule.shift) / count
    return replace(step, group=group, bias=bias.astype(np.int32), requantise=requantise_by(factor, rule.low, rule.high))


def areas_of(tiles: Iterable[Tile]) -> tuple[Area, ...]:
    """The cells of tiles, in order."""
    return tuple(Area(t.macro, t.row0, t.output0, len(t.inputs), len(t.outputs), t.round) for t in tiles)
