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

_TILE_WORD = 0x9E3779B9  # spreads tile numbers over the first key word


def layer_sums(
    layer: LayerSimulator, codes: NDArray[np.int16], keys: NDArray[np.uint32]
) -> tuple[NDArray[np.int32], int]:
    """Level sums (n, outputs, positions) and the number of conversions at the end of the scale."""
    starts, steps, images = _flat_maps(layer, codes)
    sums = np.zeros((len(codes), len(starts), layer.outputs), np.int32)
    ends = 0
    for number, tile in enumerate(layer.tiles):
        words = keys + np.array([number * _TILE_WORD & 0xFFFFFFFF, 0], np.uint32)
        ends += _Tile(layer, tile, starts, steps[tile.order]).add(images, words.view(np.int32), sums)
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
        curves = np.pad(np.arange(conversions) * (nodes - 1), (0, pad), mode="edge")
        self.lengths = prepared.lengths.astype(np.float32)
        # Padding lanes rest at zero: their codes are never at an end of the scale.
        self.converters: tuple[Any, ...] = (
            np.pad(parameters, ((0, 0), (0, pad))).astype(np.float32),
            curves.astype(np.float32),
            kernels.inl_words(tile.inl_codes).ravel(),
            np.array([low, high, nodes - 1, (nodes - 1) / (high - low), low if low < 0 else -1], np.float32),
            np.array([p.weight for p in layer.planes], np.float32),
        )
        self.bits = layer.spec.inputs.coding is not InputCoding.TERNARY and layer.spec.inputs.bits_per_cycle == 1
        if self.bits:
            self.tables = np.empty((blocks, self.groups, kernels.PATTERNS, 2 * LANES), np.float32)
            kernels.fill_tables(self.cells, self.variance, self.tables)
            self.loads = np.empty(self.groups * LANES, np.float32)
        self.signed = layer.input_signed and not layer.offset_inputs
        self.sums = np.empty((len(starts), blocks * LANES), np.float32)

    def add(self, images: NDArray[np.int16], keys: NDArray[np.int32], sums: NDArray[np.int32]) -> int:
        """Add this tile's level sums to ``sums`` (n, positions, outputs); give its conversions at an end."""
        tile, ends = self.prepared.tile, 0.0
        minus = subtracted(self.layer.spec, len(tile.outputs))
        correction = tile.correction
        rows = np.zeros((len(self.starts), self.groups * GROUP), np.uint8 if self.bits else np.int16)
        patterns = np.zeros(rows.size + GROUP, np.uint8)  # the kernel reads sixteen bytes at a time
        for image, key, out in zip(images, keys, sums, strict=True):
            kernels.unfold_rows(image, self.starts, self.steps, rows)
            input_sums = np.zeros(len(rows), np.int64)
            if correction.input_gain.any():
                signed = rows.astype(np.int8) if self.bits and self.signed else rows
                input_sums = signed.sum(1, dtype=np.int64)
            if self.bits:
                patterns[: rows.size] = rows.ravel()
                kernels.split_bits(patterns[: rows.size].view(np.uint64))
                ends += kernels.convert_bits(
                    patterns, self.tables, self.lengths, *self.converters, key[0], key[1], self.loads, self.sums
                )
            else:
                layer = self.layer
                units = split_planes(rows, layer.spec.inputs, layer.input_bits, layer.input_signed)
                ends += kernels.convert_units(
                    units.astype(np.float32), self.cells, self.variance, self.lengths, *self.converters, key[0], key[1],
                    self.sums,
                )  # fmt: skip
            kernels.add_levels(
                self.sums, minus, input_sums, correction.gain, correction.offset, correction.input_gain,
                np.int64(correction.shift), np.int64(tile.multiplier), out[:, tile.outputs.start : tile.outputs.stop],
            )  # fmt: skip
        return int(ends)


def subtracted(spec: MacroSpec, outputs: int) -> NDArray[np.int64]:
    """Conversion that is subtracted digitally from each output, −1 for none (order of ``cim.converters``)."""
    if spec.encoding is Encoding.OFFSET_COLUMN:
        return np.full(outputs, outputs, np.int64)
    if spec.paired and spec.pair_subtraction is PairSubtraction.DIGITAL:
        return np.arange(outputs, 2 * outputs, dtype=np.int64)
    return np.full(outputs, -1, np.int64)
