"""The original network in floating point: the float column of a report, and activation ranges."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapping.network.digital_nodes import (
    FILL,
    Affine,
    Grid,
    MatMul,
    Norm,
    Permute,
    PRelu,
    Product,
    Reduce,
    Resample,
    Reshape,
    Softmax,
    Subtract,
    Take,
    Unary,
)
from mapping.network.functions import FUNCTIONS
from mapping.network.graph import NetworkGraph, Preprocess, node_shapes
from mapping.network.nodes import (
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
    Node,
    PadChannels,
    PadMap,
    Relu,
    Relu6,
    Slice,
)

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 128  # images that run together,
BATCH_VALUES = 1 << 23  # and at most so many values of their largest map, of which a few stand at once
"""Images in memory at a time."""


def float_logits(graph: NetworkGraph, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give the logits of ``images``, uint8 (n, height, width, channels) -> float32 (n, classes)."""
    import torch

    last = graph.nodes[-1].name
    rows = [np.zeros((0, graph.width), np.float32)]
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


def forward(
    graph: NetworkGraph,
    batch: Tensor,
    *,
    keep_all: bool = False,
    seen: Callable[[str, Tensor], None] | None = None,
) -> dict[str, Tensor]:
    """Run one preprocessed batch (n, channels, height, width); give outputs by node name.

    Without ``keep_all`` an output is dropped after its last use and only the logits remain. ``seen`` is called with
    every node's name (and ``"input"``) and output as it is made.
    """
    last_use = {source: node.name for node in graph.nodes for source in node.inputs}
    values = {INPUT: batch}
    if seen is not None:
        seen(INPUT, batch)
    for node in graph.nodes:
        values[node.name] = apply(node, [values[source] for source in node.inputs], stored)
        if seen is not None:
            seen(node.name, values[node.name])
        if not keep_all:
            for source in set(node.inputs):
                if last_use[source] == node.name:
                    del values[source]
    return values if keep_all else {graph.nodes[-1].name: values[graph.nodes[-1].name]}


def _batches(graph: NetworkGraph, images: NDArray[np.uint8]) -> Iterator[Tensor]:
    channels, height, width = graph.input_shape
    if images.dtype != np.uint8 or images.shape[1:] != (height, width, channels):
        raise ValueError(f"images {images.dtype} {images.shape} are not uint8 (n, {height}, {width}, {channels})")
    largest = max(math.prod(shape) for shape in node_shapes(graph).values())
    each = max(1, min(BATCH, BATCH_VALUES // largest))
    for start in range(0, len(images), each):
        yield network_input(graph.preprocess, images[start : start + each])


def stored(values: NDArray[np.float32]) -> Tensor:
    """A node's array as a tensor."""
    import torch

    return torch.tensor(values)


def apply(node: Node, inputs: Sequence[Tensor], tensor: Callable[[NDArray[np.float32]], Tensor]) -> Tensor:
    """Output of one node; ``tensor`` gives its arrays (on another device, say)."""
    import torch
    from torch.nn import functional

    if isinstance(node, Add | Subtract | Product | MatMul):
        inputs = _of_one_rank(inputs)
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
            return torch.cat(list(inputs), 1 + node.axis)
        case Flatten():
            return x.flatten(1)
        case PadChannels():
            before, after = (x.new_zeros(x.shape[0], n, *x.shape[2:]) for n in (node.before, node.after))
            return torch.cat([before, x, after], 1)
        case PadMap():
            return functional.pad(x, (node.left, node.right, node.top, node.bottom))
        case Slice():
            return x[:, node.start : node.stop, :: node.step[0], :: node.step[1]]
    return _digital(node, inputs, tensor)


def _of_one_rank(inputs: Sequence[Tensor]) -> list[Tensor]:
    """With axes of size 1 behind the batch where others have more."""
    rank = max(x.dim() for x in inputs)
    return [x.reshape(x.shape[0], *[1] * (rank - x.dim()), *x.shape[1:]) for x in inputs]


def _digital(node: Node, inputs: Sequence[Tensor], tensor: Callable[[NDArray[np.float32]], Tensor]) -> Tensor:
    """Output of a node that no array multiplies (``mapping.network.digital_nodes``)."""
    import torch

    x = inputs[0]
    match node:
        case Unary():
            return FUNCTIONS[node.function].apply(x, node.alpha, node.beta)
        case PRelu():
            return torch.where(x < 0, x * tensor(node.slope), x)
        case Grid():
            return (x / node.scale).round().clamp(node.low, node.high) * node.scale
        case Affine():
            return x * tensor(node.scale) + tensor(node.shift)
        case Subtract():
            return x - inputs[1]
        case Product():
            return x * inputs[1]
        case MatMul():
            return torch.matmul(x, inputs[1])
        case Reduce():
            axes = [1 + axis for axis in node.axes]
            reduced = {"mean": torch.mean, "sum": torch.sum, "max": torch.amax, "min": torch.amin}[node.operation]
            result: Tensor = reduced(x, axes, keepdim=True)  # type: ignore[operator]
            if node.keep:
                return result
            left = [size for axis, size in enumerate(x.shape) if axis == 0 or axis - 1 not in node.axes]
            return result.reshape(left if len(left) > 1 else [*left, 1])
        case Reshape():
            return x.reshape(x.shape[0], *node.shape)
        case Permute():
            return x.permute(0, *(1 + axis for axis in node.order))
        case Take():
            index = torch.tensor(node.index, device=x.device)
            taken = x.index_select(1 + node.axis, index.clamp_min(0))
            if min(node.index) == FILL:
                at = index.view(-1, *[1] * (x.dim() - 2 - node.axis))
                taken = torch.where(at < 0, torch.tensor(node.fill, dtype=x.dtype, device=x.device), taken)
            return taken
        case Resample():
            return tensor(node.rows) @ x @ tensor(node.columns).T
        case Norm():
            axes = [1 + axis for axis in node.axes]
            centred = x - x.mean(axes, keepdim=True) if node.centre else x
            return centred * (centred.square().mean(axes, keepdim=True) + node.eps).rsqrt() * tensor(
                node.scale
            ) + tensor(node.shift)
        case Softmax():
            return x.softmax(1 + node.axis)
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
