"""Matrix products of the emulated chip: vectors through tiles and through loaded layers."""

from __future__ import annotations

import functools
import itertools
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cim.chip.converters import code_limits, conversions, input_cycles, input_planes
from cim.chip.spec import ChipSpec, MacroSpec
from cim.simd.floats import LANES
from firmware_protocols.messages import READ_STEP, LoadLayer, TileAddress
from hil.emulator.array import build_tile
from hil.emulator.cells import MacroCells
from hil.emulator.kernels import convert_vectors
from hil.emulator.layer_kernels import layer_codes
from hil.emulator.noise import COMPUTE, extend_key, fold_key
from hil.emulator.sample import ChipSample, MacroSample, conversion_columns
from hil.emulator.tile_array import TileArray

CACHE_BYTES = 512 << 20
THREAD_CONVERSIONS = 1 << 15  # that are worth a thread of their own, about half a millisecond
NO_RAW = np.empty((0, 0), np.int32)


@dataclass(frozen=True, slots=True)
class Drive:
    """How vectors are driven and converted: ADC range, width and sign of the inputs."""

    range_code: int
    input_bits: int
    input_signed: bool


@dataclass(frozen=True, slots=True)
class Places:
    """Sample number of each vector of a request, which selects its noise: vector j has number ``first`` + j,
    sample ``sample`` + number // ``per_sample``, and position number % ``per_sample``."""

    sample: int
    per_sample: int
    first: int

    def skip(self, vectors: int) -> Places:
        return Places(self.sample, self.per_sample, self.first + vectors)

    def read(self, number: int) -> Places:
        """The same vectors in read ``number`` (0 is the first), which has noise of its own."""
        return Places((self.sample + number * READ_STEP) % (1 << 64), self.per_sample, self.first)


@dataclass(slots=True)
class Tally:
    """Conversions of a request, how many of them saturated, and chip time spent."""

    conversions: int = 0
    saturated: int = 0


