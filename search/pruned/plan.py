"""What a pruned network leaves out of its teacher, and its bits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from cim.cost.workload import Workload
from mapping.bits import LayerBits
from mapping.network.graph import NetworkGraph
from mapping.operators.products import Conv
from mapping.workload import unplaced_workload
from search.pruned.blocks import ResidualBlock, without_blocks
from search.pruned.channels import Channels, without_channels


@dataclass(frozen=True, slots=True)
class PruningPlan:
    """``classes`` of channels and ``blocks`` (names of their additions) that go, and the bits of what stays.

    ``points``: convolutions of which only the centre of the kernel stays.
    """

    weight_bits: int
    activation_bits: int
    classes: frozenset[int] = frozenset()
    blocks: frozenset[str] = frozenset()
    layer_bits: Mapping[str, LayerBits] = field(default_factory=dict)
    points: frozenset[str] = frozenset()

    @property
    def key(self) -> tuple[object, ...]:
        """Everything by which two plans differ, as one comparable value."""
        own = sorted((name, bits.weight or 0, bits.activation or 0) for name, bits in self.layer_bits.items())
        return self.weight_bits, self.activation_bits, self.classes, self.blocks, self.points, tuple(own)

    @property
    def text(self) -> str:
        """The plan in a few words, for a line of progress."""
        parts = [f"W{self.weight_bits}A{self.activation_bits}"]
        parts += [f"{len(self.blocks)} blocks less"] if self.blocks else []
        parts += [f"{len(self.points)} kernels 1 x 1"] if self.points else []
        return ", ".join([*parts, f"{len(self.classes)} channels less"])


@dataclass(frozen=True, slots=True)
class Teacher:
    """A network with its batch norms folded, and what can be taken from it."""

    graph: NetworkGraph
    channels: Channels
    blocks: tuple[ResidualBlock, ...]

    def narrowed(self, plan: PruningPlan) -> NetworkGraph:
        """The graph of a pruned network, with the weights of its teacher."""
        narrow = with_points(without_channels(self.graph, self.channels, plan.classes), plan.points)
        return without_blocks(narrow, [block for block in self.blocks if block.add in plan.blocks])

    def bits_in(self, plan: PruningPlan, graph: NetworkGraph) -> dict[str, LayerBits]:
        """Bits of single layers that are still there."""
        there = {node.name for node in graph.nodes}
        return {name: bits for name, bits in plan.layer_bits.items() if name in there}

    def workload(self, plan: PruningPlan) -> Workload:
        graph = self.narrowed(plan)
        return unplaced_workload(
            graph,
            weight_bits=plan.weight_bits,
            activation_bits=plan.activation_bits,
            layer_bits=self.bits_in(plan, graph),
        )


def centred(node: Conv) -> bool:
    """Whether the centre of the kernel alone, unpadded, gives a map of the same size."""
    sizes = zip(node.weight.shape[2:], node.padding, node.dilation, strict=True)
    return node.weight[0, 0].size > 1 and all(k % 2 and p == k // 2 * d for k, p, d in sizes)


def with_points(graph: NetworkGraph, points: Collection[str]) -> NetworkGraph:
    """The graph with some kernels cut down to their centres."""
    return replace(
        graph,
        nodes=tuple(_point(node) if isinstance(node, Conv) and node.name in points else node for node in graph.nodes),
    )


def _point(node: Conv) -> Conv:
    row, column = (k // 2 for k in node.weight.shape[2:])
    weight = np.ascontiguousarray(node.weight[:, :, row : row + 1, column : column + 1])
    return replace(node, weight=weight, padding=(0, 0), dilation=(1, 1))


def with_bits(plan: PruningPlan, layer: str, bits: LayerBits) -> PruningPlan:
    """The plan with other bits of one layer."""
    return replace(plan, layer_bits={**plan.layer_bits, layer: bits})
