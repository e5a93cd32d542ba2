"""Feature maps as the vectors of their kernel windows, for sweeps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from cim.chip.windows import Window

_options: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


def unfolded(maps: NDArray[np.int16], window: Window, zero: int) -> NDArray[np.int16]:
    """Windows of maps (images, channels, height, width) as ``cim.chip.windows.unfold`` has them, padded with ``zero``.

    Returns:
        (images · positions, rows).

    Raises:
        ValueError: the maps are not of the window's shape, or it steps backwards.
    """
    if min(*window.kernel, *window.stride, *window.dilation) < 1 or min(window.padding) < 0:
        raise ValueError(f"a window of steps from 1 and padding from 0 is needed, not {window}")
    shape = (window.channels, window.height, window.width)
    if maps.shape[1:] != shape:
        raise ValueError(f"feature map {maps.shape[1:]} is not {shape}")
    high, wide = window.height + 2 * window.padding[0], window.width + 2 * window.padding[1]
    padded = np.full((window.channels, high, wide), zero, np.int16)
    vectors = np.empty((len(maps), window.out_height, window.out_width, window.rows), np.int16)
    steps = window.padding, window.kernel, window.stride, window.dilation
    _unfold(np.ascontiguousarray(maps, np.int16), padded, *steps, vectors)
    return vectors.reshape(-1, window.rows)


@njit(**_options)
def _unfold(
    maps: NDArray[np.int16],
    padded: NDArray[np.int16],
    padding: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    vectors: NDArray[np.int16],
) -> None:
    images, channels, height, width = maps.shape
    looked, found, at = padded.reshape(-1), vectors.reshape(-1), uint64(0)
    high, wide, step = uint64(padded.shape[1]), uint64(padded.shape[2]), uint64(dilation[1])
    for n in range(images):
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    padded[c, y + padding[0], x + padding[1]] = maps[n, c, y, x]
        for y in range(vectors.shape[1]):
            for x in range(vectors.shape[2]):
                for c in range(channels):
                    for i in range(kernel[0]):
                        row = uint64(c) * high + uint64(y * stride[0] + i * dilation[0])
                        first = row * wide + uint64(x * stride[1])
                        for j in range(kernel[1]):
                            found[at] = looked[first + uint64(j) * step]
                            at += uint64(1)
