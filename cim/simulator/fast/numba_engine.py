"""Fast mode on one CPU core: prepares arrays for ``cim.simulator.fast.kernels`` and loops over tiles and images."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from cim.chip.correction import apply_correction
from cim.chip.windows import Window
from cim.simd.floats import LANES
from cim.simulator.fast import counts as counting
from cim.simulator.fast import kernels
from cim.simulator.fast.layer import ACTIVITY, FastLayer
from cim.simulator.fast.moments import TileMoments, group_moments
from cim.simulator.fast.noise import CONSTANTS
from cim.simulator.layer import SimulatedLayer
from cim.simulator.maps import PaddedMaps, window_pixels

CHUNK_VALUES = 1 << 18  # input values of the images that are taken at a time; fits the second-level cache
SPARE = 15  # values that kernels may read beyond the last
FRACTION_BITS = 6  # at most, of codes that are driven as no whole numbers
_GROUP_WORD = 0x9E3779B9  # spreads group numbers over the first key word


class FastNumba:
    """``cim.simulator.layer.LayerEngine`` of the fast mode on numba."""

    def __init__(self, layer: SimulatedLayer, activity: float = ACTIVITY) -> None:
        fast = FastLayer(layer, activity)
        self.layer = fast.layer
        self.groups = [_Group(fast, group) for group in fast.groups(layer.tiles)]

    def layer_sums(self, codes: NDArray[np.int16], keys: NDArray[np.uint32]) -> tuple[NDArray[np.int32], int]:
        """Level sums (n, outputs, positions), channels last in memory, and sums beyond the scale."""
        layer, positions = self.layer, self.layer.map_window.positions
        out = np.zeros(len(codes) * positions * layer.outputs + LANES, np.int32)
        ends, each = 0.0, max(1, CHUNK_VALUES // max(1, codes[:1].size))
        for first in range(0, len(codes), each):
            part = slice(first, min(first + each, len(codes)))
            maps = _KernelMaps(layer, codes[part])
            mine = out[first * positions * layer.outputs :]
            for number, group in enumerate(self.groups):
                words = keys[part] + np.array([number * _GROUP_WORD & 0xFFFFFFFF, 0], np.uint32)
                ends += group.add(maps, words.view(np.int32), mine)
        return out[:-LANES].reshape(len(codes), positions, layer.outputs).transpose(0, 2, 1), int(ends)


class _KernelMaps(PaddedMaps):
    """Padded maps of some images, and their geometry as kernels take it.

    Places of an image down and across, steps down and across, kernel positions in pixels, starts of windows in values.
    """

    def __init__(self, layer: SimulatedLayer, codes: NDArray[np.int16]) -> None:
        super().__init__(layer, codes, spare=SPARE)
        window, self.runs = self.window, window_pixels(self.window)[1]
        self.across, self.steps = np.array([window.out_height, window.out_width]), np.array(window.stride)
        self.bases = _bases(window, self.images, self.pixels)


@functools.lru_cache(maxsize=64)
def _bases(window: Window, images: int, pixels: int) -> NDArray[np.int64]:
    """First value of every window of some images; the kernels take eight places more."""
    bases = np.zeros(images * window.positions + 8, np.int64)
    bases[:-8] = ((np.arange(images)[:, None] * pixels + window_pixels(window)[0]) * window.channels).ravel()
    return bases


class _Group:
    """Kernel arrays of tiles that add to the same outputs."""

    def __init__(self, fast: FastLayer, moments: list[TileMoments]) -> None:
        self.fast, self.outputs = fast, moments[0].tile.outputs
        kernel = fast.kernel_size
        # Halves that meet after the converter: the kernel gives sums of codes, the correction comes later.
        self.subtracts = moments[0].cells.shape[1] != len(self.outputs)
        group, copies = group_moments(moments, codes=self.subtracts).with_copies_as_one()
        moments = list(group.tiles)
        self.tiles = [m.tile for m in moments]
        self.bends = [m.bend for m in moments]
        self.conversions = conversions = moments[0].cells.shape[1]
        # Whole channels of one-bit units are read where they lie; other cuts of the rows are gathered first.
        self.direct = fast.whole_channels(self.tiles[0])
        self.firsts = np.array([t.inputs.start // kernel for t in self.tiles])
        self.runs = kernel if self.direct else 1
        self.lengths = np.array([len(m.cells) // self.runs for m in moments])
        # Steps in a driven code: 1 where codes are whole, else as many as 16 bits and FRACTION_BITS have room for.
        self.fraction = 1
        if fast.tables is not None:
            self.fraction = 1 << min(FRACTION_BITS, int(np.log2(32767.0 / float(np.abs(fast.tables).max()))))
        width = conversions + -conversions % LANES
        self.parameters = np.zeros((len(moments), kernels.ROWS, width), np.float32)
        packed = []
        for t, m in enumerate(moments):
            weights, scale = self._packed(m)
            packed.append(weights)
            rows_of = {
                kernels.SCALE: scale,
                kernels.KW: -m.kw,
                kernels.GAIN: group.gain[t],
                kernels.LEAN: -group.lean[t],
                kernels.REST: group.rest[t],
                kernels.READ: group.read[t],
                kernels.REST_VARIANCE: group.rest_variance[t],
                kernels.INPUT_GAIN: group.input_gain[t],
                kernels.LIVE: np.full(conversions, float(copies[t])),
            }
            for row, values in rows_of.items():
                self.parameters[t, row, :conversions] = values
        self.weights = np.concatenate(packed)
        self.common = np.zeros((kernels.COMMON, width), np.float32)
        self.common[kernels.CONSTANT, :conversions] = group.constant
        self.common[kernels.FLOOR, :conversions] = group.floor
        low, high = fast.layer.limits
        self.limits = np.array([*fast.sum_limits, high + 0.5 if low < 0 else high], np.float32)
        self.planes = fast.weights.astype(np.float32)
        self.masks = [_masks(int(length)) for length in self.lengths]

    def _packed(self, moments: TileMoments) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
        """Weights as the kernel reads them, flat, and the scale of each column."""
        cells, conversions, top = moments.cells / self.fraction, self.conversions, float(self.fast.driven_top)
        if self.fast.tables is not None:
            top = float(np.abs(self.fast.tables).max()) * self.fraction
        length = len(cells) // self.runs
        steps = -(-length // 2)
        bound = np.abs(cells).sum(0) * top / (2**31 - 2**18)
        scale = np.maximum(np.maximum(np.abs(cells).max(0) / 32767.0, bound), 1e-12)
        whole = np.rint(cells / scale).astype(np.int16).reshape(length, self.runs, conversions)
        whole = np.pad(whole, ((0, 2 * steps - length), (0, 0), (0, -conversions % LANES)))
        # (length, runs, columns) to (blocks, runs, pairs, columns, 2)
        whole = whole.reshape(steps, 2, self.runs, -1, LANES).transpose(3, 2, 0, 4, 1)
        return np.ascontiguousarray(whole).ravel(), scale

    def add(self, maps: _KernelMaps, keys: NDArray[np.int32], out: NDArray[np.int32]) -> float:
        """Add these tiles' level sums to ``out``, flat from the first place's first output of these images."""
        if self.direct:
            terms = self._counted(maps)
            flat, bases = maps.flat, maps.bases
            runs = maps.runs * maps.channels + self.firsts[:, None]
        else:
            flat, bases, runs, terms = self._gathered(maps)
        first, stride = self.outputs.start, self.fast.layer.outputs
        if not self.subtracts:
            return self._convert(flat, bases, runs, maps.places, terms, keys, out[first:], stride)
        conversions, tile = self.conversions, self.tiles[0]
        codes = np.zeros(maps.places * conversions + LANES, np.int32)
        ends = self._convert(flat, bases, runs, maps.places, terms, keys, codes, conversions)
        halves = codes[:-LANES].reshape(maps.places, conversions)
        sums = halves[:, : len(self.outputs)] - halves[:, len(self.outputs) :]
        driven = terms[0, :, counting.T_DRIVEN].reshape(-1)[: maps.places]
        level = apply_correction(sums, np.rint(driven).astype(np.int64), tile.correction)
        target = out[: maps.places * stride].reshape(maps.places, stride)
        target[:, first : self.outputs.stop] += tile.multiplier * level
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
        return float(
            kernels.convert_tiles(
                flat, bases, places, runs, self.lengths, self.weights, self.parameters, self.common, terms, self.limits,
                keys, CONSTANTS, out, stride,
            )
        )  # fmt: skip

    def _counted(self, maps: _KernelMaps) -> NDArray[np.float32]:
        """Terms of one-bit units, from the ones that each plane drives."""
        fast, many = self.fast, -(-maps.places // LANES) * LANES
        terms = np.empty((len(self.tiles), many // LANES, counting.TERMS, LANES), np.float32)
        counts, sums = np.empty(maps.images * maps.pixels + 8, np.uint64), np.zeros(many, np.uint64)
        for t, tile in enumerate(self.tiles):
            first, bend = int(self.firsts[t]), self.bends[t]
            stop = first + int(self.lengths[t])
            counting.count_pixels(maps.flat, maps.channels, first, stop, self.masks[t], counts[:-8])
            counting.count_places(
                counts, maps.width, maps.pixels, maps.runs, maps.steps, maps.across, sums[: maps.places]
            )
            typical = fast.typical(len(tile.inputs), bend)
            counting.terms_of_counts(sums, self.planes, typical, bend, not fast.layer.spec.adc_signed, terms[t])
        return terms

    def _gathered(
        self, maps: _KernelMaps
    ) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """The tile's rows of each place side by side: (flat codes, bases, runs, terms)."""
        tile, many = self.tiles[0], -(-maps.places // LANES) * LANES
        rows = np.arange(tile.inputs.start, tile.inputs.stop)
        offsets = maps.runs[rows % len(maps.runs)] * maps.channels + rows // len(maps.runs)
        mine = maps.flat[maps.bases[: maps.places, None] + offsets]
        found = self.fast.terms(mine, self.bends[0])
        terms = np.zeros((many, counting.TERMS), np.float32)
        names = (found.squares, found.rest, found.rest2, found.excess, found.lean, found.peak, found.driven)
        terms[: maps.places, : len(names)] = np.stack(names, 1)
        values = mine
        if self.fast.tables is not None:
            values = np.rint(self.fast.product_inputs(mine) * np.float32(self.fraction)).astype(np.int16)
        bases = np.zeros(maps.places + 8, np.int64)
        bases[: maps.places] = np.arange(maps.places) * values.shape[1]
        flat: NDArray[np.int16] = np.append(values.ravel(), np.zeros(SPARE, np.int16))
        packed = np.ascontiguousarray(terms.reshape(-1, LANES, counting.TERMS).transpose(0, 2, 1))[None]
        return flat, bases, np.zeros((1, 1), np.int64), packed


def _masks(channels: int) -> NDArray[np.uint8]:
    """1, 2, 4 … 128 for each of so many channels, zeros up to a multiple of sixteen (``ones_of_16``)."""
    there = np.arange(-(-channels // 16) * 16) < channels
    return (there[:, None] * (1 << np.arange(8))).astype(np.uint8).ravel()
