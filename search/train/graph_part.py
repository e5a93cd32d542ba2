"""Parts of a network's graph as torch modules, and where a graph can be cut. Imports torch: import this module late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mapping.network.graph import Preprocess
from mapping.operators.affine import BatchNorm
from mapping.operators.node import Array, Node
from mapping.operators.products import Conv

ARRAYS = ("weight", "bias", "scale", "shift", "mean", "variance")  # fields of nodes


class GraphPart(nn.Module):
    """Consecutive nodes of a graph as a module: the arrays are buffers, or parameters where they are ``trained``.

    Statistics of batch norms are buffers always.
    """

    def __init__(self, nodes: Sequence[Node], source: str, *, trained: bool = False) -> None:
        super().__init__()
        self.nodes, self.source = tuple(nodes), source
        for number, node in enumerate(nodes):
            for field in ARRAYS:
                if getattr(node, field, None) is not None:
                    held = torch.tensor(getattr(node, field))
                    held = held.contiguous(memory_format=torch.channels_last) if held.ndim == 4 else held
                    if trained and field not in ("mean", "variance"):
                        self.register_parameter(f"{field}{number}", nn.Parameter(held))
                    else:
                        self.register_buffer(f"{field}{number}", held)

    def forward(self, x: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        """The last node's output; ``seen`` gets those of all nodes."""
        values = {self.source: x}
        for number, node in enumerate(self.nodes):

            def held(array: Array, number: int = number, node: Node = node) -> Tensor:
                found: Tensor = getattr(self, _field(node, array) + str(number))
                return found

            x = node.forward([values[name] for name in node.inputs], held)
            if x.ndim == 4:  # a convolution of one channel leaves it open
                x = x.contiguous(memory_format=torch.channels_last)
            values[node.name] = x
        if seen is not None:
            seen.update(values)
        return x

    def graph_nodes(self) -> tuple[Node, ...]:
        """The nodes with the arrays of now."""
        state: dict[str, Any] = {
            name: np.asarray(t.detach().cpu().contiguous().float()) for name, t in self.state_dict().items()
        }
        return tuple(
            replace(node, **{field: state[f"{field}{i}"] for field in ARRAYS if f"{field}{i}" in state})
            for i, node in enumerate(self.nodes)
        )


def _field(node: Node, array: Array) -> str:
    """Name of the field that holds an array."""
    return next(field for field in ARRAYS if getattr(node, field, None) is array)


class PixelModule(nn.Module):
    """A module that takes pixels 0..1 and standardises them as its network wants."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, -1, 1, 1))

    def standardised(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean) / self.std


class PixelGraph(PixelModule):
    """A graph that takes pixels 0..1."""

    def __init__(self, part: GraphPart, preprocess: Preprocess) -> None:
        super().__init__(preprocess)
        self.part = part

    def forward(self, pixels: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        logits: Tensor = self.part(self.standardised(pixels), seen)
        return logits


def merged(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Batch norms in the convolutions before them, where nothing else reads those: half the passes over the maps."""
    readers = Counter(name for node in nodes for name in node.inputs)
    made: dict[str, Node] = {}
    for node in nodes:
        before = made.get(node.inputs[0])
        if isinstance(node, BatchNorm) and isinstance(before, Conv) and readers[before.name] == 1:
            gain, shift = node.channel_line()
            bias = shift if before.bias is None else before.bias * gain + shift
            weight = (before.weight * gain[:, None, None, None]).astype(np.float32)
            del made[before.name]
            node = replace(before, name=node.name, weight=weight, bias=bias.astype(np.float32))
        made[node.name] = node
    return tuple(made.values())


def single_maps(nodes: Sequence[Node], source: str) -> list[int]:
    """Indices of nodes after which nothing else is alive."""
    last = {name: i for i, node in enumerate(nodes) for name in node.inputs}
    alive_to, found = last.get(source, -1), []
    for i, node in enumerate(nodes):
        if alive_to <= i:
            found.append(i)
        alive_to = max(alive_to, last.get(node.name, -1))
    return found
