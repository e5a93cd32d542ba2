"""What both CPU engines share: aligned memory, unfolded maps, and the way from sums of codes to level sums."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import Encoding, MacroSpec, PairSubtraction
from cim.chip.windows import Window
from cim.simulator.exact.lookup_tables import add_levels

if TYPE_CHECKING:
    from cim.simulator.simulator import LayerSimulator, SimulatedTile

SPARE = 64  # items behind a kernel's array that it may touch


def aligned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An empty array that starts on a cache line: vectors then never straddle two (look-ups are twice as fast)."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + 128, np.uint8)
    first = -memory.ctypes.data % 64
    return np.asarray(memory[first : first + size].view(dtype).reshape(shape))


class Memory:
    """Arrays of one call by name, handed out again and again: fresh pages cost more than what they hold."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray[np.uint8]] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """An array with whatever it held before."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        held = self._held.get(name)
        if held is None or held.size < size:
            held = self._held[name] = aligned((size,), np.uint8)
        return np.asarray(held[:size].view(dtype).reshape(shape))


class Maps:
    """Driven codes of all images with their padding, flattened so that neighbouring places read neighbouring bytes.

    With a stride, columns are sorted by their remainder: (images, channels, height, stride, width / stride).
    """

    def __init__(self, layer: LayerSimulator, codes: NDArray[np.int16]) -> None:
        window = layer.window or Window(layer.inputs, 1, 1)
        (pad_h, pad_w), (step_h, step_w), (gap_h, gap_w) = window.padding, window.stride, window.dilation
        height, narrow = window.height + 2 * pad_h, -(-(window.width + 2 * pad_w) // step_w)
        shape = (len(codes), window.channels, height, narrow * step_w)
        self.positions, self.run = window.positions, window.out_width
        self.size = math.prod(shape[1:])
        rest = layer.driven(np.zeros(1, np.int16)).astype(np.uint8)[0]
        self.bytes = np.zeros(len(codes) * self.size + SPARE, np.uint8)
        padded = self.bytes[: len(codes) * self.size].reshape(shape)
        if rest:
            padded[:] = rest
        down, across = slice(pad_h, pad_h + window.height), slice(pad_w, pad_w + window.width)
        inside = padded[:, :, down, across]
        np.copyto(inside, layer.driven(codes).reshape(inside.shape), casting="unsafe")
        if step_w > 1:
            sorted_ = padded.reshape(*shape[:3], narrow, step_w).swapaxes(3, 4)
            self.bytes[: len(codes) * self.size] = sorted_.ravel()
        self.signed = layer.input_signed and not layer.offset_inputs
        self.starts = np.arange(window.out_height) * (step_h * step_w * narrow)
        channel = np.arange(window.channels) * (height * step_w * narrow)
        rows = np.arange(window.kernel[0]) * gap_h * (step_w * narrow)
        columns = np.arange(window.kernel[1]) * gap_w
        columns = columns % step_w * narrow + columns // step_w
        self.steps = (channel[:, None, None] + rows[:, None] + columns).ravel().astype(np.int64)

    def starts_of(self, part: slice) -> NDArray[np.int64]:
        """Where the runs of ``run`` neighbouring places of some images start."""
        return (np.arange(part.start, part.stop)[:, None] * self.size + self.starts).ravel().astype(np.int64)


class Levels:
    """How one tile's sums of codes become level sums; arrays padded to eights for the kernel."""

    def __init__(self, spec: MacroSpec, tile: SimulatedTile, layer_outputs: int) -> None:
        self.outputs, correction = len(tile.outputs), tile.correction
        if correction.shift < 1:
            raise ValueError("a correction needs at least one fractional bit")
        pad = (0, -self.outputs % 8)
        self.minus, self.step = subtracted(spec, self.outputs)
        self.arrays = tuple(
            np.pad(a.astype(np.int64), pad) for a in (correction.gain, correction.offset, correction.input_gain)
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
    """First conversion that is subtracted digitally from an output, −1 for none; 1 when each output has its own."""
    if spec.encoding is Encoding.OFFSET_COLUMN:
        return outputs, 0
    if spec.paired and spec.pair_subtraction is PairSubtraction.DIGITAL:
        return outputs, 1
    return -1, 0
