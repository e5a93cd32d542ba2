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
from mapping.operators.activations import HardTanh, Relu, Relu6
from mapping.operators.affine import BatchNorm
from mapping.operators.joins import Add, Concat
from mapping.operators.moves import Flatten, Slice
from mapping.operators.node import INPUT, Node
from mapping.operators.padding import PadChannels, PadMap
from mapping.operators.pools import AvgPool, GlobalAvgPool, MaxPool
from mapping.operators.products import Conv, Linear
from mapping.operators.step import Shape
from search.errors import SearchError

SAME = (BatchNorm, Relu, Relu6, HardTanh, MaxPool, AvgPool, PadMap, GlobalAvgPool)
KNOWN = (*SAME, Conv, Linear, Add, Concat, Flatten, PadChannels, Slice)


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
        return np.flatnonzero(~np.isin(self.of[name], list(without)))


def channels_of(graph: NetworkGraph) -> Channels:
    """Find the classes and groups of a graph.

    Raises:
        SearchError: nodes of kinds whose channels are not understood.
    """
    if strange := [node for node in graph.nodes if not isinstance(node, KNOWN)]:
        raise SearchError(
            f"{strange[0].name} is of the kind {type(strange[0]).__name__}, whose channels cannot be taken apart: "
            "networks of convolutions, linear layers, batch norms, clamps, pools, additions and joins can be pruned"
        )
    shapes, classes = node_shapes(graph), _Classes()
    of = {INPUT: classes.new(graph.input_shape[0], fixed=True)}
    for node in graph.nodes:
        of[node.name] = _outputs(node, [of[name] for name in node.inputs], [shapes[n] for n in node.inputs], classes)
    classes.fix(of[graph.nodes[-1].name])
    found = {name: np.array([classes.root(a) for a in atoms], np.int64) for name, atoms in of.items()}
    places: dict[int, list[str]] = {}
    for name, roots in found.items():
        for root in np.unique(roots):
            places.setdefault(int(root), []).append(name)
    groups: dict[tuple[str, ...], list[int]] = {}
    for root, names in places.items():
        if root not in classes.fixed_roots():
            groups.setdefault(tuple(names), []).append(root)
    return Channels(found, tuple(ChannelGroup(tuple(c), names) for names, c in groups.items() if len(c) > 1))


class _Classes:
    """Union of atoms."""

    def __init__(self) -> None:
        self.above: list[int] = []
        self.fixed: set[int] = set()

    def new(self, count: int, *, fixed: bool = False) -> list[int]:
        made = list(range(len(self.above), len(self.above) + count))
        self.above += made
        if fixed:
            self.fixed.update(made)
        return made

    def root(self, atom: int) -> int:
        while self.above[atom] != atom:
            self.above[atom] = self.above[self.above[atom]]
            atom = self.above[atom]
        return atom

    def join(self, one: Sequence[int], other: Sequence[int]) -> None:
        for a, b in zip(one, other, strict=True):
            self.above[self.root(b)] = self.root(a)

    def fix(self, atoms: Sequence[int]) -> None:
        self.fixed.update(atoms)

    def fixed_roots(self) -> set[int]:
        return {self.root(atom) for atom in self.fixed}


def _outputs(node: Node, sources: Sequence[list[int]], shapes: Sequence[Shape], classes: _Classes) -> list[int]:
    first = sources[0]
    match node:
        case Conv(groups=1) | Linear():
            return classes.new(len(node.weight))
        case Conv():
            made = classes.new(len(node.weight))
            if node.groups == len(first) == len(made):
                classes.join(first, made)
            else:
                classes.fix([*first, *made])
            return made
        case Add():
            other = sources[1]
            if len(first) == len(other) and len(shapes[0]) == len(shapes[1]):
                classes.join(first, other)
                return first
            classes.fix([*first, *other])
            return max(first, other, key=len)
        case Concat():
            if node.axis != 0:
                classes.fix([atom for source in sources for atom in source])
                return first
            return [atom for source in sources for atom in source]
        case Flatten():
            places = int(np.prod(shapes[0][1:], dtype=np.int64))
            return [atom for atom in first for _ in range(places)]
        case PadChannels():
            return [*classes.new(node.before), *first, *classes.new(node.after)]
        case Slice():
            return first[node.start : node.stop]
    return first


def without_channels(graph: NetworkGraph, channels: Channels, without: Collection[int]) -> NetworkGraph:
    """The graph without the channels of some classes, weights as they are."""
    kept = {name: channels.kept(name, without) for name in channels.of}
    return replace(graph, nodes=tuple(_narrowed(node, channels, kept) for node in graph.nodes))


def _narrowed(node: Node, channels: Channels, kept: Mapping[str, NDArray[np.int64]]) -> Node:
    own, given = kept[node.name], kept[node.inputs[0]]
    match node:
        case Conv() | Linear():
            weight = node.weight[own]
            grouped = isinstance(node, Conv) and node.groups > 1
            weight = np.ascontiguousarray(weight if grouped else weight[:, given])
            bias = None if node.bias is None else node.bias[own]
            if isinstance(node, Linear):
                return replace(node, weight=weight, bias=bias)
            groups = len(own) if grouped and node.groups == len(channels.of[node.name]) else node.groups
            return replace(node, weight=weight, bias=bias, groups=groups)
        case BatchNorm():
            parts = {field: getattr(node, field)[own] for field in ("scale", "shift", "mean", "variance")}
            return replace(node, **parts)
        case PadChannels():
            whole = len(channels.of[node.name])
            before = int((own < node.before).sum())
            return replace(node, before=before, after=int((own >= whole - node.after).sum()))
        case Slice():
            stop = len(channels.of[node.inputs[0]]) if node.stop is None else node.stop
            start = int((given < node.start).sum())
            return replace(
                node,
                start=start,
                stop=None if node.stop is None else start + int(((given >= node.start) & (given < stop)).sum()),
            )
    return node
