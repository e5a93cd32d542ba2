"""From graph to fused operations: batch norms folded, activations merged into what they follow.

Each operation becomes one step of the program and carries its float meaning: which graph
nodes give its sum and its output, and between which values its output is clamped.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.windows import Window
from mapping.layout.tile import MatrixShape
from mapping.network.graph import NetworkGraph, node_shapes
from mapping.network.nodes import (
    INPUT,
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Flatten,
    GlobalAvgPool,
    HardTanh,
    Linear,
    MaxPool,
    Node,
    PadChannels,
    PadMap,
    Relu,
    Relu6,
    Shape,
    Slice,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedOp:
    """One step to be. ``inputs`` name earlier operations or ``"input"``.

    ``output_node`` is the graph node with the same float values; the output lies between
    ``low`` and ``high``.
    """

    name: str
    inputs: tuple[str, ...]
    output_node: str
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixOp(FusedOp):
    """y = W x + bias; ``weight`` float64 (groups, outputs / groups, inputs / groups), ``bias`` (outputs,).

    ``sum_node`` is the graph node with the values of y before any clamp.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    window: Window | None
    sum_node: str

    @property
    def shape(self) -> MatrixShape:
        groups, outputs, inputs = self.weight.shape
        kernel = math.prod(self.window.kernel) if self.window else 1
        size = (self.window.out_height, self.window.out_width) if self.window else (1, 1)
        return MatrixShape(self.name, groups * inputs, groups * outputs, groups, kernel, *size)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOp(FusedOp):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatOp(FusedOp):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class AvgPoolOp(FusedOp):
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    flatten: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClampOp(FusedOp):
    """A lone activation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassOp(FusedOp):
    """Codes move but keep their scale; ``node`` is the graph's own."""

    node: MaxPool | Flatten | PadChannels | PadMap | Slice


def lower(graph: NetworkGraph) -> tuple[FusedOp, ...]:
    """Give the operations of a graph in order; the last one gives the logits.

    A batch norm joins the matrix product before it; one that follows anything else becomes
    a product of its own with one weight a channel. An activation joins the operation before
    it (past pools and slices, with which it commutes) when nothing else reads that one.
    """
    shapes = node_shapes(graph)
    readers = Counter(source for node in graph.nodes for source in node.inputs)
    ops: dict[str, FusedOp] = {}  # by name, in order
    made_by = {INPUT: INPUT}  # graph node -> operation that gives its values
    for node in graph.nodes:
        sources = tuple(made_by[source] for source in node.inputs)
        target = _fused(node, sources[0], readers, ops)
        if target is None:
            target = _op(node, sources, [shapes[source] for source in node.inputs])
        ops[target.name] = target
        made_by[node.name] = node.name if node.name in ops else sources[0]
    return tuple(ops.values())


def _fused(node: Node, source: str, readers: Counter[str], ops: dict[str, FusedOp]) -> FusedOp | None:
    """The operation before ``node``, changed so that it includes ``node``; None when they cannot join."""
    before = ops.get(source)
    if before is None or readers[node.inputs[0]] > 1:
        return None
    if isinstance(node, BatchNorm) and isinstance(before, MatrixOp) and before.sum_node == before.output_node:
        return _folded(before, node)
    if not isinstance(node, Relu | Relu6 | HardTanh):
        return None
    low, high = _clamp(node)
    while isinstance(before, PassOp):
        commutes = not isinstance(before.node, PadChannels | PadMap) or low <= 0 <= high
        if not commutes or readers[before.node.inputs[0]] > 1 or before.inputs[0] not in ops:
            return None
        before = ops[before.inputs[0]]
    return dataclasses.replace(
        before, output_node=node.name, low=min(max(before.low, low), high), high=max(min(before.high, high), low)
    )


def _clamp(node: Node) -> tuple[float, float]:
    match node:
        case Relu6():
            return 0.0, 6.0
        case HardTanh():
            return node.low, node.high
    return 0.0, math.inf


def _folded(op: MatrixOp, norm: BatchNorm) -> MatrixOp:
    """scale · (W x + b − mean) / √(variance + eps) + shift as one W and b."""
    gain, shift = affine(norm)
    weight = op.weight * gain.reshape(op.weight.shape[0], -1, 1)
    return dataclasses.replace(
        op, weight=weight, bias=op.bias * gain + shift, sum_node=norm.name, output_node=norm.name
    )


def affine(norm: BatchNorm) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A batch norm as gain · x + shift, a number of each a channel."""
    gain = norm.scale.astype(np.float64) / np.sqrt(norm.variance.astype(np.float64) + norm.eps)
    return gain, norm.shift - norm.mean * gain


def _op(node: Node, sources: tuple[str, ...], inputs: list[Shape]) -> FusedOp:
    """A node as an operation of its own."""
    name, first = node.name, inputs[0]
    match node:
        case Conv():
            out, _, *kernel = node.weight.shape
            geometry = ((kernel[0], kernel[1]), node.stride, node.padding, node.dilation)
            weight = node.weight.reshape(node.groups, out // node.groups, -1)
            return _matrix(node, sources, weight, node.bias, Window(first[0], first[1], first[2], *geometry))
        case Linear():
            return _matrix(node, sources, node.weight[None], node.bias, None)
        case BatchNorm():
            gain, shift = affine(node)
            point = Window(first[0], first[1], first[2]) if len(first) == 3 else None
            return _matrix(node, sources, gain.reshape(-1, 1, 1), shift, point)
        case Add():
            return AddOp(name=name, inputs=sources, output_node=name)
        case Concat():
            return ConcatOp(name=name, inputs=sources, output_node=name)
        case AvgPool():
            return _mean(node, sources, node.kernel, node.stride, node.padding, flatten=False)
        case GlobalAvgPool():
            size = (first[1], first[2])
            return _mean(node, sources, size, size, (0, 0), flatten=True)
        case Relu() | Relu6() | HardTanh():
            low, high = _clamp(node)
            return ClampOp(name=name, inputs=sources, output_node=name, low=low, high=high)
        case MaxPool() | Flatten() | PadChannels() | PadMap() | Slice():
            return PassOp(name=name, inputs=sources, output_node=name, node=node)
    raise TypeError(f"{name}: {type(node).__name__} is not a node of a graph")


def _matrix(
    node: Node,
    sources: tuple[str, ...],
    weight: NDArray[np.floating],
    bias: NDArray[np.floating] | None,
    window: Window | None,
) -> MatrixOp:
    outputs = weight.shape[0] * weight.shape[1]
    return MatrixOp(
        name=node.name,
        inputs=sources,
        output_node=node.name,
        sum_node=node.name,
        weight=weight.astype(np.float64),
        bias=np.zeros(outputs) if bias is None else bias.astype(np.float64),
        window=window,
    )


def _mean(
    node: Node,
    sources: tuple[str, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    *,
    flatten: bool,
) -> AvgPoolOp:
    return AvgPoolOp(
        name=node.name,
        inputs=sources,
        output_node=node.name,
        kernel=kernel,
        stride=stride,
        padding=padding,
        flatten=flatten,
    )
