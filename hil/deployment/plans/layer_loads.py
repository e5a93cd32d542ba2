"""Messages that load a layer into a chip: with the program's digital part, or so that it returns its level sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cim.chip.correction import Correction
from firmware_protocols.messages import LayerTile, LoadLayer, TileAddress
from mapping.operators.integer.digital_ops import INT32_HIGH, INT32_LOW
from mapping.operators.integer.requantise import Requantise
from mapping.program.conductance import ConductanceProgram, MatrixStep, Tile
from mapping.program.copies import copies_of
from mapping.program.corrections import Corrections

AS_THEY_ARE = Requantise(np.ones(1, np.int32), np.zeros(1, np.int32), INT32_LOW, INT32_HIGH)


def address(tile: Tile) -> TileAddress:
    return TileAddress(tile.macro, tile.row0, len(tile.inputs), tile.output0, len(tile.outputs))


def answering_sums(step: MatrixStep) -> MatrixStep:
    """A copy of the step without bias, requantisation or reordering, so that its output codes are its level sums."""
    return replace(step, bias=np.zeros_like(step.bias), requantise=AS_THEY_ARE, output_order=None)


def layer_messages(program: ConductanceProgram, corrections: Corrections) -> dict[tuple[str, int], LoadLayer]:
    """Messages that load every copy of every layer of a program, by layer and copy; the chip numbers them in order."""
    copies = [(step, copy) for step in program.matrices for copy in copies_of(step.group)]
    return {
        (step.name, copy.number): layer_message(
            number, copy.of(step), corrections[step.name][copy.tiles.start : copy.tiles.stop]
        )
        for number, (step, copy) in enumerate(copies)
    }


def layer_message(number: int, step: MatrixStep, corrections: tuple[Correction, ...]) -> LoadLayer:
    """The LOAD_LAYER message of a layer: tiles, corrections, bias and requantisation."""
    group, requantise = step.group, step.requantise
    tiles = tuple(
        LayerTile(
            address(t), t.inputs.start, t.outputs.start, t.multiplier, c.shift, c.gain, c.offset, c.input_gain, reads
        )
        for t, c, reads in zip(group.tiles, corrections, group.reads, strict=True)
    )
    multiplier, shift = (
        np.broadcast_to(a, (group.outputs,)).astype(np.int32) for a in (requantise.multiplier, requantise.shift)
    )
    return LoadLayer(
        number, group.inputs, group.outputs, requantise.low, requantise.high, step.bias, multiplier, shift, tiles
    )
