"""Programs that mean the same with other places, signs and cells, for tests."""

from __future__ import annotations

import dataclasses

import numpy as np

from cim.chip.encoding import WeightForm, form_cells
from mapping.adapt.orders import permuted_step, permutes
from mapping.program.conductance import ConductanceProgram, MatrixStep, Tile
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
