"""The original network in floating point: the float column of a report, and activation ranges."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapping.network.graph import (
    INPUT,
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Flatten,
    GlobalAvgPool,
    GraphError,
    HardTanh,
    Linear,
    MaxPool,
    NetworkGraph,
    Node,
    PadChannels,
    PadMap,
    Preprocess,
    Relu,
    Relu6,
    Slice,
)

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 128
"""Images in memory at a time."""


def float_logits(graph: NetworkGraph, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give the logits of ``images``, uint8 (n, height, width, channels) -> float32 (n, classes)."""
    import torch

    last = graph.nodes[-1].name
    rows = [np.zeros((0, len(graph.classes)), np.float32)]
    with torch.inference_mode():
        rows += [forward(graph, batch)[last].numpy() for batch in _batches(graph, images)]
    return np.concatenate(rows)


def float_activations(graph: NetworkGraph, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Give every node's output (and ``"input"``) for all images: float32 (n, ...) by node name.

    All of it is held in memory: a few hundred images at most.
    """
    import torch

    parts: dict[str, list[NDArray[np.float32]]] = {}
    with torch.inference_mode():
        for batch in _batches(graph, images):
            for name, values in forward(graph, batch, keep_all=True).items():
                parts.setdefault(name, []).append(values.contiguous().numpy())
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def network_input(preprocess: Preprocess, images: NDArray[np.uint8]) -> Tensor:
    """Give (pixel / 255 − mean) / std as a float32 tensor (n, channels, height, width), channels last."""
    import torch

    pixels = torch.tensor(images).permute(0, 3, 1, 2).to(torch.float32)
    mean, std = (
        torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1) for values in (preprocess.mean, preprocess.std)
    )
    return ((pixels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def forward(graph: NetworkGraph, batch: Tensor, *, keep_all: bool = False) -> dict[str, Tensor]:
    """Run one preprocessed batch (n, channels, height, width); give outputs by node name.

    Without ``keep_all`` an output is dropped after its last use and only the logits remain.
    """
    last_use = {source: node.name for node in graph.nodes for source in node.inputs}
    values = {INPUT: batch}
    for node in graph.nodes:
        values[node.name] = apply(node, [values[source] for source in node.inputs], stored)
        if not keep_all:
            for source in set(node.inputs):
                if last_use[source] == node.name:
                    del values[source]
    return values if keep_all else {graph.nodes[-1].name: values[graph.nodes[-1].name]}


def _batches(graph: NetworkGraph, images: NDArray[np.uint8]) -> Iterator[Tensor]:
    channels, height, width = graph.input_shape
    if images.dtype != np.uint8 or images.shape[1:] != (height, width, channels):
        raise ValueError(f"images {images.dtype} {images.shape} are not uint8 (n, {height}, {width}, {channels})")
    for start in range(0, len(images), BATCH):
        yield network_input(graph.preprocess, images[start : start + BATCH])


def stored(values: NDArray[np.float32]) -> Tensor:
    """A node's array as a tensor."""
    import torch

    return torch.tensor(values)


def apply(node: Node, inputs: Sequence[Tensor], tensor: Callable[[NDArray[np.float32]], Tensor]) -> Tensor:
    """Output of one node; ``tensor`` gives its arrays (on another device, say)."""
    import torch
    from torch.nn import functional

    x = inputs[0]
    match node:
        case Conv():
            weight = tensor(node.weight).contiguous(memory_format=torch.channels_last)
            bias = None if node.bias is None else tensor(node.bias)
            return functional.conv2d(x, weight, bias, node.stride, node.padding, node.dilation, node.groups)
        case Linear():
            return functional.linear(x, tensor(node.weight), None if node.bias is None else tensor(node.bias))
        case BatchNorm():
            mean, variance, scale, shift = map(tensor, (node.mean, node.variance, node.scale, node.shift))
            return functional.batch_norm(x, mean, variance, scale, shift, eps=node.eps)
        case Relu():
            return x.relu()
        case Relu6():
            return x.clamp(0, 6)
        case HardTanh():
            return x.clamp(node.low, node.high)
        case MaxPool():
            return _max_pool(x, node)
        case AvgPool():
            return functional.avg_pool2d(x, node.kernel, node.stride, node.padding)
        case GlobalAvgPool():
            return x.mean((2, 3))
        case Add():
            return x + inputs[1]
        case Concat():
            return torch.cat(list(inputs), 1)
        case Flatten():
            return x.flatten(1)
        case PadChannels():
            before, after = (x.new_zeros(x.shape[0], n, *x.shape[2:]) for n in (node.before, node.after))
            return torch.cat([before, x, after], 1)
        case PadMap():
            return functional.pad(x, (node.left, node.right, node.top, node.bottom))
        case Slice():
            return x[:, node.start : node.stop, :: node.step[0], :: node.step[1]]
    raise GraphError(node.name, f"unknown kind {type(node).__name__}")


def _max_pool(x: Tensor, node: MaxPool) -> Tensor:
    """Windows side by side as maxima of strided maps: torch's own pooling of bfloat16 takes ten times as long."""
    import torch
    from torch.nn import functional

    (high, wide), (height, width) = node.kernel, x.shape[2:]
    if node.stride != node.kernel or node.padding != (0, 0) or height % high or width % wide:
        return functional.max_pool2d(x, node.kernel, node.stride, node.padding)
    maps = [x[:, :, i::high, j::wide] for i in range(high) for j in range(wide)]
    return functools.reduce(torch.maximum, maps)
