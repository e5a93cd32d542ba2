"""Code shared by the CPU kernels: aligned memory, and the correction of ADC sums to level sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import Encoding, MacroSpec, PairSubtraction
from cim.simulator.exact.lookup_tables import add_levels
from cim.simulator.layer import SimulatedTile

SPARE = 64  # items behind a kernel's array that it may touch


def aligned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An uninitialised array that starts on a cache line; no vector straddles two, so look-ups are twice as fast."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + 128, np.uint8)
    first = -memory.ctypes.data % 64
    return np.asarray(memory[first : first + size].view(dtype).reshape(shape))


def zeros_behind(values: NDArray[Any], count: int) -> NDArray[Any]:
    """Append ``count`` zeros to the last axis; for 0 return the array itself, which saves the time of ``np.pad``."""
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, count)]) if count else values


class Memory:
    """Named work arrays, reused between tiles: allocating fresh pages costs more time than filling them."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray[np.uint8]] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """An array with undefined content; memory of an earlier call is used again."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        held = self._held.get(name)
        if held is None or held.size < size:
            held = self._held[name] = aligned((size,), np.uint8)
        return np.asarray(held[:size].view(dtype).reshape(shape))


class Levels:
    """Correction of one tile's ADC sums to level sums; arrays are padded to multiples of eight for the kernel."""

    def __init__(self, spec: MacroSpec, tile: SimulatedTile, layer_outputs: int) -> None:
        self.outputs, correction = len(tile.outputs), tile.correction
        if correction.shift < 1:
            raise ValueError("a correction needs at least one fractional bit")
        more = -self.outputs % 8
        self.minus, self.step = subtracted(spec, self.outputs)
        self.arrays = tuple(
            zeros_behind(a.astype(np.int64), more) for a in (correction.gain, correction.offset, correction.input_gain)
        )
        self.counts_inputs = bool(correction.input_gain.any())
        self.shift, self.multiplier = np.int64(correction.shift), np.int64(tile.multiplier)
        self.columns, self.first = layer_outputs, tile.outputs.start

    def add(
        self,
        flat: NDArray[np.integer],
        width: int,
        centre: int,
        driven: NDArray[np.int64] | None,
        sums: NDArray[np.int32],
        places: int,
    ) -> None:
        """Add corrected level sums to ``sums`` (places · layer outputs + 8,), see ``lookup_tables.add_levels``."""
        add_levels(
            flat, width, np.int64(centre), self.minus, self.step, driven, *self.arrays, self.shift, self.multiplier,
            sums, places, self.columns, self.first,
        )  # fmt: skip


def subtracted(spec: MacroSpec, outputs: int) -> tuple[int, int]:
    """Index of the first conversion subtracted digitally (−1: none), and 1 if each output has its own, 0 if shared."""
    if spec.encoding is Encoding.OFFSET_COLUMN:
        return outputs, 0
    if spec.paired and spec.pair_subtraction is PairSubtraction.DIGITAL:
        return outputs, 1
    return -1, 0