@njit(cache=True, nogil=True)
def _vector_keys(tile_key: Any, sample: int, per_sample: int, first: int, keys: NDArray[np.uint64]) -> None:
    for j in range(keys.size):
        number = first + j
        keys[j] = extend_key(extend_key(tile_key, sample + number // per_sample), number % per_sample)


class TileConverter:
    """Runs vectors through tiles of one chip, keeping tables of tiles between requests.

    Tables follow from the cells at ``settled_ns`` (see ``chip``) and are rebuilt when cells
    of the macro or that time changed.
    """

    def __init__(self, spec: ChipSpec, sample: ChipSample, cells: tuple[MacroCells, ...]) -> None:
        self._spec, self._sample, self._cells = spec, sample, cells
        self._errors = [_converter_errors(spec.macro, truth) for truth in sample.macros]
        self._tiles: OrderedDict[tuple[object, ...], TileArray] = OrderedDict()
        self._bytes = 0

    def sums(
        self,
        tile: TileAddress,
        codes: NDArray[np.int16],
        drive: Drive,
        places: Places,
        settled_ns: int,
        tally: Tally,
        raw: NDArray[np.int32] = NO_RAW,
        first_input: int = 0,
        reads: int = 1,
    ) -> NDArray[np.int32]:
        """Shift-added sums of one tile, int32 (vectors, outputs).

        Args:
            codes: int16 (vectors, inputs), C order; the tile's rows take them from ``first_input`` on.
            reads: whose sums are added up, saturated at 32 bits.
            raw: filled with every conversion when given, (vectors, planes x conversions).
        """
        if reads > 1:
            total = np.zeros((len(codes), tile.outputs), np.int64)
            for number in range(reads):
                total += self.sums(tile, codes, drive, places.read(number), settled_ns, tally, raw, first_input)
            limits32 = np.iinfo(np.int32)
            return np.clip(total, limits32.min, limits32.max).astype(np.int32)
        macro = self._spec.macro
        array = self._tile(tile, drive, settled_ns)
        keys = np.empty(len(codes), np.uint64)
        place = (self._sample.seed, COMPUTE, tile.macro, tile.row0, tile.output0)
        _vector_keys(np.uint64(fold_key(*place)), places.sample, places.per_sample, places.first, keys)
        sums = np.empty((len(codes), tile.outputs), np.int32)
        transfer, table = self._transfer(tile, drive.range_code), np.array(macro.adc.codes, np.float32)
        limits = code_limits(macro.adc.bits, macro.adc_signed)

        def convert(part: slice) -> int:
            """Convert a slice of the vectors; each depends on its own codes and key only."""
            ended: int = convert_vectors(
                array, codes[part], first_input, keys[part], transfer, table, limits, sums[part], raw[part]
            )
            return ended

        each = len(array.weights) * array.conversions
        tally.saturated += sum(side_by_side(convert, len(codes), each))
        tally.conversions += len(codes) * each
        return sums

    def layer(
        self,
        layer: LoadLayer,
        codes: NDArray[np.int16],
        drive: Drive,
        places: Places,
        settled_ns: int,
        tally: Tally,
    ) -> NDArray[np.int32]:
        """Activation codes of a loaded layer, int32 (vectors, outputs)."""
        return layer_codes(
            layer,
            codes,
            (
                self.sums(t.address, codes, drive, places, settled_ns, tally, first_input=t.first_input, reads=t.reads)
                for t in layer.tiles
            ),
        )

    def lasts_ns(self, tiles: tuple[tuple[TileAddress, int], ...], drive: Drive) -> int:
        """Chip time of one vector, ns, on tiles that are read so many times each.

        Tiles of one macro work one after the other, macros side by side.
        """
        macro, timing = self._spec.macro, self._spec.timing
        planes = input_planes(macro.inputs, drive.input_bits, drive.input_signed)
        driven_ns = [timing.row_setup_ns + input_cycles(macro.inputs, p) * timing.input_cycle_ns for p in planes]
        spent: dict[int, float] = {}
        for tile, reads in tiles:
            serial_ns = min(conversions(macro, tile.outputs), macro.adc.shared_by) * timing.conversion_ns
            for each_ns in driven_ns:
                spent[tile.macro] = spent.get(tile.macro, 0.0) + reads * (each_ns + serial_ns)
        return round(max(spent.values()))

    def _tile(self, tile: TileAddress, drive: Drive, settled_ns: int) -> TileArray:
        cells = self._cells[tile.macro]
        place = (tile.macro, tile.row0, tile.rows, tile.output0, tile.outputs, drive.input_bits, drive.input_signed)
        state = (cells.version, settled_ns)
        key = (*place, *state)
        if key in self._tiles:
            self._tiles.move_to_end(key)
            return self._tiles[key]
        array = build_tile(
            self._spec.macro, cells.conductance_us(settled_ns), tile, drive.input_bits, drive.input_signed,
            self._sample.parameters, self._sample.drive,
        )  # fmt: skip
        for old in [k for k in self._tiles if k[: len(place)] == place]:
            self._bytes -= self._tiles.pop(old).nbytes
        self._tiles[key] = array
        self._bytes += array.nbytes
        while self._bytes > CACHE_BYTES and len(self._tiles) > 1:
            self._bytes -= self._tiles.popitem(last=False)[1].nbytes
        return array

    def _transfer(self, tile: TileAddress, range_code: int) -> NDArray[np.float32]:
        """Gain, offset and INL of each conversion of one read, (8, conversions padded to sixteens with 0)."""
        macro, errors = self._spec.macro, self._errors[tile.macro]
        columns = conversion_columns(macro, tile.output0, tile.outputs)
        padded = np.zeros((len(errors), -(-len(columns) // LANES) * LANES), np.float32)
        padded[:, : len(columns)] = errors[:, columns]
        padded[0] /= np.float32(macro.lsb_us(range_code))
        return padded


def _converter_errors(macro: MacroSpec, truth: MacroSample) -> NDArray[np.float32]:
    """Relative gain, offset and INL of every conversion of a macro, (8, conversions)."""
    adc = np.arange(len(truth.gain)) // macro.adc.shared_by
    return np.vstack([truth.gain, truth.offset_codes[adc], truth.inl[:, adc]]).astype(np.float32)


def side_by_side(work: Callable[[slice], int], vectors: int, each: int) -> Iterator[int]:
    """Results of ``work`` on runs of vectors of ``each`` conversions, one run a core where there are many."""
    cores = min(os.cpu_count() or 1, vectors * each // THREAD_CONVERSIONS)
    if cores < 2:
        return iter([work(slice(0, vectors))])
    edges = [vectors * i // cores for i in range(cores + 1)]
    return _pool().map(work, [slice(a, b) for a, b in itertools.pairwise(edges)])


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="conversions")


def chunks(vectors: int, rows: int, planes: int) -> Iterator[slice]:
    """Slices of a request short enough to fit a cache and to let the link breathe in between."""
    size = max(1, (1 << 22) // max(rows * planes, 1))
    for start in range(0, vectors, size):
        yield slice(start, min(start + size, vectors))
