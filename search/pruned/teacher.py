"""The graph that pruned networks are taken from: batch norms folded into the layers before them, whose names stay."""

from __future__ import annotations

from dataclasses import replace

from mapping.network.graph import NetworkGraph
from mapping.operators.affine import BatchNorm
from mapping.operators.products import Conv
from search.train.graph_part import merged


def folded(graph: NetworkGraph) -> NetworkGraph:
    """The same network with its batch norms in the convolutions before them, wherever nothing else reads those."""
    nodes = merged(graph.nodes)
    there = {node.name for node in nodes}
    names = {
        node.name: node.inputs[0] for node in graph.nodes if isinstance(node, BatchNorm) and node.inputs[0] not in there
    }
    own = {node.name for node in nodes if isinstance(node, Conv)} & names.keys()
    found = {name: names[name] for name in own}
    return replace(
        graph,
        nodes=tuple(
            replace(node, name=found.get(node.name, node.name), inputs=tuple(found.get(i, i) for i in node.inputs))
            for node in nodes
        ),
    )
