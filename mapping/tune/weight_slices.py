"""Bit slices of the same weights: the tiles that hold them, the levels that their pairs read, and turned columns.

A column whose tile has a sign of −1 holds its weights negated, so that plus and minus cells are in each other's place.
Levels here are those of the weights, whichever way the columns are turned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import tile_halves_us
from mapping.program.conductance import ConductanceProgram, MatrixStep, Tile


def regions(step: MatrixStep) -> list[list[int]]:
    """Tiles that hold slices of the same weights, the largest multipliers first."""
    found: dict[tuple[range, range], list[int]] = {}
    for i, tile in enumerate(step.group.tiles):
        found.setdefault((tile.inputs, tile.outputs), []).append(i)
    return [sorted(places, key=lambda i: -step.group.tiles[i].multiplier) for places in found.values()]


def whole_weights(slices: Sequence[Tile]) -> NDArray[np.float64]:
    """The weights that slices hold together, (rows, outputs)."""
    return np.asarray(sum(tile.levels.astype(np.float64) * tile.multiplier for tile in slices))


def rank(tile: Tile, slices: Sequence[Tile]) -> int:
    """0 of the highest slice, 1 of the next one."""
    return sorted({t.multiplier for t in slices}, reverse=True).index(tile.multiplier)


def turned(cells: NDArray[Any], tile: Tile) -> NDArray[Any]:
    """What plus and minus cells hold, (2, rows, outputs), with both in each other's place where a column is turned."""
    return cells if tile.signs is None else np.where(tile.signs < 0, cells[::-1], cells)


def stuck_levels(
    program: ConductanceProgram, tile: Tile, stuck_us: Mapping[int, NDArray[np.floating]] | None
) -> NDArray[np.float64]:
    """Levels of stuck cells of a tile as its columns are turned, (2, rows, outputs), NaN elsewhere."""
    if stuck_us is None:
        return np.full((2, *tile.levels.shape), np.nan)
    spec = program.spec.macro
    rows, outputs = tile.levels.shape
    halves = tile_halves_us(stuck_us[program.slot(tile)], spec, tile.row0, rows, tile.output0, outputs)
    return turned((halves.astype(np.float64) - spec.levels_us[0]) / spec.level_step_us, tile)


def read_levels(
    program: ConductanceProgram, tile: Tile, readings_us: Mapping[int, NDArray[np.floating]]
) -> NDArray[np.float64]:
    """Levels that pairs of a tile read, (rows, outputs)."""
    spec = program.spec.macro
    rows, outputs = tile.levels.shape
    halves = tile_halves_us(readings_us[program.slot(tile)], spec, tile.row0, rows, tile.output0, outputs)
    plus, minus = turned(halves, tile)
    return np.asarray((plus.astype(np.float64) - minus) / spec.level_step_us)
