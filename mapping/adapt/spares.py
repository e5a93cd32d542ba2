"""Spare columns: what a tile still lacks, held by free columns of the same macro.

An extra tile stands on the rows of the tile it helps, a few outputs wide, and holds the whole levels
nearest to what is missing; the two are read one after the other and added like any tiles of a layer. It costs
one read more, so the gain per read decides, within a budget of reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import cell_lines
from cim.chip.spec import MacroSpec
from mapping.adapt.compensation import column_errors, pair_choices, rebalanced
from mapping.adapt.defects import Defects, tile_stuck_us
from mapping.adapt.tile_fit import LayerFit, TileFit
from mapping.program.conductance import ConductanceProgram, Tile

WORTH = 0.3  # an extra tile must take this share of the error of its outputs, or it is not worth its noise


@dataclass(frozen=True, slots=True)
class Spare:
    """An extra tile for tile ``number`` of a layer; ``gain``: squared output codes that it saves."""

    layer: str
    number: int
    tile: Tile
    gain: float


def choose_spares(
    program: ConductanceProgram, layers: Sequence[LayerFit], defects: Defects, spare_reads: float
) -> Mapping[str, tuple[Spare, ...]]:
    """Extra tiles by layer: those that save most of their layer's error per read first.

    Args:
        spare_reads: most extra tile reads, as a share of all tile reads of the program.
    """
    spec = program.spec.macro
    budget = spare_reads * sum(reads(fit) * len(fit.tiles) for fit in layers)
    free = {macro: free_cells(program, macro) for macro in program.macros}
    found = [
        (number, layer)
        for layer in layers
        for number, fit in enumerate(layer.tiles)
        if fit.costs.sum() > 0 and reads(layer) <= budget
    ]
    order = sorted(found, key=lambda f: -float(f[1].tiles[f[0]].costs.sum()) / max(f[1].power, 1e-12) / reads(f[1]))
    chosen: dict[str, tuple[Spare, ...]] = {}
    for number, layer in order:
        if reads(layer) > budget:
            continue
        fit = layer.tiles[number]
        spare = _beside(layer.step.name, number, fit, free[fit.tile.macro], spec, defects)
        if spare is None:
            continue
        budget -= reads(layer)
        taken = cell_lines(spec, spare.tile.row0, len(spare.tile.inputs), spare.tile.output0, len(spare.tile.outputs))
        free[fit.tile.macro][np.ix_(*taken)] = False
        chosen[spare.layer] = (*chosen.get(spare.layer, ()), spare)
    return chosen


def reads(layer: LayerFit) -> int:
    """Reads of one tile for one image."""
    window = layer.step.group.window
    return 1 if window is None else window.positions


def free_cells(program: ConductanceProgram, macro: int) -> NDArray[np.bool_]:
    """Cells of a macro that no tile uses, (rows, columns)."""
    spec = program.spec.macro
    free = np.ones((spec.rows, spec.columns), np.bool_)
    for step in program.matrices:
        for t in step.group.tiles:
            if t.macro == macro:
                free[np.ix_(*cell_lines(spec, t.row0, len(t.inputs), t.output0, len(t.outputs)))] = False
    return free


def _beside(
    layer: str, number: int, fit: TileFit, free: NDArray[np.bool_], spec: MacroSpec, defects: Defects
) -> Spare | None:
    """The extra tile that saves most of a tile's error; None when there is no room or it saves too little."""
    tile, rows = fit.tile, len(fit.tile.inputs)
    open_ = np.array(
        [free[np.ix_(*cell_lines(spec, tile.row0, rows, column, 1))].all() for column in range(spec.outputs)]
    )
    best: Spare | None = None
    for first, stop in _runs(open_):
        width = min(stop - first, len(tile.outputs))
        start = int(np.convolve(fit.costs, np.ones(width), "valid").argmax())
        part = slice(start, start + width)
        here = replace(
            tile,
            output0=first,
            outputs=range(tile.outputs.start + start, tile.outputs.start + start + width),
            levels=np.zeros((rows, width), np.int8),
            cells=None,
            signs=None,
        )
        choices = pair_choices(tile_stuck_us(defects, spec, here), spec)
        missing = -fit.errors[:, part]
        index = rebalanced(choices, choices.nearest(missing), missing, fit.moments)
        held = choices.held_at(index)
        before, after = fit.costs[part], column_errors(held - missing, fit.moments) * fit.weights[part]
        gain = float(before.sum() - after.sum())
        if gain > WORTH * float(fit.costs.sum()) and (best is None or gain > best.gain):
            top = spec.max_level  # both tiles' levels stay within the cells
            levels = np.clip(np.rint(missing), tile.levels[:, part] - top, tile.levels[:, part].astype(int) + top)
            levels = np.clip(levels, -top, top).astype(np.int8)
            best = Spare(layer, number, replace(here, levels=levels, cells=choices.cells_at(index)), gain)
    return best


def _runs(open_: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], open_.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
