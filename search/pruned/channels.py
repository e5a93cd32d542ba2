"""Channels that go or stay together, and a graph without some of them.

A channel of a convolution is the same channel wherever it goes: through activations and pools, under the channel that
it is added to, past zero channels that a shortcut pads. Such channels are one *class*; taking a class out removes it
from every layer. Classes that pass through the same nodes are a *group*: only how many of them stay moves a price.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mapping.network.graph import NetworkGraph, node_shapes
from mapping.operators.channels import ChannelClasses, KeptChannels
from mapping.operators.node import INPUT
from search.errors import SearchError


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Classes that pass through the same ``nodes``; any of them may go, all but one."""

    classes: tuple[int, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Channels:
    """Class of every channel (or feature) of every node and of ``"input"``; classes of no group never go."""

    of: Mapping[str, NDArray[np.int64]]
    groups: tuple[ChannelGroup, ...]

    def kept(self, name: str, without: Collection[int]) -> NDArray[np.int64]:
        """Indices of the channels of a node that stay."""
        return np.array([i for i, of in enumerate(self.of[name].tolist()) if of not in without], np.int64)


def channels_of(graph: NetworkGraph) -> Channels:
    """Find the classes and groups of a graph.

    Raises:
        SearchError: nodes of kinds whose channels are not understood.
    """
    shapes, classes = node_shapes(graph), ChannelClasses()
    of: dict[str, Sequence[int]] = {INPUT: classes.new(graph.input_shape[0], fixed=True)}
    for node in graph.nodes:
        channels = node.channels([of[name] for name in node.inputs], [shapes[name] for name in node.inputs], classes)
        if channels is None:
            raise SearchError(
                f"{node.name} is of the kind {type(node).__name__}, whose channels cannot be taken apart: "
                "networks of convolutions, linear layers, batch norms, clamps, pools, resampling, additions and joins "
                "can be pruned"
            )
        of[node.name] = channels
    classes.fix(of[graph.nodes[-1].name])
    found = {name: np.array([classes.root(a) for a in channels], np.int64) for name, channels in of.items()}
    places: dict[int, list[str]] = {}
    for name, roots in found.items():
        for root in np.unique(roots):
            places.setdefault(int(root), []).append(name)
    groups: dict[tuple[str, ...], list[int]] = {}
    for root, names in places.items():
        if root not in classes.fixed_roots():
            groups.setdefault(tuple(names), []).append(root)
    return Channels(found, tuple(ChannelGroup(tuple(c), names) for names, c in groups.items() if len(c) > 1))


def without_channels(graph: NetworkGraph, channels: Channels, without: Collection[int]) -> NetworkGraph:
    """The graph without the channels of some classes, weights as they are."""
    kept = {name: KeptChannels(channels.kept(name, without), len(of)) for name, of in channels.of.items()}
    nodes = (node.without_channels(kept[node.inputs[0]], kept[node.name]) for node in graph.nodes)
    return replace(graph, nodes=tuple(nodes))
