"""Give every piece of every layer a place on a macro."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import encode_tile
from cim.chip.spec import ChipSpec
from mapping.layout.groups import Demand, arrange
from mapping.layout.pack import Rectangle, Spot, pack
from mapping.layout.tile import Bundle
from mapping.program.conductance import ConductanceProgram, Tile


class Placement(enum.StrEnum):
    """Sharing of macros by pieces."""

    SPREAD = "spread"  # one piece a macro: no two pieces wait for the same converters
    PACKED = "packed"  # several a macro, on as few macros as are found


@dataclass(frozen=True, slots=True)
class Place:
    """Place of a piece: macro, first logical row and output; the copy of its layer, and the round that writes it."""

    macro: int
    row0: int
    output0: int
    copy: int = 0
    round: int = 0


@dataclass(frozen=True, slots=True)
class LayerCopy:
    """All bundles of one copy of a layer; one image reads each of their pieces ``reads`` times."""

    layer: str
    number: int
    bundles: tuple[Bundle, ...]
    reads: int = 0


def place(
    layers: Sequence[LayerCopy],
    spec: ChipSpec,
    placement: Placement | None = None,
    *,
    most_reads: float = math.inf,
) -> tuple[tuple[Place, ...], ...]:
    """Places of every layer copy's bundles, in order; groups of macros (``spec.groups``) are obeyed.

    The result may name more macros than the chip has: ``mapping.layout.lay_out`` reports that.

    Args:
        placement: None spreads while macros last, else packs: alone on its macro a piece waits
            for no other and shares no converter range or defect with it, and cells that are not
            used cost nothing.
        most_reads: when packing, no macro (or group) is read more often by one image, unless one
            layer alone does.
    """
    if placement is None:
        spread = place(layers, spec, Placement.SPREAD, most_reads=most_reads)
        if macros_needed(spread) <= spec.macros:
            return spread
        placement = Placement.PACKED
    if spec.groups is not None:
        return _in_groups(layers, spec, placement, most_reads)
    if placement is Placement.SPREAD:
        spots = [Spot(i, 0, 0) for i in range(sum(len(layer.bundles) for layer in layers))]
    else:
        spots = list(_packed(layers, spec, most_reads))
    found, first = [], 0
    for layer in layers:
        own = spots[first : first + len(layer.bundles)]
        found.append(tuple(Place(s.macro, s.row0, s.output0, layer.number) for s in own))
        first += len(own)
    return tuple(found)


def macros_needed(places: Sequence[Sequence[Place]]) -> int:
    return max((p.macro for layer in places for p in layer), default=-1) + 1


def tiles_by_slot(program: ConductanceProgram) -> dict[int, list[Tile]]:
    """Tiles of every slot (a macro in one round) in use, in the program's order."""
    found: dict[int, list[Tile]] = {}
    for step in program.matrices:
        for tile in step.group.tiles:
            found.setdefault(program.slot(tile), []).append(tile)
    return found


def macro_targets_us(
    program: ConductanceProgram, slot: int, tiles: Sequence[Tile] | None = None
) -> NDArray[np.float32]:
    """What every cell of a slot (a macro in one round) is written to, in µS; NaN where no tile lies.

    Float32 (rows, columns). The level of the cell, or where the program aims beside it.

    Args:
        tiles: those of the slot where they are known (``tiles_by_slot``): to look for them takes as long as the
            program is large.
    """
    return _cells_us(program, slot, None if program.aims is None else program.aims.targets_us, tiles)


def targets_by_slot_us(program: ConductanceProgram) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Every slot in use, ascending, and what its cells are written to (``macro_targets_us``); tiles are looked for
    once."""
    tiles = tiles_by_slot(program)
    for slot in sorted(tiles):
        yield slot, macro_targets_us(program, slot, tiles[slot])


def macro_levels_us(program: ConductanceProgram, slot: int) -> NDArray[np.float32]:
    """The level that every cell of a slot stands for, in µS, wherever the program aims; as ``macro_targets_us``."""
    return _cells_us(program, slot, None, None)


def _cells_us(
    program: ConductanceProgram, slot: int, aims_us: Sequence[float] | None, tiles: Sequence[Tile] | None
) -> NDArray[np.float32]:
    spec = program.spec.macro
    targets = np.full((spec.rows, spec.columns), np.nan, np.float32)
    for tile in tiles_by_slot(program).get(slot, ()) if tiles is None else tiles:
        cells = encode_tile(tile.levels, spec, tile.row0, tile.output0, tile.cells, aims_us)
        targets[np.ix_(cells.word_lines, cells.bit_lines)] = cells.targets_us
    return targets


def _packed(layers: Sequence[LayerCopy], spec: ChipSpec, most_reads: float) -> tuple[Spot, ...]:
    rectangles = [
        Rectangle(len(b.inputs), len(b.outputs), layer.reads * len(b.pieces)) for layer in layers for b in layer.bundles
    ]
    return pack(rectangles, len(spec.macro.word_lines), spec.macro.outputs, most_reads=most_reads)


def _in_groups(
    layers: Sequence[LayerCopy], spec: ChipSpec, placement: Placement, most_reads: float
) -> tuple[tuple[Place, ...], ...]:
    """Put each layer copy on macros of its own, group by group."""
    assert spec.groups is not None
    own = []
    for layer in layers:
        if placement is Placement.SPREAD:
            order = joined_order(layer.bundles, spec.groups.joined)
            own.append(tuple(Spot(order.index(i), 0, 0) for i in range(len(order))))
        else:
            own.append(_packed([layer], spec, most_reads))
    demands = []
    for layer, spots in zip(layers, own, strict=True):
        used = [s.macro for s in spots]
        demands.append(Demand(len(set(used)), layer.reads * max(used.count(m) for m in set(used))))
    macros = arrange(demands, spec.groups, spec.macros, most_reads)
    return tuple(
        tuple(Place(at[s.macro], s.row0, s.output0, layer.number) for s in spots)
        for layer, spots, at in zip(layers, own, macros, strict=True)
    )


def joined_order(pieces: Sequence[Bundle], joined: int) -> list[int]:
    """Positions of a layer's pieces so that whole runs of ``joined`` row parts of the same outputs come first.

    Such runs lie on macros that can be joined; their sums are added either way.
    """
    runs: dict[tuple[int, int], list[int]] = {}
    for i, piece in enumerate(pieces):
        runs.setdefault((piece.slice, piece.outputs.start), []).append(i)
    whole = {key: len(run) // joined * joined for key, run in runs.items()}
    return [i for key, run in runs.items() for i in run[: whole[key]]] + [
        i for key, run in runs.items() for i in run[whole[key] :]
    ]
