"""Volumes (n, channels, depth, height, width): every depth is a map with its neighbours as more channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import pad, permute, reshape, take
from mapping.network.compose.products import convolution, floats
from mapping.network.compose.refusal import fit, need
from mapping.network.compose.statistics import reduce
from mapping.network.compose.values import Operand
from mapping.network.compose.windows import average_pool, max_pool, pooled_size
from mapping.operators.node import Array

_BEFORE = "torch.nn.functional.pad before it"


def convolution_of_volumes(
    c: Composer, x: Operand, weight: Array, bias: Array | None, *, stride: Sequence[int],
    pads: Sequence[tuple[int, int]], dilation: Sequence[int], groups: int, name: str = "",
) -> Operand:  # fmt: skip
    """A three-dimensional convolution; ``weight`` (out, in / groups, depth, height, width)."""
    fit(len(x.shape) == 5 == weight.ndim, f"weight {weight.shape} for an input {x.shape}")
    outputs, inputs, deep, *kernel = weight.shape
    if any(pads[0]):
        x = pad(c, x, [(0, 0), (0, 0), pads[0], (0, 0), (0, 0)])
    images, channels = x.shape[:2]
    opened = _windows(c, x, deep, stride[0], dilation[0])  # (n, channels, new depth, deep, height, width)
    places = opened.shape[2]
    frames = permute(c, opened, (0, 2, 1, 3, 4, 5))
    frames = reshape(c, frames, (images * places, channels * deep, *x.shape[3:]))
    found: Operand = convolution(
        c, frames, floats(weight.reshape(outputs, inputs * deep, *kernel)), bias,
        stride=stride[1:], pads=pads[1:], dilation=dilation[1:], groups=groups, name=name,
    )  # fmt: skip
    return _deep(c, found, images)


def pool_of_volumes(
    c: Composer, x: Operand, *, kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int],
    dilation: Sequence[int], largest: bool,
) -> Operand:  # fmt: skip
    """Largest or mean of windows; means without padding."""
    need(len(x.shape) == 5, f"volumes {x.shape}", "(n, channels, depth, height, width)")
    need(largest or not any(pads), "means of padded volumes", _BEFORE)
    need(not pads[0], "pooling of volumes that are padded in depth", _BEFORE)
    images = x.shape[0]
    if tuple(kernel[1:]) != (1, 1) or tuple(stride[1:]) != (1, 1):
        frames = reshape(c, permute(c, x, (0, 2, 1, 3, 4)), (images * x.shape[2], x.shape[1], *x.shape[3:]))
        around = [(p, p) for p in pads[1:]]
        if largest:
            frames = max_pool(
                c, frames, kernel=kernel[1:], stride=stride[1:], pads=around, dilation=dilation[1:], ceil=False
            )
        else:
            frames = average_pool(
                c, frames, kernel=kernel[1:], stride=stride[1:], pads=around, ceil=False, count_padding=True
            )
        x = _deep(c, frames, images)
    return reduce(c, _windows(c, x, kernel[0], stride[0], dilation[0]), "max" if largest else "mean", [3])


def _windows(c: Composer, x: Operand, size: int, step: int, gap: int) -> Operand:
    """(n, channels, windows, size, height, width)."""
    count = pooled_size(x.shape[2], size, step, (0, 0), gap, False)
    places = np.arange(count)[:, None] * step + np.arange(size) * gap
    taken = take(c, x, places.ravel().tolist(), 2)
    return reshape(c, taken, (*x.shape[:2], count, size, *x.shape[3:]))


def _deep(c: Composer, frames: Operand, images: int) -> Operand:
    """Frames (n · depth, channels, height, width) as volumes."""
    split = reshape(c, frames, (images, frames.shape[0] // images, *frames.shape[1:]))
    return permute(c, split, (0, 2, 1, 3, 4))
