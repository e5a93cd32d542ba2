"""Relevance of channels, blocks and roundings to the logits of a network, without labels.

For the logits z and a mask m of a channel (1: there, 0: gone), the square of what taking it out changes is, to first
order, |∂z/∂m|². A random sum r·z with r of mean 0 and variance 1 has ∂(r·z)/∂m of that mean square (Hutchinson's
estimate), so one pass backwards gives all of them. Rounding that adds an error of variance v to every value of a map y
changes the logits by v Σ (∂(r·z)/∂y)². Both are in squared logits, so they can be weighed against each other.
Imports torch: import this module late.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mapping.network.float_run import network_input, stored
from mapping.network.graph import NetworkGraph, node_shapes
from mapping.operators.node import INPUT
from mapping.operators.products import Conv, Linear
from mapping.quantise.rounding import nearest_integers, weighted_scale
from mapping.quantise.scales import best_scale, code_limits
from search.pruned.blocks import ResidualBlock
from search.pruned.channels import Channels

TOGETHER = 64  # images of a pass
MOST_VALUES = 1 << 27  # of all maps of a pass
SAMPLE = 1 << 16  # values of a map that its rounding error is known from
BITS = range(2, 9)


@dataclass(frozen=True, slots=True)
class Relevance:
    """Mean squares of logits: lost with a class of channels, with a block, by rounding a map or a layer's weights.

    ``maps`` and ``weights`` hold an error for each number of bits in ``BITS``.
    """

    classes: Mapping[int, float]
    blocks: Mapping[str, float]
    maps: Mapping[str, Mapping[int, float]]
    weights: Mapping[str, Mapping[int, float]]


def relevance(
    graph: NetworkGraph,
    channels: Channels,
    blocks: Sequence[ResidualBlock],
    images: NDArray[np.uint8],
    seed: int,
) -> Relevance:
    """How much the classes depend on each channel, block and layer, on ``images``, uint8 (n, height, width,
    channels)."""
    draw = torch.Generator().manual_seed(seed)
    count = 1 + max((int(of.max()) for of in channels.of.values()), default=0)
    classes, block_square = torch.zeros(count, dtype=torch.float64), dict.fromkeys([b.add for b in blocks], 0.0)
    slopes: dict[str, float] = {}
    samples: dict[str, list[NDArray[np.float32]]] = {}
    power: dict[str, float] = {}
    ends = {block.end: block.add for block in blocks}
    together = max(1, min(TOGETHER, MOST_VALUES // sum(map(math.prod, node_shapes(graph).values()))))
    for start in range(0, len(images), together):
        batch = network_input(graph.preprocess, images[start : start + together])
        batch.requires_grad_()
        values, masks = {INPUT: batch}, dict[str, Tensor]()
        kept: dict[str, Tensor] = {INPUT: batch}
        for node in graph.nodes:
            found = node.forward([values[name] for name in node.inputs], stored)
            if isinstance(node, Conv | Linear) or node.name in ends:
                mask = torch.ones(len(batch), found.shape[1], *[1] * (found.ndim - 2), requires_grad=True)
                masks[node.name] = mask
                found = found * mask
            if found.requires_grad:
                found.retain_grad()
                kept[node.name] = found
            values[node.name] = found
        logits = values[graph.nodes[-1].name]
        centred = logits - logits.mean(1, keepdim=True)
        signs = torch.randint(0, 2, centred.shape, generator=draw) * 2.0 - 1.0
        (centred * signs).sum().backward()
        lost = torch.zeros(len(batch), count, dtype=torch.float64)
        for node in graph.nodes:
            held = masks.get(node.name)
            if held is not None and held.grad is not None:
                slope = held.grad.flatten(1).double()
                if isinstance(node, Conv | Linear):
                    lost.index_add_(1, torch.tensor(channels.of[node.name]), slope)
                if node.name in ends:
                    block_square[ends[node.name]] += float(slope.sum(1).square().sum())
        classes += lost.square().sum(0)
        for name, found in kept.items():
            if found.grad is None:
                continue
            slopes[name] = slopes.get(name, 0.0) + float(found.grad.double().square().sum())
            power[name] = power.get(name, 0.0) + float(found.detach().var()) * len(batch)
            flat = found.detach().flatten()
            step = max(1, flat.numel() * -(-len(images) // together) // SAMPLE)
            samples.setdefault(name, []).append(flat[::step].numpy().copy())  # of maps that go
    number = len(images)
    maps = {}
    for name, parts in samples.items():
        some = np.concatenate(parts)
        maps[name] = {bits: _rounding(some, bits) * slopes[name] / number for bits in BITS}
    weights = {}
    for node in graph.nodes:
        if isinstance(node, Conv | Linear):
            along = slopes[node.name] * power[node.name] / number**2
            weights[node.name] = {bits: _weight_share(node.weight, bits) * along for bits in BITS}
    return Relevance(
        {i: float(classes[i]) / number for i in range(count)},
        {name: square / number for name, square in block_square.items()},
        maps,
        weights,
    )


def _rounding(values: NDArray[np.float32], bits: int) -> float:
    """Mean square error of the best codes."""
    low, high = code_limits(bits, bool(values.min() < 0), False)
    largest = float(np.abs(values).max())
    scale = best_scale(values, largest, low, high)
    return float(np.mean((values - scale * np.clip(np.rint(values / scale), low, high)) ** 2))


def _weight_share(weight: NDArray[np.float32], bits: int) -> float:
    """Share of a layer's weights, squared, that the nearest integers miss."""
    top = (1 << (bits - 1)) - 1
    rows = weight.reshape(1, len(weight), -1).astype(np.float64)
    integers = np.arange(-top, top + 1)
    scale = weighted_scale(rows, np.ones((1, rows.shape[2])), integers)[:, :, None]
    return float(((rows - scale * nearest_integers(rows / scale, integers)) ** 2).sum() / max((rows**2).sum(), 1e-30))
