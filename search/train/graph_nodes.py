"""Fused operations as ordinary graph nodes, the ends of their codes as clamps behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mapping.operators.activations import ClampOp, Grid, HardTanh, Relu
from mapping.operators.fused import FusedOp, MatrixOp
from mapping.operators.node import INPUT, Node, NodeOp
from mapping.operators.products import Conv, Linear

Array = NDArray[np.float32]
Ends = tuple[float, float]
"""Least and largest value of a result; infinite where nothing bounds it."""


def nodes_of(
    ops: Sequence[FusedOp],
    weights: Mapping[str, tuple[Array, Array]],
    ends: Mapping[str, Ends | None],
    grid: Grid | None = None,
) -> tuple[Node, ...]:
    """Nodes under the names of the operations, so that bits of single layers still find theirs. Codes that the network
    itself says stay as it says them.

    Args:
        weights: by matrix product, (outputs, …) and the bias of each output.
        ends: by operation; None: its codes only move.
        grid: codes of the input, where the network says them.
    """
    nodes: list[Node] = []
    made = {INPUT: INPUT}  # operation -> node that gives its result
    taken = {op.name for op in ops}
    if grid is not None:
        nodes.append(replace(grid, name=_free(grid.name, taken)))
        made[INPUT] = nodes[0].name
    for op in ops:
        sources = tuple(made[name] for name in op.inputs)
        low, high = ends[op.name] or (-math.inf, math.inf)
        if isinstance(op, MatrixOp):
            nodes.append(_matrix(op, sources, *weights[op.name]))
        elif isinstance(op, NodeOp):
            nodes.append(op.as_node(sources))
        source = sources[0] if isinstance(op, ClampOp) else op.name
        if (low, high) != (-math.inf, math.inf):
            name = op.name if isinstance(op, ClampOp) else _free(f"{op.name}_ends", taken)
            nodes.append(_clamp(name, (source,), low, high))
            source = name
        if op.grid is not None:
            name = op.name if source == sources[0] else _free(f"{op.name}_codes", taken)
            codes = op.grid
            nodes.append(Grid(name=name, inputs=(source,), scale=codes.scale, low=codes.low, high=codes.high))
            source = name
        made[op.name] = source
    return tuple(nodes)


def _matrix(op: MatrixOp, sources: tuple[str, ...], weight: Array, bias: Array) -> Node:
    if op.window is None:
        return Linear(name=op.name, inputs=sources, weight=weight, bias=bias)
    window = op.window
    return Conv(
        name=op.name,
        inputs=sources,
        weight=weight,
        bias=bias,
        stride=window.stride,
        padding=window.padding,
        dilation=window.dilation,
        groups=op.stored.shape[0],
    )


def _clamp(name: str, sources: tuple[str, ...], low: float, high: float) -> Node:
    if math.isinf(high):
        if low != 0.0:
            raise ValueError(f"{name}: an activation with the lower end {low} and no upper end is unknown")
        return Relu(name=name, inputs=sources)
    return HardTanh(name=name, inputs=sources, low=low, high=high)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
