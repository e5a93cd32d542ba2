"""Tiles on the grid of the chip: the curve that numbers them, and how far their data go."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cim.mnsim.config import ChipSection, TileConnection
from cim.mnsim.layers import CountedLayer, LayerKind

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Distances:
    """Manhattan distances in tiles: from the layer's tiles to the one that gathers, and from there to the readers."""

    within: float
    onward: float


@lru_cache(maxsize=8)
def curve(connection: TileConnection, rows: int, columns: int) -> Floats:
    """Row and column of tile 0, 1, 2, …, shape (rows · columns, 2).

    Rows: row by row. Snake: every other row backwards. Zigzag: diagonal by diagonal, the first
    step to the right. Fold: shells max(row, column) = 0, 1, 2, …, each walked from the end of
    the one before, an odd shell down its column and back along its row, an even one the other way.
    """
    r, c = (a.ravel() for a in np.indices((rows, columns)))
    match connection:
        case TileConnection.ROWS:
            keys = (c, r)
        case TileConnection.SNAKE:
            keys = (np.where(r % 2 == 0, c, -c), r)
        case TileConnection.ZIGZAG:
            keys = (np.where((r + c) % 2 == 0, -r, r), r + c)
        case TileConnection.FOLD:
            shell = np.maximum(r, c)
            step = r - c + shell  # 0 at the head of the column, 2 · shell at the foot of the row
            keys = (np.where(shell % 2 == 1, step, -step), shell)
    order = np.lexsort(keys)
    return np.stack([r[order], c[order]], axis=1).astype(np.float64)


def distances(
    layers: tuple[CountedLayer, ...], starts: list[int], tiles: list[int], chip: ChipSection
) -> tuple[Distances, ...]:
    """Distances of every layer, its tiles being the numbers start … start + tiles − 1 of the curve.

    The gathering tile minimises (farthest tile of the layer) + (farthest tile of its readers),
    the first in row-major order among equals. Quirks: element-wise layers have no tile; layers
    that feed nothing else measure to the middle of the left edge of the grid, and an
    element-wise layer measures from there to the first tile, row-major, of each reader.
    """
    path = curve(chip.tile_connection, chip.tile_rows, chip.tile_columns)
    row_major = path[:, 0] * chip.tile_columns + path[:, 1]
    spans = [slice(start, start + count) for start, count in zip(starts, tiles, strict=True)]
    places = [path[span][np.argsort(row_major[span])] for span in spans]
    edge = np.array([[chip.tile_rows / 2, 0.0]])
    found = []
    for layer, own in zip(layers, places, strict=True):
        targets = [places[i] for i in layer.readers if layers[i].kind is not LayerKind.ELEMENT_WISE]
        if layer.kind is LayerKind.ELEMENT_WISE:
            firsts = np.concatenate([t[:1] for t in targets]) if targets else np.empty((0, 2))
            found.append(Distances(0.0, float(_farthest(edge, firsts)[0])))
            continue
        within = _farthest(own, own)
        onward = _farthest(own, np.concatenate(targets) if targets else edge if layer.readers else np.empty((0, 2)))
        best = int(np.argmin(within + onward))
        found.append(Distances(float(within[best]), float(onward[best])))
    return tuple(found)


def _farthest(points: Floats, targets: Floats) -> Floats:
    """Largest Manhattan distance from each point to any target: max of |Δ(r + c)| and |Δ(r − c)|; 0 without targets."""
    if not len(targets):
        return np.zeros(len(points))
    plus, minus = points[:, 0] + points[:, 1], points[:, 0] - points[:, 1]
    plus_to, minus_to = targets[:, 0] + targets[:, 1], targets[:, 0] - targets[:, 1]
    by_plus = np.maximum(plus - plus_to.min(), plus_to.max() - plus)
    by_minus = np.maximum(minus - minus_to.min(), minus_to.max() - minus)
    farthest: Floats = np.maximum(by_plus, by_minus)
    return farthest
