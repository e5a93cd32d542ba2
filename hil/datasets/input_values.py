"""Values of any shape as the pixels of a network: 256 steps between two ends, as its file says.

A network takes (pixel / 255 − mean) / std. The other way round a value x of its input is

    pixel = clamp(round(255 · (x · std + mean)), 0, 255)

so mean and std of a channel say which 256 values there are. A chip's inputs have 8 bits at most.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hil.datasets.image_set import Dataset
from hil.errors import UsageError
from mapping.network.graph import Preprocess

PART = 1 << 22  # numbers that are worked on at a time


def preprocess_of(inputs: NDArray[np.float32], channels: int = 1) -> Preprocess:
    """Mean and std whose 256 steps go from the least to the largest value of each channel, of ``inputs`` (n, …).

    ``channels`` is 1, or the size of the first axis behind the samples.

    Example: values from −2 to 6 → mean 0.25, std 0.125: pixel 0 is −2, pixel 255 is 6.
    """
    flat = inputs.reshape(len(inputs), channels, -1)
    low, high = (np.asarray(f(flat, (0, 2)), np.float64) for f in (np.min, np.max))
    width = np.maximum(high - low, 1e-6 * np.maximum(np.abs(high), 1.0))
    return Preprocess(tuple((-low / width).tolist()), tuple((1.0 / width).tolist()))


def channels_of(inputs: NDArray[np.float32]) -> int:
    """Channels with a range of their own: those of maps (n, channels, height, width), else all values together."""
    return inputs.shape[1] if inputs.ndim == 4 else 1


def image_shape(inputs: NDArray[np.float32]) -> tuple[int, int, int]:
    """(channels, height, width) of the image that stands for one sample of ``inputs``."""
    sides = inputs.shape[1:]
    if len(sides) == 3:
        return sides[0], sides[1], sides[2]
    return (1, sides[0], sides[1]) if len(sides) == 2 else (1, 1, math.prod(sides))


def with_pixels(data: Dataset, shape: tuple[int, int, int], preprocess: Preprocess | None) -> Dataset:
    """The set as images of ``shape`` (channels, height, width); as it is where it holds images.

    Raises:
        UsageError: values of another number than the network takes, or a network that does not say its steps.
    """
    if data.inputs is None:
        return data
    sides = data.inputs.shape[1:]
    if math.prod(sides) != math.prod(shape):
        raise UsageError(
            f"{data.name} has samples of {' x '.join(map(str, sides))} values, the network takes {math.prod(shape)}"
            f" ({' x '.join(map(str, shape))})",
            hint="name a data set of that shape: --data",
        )
    if preprocess is None:
        raise UsageError(
            f"{data.name} holds values, and the program does not say how values become codes",
            likely="it was compiled by an earlier version",
            hint="name the network file instead, or compile it again",
        )
    channels, height, width = shape
    mean, std = (np.array(x, np.float32).reshape(1, -1, 1, 1) for x in (preprocess.mean, preprocess.std))
    pixels = np.empty((len(data.inputs), height, width, channels), np.uint8)
    step = max(1, PART // math.prod(shape))
    for at in range(0, len(pixels), step):
        values = data.inputs[at : at + step].reshape(-1, *shape)
        codes = np.clip(np.rint(255 * (values * std + mean)), 0, 255)
        pixels[at : at + step] = codes.astype(np.uint8).transpose(0, 2, 3, 1)
    return replace(data, images=pixels)
