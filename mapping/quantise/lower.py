"""From graph to fused operations (``mapping.operators.fused``): what a node joins, and what it becomes on its own."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mapping.layout.tile import MatrixShape
from mapping.network.graph import NetworkGraph, node_shapes
from mapping.operators.activations import ClampOp, Grid
from mapping.operators.fused import FusedOp, MatrixOp
from mapping.operators.joins import Concat
from mapping.operators.node import INPUT, DigitalOp, Node, PassOp


def lower(graph: NetworkGraph) -> tuple[FusedOp, ...]:
    """Give the operations of a graph in order that lead to its logits; the last one gives them.

    A batch norm, or a scale and shift of each channel, joins the matrix product before it; one that
    follows anything else is a digital operation. An activation joins the operation before
    it (past pools and moves, with which it commutes) when nothing else reads that one.
    """
    shapes = node_shapes(graph)
    readers = Counter(source for node in graph.nodes for source in node.inputs)
    ops: dict[str, FusedOp] = {}  # by name, in order
    made_by = {INPUT: INPUT}  # graph node -> operation that gives its values
    own = input_grid(graph)
    for node in graph.nodes:
        if node is own:
            made_by[node.name] = INPUT
            continue
        sources = tuple(made_by[source] for source in node.inputs)
        target = _fused(node, sources[0], readers, ops)
        if target is None:
            if node.fills not in (None, 0.0):
                before = shapes[node.inputs[0]]  # behind a scale that holds it
                room = ClampOp(name=f"{node.name}.fill", inputs=sources, output_node=node.name, output_shape=before)
                ops[room.name], sources = room, (room.name,)
            target = node.lower(
                {"name": node.name, "inputs": sources, "output_node": node.name, "output_shape": shapes[node.name]},
                [shapes[source] for source in node.inputs],
            )
            joins = isinstance(node, Concat) and graph.outputs and node is graph.nodes[-1]
            if joins and isinstance(target, DigitalOp):
                target = dataclasses.replace(target, outputs=True)
        ops[target.name] = target
        made_by[node.name] = node.name if node.name in ops else sources[0]
    wanted, found = {made_by[graph.nodes[-1].name]}, []
    for op in reversed(ops.values()):
        if op.name in wanted:
            wanted.update(op.inputs)
            found.append(op)
    return tuple(reversed(found))


def input_grid(graph: NetworkGraph) -> Grid | None:
    """The codes of the input, where the network says them before anything else reads it."""
    readers = [node for node in graph.nodes if INPUT in node.inputs]
    return readers[0] if len(readers) == 1 and isinstance(readers[0], Grid) else None


def _fused(node: Node, source: str, readers: Counter[str], ops: dict[str, FusedOp]) -> FusedOp | None:
    """The operation before ``node``, changed so that it includes ``node``; None when they cannot join."""
    before = ops.get(source)
    if before is None or readers[node.inputs[0]] > 1 or before.grid is not None:
        return None
    if isinstance(node, Grid):
        return None if isinstance(before, PassOp) else dataclasses.replace(before, output_node=node.name, grid=node)
    if isinstance(before, MatrixOp) and before.sum_node == before.output_node:
        line = node.channel_line()
        if line is not None:
            return _folded(before, node.name, *line)
    if node.clamp is None:
        return None
    low, high = node.clamp
    while isinstance(before, PassOp):
        commutes = before.node.fills is None or low <= before.node.fills <= high
        if not commutes or readers[before.node.inputs[0]] > 1 or before.inputs[0] not in ops:
            return None
        before = ops[before.inputs[0]]
    if before.grid is not None:
        return None
    return dataclasses.replace(
        before, output_node=node.name, low=min(max(before.low, low), high), high=max(min(before.high, high), low)
    )


def _folded(op: MatrixOp, name: str, gain: NDArray[np.float64], shift: NDArray[np.float64]) -> MatrixOp:
    """gain · (W x + b) + shift as one W and b, under the values of the node ``name``."""
    return dataclasses.replace(op, gain=op.gain * gain, bias=op.bias * gain + shift, sum_node=name, output_node=name)


def matrix_shape(op: MatrixOp) -> MatrixShape:
    """Size of a layer's matrix, as it is laid out."""
    groups, outputs, inputs = op.stored.shape
    kernel = math.prod(op.window.kernel) if op.window else 1
    size = (op.window.out_height, op.window.out_width) if op.window else (1, 1)
    return MatrixShape(op.name, groups * inputs, groups * outputs, groups, kernel, *size)


def logits_op(ops: Sequence[FusedOp]) -> str:
    """Name of the operation that gives the logits their scale: the last one before operations that only move codes."""
    by_name = {op.name: op for op in ops}
    op = ops[-1]
    while isinstance(op, PassOp) and op.inputs[0] in by_name:
        op = by_name[op.inputs[0]]
    return op.name
