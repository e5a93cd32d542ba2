"""Feature maps as kernels read them: driven codes with their padding."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import check_codes
from cim.chip.windows import Window
from cim.simulator.layer import SimulatedLayer

SPARE_BYTES = 64  # behind byte maps, that a kernel may read


def fill_padded(padded: NDArray[Any], layer: SimulatedLayer, codes: NDArray[np.int16]) -> None:
    """Write driven codes with their padding into ``padded``, zeros viewed as (n, channels, height, width).

    Padding has code 0, which chips with offset inputs drive as the offset.

    Raises:
        CodeOutOfRange: codes do not fit the layer's bits.
    """
    check_codes(codes, layer.input_bits, layer.input_signed)
    window = layer.map_window
    rest = layer.driven(np.zeros(1, np.int16))[0]
    if rest:
        padded[:] = rest
    (pad_h, pad_w), height, width = window.padding, window.height, window.width
    inside = padded[:, :, pad_h : pad_h + height, pad_w : pad_w + width]
    np.copyto(inside, layer.driven(codes).reshape(inside.shape), casting="unsafe")


@functools.lru_cache(maxsize=64)
def window_pixels(window: Window) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels of a padded map where its windows start, (positions,), and steps to the kernel's, (kernel positions,).

    Example: a kernel of 2 x 2 on rows of 5 pixels takes steps 0, 1, 5 and 6.
    """
    width = window.width + 2 * window.padding[1]
    down, right = (np.arange(k) * gap for k, gap in zip(window.kernel, window.dilation, strict=True))
    top, left = np.arange(window.out_height) * window.stride[0], np.arange(window.out_width) * window.stride[1]
    return (top[:, None] * width + left).ravel(), (down[:, None] * width + right).ravel()


class ByteMaps:
    """Driven codes as flat bytes, channels first, in an order in which neighbouring places read neighbouring bytes.

    With a stride, columns are sorted by their remainder: (images, channels, height, stride, width / stride).
    """

    def __init__(self, layer: SimulatedLayer, codes: NDArray[np.int16]) -> None:
        window = layer.map_window
        (pad_h, pad_w), (step_h, step_w), (gap_h, gap_w) = window.padding, window.stride, window.dilation
        height, narrow = window.height + 2 * pad_h, -(-(window.width + 2 * pad_w) // step_w)
        shape = (len(codes), window.channels, height, narrow * step_w)
        self.positions, self.run = window.positions, window.out_width
        self.size = math.prod(shape[1:])
        self.bytes = np.zeros(len(codes) * self.size + SPARE_BYTES, np.uint8)
        padded = self.bytes[: len(codes) * self.size].reshape(shape)
        fill_padded(padded, layer, codes)
        if step_w > 1:
            sorted_ = padded.reshape(*shape[:3], narrow, step_w).swapaxes(3, 4)
            self.bytes[: len(codes) * self.size] = sorted_.ravel()
        self.signed = layer.driven_signed
        self.starts = np.arange(window.out_height) * (step_h * step_w * narrow)
        channel = np.arange(window.channels) * (height * step_w * narrow)
        rows = np.arange(window.kernel[0]) * gap_h * (step_w * narrow)
        columns = np.arange(window.kernel[1]) * gap_w
        columns = columns % step_w * narrow + columns // step_w
        self.steps = (channel[:, None, None] + rows[:, None] + columns).ravel().astype(np.int64)

    def starts_of(self, part: slice) -> NDArray[np.int64]:
        """Start of each run of ``run`` neighbouring places, for the images ``part``."""
        return (np.arange(part.start, part.stop)[:, None] * self.size + self.starts).ravel().astype(np.int64)
