"""The original network in floating point: the float column of a report, and activation ranges."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapping.network.graph import NetworkGraph, Preprocess, node_shapes
from mapping.operators.node import INPUT

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 128  # images that run together,
BATCH_VALUES = 1 << 23  # and at most so many values of their largest map, of which a few stand at once
"""Images in memory at a time."""


def float_logits(
    graph: NetworkGraph, images: NDArray[np.uint8], *, seen: Callable[[str, Tensor], None] | None = None
) -> NDArray[np.float32]:
    """Give the logits of ``images``, uint8 (n, height, width, channels) -> float32 (n, classes).

    Args:
        graph: of the network.
        images: uint8 (n, height, width, channels).
        seen: called with every node's name and output as it is made, which it may change in place.

    Returns:
        float32 (n, classes).

    Example:
        >>> float_logits(network.graph, network.calibration_images).shape
        (10, 3)
    """
    import torch

    last = graph.nodes[-1].name
    rows = [np.zeros((0, graph.width), np.float32)]
    with torch.inference_mode():
        rows += [forward(graph, batch, seen=seen)[last].numpy() for batch in _batches(graph, images)]
    return np.concatenate(rows)


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
        values[node.name] = node.forward([values[source] for source in node.inputs], stored)
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
