"""The simulator on one CPU core: prepares arrays for ``cim.sim_kernels`` and walks tiles and images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cim import sim_kernels as kernels
from cim.converters import split_planes
from cim.simd import LANES
from cim.spec import Encoding, InputCoding, MacroSpec, PairSubtraction
from cim.windows import Window
from cim.wire_law import GROUP

if TYPE_CHECKING:
    from cim.simulator import LayerSimulator, PreparedTile

CHUNK_PLACES = 2048  # places (images times positions) that a kernel call takes; fits the second-level cache
_TILE_WORD = 0x9E3779B9  # spreads tile numbers over the first key word


def layer_sums(
    layer: LayerSimulator, codes: NDArray[np.int16], keys: NDArray[np.uint32]
) -> tuple[NDArray[np.int32], int]:
    """Level sums (n, outputs, positions) and the number of conversions at the end of the scale."""
    starts, steps, maps = _flat_maps(layer, codes)
    sums = np.zeros((len(codes), len(starts), layer.outputs), np.int32)
    ends = 0
    for number, tile in enumerate(layer.tiles):
        words = keys + np.array([number * _TILE_WORD & 0xFFFFFFFF, 0], np.uint32)
        ends += _Tile(layer, tile, starts, steps[tile.order]).add(maps, words.view(np.int32), sums)
    return np.ascontiguousarray(sums.transpose(0, 2, 1)), ends


def _flat_maps(
    layer: LayerSimulator, codes: NDArray[np.int16]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int16]]:
    """Where windows start and what each row adds, over driven codes flattened with their padding (n, values)."""
    window = layer.window
    if window is None:
        return np.zeros(1, np.int64), np.arange(layer.inputs), layer.driven(codes)
    pad_h, pad_w = window.padding
    padded = layer.driven(np.pad(codes, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w))))
    return *_window_places(window, padded.shape[2], padded.shape[3]), padded.reshape(len(codes), -1)


def _window_places(window: Window, height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    top = np.arange(window.out_height) * window.stride[0]
    left = np.arange(window.out_width) * window.stride[1]
    down = np.arange(window.kernel[0]) * window.dilation[0]
    right = np.arange(window.kernel[1]) * window.dilation[1]
    channel = np.arange(window.channels) * height * width
    starts = (top[:, None] * width + left).ravel()
    steps = (channel[:, None, None] + down[:, None] * width + right).ravel()
    return starts.astype(np.int64), steps.astype(np.int64)


class _Tile:
    """One tile's kernel arrays; made for one call, so a chip costs no table memory between calls."""

    def __init__(
        self, layer: LayerSimulator, prepared: PreparedTile, starts: NDArray[np.int64], steps: NDArray[np.int64]
    ) -> None:
        self.layer, self.prepared, self.starts, self.steps = layer, prepared, starts, steps
        rows, conversions = prepared.cells.shape
        self.groups, blocks = len(prepared.lengths), -(-conversions // LANES)
        pad_rows, pad = self.groups * GROUP - rows, blocks * LANES - conversions
        self.cells = np.pad(prepared.cells, ((0, pad_rows), (0, pad))).astype(np.float32)
        self.variance = np.pad(prepared.variance, ((0, pad_rows), (0, pad))).astype(np.float32)
        tile, (low, high) = prepared.tile, layer.limits
        parameters = np.stack([tile.offset_codes, tile.conversion_noise_codes**2, prepared.wire])
        nodes = tile.inl_codes.shape[1]
        ends = (-0.5, high + 0.5) if low < 0 else (0.0, high)
        curves = np.pad(np.arange(conversions) * (nodes - 1), (0, pad), mode="edge")
        self.lengths = prepared.lengths.astype(np.float32)
        # Padding lanes rest at zero: their codes are never at an end of the scale.
        self.converters: tuple[Any, ...] = (
            np.pad(parameters, ((0, 0), (0, pad))).astype(np.float32),
            curves.astype(np.float32),
            kernels.inl_words(tile.inl_codes).ravel(),
            np.array([low, high, nodes - 1, (nodes - 1) / (high - low), *ends], np.float32),
            np.array([p.weight for p in layer.planes], np.float32),
        )
        self.bits = layer.spec.inputs.coding is not InputCoding.TERNARY and layer.spec.inputs.bits_per_cycle == 1
        if self.bits:
            self.tables = np.empty((blocks, self.groups, kernels.PATTERNS, 2 * LANES), np.float32)
            kernels.fill_tables(self.cells, self.variance, self.tables)

    def add(self, maps: NDArray[np.int16], keys: NDArray[np.int32], sums: NDArray[np.int32]) -> int:
        """Add this tile's level sums to ``sums`` (n, positions, outputs); give its conversions at an end."""
        step, ends = max(1, CHUNK_PLACES // len(self.starts)), 0.0
        for first in range(0, len(maps), step):
            part = slice(first, min(first + step, len(maps)))
            ends += self._add_chunk(maps[part], keys[part], sums[part].reshape(-1, sums.shape[2]))
        return int(ends)

    def _add_chunk(self, maps: NDArray[np.int16], keys: NDArray[np.int32], out: NDArray[np.int32]) -> float:
        layer, tile = self.layer, self.prepared.tile
        starts = (np.arange(len(maps))[:, None] * maps.shape[1] + self.starts).ravel()
        correction, places = tile.correction, len(starts)
        driven = bool(correction.input_gain.any())
        rows = np.zeros((places, self.groups * GROUP), np.int16)
        if driven or not self.bits:
            kernels.unfold_rows(maps.ravel(), starts, self.steps, rows)
        sums = np.empty((places, self.cells.shape[1]), np.float32)
        if self.bits:
            patterns = np.zeros((places * self.groups + 1) * GROUP, np.uint8)  # read sixteen bytes at a time
            words = patterns[:-GROUP].view(np.uint64).reshape(places, self.groups)
            kernels.unfold_bits(maps.astype(np.uint8).ravel(), starts, self.steps, words)
            loads = np.empty(self.groups * LANES, np.float32)
            ends = kernels.convert_bits(patterns, self.tables, self.lengths, *self.converters, keys, loads, sums)
        else:
            units = split_planes(rows, layer.spec.inputs, layer.input_bits, layer.input_signed).astype(np.float32)
            ends = kernels.convert_units(units, self.cells, self.variance, self.lengths, *self.converters, keys, sums)
        kernels.add_levels(
            sums,
            subtracted(layer.spec, len(tile.outputs)),
            rows.sum(1, dtype=np.int64) if driven else np.zeros(places, np.int64),
            correction.gain,
            correction.offset,
            correction.input_gain,
            np.int64(correction.shift),
            np.int64(tile.multiplier),
            out[:, tile.outputs.start : tile.outputs.stop],
        )
        return float(ends)


def subtracted(spec: MacroSpec, outputs: int) -> NDArray[np.int64]:
    """Conversion that is subtracted digitally from each output, −1 for none (order of ``cim.converters``)."""
    if spec.encoding is Encoding.OFFSET_COLUMN:
        return np.full(outputs, outputs, np.int64)
    if spec.paired and spec.pair_subtraction is PairSubtraction.DIGITAL:
        return np.arange(outputs, 2 * outputs, dtype=np.int64)
    return np.full(outputs, -1, np.int64)
