"""The exact integer product of a layer's levels, by floating-point libraries where every partial sum is exact."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.windows import Window
from mapping.program.conductance import Tile, TileGroup

UNFOLD_BYTES = 8 << 20  # unfolded windows of one pass of the exact product; fits the cache of a core
CHUNK_VALUES = 1 << 18  # numbers of the maps that are convolved at a time; they stay in the cache
WORTH_TORCH = 1 << 31  # products of a call by which the import of torch is earned


@dataclass(frozen=True, slots=True)
class DenseBlock:
    """A dense part of a layer's matrix: ``weights`` (outputs, inputs), a float type that is exact here."""

    inputs: range
    outputs: range
    weights: NDArray[np.float32] | NDArray[np.float64]


class ExactProduct:
    """y = W x in integers, done in floating point where every partial sum is exact.

    A sum of products is exact in any order while Σ|w|·max|x| stays below 2^24 (float32) or
    2^53 (float64); the bound of each block chooses the type. Maps are convolved by torch where it is at hand and
    single precision does, else unfolded and multiplied; the integers are the same.
    """

    def __init__(self, group: TileGroup) -> None:
        self.group = group
        self.blocks = dense_blocks(group)
        self._filters = _filters(group, self.blocks)

    def __call__(self, codes: NDArray[np.int16]) -> NDArray[np.int32]:
        """Level sums (n, outputs, OH, OW) of maps, channels last in memory where they were convolved; (n, outputs)."""
        window = self.group.window
        if window is None:
            return self._multiply(codes[:, :, None])[:, :, 0]
        products = len(codes) * window.positions * window.rows * self.group.outputs
        if self._filters is not None and ("torch" in sys.modules or products > WORTH_TORCH) and _convolves_exactly():
            return self._convolve(codes, window, *self._filters)
        size = 4 * window.rows * window.positions
        step = max(1, UNFOLD_BYTES // size)
        parts = [self._multiply(unfold_columns(codes[i : i + step], window)) for i in range(0, len(codes), step)]
        sums = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return sums.reshape(len(codes), self.group.outputs, window.out_height, window.out_width)

    def _convolve(
        self, codes: NDArray[np.int16], window: Window, filters: NDArray[np.float32], groups: int
    ) -> NDArray[np.int32]:
        import torch

        weights = torch.from_numpy(filters).contiguous(memory_format=torch.channels_last)
        sums = np.empty((len(codes), window.out_height, window.out_width, self.group.outputs), np.int32)
        each = max(codes[:1].size, sums[:1].size)
        step = max(1, CHUNK_VALUES // max(1, each))
        with torch.inference_mode():
            for first in range(0, len(codes), step):
                part = torch.as_tensor(codes[first : first + step])
                maps = part.to(torch.float32).contiguous(memory_format=torch.channels_last)
                found = torch.nn.functional.conv2d(
                    maps, weights, None, window.stride, window.padding, window.dilation, groups
                )
                torch.from_numpy(sums[first : first + step]).copy_(found.permute(0, 2, 3, 1))
        return sums.transpose(0, 3, 1, 2)

    def _multiply(self, columns: NDArray[Any]) -> NDArray[np.int32]:
        """Exact products of a group: (n, inputs, positions) -> (n, outputs, positions)."""
        sums = np.zeros((columns.shape[0], self.group.outputs, columns.shape[2]), np.int32)
        for block in self.blocks:
            part = columns[:, block.inputs.start : block.inputs.stop].astype(block.weights.dtype, copy=False)
            sums[:, block.outputs.start : block.outputs.stop] += np.matmul(block.weights, part).astype(np.int32)
        return sums


def _filters(group: TileGroup, blocks: tuple[DenseBlock, ...]) -> tuple[NDArray[np.float32], int] | None:
    """Filters (outputs, channels of a group, kernel) and number of groups, None where no convolution is the matrix."""
    window, first = group.window, blocks[0]
    if window is None or any(b.weights.dtype != np.float32 for b in blocks):
        return None
    outputs, inputs = first.weights.shape
    for number, block in enumerate(blocks):
        same = block.weights.shape == first.weights.shape
        in_place = (block.inputs.start, block.outputs.start) == (number * inputs, number * outputs)
        if not (same and in_place):
            return None
    if len(blocks) * inputs != group.inputs or len(blocks) * outputs != group.outputs:
        return None
    every = first.weights if len(blocks) == 1 else np.concatenate([b.weights for b in blocks])  # one stands once
    filters = np.asarray(every, np.float32)
    return filters.reshape(group.outputs, -1, *window.kernel), len(blocks)


@functools.cache
def _convolves_exactly() -> bool:
    """Whether torch is there and its convolutions add plain products: some libraries transform small kernels
    (Winograd), which is not exact. Sums near 2^24 would show it."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    rng = np.random.default_rng(1)
    maps, filters = rng.integers(0, 256, (17, 24, 9, 9)), rng.integers(-127, 128, (32, 24, 3, 3))
    results = []
    with torch.inference_mode():
        for kind in (torch.float32, torch.float64):
            x, w = (torch.as_tensor(v).to(kind).contiguous(memory_format=torch.channels_last) for v in (maps, filters))
            results.append(torch.nn.functional.conv2d(x, w, padding=1).to(torch.float64))
    return torch.equal(results[0], results[1].round())


def unfold_columns(codes: NDArray[np.int16], window: Window) -> NDArray[np.float32]:
    """Windows as columns: float32 (n, window.rows, window.positions), the transpose of ``cim.chip.windows.unfold``.

    Copies run along output rows, several times faster than gathering each window for itself.
    """
    (pad_h, pad_w), (step_h, step_w), (gap_h, gap_w) = window.padding, window.stride, window.dilation
    out_h, out_w = window.out_height, window.out_width
    shape = (len(codes), window.channels, window.height + 2 * pad_h, window.width + 2 * pad_w)
    padded = np.zeros(shape, np.float32)
    padded[:, :, pad_h : pad_h + window.height, pad_w : pad_w + window.width] = codes
    columns = np.empty((len(codes), window.channels, *window.kernel, out_h, out_w), np.float32)
    for y, x in np.ndindex(window.kernel):
        top, left = y * gap_h, x * gap_w
        columns[:, :, y, x] = padded[
            :, :, top : top + (out_h - 1) * step_h + 1 : step_h, left : left + (out_w - 1) * step_w + 1 : step_w
        ]
    return columns.reshape(len(codes), window.rows, window.positions)


def largest_sum(group: TileGroup) -> int:
    """A bound that no level sum of a layer exceeds: Σ |level| · multiplier · largest input code."""
    totals = np.zeros(group.outputs, np.int64)
    for tile in group.matrix_tiles:
        totals[tile.outputs.start : tile.outputs.stop] += tile.multiplier * np.abs(tile.levels.astype(np.int64)).sum(0)
    return int(totals.max()) << (group.input_bits - group.input_signed)


def dense_blocks(group: TileGroup) -> tuple[DenseBlock, ...]:
    """The layer's matrix as few dense blocks: tiles that share inputs or outputs are joined.

    A dense layer is one block; a depthwise layer one block a tile.
    """
    hulls: list[tuple[range, range]] = []
    for inputs, outputs in dict.fromkeys((tile.inputs, tile.outputs) for tile in group.matrix_tiles):
        while touching := [h for h in hulls if _overlap(inputs, h[0]) or _overlap(outputs, h[1])]:
            hulls = [h for h in hulls if h not in touching]
            for other_in, other_out in touching:
                inputs, outputs = _hull(inputs, other_in), _hull(outputs, other_out)
        hulls.append((inputs, outputs))
    hulls.sort(key=lambda h: h[1].start)  # none touches another
    first, own = [outputs.start for _, outputs in hulls], [list[Tile]() for _ in hulls]
    for tile in group.matrix_tiles:
        own[bisect_right(first, tile.outputs.start) - 1].append(tile)
    return tuple(_block(group, tiles, *hull) for tiles, hull in zip(own, hulls, strict=True))


def _block(group: TileGroup, tiles: Sequence[Tile], inputs: range, outputs: range) -> DenseBlock:
    matrix = np.zeros((len(outputs), len(inputs)), np.int64)
    for tile in tiles:
        rows = slice(tile.outputs.start - outputs.start, tile.outputs.stop - outputs.start)
        columns = slice(tile.inputs.start - inputs.start, tile.inputs.stop - inputs.start)
        matrix[rows, columns] += tile.multiplier * tile.levels.T.astype(np.int64)
    top = 1 << (group.input_bits - group.input_signed)
    bound = int(np.abs(matrix).sum(axis=1).max()) * top
    if bound >= 1 << 31:
        raise ValueError(f"{group.layer}: sums up to {bound} do not fit 32 bits")
    return DenseBlock(inputs, outputs, matrix.astype(np.float32) if bound < 1 << 24 else matrix.astype(np.float64))


def _overlap(a: range, b: range) -> bool:
    return a.start < b.stop and b.start < a.stop


def _hull(a: range, b: range) -> range:
    return range(min(a.start, b.start), max(a.stop, b.stop))
