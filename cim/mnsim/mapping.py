"""Mapping of layers to PEs and tiles by MNSIM 2.0, and the sizes of its buffers.

With polarity 2 a weight slice has a positive and a negative array, so the sign needs no slice:
    slices = weight_bits − (polarity − 1)
    mx = ⌈slices / groups⌉ · ⌈C_out / columns⌉
    my = ⌈C_in / ⌊rows / k²⌋⌉ (conv), ⌈F_in / rows⌉ (fc)
    PEs = mx · my, tiles = ⌈PEs / PEs of a tile⌉
Quirks: one array holds one weight bit whatever the levels of its cells; every PE is charged
the rows and columns of the fullest one; grouped convolutions are mapped as if dense; a pooling
layer takes a whole tile. Example, 5 x 5 convolution 16 -> 120, 9 bits, 256 x 256: mx 8, my 2,
16 PEs, 4 tiles, 250 rows, 120 columns.
Source: MNSIM 2.0, Zhu et al., GLSVLSI 2020; numbers of the software of 2024-11-27.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cim.mnsim.config import ChipSection, MnsimConfig, MnsimError, TileConnection
from cim.mnsim.layers import CountedLayer, LayerKind


@dataclass(frozen=True, slots=True)
class LayerMapping:
    """Place of one layer. ``tile_pes``: PEs of the fullest tile; ``rows``, ``columns``, ``groups``: of a PE."""

    mx: int
    my: int
    pes: int
    tiles: int
    tile_pes: int
    first_tile: int
    rows: int
    columns: int
    groups: int
    distances: Distances


@dataclass(frozen=True, slots=True)
class ChipMapping:
    """All layers, and buffer sizes: of a PE's inputs and a tile's outputs (one size for the chip), the global one."""

    layers: tuple[LayerMapping, ...]
    tiles: int
    input_buffer_kb: float
    output_buffer_kb: float
    global_buffer_kb: float


def map_layers(layers: tuple[CountedLayer, ...], config: MnsimConfig) -> ChipMapping:
    """Mapping of every layer in order, tiles numbered through.

    Raises:
        MnsimError: a kernel window larger than the rows, or more tiles than the grid has.
    """
    shapes = [_shape(layer, config) for layer in layers]
    starts, used = [], 0
    for shape in shapes:
        starts.append(used)
        used += math.ceil(shape[0] * shape[1] / config.tile.pes)
    room = config.chip.tile_rows * config.chip.tile_columns
    if used > room:
        raise MnsimError(
            f"{used} tiles are needed, the grid of {config.chip.tile_rows} x {config.chip.tile_columns} has {room}"
        )
    tiles = [b - a for a, b in zip(starts, [*starts[1:], used], strict=True)]
    apart = distances(layers, starts, tiles, config.chip)
    placed = tuple(
        LayerMapping(
            mx,
            my,
            mx * my,
            count,
            min(mx * my, config.tile.pes),
            start,
            rows,
            columns,
            groups,
            between,
        )
        for (mx, my, rows, columns, groups), start, count, between in zip(shapes, starts, tiles, apart, strict=True)
    )
    return ChipMapping(placed, used, *_buffer_sizes(layers, placed, config))


def _shape(layer: CountedLayer, config: MnsimConfig) -> tuple[int, int, int, int, int]:
    """Arrays that a layer takes along its outputs (mx) and inputs (my), rows and columns of the fullest one, and
    groups."""
    if layer.kind is LayerKind.ELEMENT_WISE:
        return 0, 0, 0, 0, 0
    if layer.kind is LayerKind.POOLING:
        return 1, 1, 0, 0, 0
    array, groups = config.array, config.pe.groups
    slices = layer.weight_bits - (config.pe.polarity - 1)
    if slices < 1:
        raise MnsimError(f"{layer.name}: {layer.weight_bits}-bit weights leave no bit besides the sign")
    window = layer.kernel**2 if layer.kind is LayerKind.CONV else 1
    per_array = array.rows // window
    if per_array == 0:
        raise MnsimError(f"{layer.name}: a window of {window} inputs of one channel, the array has {array.rows} rows")
    mx = math.ceil(slices / groups) * math.ceil(layer.channels_out / array.columns)
    my = math.ceil(layer.channels_in / per_array)
    rows = min(per_array, layer.channels_in) * window
    return mx, my, rows, min(layer.channels_out, array.columns), min(slices, groups)


def _buffer_sizes(
    layers: tuple[CountedLayer, ...], placed: tuple[LayerMapping, ...], config: MnsimConfig
) -> tuple[float, float, float]:
    """Sizes in kB, powers of two in bytes: k lines of inputs a PE, two sets of outputs a tile, element-wise operands.

    Quirk: no layer ever finds a buffer full; a size that the configuration gives changes nothing but area and power.
    """
    inputs, outputs, shared = 0.0, 0.0, 0.0
    for layer, own in zip(layers, placed, strict=True):
        if layer.kind.on_cells:
            lines = layer.width_in * layer.kernel if layer.kind is LayerKind.CONV else 1
            inputs = max(inputs, _power_of_two(lines * layer.channels_in * layer.input_bits / 8 / own.pes))
            outputs = max(outputs, _power_of_two(2 * layer.channels_out * layer.output_bits / 8 / own.tiles))
        elif layer.kind is LayerKind.ELEMENT_WISE:
            shared += _power_of_two(layer.operands * layer.channels_in * layer.input_bits / 8)
    return (
        config.pe.input_buffer_kb or inputs / 1024,
        config.tile.output_buffer_kb or outputs / 1024,
        shared / 1024,
    )


def _power_of_two(size_bytes: float) -> float:
    return 2.0 ** math.ceil(math.log2(size_bytes))


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
