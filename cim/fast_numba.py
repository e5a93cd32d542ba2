"""The quick mode on one CPU core: prepares arrays for ``cim.fast_kernels`` and walks tiles and images."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cim import fast_counts as counting
from cim import fast_kernels as kernels
from cim.converters import check_codes
from cim.correction import apply_correction
from cim.fast_noise import CONSTANTS
from cim.simd import LANES
from cim.spec import InputCoding
from cim.windows import Window

if TYPE_CHECKING:
    from cim.fast import FastLayer, TileMoments

CHUNK_VALUES = 1 << 18  # input values of the images that are taken at a time; fits the second-level cache
SPARE = 15  # values that kernels may read beyond the last
_TILE_WORD = 0x9E3779B9  # spreads tile numbers over the first key word


class NumbaEngine:
    """``cim.fast.Engine`` on numba."""

    def __init__(self, layer: FastLayer, moments: list[TileMoments]) -> None:
        self.layer = layer
        self.tiles = [_Tile(layer, tile) for tile in moments]

    def layer_sums(self, codes: NDArray[np.int16], keys: NDArray[np.uint32]) -> tuple[NDArray[np.int32], int]:
        """Level sums (n, outputs, positions), channels last in memory, and sums beyond the scale."""
        layer = self.layer
        positions = 1 if layer.window is None else layer.window.positions
        out = np.zeros(len(codes) * positions * layer.outputs + LANES, np.int32)
        ends, each = 0.0, max(1, CHUNK_VALUES // max(1, codes[:1].size))
        for first in range(0, len(codes), each):
            part = slice(first, min(first + each, len(codes)))
            maps = _Maps(layer, codes[part])
            check_codes(maps.flat, layer.input_bits, layer.input_signed and not layer.offset_inputs)
            mine = out[first * positions * layer.outputs :]
            for number, tile in enumerate(self.tiles):
                words = keys[part] + np.array([number * _TILE_WORD & 0xFFFFFFFF, 0], np.uint32)
                ends += tile.add(maps, words.view(np.int32), mine)
        return out[:-LANES].reshape(len(codes), positions, layer.outputs).transpose(0, 2, 1), int(ends)


class _Maps:
    """Driven codes of some images, padded, channels last: ``flat`` int16, ``SPARE`` more values at the end.

    The rest is ``_geometry``'s.
    """

    def __init__(self, layer: FastLayer, codes: NDArray[np.int16]) -> None:
        window, self.images = layer.window, len(codes)
        self.places = self.images * (1 if window is None else window.positions)
        driven = layer.driven(codes)
        if window is None:
            self.pixels, self.width, self.channels = 1, 1, layer.inputs
            self.flat = np.zeros(driven.size + SPARE, np.int16)
            self.flat[:-SPARE] = driven.ravel()
        else:
            pad_h, pad_w = window.padding
            height, self.width = window.height + 2 * pad_h, window.width + 2 * pad_w
            self.pixels, self.channels = height * self.width, window.channels
            rest = layer.driven(np.zeros(1, np.int16))[0]  # an offset chip drives something for a zero
            self.flat = np.full(self.images * self.pixels * self.channels + SPARE, rest, np.int16)
            padded = self.flat[:-SPARE].reshape(self.images, height, self.width, self.channels)
            padded[:, pad_h : height - pad_h, pad_w : self.width - pad_w] = driven.transpose(0, 2, 3, 1)
        self.across, self.steps, self.runs, self.bases = _geometry(window, self.images, self.channels)


@functools.lru_cache(maxsize=64)
def _geometry(window: Window | None, images: int, channels: int) -> tuple[NDArray[np.int64], ...]:
    """Places of an image down and across, steps down and across, kernel positions in pixels, starts of windows."""
    if window is None:
        one, bases = np.ones(2, np.int64), np.zeros(images + 8, np.int64)
        bases[:images] = np.arange(images) * channels
        return one, one, np.zeros(1, np.int64), bases
    width = window.width + 2 * window.padding[1]
    pixels = (window.height + 2 * window.padding[0]) * width
    down, right = (np.arange(k) * gap for k, gap in zip(window.kernel, window.dilation, strict=True))
    top, left = np.arange(window.out_height) * window.stride[0], np.arange(window.out_width) * window.stride[1]
    starts = (top[:, None] * width + left).ravel()
    bases = np.zeros(images * len(starts) + 8, np.int64)
    bases[:-8] = ((np.arange(images)[:, None] * pixels + starts) * channels).ravel()
    across = np.array([window.out_height, window.out_width])
    return across, np.array(window.stride), (down[:, None] * width + right).ravel(), bases


class _Tile:
    """One tile's kernel arrays."""

    def __init__(self, layer: FastLayer, moments: TileMoments) -> None:
        self.layer, self.tile, self.bend = layer, moments.tile, moments.bend
        tile, (rows, conversions) = self.tile, moments.cells.shape
        self.conversions = conversions
        kernel = 1 if layer.window is None else layer.window.kernel[0] * layer.window.kernel[1]
        one_bit = layer.spec.inputs.coding is not InputCoding.TERNARY and layer.spec.inputs.bits_per_cycle == 1
        # Whole channels of one-bit units are read where they lie; other cuts of the rows are gathered first.
        self.direct = one_bit and rows < 256 and tile.inputs.start % kernel == 0 and rows % kernel == 0
        self.first = tile.inputs.start // kernel
        self.runs, self.length = (kernel, rows // kernel) if self.direct else (1, rows)
        pad = -conversions % LANES
        steps = -(-self.length // 2)
        largest = np.abs(moments.cells).max(0)
        bound = np.abs(moments.cells).sum(0) * layer.driven_top / (2**31 - 2**18)
        self.scale = np.maximum(np.maximum(largest / 32767.0, bound), 1e-12)
        whole = np.rint(moments.cells / self.scale).astype(np.int16)
        cells = np.pad(
            whole.reshape(self.length, self.runs, conversions), ((0, 2 * steps - self.length), (0, 0), (0, pad))
        )
        # (length, runs, columns) to (blocks, runs, pairs, columns, 2)
        cells = cells.reshape(steps, 2, self.runs, -1, LANES).transpose(3, 2, 0, 4, 1)
        self.weights = np.ascontiguousarray(cells).ravel()
        # Halves that meet after the converter: the kernel gives sums of codes, the correction comes later.
        self.subtracts = conversions != len(tile.outputs)
        unit, plain, none = float(1 << tile.correction.shift), np.ones(conversions), np.zeros(conversions)
        rows_of = {
            kernels.SCALE: self.scale,
            kernels.KW: -moments.kw,
            kernels.LEAN: -moments.lean,
            kernels.CONSTANT: moments.constant,
            kernels.REST: moments.rest,
            kernels.READ: moments.read,
            kernels.FLOOR: moments.floor,
            kernels.REST_VARIANCE: moments.rest_variance,
            kernels.LIVE: plain,
            kernels.GAIN: plain if self.subtracts else tile.correction.gain / unit,
            kernels.OFFSET: none if self.subtracts else tile.correction.offset / unit,
            kernels.INPUT_GAIN: none if self.subtracts else tile.correction.input_gain / unit,
        }
        self.parameters = np.zeros((kernels.ROWS, conversions + pad), np.float32)
        for row, values in rows_of.items():
            self.parameters[row, : len(values)] = values
        low, high = layer.limits
        reach = high + 0.5 if low < 0 else high
        self.limits = np.array([*layer.sum_limits, reach, 1 if self.subtracts else tile.multiplier], np.float32)
        self.planes = layer.weights.astype(np.float32)
        channels = np.arange(-(-self.length // 16) * 16) < self.length
        self.masks = (channels[:, None] * (1 << np.arange(8))).astype(np.uint8).ravel()

    def add(self, maps: _Maps, keys: NDArray[np.int32], out: NDArray[np.int32]) -> float:
        """Add this tile's level sums to ``out``, flat from the first place's first output of these images."""
        layer, tile = self.layer, self.tile
        if self.direct:
            terms = self._counted(maps)
            flat, bases, runs = maps.flat, maps.bases, maps.runs * maps.channels + self.first
        else:
            flat, bases, runs, terms = self._gathered(maps)
        first, stride = tile.outputs.start, layer.outputs
        if not self.subtracts:
            return self._convert(flat, bases, runs, maps.places, terms, keys, out[first:], stride)
        conversions = self.conversions
        codes = np.zeros(maps.places * conversions + LANES, np.int32)
        ends = self._convert(flat, bases, runs, maps.places, terms, keys, codes, conversions)
        halves = codes[:-LANES].reshape(maps.places, conversions)
        sums = halves[:, : len(tile.outputs)] - halves[:, len(tile.outputs) :]
        driven = terms[:, counting.T_DRIVEN].reshape(-1)[: maps.places]
        level = apply_correction(sums, np.rint(driven).astype(np.int64), tile.correction)
        target = out[: maps.places * stride].reshape(maps.places, stride)
        target[:, first : tile.outputs.stop] += tile.multiplier * level
        return ends

    def _convert(
        self,
        flat: NDArray[np.int16],
        bases: NDArray[np.int64],
        runs: NDArray[np.int64],
        places: int,
        terms: NDArray[np.float32],
        keys: NDArray[np.int32],
        out: NDArray[np.int32],
        stride: int,
    ) -> float:
        sliced = int(self.limits[kernels.L_MULTIPLIER] != 1.0)
        return float(
            kernels.convert_tile(
                flat, bases, places, runs, self.length, self.weights, self.parameters, terms, self.limits, keys,
                CONSTANTS, sliced, out, stride,
            )
        )  # fmt: skip

    def _counted(self, maps: _Maps) -> NDArray[np.float32]:
        """Terms of one-bit units, from the ones that each plane drives."""
        layer, many = self.layer, -(-maps.places // LANES) * LANES
        counts = np.empty(maps.images * maps.pixels + 8, np.uint64)
        counting.count_pixels(maps.flat, maps.channels, self.first, self.first + self.length, self.masks, counts[:-8])
        sums = np.zeros(many, np.uint64)
        counting.count_places(counts, maps.width, maps.pixels, maps.runs, maps.steps, maps.across, sums[: maps.places])
        terms = np.empty((many // LANES, counting.TERMS, LANES), np.float32)
        bend = self.bend
        typical = layer.typical(len(self.tile.inputs), bend)
        counting.terms_of_counts(sums, self.planes, typical, bend, not layer.spec.adc_signed, terms)
        return terms

    def _gathered(
        self, maps: _Maps
    ) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """The tile's rows of each place side by side: (flat codes, bases, runs, terms)."""
        tile, many = self.tile, -(-maps.places // LANES) * LANES
        rows = np.arange(tile.inputs.start, tile.inputs.stop)
        offsets = maps.runs[rows % len(maps.runs)] * maps.channels + rows // len(maps.runs)
        mine = maps.flat[maps.bases[: maps.places, None] + offsets]
        found = self.layer.terms(mine, self.bend)
        terms = np.zeros((many, counting.TERMS), np.float32)
        names = (found.squares, found.rest, found.rest2, found.excess, found.lean, found.peak, found.driven)
        terms[: maps.places, : len(names)] = np.stack(names, 1)
        bases = np.zeros(maps.places + 8, np.int64)
        bases[: maps.places] = np.arange(maps.places) * len(rows)
        flat = np.append(mine.ravel(), np.zeros(SPARE, np.int16))
        packed = np.ascontiguousarray(terms.reshape(-1, LANES, counting.TERMS).transpose(0, 2, 1))
        return flat, bases, np.zeros(1, np.int64), packed
