"""Fast mode on one CPU core: prepares arrays for ``cim.simulator.fast.kernels`` and loops over tiles and images."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import max_unit
from cim.chip.correction import apply_correction
from cim.chip.spec import SignedInput
from cim.chip.windows import Window
from cim.simd.floats import LANES
from cim.simulator.fast import counts as counting
from cim.simulator.fast import kernels
from cim.simulator.fast.moments import (
    DrivenLine,
    PlaceTerms,
    TileMoments,
    group_moments,
    loses_by_plane,
    mean_line,
    place_terms,
    tile_moments,
)
from cim.simulator.fast.noise import CONSTANTS
from cim.simulator.fast.row_cuts import RowCut
from cim.simulator.layer import PreparedTile, SimulatedLayer, SimulatedTile
from cim.simulator.maps import fill_padded, window_pixels

ACTIVITY = 0.2  # mean |unit| of a plane that INL lines and static wire losses are taken at


class FastLayer:
    """A layer in the fast mode without cells: engines hold those as ``groups`` of tile moments.

    ``weights`` of the planes, ``sum_limits`` of shift-added sums; ``tables`` and ``by_plane`` see
    ``product_inputs``. ``activity``: mean |unit| of a plane at which INL lines and static wire losses are taken.
    """

    def __init__(self, layer: SimulatedLayer, activity: float = ACTIVITY) -> None:
        self.layer, self.activity = layer.without_tiles(), activity
        self.weights = np.array([p.weight for p in layer.planes], np.float64)
        positive, negative = self.weights[self.weights > 0].sum(), self.weights[self.weights < 0].sum()
        low, high = layer.limits
        self.sum_limits = (low * positive + high * negative, high * positive + low * negative)
        self.tables = self._code_tables(any(t.cubic is not None for t in layer.tiles))
        self.by_plane = any(loses_by_plane(layer, tile) for tile in layer.tiles)

    def counts_rows(self, tile: SimulatedTile) -> bool:
        """Whether driven rows of a tile are counted in the feature map itself: one-bit units, fewer than 256 rows."""
        inputs = self.layer.spec.inputs
        one_bit = inputs.signed is not SignedInput.TERNARY and inputs.bits_per_cycle == 1
        return one_bit and self.tables is None and len(tile.inputs) < 256

    def reads_in_place(self, tile: SimulatedTile) -> bool:
        """Whether engines also multiply a tile's codes in the feature map itself, without gathering them."""
        return self.counts_rows(tile) and not self.by_plane

    def cut(self, tile: SimulatedTile) -> RowCut:
        """Input channels and kernel positions of a tile's rows."""
        return RowCut(tile.inputs, self.kernel_size)

    def groups(self, tiles: Sequence[PreparedTile]) -> list[list[TileMoments]]:
        """Moments of tiles, grouped by outputs; tiles that are not read in place (``reads_in_place``) share a group
        only if their rows have the same inputs in the same order along the line.

        A tile whose halves are subtracted after the converter is a group of its own.
        """
        together: dict[object, list[TileMoments]] = {}
        for number, tile in enumerate(tiles):
            m = tile_moments(self.layer, tile, self.weights, self.activity)
            alone = m.cells.shape[1] != len(m.tile.outputs)
            rows = None if self.reads_in_place(m.tile) else (m.tile.inputs, m.line.order.tobytes())
            together.setdefault(number if alone else (m.tile.outputs, rows), []).append(m)
        return list(together.values())

    @property
    def kernel_size(self) -> int:
        """Word lines that one input channel takes: height times width of the kernel."""
        down, across = self.layer.map_window.kernel
        return down * across

    @property
    def driven_top(self) -> int:
        """Largest magnitude of a driven code."""
        return 1 << (self.layer.input_bits - self.layer.driven_signed)

    def _code_tables(self, cubic: bool) -> NDArray[np.float32] | None:
        """Factors of cells by driven code, from the lowest code on, (1 or 2, codes): Σ w u with real drive, and Σ w
        u³ / U² for cubic cells. None where the codes themselves are the factors."""
        layer = self.layer
        if layer.drive is None and not cubic:
            return None
        below = self.driven_top if layer.driven_signed else 0
        units = layer.units(np.arange(-below, self.driven_top, dtype=np.int16)).astype(np.float64)
        powers = [units, units**3 / max_unit(layer.spec) ** 2][: 1 + cubic]
        return np.stack([self.weights @ power for power in powers]).astype(np.float32)

    @property
    def product_top(self) -> float:
        """Largest magnitude of ``product_inputs``."""
        return float(self.driven_top if self.tables is None else np.abs(self.tables).max())

    def product_inputs(self, rows: NDArray[np.int16], line: DrivenLine) -> NDArray[np.int16] | NDArray[np.float32]:
        """Factors of ``TileMoments.cells`` for driven codes (places, rows): (places, len(cells)).

        The codes as row drivers give them; for cubic cells also their cubes; ``by_plane`` also Σ_p w_p s_pr u_pr, s_pr
        the wire loss of row r in plane p relative to that with all rows driven (``DrivenLine.shares``).

        Example: units 1 and 3 driven as 1.1 and 3, code 13 = 3 · 4 + 1 of two planes of two bits: 13.1.
        """
        if self.tables is None:
            parts = [rows]
        else:
            at = rows + (self.tables.shape[1] - self.driven_top)
            parts = [table[at] for table in self.tables]
        if self.by_plane:
            units = self.layer.units(rows)
            parts.append(np.einsum("pnr,p->nr", units * line.shares(units), self.weights).astype(np.float32))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def terms(self, rows: NDArray[np.int16], bend: float) -> PlaceTerms:
        """``PlaceTerms`` of driven codes (places, rows), for any input coding."""
        units = self.layer.units(rows)
        sums, driven, squares = (np.ascontiguousarray(u.sum(2).T) for u in (units, np.abs(units), units**2))
        typical = self.typical(rows.shape[1], bend)
        even = not self.layer.spec.adc_signed
        terms = place_terms(sums, driven, squares, self.weights, typical=typical, bend=bend, even=even)
        return terms if self.layer.drive is None else replace(terms, driven=rows.sum(1, dtype=np.float32))

    def typical(self, rows: int, bend: float) -> float:
        """Effective number of driven rows n / (1 + bend · n) of a plane at mean activity, n = activity · rows."""
        n = self.activity * rows
        return n / (1.0 + bend * n)


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
        """Level sums (n, outputs, positions), channels last in memory, and the number of sums beyond the scale."""
        layer, positions = self.layer, self.layer.map_window.positions
        out = np.zeros(len(codes) * positions * layer.outputs + LANES, np.int32)
        ends, each = 0.0, max(1, CHUNK_VALUES // max(1, codes[:1].size))
        for first in range(0, len(codes), each):
            part = slice(first, min(first + each, len(codes)))
            maps = KernelMaps(layer, codes[part])
            mine = out[first * positions * layer.outputs :]
            for number, group in enumerate(self.groups):
                words = keys[part] + np.array([number * _GROUP_WORD & 0xFFFFFFFF, 0], np.uint32)
                ends += group.add(maps, words.view(np.int32), mine)
        return out[:-LANES].reshape(len(codes), positions, layer.outputs).transpose(0, 2, 1), int(ends)


class KernelMaps:
    """Padded driven codes of some images, channels last and flat, and their geometry for the kernels.

    ``across``: places of an image down and across; ``steps``: strides; ``runs``: kernel positions in pixels; ``bases``:
    starts of windows in values. A matrix is a map of one pixel.
    """

    def __init__(self, layer: SimulatedLayer, codes: NDArray[np.int16]) -> None:
        window, self.images = layer.map_window, len(codes)
        height, self.width = (s + 2 * p for s, p in zip((window.height, window.width), window.padding, strict=True))
        self.channels, self.pixels = window.channels, height * self.width
        self.places, size = self.images * window.positions, self.images * self.pixels * window.channels
        self.flat = np.zeros(size + SPARE, np.int16)
        maps = self.flat[:size].reshape(self.images, height, self.width, window.channels)
        fill_padded(maps.transpose(0, 3, 1, 2), layer, codes)
        self.runs = window_pixels(window)[1]
        self.across, self.steps = np.array([window.out_height, window.out_width]), np.array(window.stride)
        self.bases = _bases(window, self.images, self.pixels)
        self._counts: dict[RowCut, NDArray[np.uint64]] = {}

    def counted(self, cut: RowCut) -> NDArray[np.uint64]:
        """Driven rows of each plane, one byte a plane, (places rounded up to a multiple of 16,); cached for all
        tiles with the same rows."""
        if cut not in self._counts:
            found = np.zeros(-(-self.places // LANES) * LANES, np.uint64)
            pixels = np.empty(self.images * self.pixels + 8, np.uint64)
            for channels, positions in cut.rectangles:
                first, stop = channels.start, channels.stop
                counting.count_pixels(self.flat, self.channels, first, stop, _masks(stop - first), pixels[:-8])
                runs = self.runs[positions.start : positions.stop]
                counting.count_places(
                    pixels, self.width, self.pixels, runs, self.steps, self.across, found[: self.places]
                )
            self._counts[cut] = found
        return self._counts[cut]


@functools.lru_cache(maxsize=64)
def _bases(window: Window, images: int, pixels: int) -> NDArray[np.int64]:
    """Index of the first value of every window of some images, with eight spare places as the kernels need them."""
    bases = np.zeros(images * window.positions + 8, np.int64)
    bases[:-8] = ((np.arange(images)[:, None] * pixels + window_pixels(window)[0]) * window.channels).ravel()
    return bases


class _Group:
    """Kernel arrays of tiles that add to the same outputs."""

    def __init__(self, fast: FastLayer, moments: list[TileMoments]) -> None:
        self.fast, self.outputs = fast, moments[0].tile.outputs
        # Halves that meet after the converter: the kernel gives sums of codes, the correction comes later.
        self.subtracts = moments[0].cells.shape[1] != len(self.outputs)
        group, reads = group_moments(moments, codes=self.subtracts).with_copies_as_one()
        moments = list(group.tiles)
        self.tiles = [m.tile for m in moments]
        self.bends = [m.line.bend for m in moments]
        self.conversions = conversions = moments[0].cells.shape[1]
        # One-bit units are read where they lie, a run of channels at each kernel position; others are gathered first.
        self.direct = fast.reads_in_place(self.tiles[0])
        self.line = mean_line([m.line for m in (moments[:1] if self.direct else moments)])
        self.cuts = [fast.cut(tile) for tile in self.tiles]
        self.lengths = np.array([len(cut.channels) for cut in self.cuts])
        window = fast.layer.map_window
        steps = window_pixels(window)[1] * window.channels
        runs = [steps[cut.positions] + cut.channels.start for cut in self.cuts]
        if not self.direct:
            self.lengths, runs = np.array([len(m.cells) for m in moments]), [np.zeros(1, np.int64) for _ in moments]
        self.runs, self.first_runs = np.concatenate(runs), np.cumsum([0, *map(len, runs)])
        # Steps in a driven code: 1 where codes are whole, else as many as 16 bits and FRACTION_BITS have room for.
        self.fraction = 1
        if fast.tables is not None or fast.by_plane:
            self.fraction = 1 << min(FRACTION_BITS, int(np.log2(32767.0 / fast.product_top)))
        width = conversions + -conversions % LANES
        self.parameters = np.zeros((len(moments), kernels.ROWS, width), np.float32)
        packed = []
        for t, m in enumerate(moments):
            weights, scale = self._packed(m, self.cuts[t])
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
                kernels.LIVE: np.full(conversions, float(reads[t])),
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

    def _packed(self, moments: TileMoments, cut: RowCut) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
        """Flat weights in the kernel's order, and the scale of each column."""
        cells = moments.cells / self.fraction
        bound = np.abs(cells).sum(0) * self.fast.product_top * self.fraction / (2**31 - 2**18)
        scale = np.maximum(np.maximum(np.abs(cells).max(0) / 32767.0, bound), 1e-12)
        whole = np.rint(cells / scale).astype(np.int16)
        whole = cut.spread(whole)[:, cut.positions] if self.direct else whole[:, None]
        length, runs, conversions = whole.shape
        whole = np.pad(whole, ((0, length % 2), (0, 0), (0, -conversions % LANES)))
        # (length, runs, columns) to (blocks, runs, pairs, columns, 2)
        whole = whole.reshape(-1, 2, runs, whole.shape[2] // LANES, LANES).transpose(3, 2, 0, 4, 1)
        return np.ascontiguousarray(whole).ravel(), scale

    def add(self, maps: KernelMaps, keys: NDArray[np.int32], out: NDArray[np.int32]) -> float:
        """Add the level sums of the group's tiles to ``out``, flat from the first output of the first place on."""
        if self.direct:
            flat, bases, terms = maps.flat, maps.bases, self._counted(maps)
        else:
            flat, bases, terms = self._gathered(maps)
        first, stride = self.outputs.start, self.fast.layer.outputs
        if not self.subtracts:
            return self._convert(flat, bases, maps.places, terms, keys, out[first:], stride)
        conversions, tile = self.conversions, self.tiles[0]
        codes = np.zeros(maps.places * conversions + LANES, np.int32)
        ends = self._convert(flat, bases, maps.places, terms, keys, codes, conversions)
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
        places: int,
        terms: NDArray[np.float32],
        keys: NDArray[np.int32],
        out: NDArray[np.int32],
        stride: int,
    ) -> float:
        return float(
            kernels.convert_tiles(
                flat, bases, places, self.runs, self.first_runs, self.lengths, self.weights, self.parameters,
                self.common, terms, self.limits, keys, CONSTANTS, out, stride,
            )
        )  # fmt: skip

    def _counted(self, maps: KernelMaps) -> NDArray[np.float32]:
        """Place terms of one-bit units, from the numbers of driven rows in each plane."""
        fast, many = self.fast, -(-maps.places // LANES) * LANES
        terms = np.empty((len(self.tiles), many // LANES, counting.TERMS, LANES), np.float32)
        for t, (cut, bend) in enumerate(zip(self.cuts, self.bends, strict=True)):
            typical, even = fast.typical(len(cut.rows), bend), not fast.layer.spec.adc_signed
            counting.terms_of_counts(maps.counted(cut), self.planes, typical, bend, even, terms[t])
        return terms

    def _gathered(self, maps: KernelMaps) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.float32]]:
        """Inputs of the product of tiles that share their inputs, gathered for each place: (values, bases, terms)."""
        fast, tile = self.fast, self.tiles[0]
        rows = np.arange(tile.inputs.start, tile.inputs.stop)
        offsets = maps.runs[rows % len(maps.runs)] * maps.channels + rows // len(maps.runs)
        if fast.counts_rows(tile):
            terms, line = self._counted(maps), self.line
            flat = np.zeros(maps.places * 2 * len(rows) + SPARE, np.int16)
            gaps, scale = line.gaps.astype(np.float32), (self.fraction / line.reach).astype(np.float32)
            counting.driven_by_plane(
                maps.flat, maps.bases, offsets[line.order], line.order, maps.counted(self.cuts[0]), self.planes, gaps,
                line.bend, self.fraction, scale, flat[:-SPARE],
            )  # fmt: skip
        else:
            mine = maps.flat[maps.bases[: maps.places, None] + offsets]
            terms = np.stack([_packed_terms(fast.terms(mine, bend)) for bend in self.bends])
            values = fast.product_inputs(mine, self.line)
            if self.fraction > 1:
                values = np.rint(values * np.float32(self.fraction)).astype(np.int16)
            flat = np.append(values.ravel(), np.zeros(SPARE, np.int16))
        bases = np.zeros(maps.places + 8, np.int64)
        bases[: maps.places] = np.arange(maps.places) * ((len(flat) - SPARE) // maps.places)
        return flat, bases, terms


def _packed_terms(found: PlaceTerms) -> NDArray[np.float32]:
    """Place terms in the kernel's order, (places / 16, TERMS, 16)."""
    names = (found.squares, found.rest, found.rest2, found.excess, found.lean, found.peak, found.driven)
    terms = np.zeros((-(-len(found.driven) // LANES) * LANES, counting.TERMS), np.float32)
    terms[: len(found.driven), : len(names)] = np.stack(names, 1)
    return np.ascontiguousarray(terms.reshape(-1, LANES, counting.TERMS).transpose(0, 2, 1))


@functools.lru_cache(maxsize=64)
def _masks(channels: int) -> NDArray[np.uint8]:
    """Bit masks 1, 2, 4 … 128 of each channel, padded with zeros to a multiple of sixteen channels (``ones_of_16``)."""
    there = np.arange(-(-channels // 16) * 16) < channels
    return (there[:, None] * (1 << np.arange(8))).astype(np.uint8).ravel()
