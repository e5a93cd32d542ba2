"""Exact mode on one CPU core: the loop over tiles and images, and single-precision conversion of any tile.

Tiles of one-bit reads go to ``cim.simulator.exact.lookup_engine`` when their sums fit 16 bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import max_unit
from cim.array.wire_segments import SEGMENT_ROWS, segment_law
from cim.simd.floats import LANES
from cim.simulator.exact import kernels
from cim.simulator.exact import lookup_engine as engine_lookup
from cim.simulator.exact.level_sums import SPARE, Levels, Memory
from cim.simulator.layer import PreparedTile, SimulatedLayer
from cim.simulator.maps import ByteMaps

CHUNK_PLACES = 16384  # places (images times positions) that a kernel call takes; fits the second-level cache
_TILE_WORD = 0x9E3779B9  # spreads tile numbers over the first key word


class ExactNumba:
    """``cim.simulator.layer.LayerEngine`` of the exact mode on numba; holds each tile in the form of its kernel.

    ``tiles``: prepared kernel tiles; None: ``kernel_tiles`` chooses them.
    """

    def __init__(self, layer: SimulatedLayer, tiles: Sequence[KernelTile] | None = None) -> None:
        self.layer = layer
        self.tiles = tuple(kernel_tiles(layer) if tiles is None else tiles)

    def layer_sums(self, codes: NDArray[np.int16], keys: NDArray[np.uint32]) -> tuple[NDArray[np.int32], int]:
        """Level sums (n, outputs, positions), and the number of conversions on the last code of the scale."""
        outputs = self.layer.outputs
        maps, words, memory = ByteMaps(self.layer, codes), keys.view(np.uint64).ravel(), Memory()
        images, size = len(codes), maps.positions * outputs
        flat = np.zeros(images * size + SPARE, np.int32)  # kernels add zeros to a few numbers too many
        step, ends = max(1, CHUNK_PLACES // maps.positions), 0
        for tile in self.tiles:
            tile.fill(memory)
            for first in range(0, images, step):
                part = slice(first, min(first + step, images))
                ends += tile.add(memory, maps, part, words[part], flat[part.start * size :])
        sums = flat[: images * size].reshape(images, maps.positions, outputs)
        return sums.transpose(0, 2, 1), ends


def kernel_tiles(layer: SimulatedLayer) -> list[KernelTile]:
    """Tiles of a layer in kernel form: for the 16-bit look-up kernel where sums fit, else in single precision."""
    made: list[KernelTile] = []
    for number, prepared in enumerate(layer.tiles):
        steps = engine_lookup.steps_for(layer, prepared)
        lookup = engine_lookup.LookupTile(layer, prepared, steps, number) if steps else None
        made.append(lookup or SingleTile(layer, prepared, number))
    return made


class SingleTile:
    """One tile's kernel arrays in single precision."""

    def __init__(self, layer: SimulatedLayer, prepared: PreparedTile, number: int) -> None:
        self.layer, self.prepared = layer, prepared
        self.key = np.array([number * _TILE_WORD & 0xFFFFFFFF, 0], np.uint32)
        self.levels = Levels(layer.spec, prepared.tile, layer.outputs)
        conversions = prepared.cells.shape[1]
        pad = -conversions % LANES
        tile, (low, high) = prepared.tile, layer.limits
        parameters = np.stack(
            [tile.offset_codes, tile.conversion_noise_codes**2, prepared.mean_variance]
        )  # rows OFFSET, NOISE2, VARIANCE
        nodes = tile.inl_codes.shape[1]
        ends = (-0.5, high + 0.5) if low < 0 else (0.0, high)
        curves = np.pad(np.arange(conversions) * (nodes - 1), (0, pad), mode="edge")
        words, unit = kernels.inl_words(tile.inl_codes)
        # Padding lanes rest at zero: their codes are never at an end of the scale.
        self.arrays = (
            np.pad(parameters, ((0, 0), (0, pad))).astype(np.float32),
            curves.astype(np.float32),
            words.ravel(),
            unit,
            np.array([low, high, nodes - 1, (nodes - 1) / (high - low), *ends], np.float32),
            np.array([p.weight for p in layer.planes], np.float32),
        )

        self.law = segment_law(layer.spec, tile.row0, tile.halves_us, layer.wire) if prepared.wire.any() else None

    def fill(self, memory: Memory) -> None:
        """Write the kernel arrays of one call into ``memory``."""
        cells, cubic, law, self.wires = self.prepared.cells, self.prepared.cubic, self.law, None
        pad = ((0, -len(cells) % SEGMENT_ROWS), (0, -cells.shape[1] % LANES))
        if law is not None:
            cells = cells * law.row_keep[:, None]
            cubic = None if cubic is None else cubic * law.row_keep[:, None]
            tables = (v.astype(np.float32) for v in (law.fall, law.rise, law.swing, np.pad(law.extra_us, pad)))
            self.wires = (*tables, np.float32(1.0 / max_unit(self.layer.spec)))
        self.cells = np.pad(cells, pad).astype(np.float32)
        self.cubic = None if cubic is None else np.pad(cubic, pad).astype(np.float32)

    def add(
        self, memory: Memory, maps: ByteMaps, part: slice, keys: NDArray[np.uint64], sums: NDArray[np.int32]
    ) -> int:
        """Add this tile's level sums of the images ``part`` to ``sums``; return how many conversions saturate."""
        layer = self.layer
        starts = (maps.starts_of(part)[:, None] + np.arange(maps.run)).ravel()
        places, (groups_rows, width) = len(starts), self.cells.shape
        rows = np.zeros((places, groups_rows), np.int16)
        codes = maps.bytes.view(np.int8) if maps.signed else maps.bytes
        kernels.unfold_rows(codes, starts, maps.steps[self.prepared.order], rows)
        units, totals = layer.units(rows), np.empty((places, width), np.float32)
        words = (keys.view(np.uint32).reshape(-1, 2) + self.key).view(np.int32)
        ends = kernels.convert_units(units, self.cells, self.cubic, self.wires, *self.arrays, words, totals)
        flat = np.append(totals.astype(np.int32).ravel(), np.zeros(SPARE, np.int32))
        driven = rows.sum(1, dtype=np.int64) if self.levels.counts_inputs else None
        self.levels.add(flat, width, 0, driven, sums, places)
        return int(ends)


KernelTile = engine_lookup.LookupTile | SingleTile
