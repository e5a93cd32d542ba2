"""Residual blocks that can be left out: branches beside a shortcut that changes nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from mapping.network.graph import NetworkGraph
from mapping.operators.activations import Relu
from mapping.operators.joins import Add
from mapping.operators.node import Node


@dataclass(frozen=True, slots=True)
class ResidualBlock:
    """``add`` adds what the ``branch`` makes of ``source`` to ``source`` itself; ``end`` is the branch's last node."""

    add: str
    source: str
    end: str
    branch: frozenset[str]


def blocks_of_graph(graph: NetworkGraph) -> tuple[ResidualBlock, ...]:
    """The residual blocks of a graph, in its order."""
    nodes = {node.name: node for node in graph.nodes}
    readers: dict[str, set[str]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, set()).add(node.name)
    found = []
    for node in graph.nodes:
        if not isinstance(node, Add):
            continue
        for source, end in (node.inputs, node.inputs[::-1]):
            branch = _between(source, end, nodes)
            if branch and all(readers[name] <= branch | {node.name} for name in branch):
                found.append(ResidualBlock(node.name, source, end, branch))
                break
    return tuple(found)


def _between(source: str, end: str, nodes: dict[str, Node]) -> frozenset[str]:
    """Nodes from ``source`` to ``end``, if nothing else leads to ``end``; else none."""
    waiting, found = [end], set[str]()
    while waiting:
        name = waiting.pop()
        if name == source or name in found:
            continue
        if name not in nodes:
            return frozenset()
        found.add(name)
        waiting += nodes[name].inputs
    return frozenset(found)


def without_blocks(graph: NetworkGraph, blocks: Collection[ResidualBlock]) -> NetworkGraph:
    """The graph without some blocks; a ReLU of what is a ReLU's already goes, too."""
    gone = {name for block in blocks for name in block.branch} | {block.add for block in blocks}
    instead = {block.add: block.source for block in blocks}
    relus: set[str] = set()
    kept: list[Node] = []
    for node in graph.nodes:
        if node.name in gone:
            continue
        node = replace(node, inputs=tuple(_now(name, instead) for name in node.inputs))
        if isinstance(node, Relu) and node.inputs[0] in relus and node is not graph.nodes[-1]:
            instead[node.name] = node.inputs[0]
            continue
        if isinstance(node, Relu):
            relus.add(node.name)
        kept.append(node)
    return replace(graph, nodes=tuple(kept))


def _now(name: str, instead: dict[str, str]) -> str:
    while name in instead:
        name = instead[name]
    return name
