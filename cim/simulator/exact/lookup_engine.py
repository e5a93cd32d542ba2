"""Exact mode for one-bit reads on one CPU core: converts tiles to 16-bit steps for the look-up kernels.

A tile is eligible when its worst-case sums, counted in steps of 2^−k code with k ≥ 5, fit 16 bits, which limits its
converter to about eight bits (``steps_for``); ``cim.simulator.exact.numba_engine`` runs all other tiles. Error of a
noise-free conversion by rounding: each of the 16 table entries of 128 rows is off by at most half a step, together 0.02
code rms at k = 6. Integer cells are exact (the ideal limit has no rounding).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import SignedInput
from cim.simd.integers import WIDTH, has_byte_shuffle
from cim.simulator.exact import lookup_kernels as kernels
from cim.simulator.exact import lookup_tables as tables
from cim.simulator.exact.level_sums import SPARE, Levels, Memory, aligned
from cim.simulator.exact.lookup_noise import NORMAL_UNIT
from cim.simulator.exact.lookup_sums import GROUP, SCRATCH, SEGMENT_WORDS, UPPER
from cim.simulator.exact.lookup_wires import IntegerWires, integer_wires
from cim.simulator.layer import PreparedTile, SimulatedLayer
from cim.simulator.maps import ByteMaps

HALF = WIDTH // 2
LEAST_BITS = 5  # fewest fractional bits of a step
BYTE_NODES = 16  # INL segments that a byte table holds
MOST = (1 << 15) - 1
KERNELS = (kernels.convert_wide, kernels.convert_pairs)


@dataclass(frozen=True)
class TileSteps:
    """A tile in integer steps of 2^−bits code: one lane per conversion, in blocks of 32, then at most one of 16."""

    bits: int
    lanes: NDArray[np.int64]  # (conversions,)
    wide: int  # blocks of 32
    pairs: int  # blocks of 16
    cells: NDArray[np.float64]  # (rows, conversions) codes
    wires: IntegerWires | None

    @property
    def width(self) -> int:
        return WIDTH * self.wide + HALF * self.pairs


def steps_for(layer: SimulatedLayer, prepared: PreparedTile) -> TileSteps | None:
    """The tile in steps at which its sums fit 16 bits; None when no such step exists."""
    spec, rows = layer.spec, len(prepared.order)
    if spec.inputs.signed is SignedInput.TERNARY or spec.inputs.bits_per_cycle != 1 or rows > 255:
        return None
    assert layer.drive is None  # one-bit units are 0 and 1
    assert prepared.cubic is None  # and meet cells at one voltage
    low, high = layer.limits
    weights = [p.weight for p in layer.planes]
    if (high - low) * sum(map(abs, weights)) > 2 * MOST + 1 or len(weights) > 8:
        return None
    cells, wires = prepared.cells, None
    if prepared.wire.any():
        wires = integer_wires(layer, prepared)
        if wires is None:
            return None
        cells = cells * wires.row_keep[:, None]
    worst = float(np.maximum(cells.clip(0).sum(0), -cells.clip(max=0).sum(0)).max(initial=0.0))
    room = MOST - rows  # rounding of table entries
    bits = min(14 - (high - low).bit_length(), int(np.floor(np.log2(room / max(worst, 1e-9)))))
    tile = prepared.tile
    spread = np.sqrt(prepared.mean_variance * rows + tile.conversion_noise_codes**2).max(initial=0.0)
    offset = np.abs(tile.offset_codes - low).max(initial=0.0)
    if bits < LEAST_BITS or max(spread * 65536 / NORMAL_UNIT, offset) * 2.0**bits > MOST:
        return None
    lanes = lanes_of(tile.inl_codes)
    halves = -(-(int(lanes[-1]) + 1) // HALF)
    return TileSteps(bits, lanes, halves // 2, halves % 2, cells, wires)


def lanes_of(inl_codes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Lane of each conversion; groups of eight lanes share an INL curve where that wastes few lanes (byte shuffles)."""
    straight = np.arange(len(inl_codes))
    if not inl_codes.any():
        return straight
    lanes, lane = np.empty(len(inl_codes), np.int64), 0
    change = np.any(inl_codes[1:] != inl_codes[:-1], axis=1)
    for j in range(len(inl_codes)):
        if j and change[j - 1]:
            lane = -(-lane // 8) * 8
        lanes[j] = lane
        lane += 1
    return lanes if lane <= max(HALF, 1.5 * len(inl_codes)) else straight


class LookupTile:
    """Small arrays of one tile; its large tables of sums and σ are made anew in each call, which saves memory."""

    def __init__(self, layer: SimulatedLayer, prepared: PreparedTile, steps: TileSteps, number: int) -> None:
        self.layer, self.prepared, self.steps, self.number = layer, prepared, steps, number
        self.levels = Levels(layer.spec, prepared.tile, layer.outputs)
        low, high = layer.limits
        self.unit, tile = 2.0**steps.bits, prepared.tile
        self.rows = len(prepared.order)
        self.words = -(-self.rows // GROUP)
        self.offsets = self._spread(np.rint((tile.offset_codes - low) * self.unit), np.int16, fill=-low * self.unit)
        self.variances = [
            self._spread(v * (self.unit * 65536 / NORMAL_UNIT) ** 2, np.float32)
            for v in (prepared.mean_variance, tile.conversion_noise_codes**2)
        ]
        self.noisy = any(bool(v.any()) for v in self.variances)
        self.converter = np.zeros(kernels.CONVERTER, np.int64)
        self.ends, self.stride, wires = np.array([self.words], np.int64), 1, steps.wires
        if wires is not None:
            self.words += -self.words % SEGMENT_WORDS  # whole segments; no row drives the rest
            self.ends = np.arange(SEGMENT_WORDS, self.words + 1, SEGMENT_WORDS, dtype=np.int64)
            self.stride = wires.fall.shape[1]
            self.converter[kernels.BASE] = wires.base
            self.load_steps = self._spread(wires.step, np.float32)
            self.largest_loads = self._spread(np.abs(wires.extra).max(0), np.float32)
        self._converter(low, high)
        self.inl: list[Any] = [None, None]
        self.curves = self._spread(np.zeros(len(steps.lanes)), np.int16)
        if tile.inl_codes.any():
            self._inl(tile.inl_codes, high - low)
        self.converter = self.converter.astype(np.uint16).view(np.int16)

    def _spread(self, values: NDArray[np.floating], dtype: Any, fill: float = 0.0) -> NDArray[Any]:
        """Values of conversions in their lanes; padding lanes get ``fill``."""
        result = aligned((self.steps.width,), dtype)
        result[:] = fill
        result[self.steps.lanes] = values
        return result

    def _converter(self, low: int, high: int) -> None:
        weights, span = np.array([p.weight for p in self.layer.planes]), high - low
        self.centre = int((weights * np.where(weights > 0, low, high)).sum()) + MOST + 1  # middle of all sums
        self.converter[kernels.BITS], self.converter[kernels.SPAN] = self.steps.bits, span
        self.converter[kernels.CENTRE] = low * int(weights.sum()) - self.centre
        inner = (1, span - 2) if low < 0 else (0, span - 1)
        self.converter[kernels.INNER_FIRST], self.converter[kernels.INNER_COUNT] = inner
        self.converter[kernels.SIGNED] = int(weights[-1] < 0)

    def _inl(self, curves: NDArray[np.float64], span: int) -> None:
        steps, segments = self.steps, curves.shape[1] - 1
        reach = span << steps.bits
        fraction = min(8, int(np.ceil(np.log2(reach / segments))) - 1)  # their ratio stays below 2^16
        self.converter[kernels.SEGMENT] = (segments << fraction) * 65536 // reach
        self.converter[kernels.FRACTION] = fraction
        fixed = np.rint(curves * self.unit)
        value, rise = fixed[:, :-1], np.diff(fixed, axis=1)
        largest = max(np.abs(value).max(), np.abs(rise).max())
        fits = has_byte_shuffle() and segments <= BYTE_NODES and fraction == 8 and largest <= 2 * 127
        owner = np.full(steps.width, -1)
        owner[steps.lanes] = np.arange(len(curves))
        eights = owner.reshape(-1, 8)
        one = [all(np.array_equal(curves[j], curves[max(o)]) for j in o if j >= 0) for o in eights] if fits else [False]
        if all(one):
            shift = 8 if largest <= 127 else 7
            self.converter[kernels.SHIFT] = shift
            table = np.zeros((len(eights), 2, BYTE_NODES), np.int8)
            for eight, owners in enumerate(eights):
                if max(owners) >= 0:
                    both = np.stack([value[max(owners)], rise[max(owners)]])
                    table[eight, :, :segments] = np.rint(both * 2.0 ** (shift - 8)).clip(-127, 127)
            cut = 4 * steps.wide
            wide = table[:cut].reshape(-1, 4, 2, BYTE_NODES).transpose(0, 2, 1, 3)
            pairs = table[cut:].reshape(-1, 2, 2, BYTE_NODES).transpose(0, 2, 1, 3)
            self.inl = [(_at_line(wide), True), (_at_line(np.concatenate([pairs, pairs], 2)), True)]
            return
        new = np.append(True, np.any(fixed[1:] != fixed[:-1], axis=1))  # columns of one converter lie side by side
        words = np.stack([value[new], rise[new]], 2).clip(-MOST, MOST).astype(np.int16)
        self.curves[steps.lanes] = ((np.cumsum(new) - 1) * segments).astype(np.uint16).view(np.int16)
        self.inl = [(np.append(words.ravel(), np.zeros(2, np.int16)), None)] * 2

    def fill(self, memory: Memory) -> None:
        """Make the tables that one call needs."""
        steps, wires = self.steps, self.steps.wires
        for name, blocks, lanes, first in self._blocks():
            table = memory.take(name, (blocks, self.words, tables.PATTERNS, lanes), np.int16)
            if blocks:
                tables.fill_tables(steps.cells, self.unit, steps.lanes, first, table)
        if self.noisy:
            tables.fill_noise(*self.variances, memory.take("noise", (self.rows + 1, steps.width), np.int16))
        if wires is not None:
            for name, blocks, lanes, first in self._blocks():
                if blocks:
                    table = memory.take("extra " + name, (blocks, self.words, tables.PATTERNS, lanes), np.int8)
                    tables.fill_tables(wires.extra, 1.0, steps.lanes, first, table)
            wire = memory.take("wire", (self.rows + 1, steps.width), np.int16)
            tables.fill_wires(self.load_steps, wires.swing, self.largest_loads, wire)

    def _blocks(self) -> tuple[tuple[str, int, int, int], ...]:
        steps = self.steps
        return ("wide tables", steps.wide, WIDTH, 0), ("pair tables", steps.pairs, HALF, WIDTH * steps.wide)

    def add(
        self, memory: Memory, maps: ByteMaps, part: slice, keys: NDArray[np.uint64], sums: NDArray[np.int32]
    ) -> int:
        """Add this tile's level sums of the images ``part`` to ``sums``; return how many conversions saturate."""
        planes, starts, width = self.layer.planes, maps.starts_of(part), self.steps.width
        places = len(starts) * maps.run
        words = memory.take("words", (self.words * places + SPARE,), np.int64)
        tables.unfold_words(maps.bytes, starts, maps.run, maps.steps[self.prepared.order], words)
        words[-(-self.rows // GROUP) * places : self.words * places] = 0
        counts = memory.take("counts", (self.stride * (places + 8),), np.int64)
        tables.count_words(words, places, self.ends, self.stride, counts)
        flat = memory.take("totals", (places * width + SPARE,), np.int16)
        totals = flat[: places * width].reshape(places, width)
        noise = memory.take("noise", (self.rows + 1, width), np.int16) if self.noisy else None
        wires, given = self.steps.wires, None
        scratch = memory.take("scratch", (SCRATCH,), np.int16)
        upper = True if len(planes) > UPPER and wires is not None else None
        hits = 0
        for (name, blocks, lanes, first), kernel, inl in zip(self._blocks(), KERNELS, self.inl, strict=True):
            if blocks:
                table = memory.take(name, (blocks, self.words, tables.PATTERNS, lanes), np.int16)
                if wires is not None:
                    extra = memory.take("extra " + name, (blocks, self.words, tables.PATTERNS, lanes), np.int8)
                    wire = memory.take("wire", (self.rows + 1, self.steps.width), np.int16)
                    given = (wires.fall, wires.rise, extra.ravel(), wire, wires.even)
                hits += kernel(
                    words, counts, table, self.ends, given, upper, self.offsets, noise, inl, self.curves,
                    self.converter, len(planes), keys, (self.number << 12) + first, first, scratch, totals,
                )  # fmt: skip
        at = self.steps.lanes
        if at[-1] + 1 != len(at):  # spread out for the sake of INL: back to neighbours
            width = len(at)
            flat = np.append(totals[:, at].ravel(), np.zeros(SPARE, np.int16))
        driven = None
        if self.levels.counts_inputs:
            all_rows = counts.reshape(-1, self.stride)[:places, len(self.ends) - 1]
            last = np.ascontiguousarray(all_rows).view(np.uint8).reshape(-1, 8)[:, : len(planes)]
            driven = last @ np.array([p.weight for p in planes])
        self.levels.add(flat, width, self.centre, driven, sums, places)
        return int(hits)


def _at_line(values: NDArray[np.int8]) -> NDArray[np.int8]:
    result = aligned((values.size,), np.int8)
    result[:] = values.ravel()
    return result
