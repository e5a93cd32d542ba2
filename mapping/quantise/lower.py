"""From graph to fused operations: batch norms folded, activations merged into what they follow.

Each operation becomes one step of the program and carries its float meaning: which graph
nodes give its sum and its output, and between which values its output is clamped.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from cim.chip.windows import Window
from mapping.layout.tile import MatrixShape
from mapping.network.graph import NetworkGraph, node_shapes
from mapping.operators.activations import Grid, HardTanh, Relu, Relu6, Unary
from mapping.operators.affine import Affine, BatchNorm, PRelu
from mapping.operators.functions import FUNCTIONS
from mapping.operators.joins import Add, Concat, Product, Subtract
from mapping.operators.moves import FILL, Flatten, Permute, Reshape, Slice, Take
from mapping.operators.node import INPUT, Node, Shape
from mapping.operators.norms import Norm, Softmax
from mapping.operators.padding import PadChannels, PadMap
from mapping.operators.pools import AvgPool, GlobalAvgPool, MaxPool, Reduce
from mapping.operators.products import Conv, Linear, MatMul
from mapping.operators.resampling import Resample


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedOp:
    """One step to be. ``inputs`` name earlier operations or ``"input"``.

    ``output_node`` is the graph node with the same float values, perhaps in another shape than
    ``output_shape``; the output lies between ``low`` and ``high``. ``grid``: its codes, where the network says them.
    """

    name: str
    inputs: tuple[str, ...]
    output_node: str
    output_shape: Shape
    low: float = -math.inf
    high: float = math.inf
    grid: Grid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixOp(FusedOp):
    """y = W x + bias; W is ``gain`` · ``stored``, (groups, outputs / groups, inputs / groups); ``bias`` (outputs,).

    ``sum_node`` is the graph node with the values of y before any clamp. ``shares``: the earlier layer whose cells
    it reads again, being equal to it (``mapping.quantise.sharing``).
    """

    stored: NDArray[np.floating]
    gain: NDArray[np.float64]  # (outputs,)
    bias: NDArray[np.float64]
    window: Window | None
    sum_node: str
    shares: str | None = None

    @property
    def weight(self) -> NDArray[np.float64]:
        """W, made anew at every call: only one layer's is in memory."""
        return self.stored.astype(np.float64) * self.gain.reshape(self.stored.shape[0], -1, 1)

    @property
    def shape(self) -> MatrixShape:
        groups, outputs, inputs = self.stored.shape
        kernel = math.prod(self.window.kernel) if self.window else 1
        size = (self.window.out_height, self.window.out_width) if self.window else (1, 1)
        return MatrixShape(self.name, groups * inputs, groups * outputs, groups, kernel, *size)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOp(FusedOp):
    """Sum of two, or the first without the second."""

    subtract: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatOp(FusedOp):
    """``outputs``: joins the tensors that a network gives."""

    axis: int = 0
    outputs: bool = False


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

    node: MaxPool | Flatten | PadChannels | PadMap | Slice | Reshape | Permute | Take | Reduce


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitalOp(FusedOp):
    """Any other operation that no array multiplies; ``node`` is the graph's own."""

    node: Unary | PRelu | Affine | Product | MatMul | Reduce | Resample | Norm | Softmax


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
            if isinstance(node, Take) and node.fill != 0.0 and min(node.index) == FILL:
                before = shapes[node.inputs[0]]  # behind a scale that holds it
                room = ClampOp(name=f"{node.name}.fill", inputs=sources, output_node=node.name, output_shape=before)
                ops[room.name], sources = room, (room.name,)
            target = _op(node, sources, [shapes[source] for source in node.inputs], shapes[node.name])
            if isinstance(target, ConcatOp) and graph.outputs and node is graph.nodes[-1]:
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
        line = _channel_line(node)
        if line is not None:
            return _folded(before, node.name, *line)
    if not isinstance(node, Relu | Relu6 | HardTanh):
        return None
    low, high = _clamp(node)
    while isinstance(before, PassOp):
        fill = _fill(before.node)
        commutes = fill is None or low <= fill <= high
        if not commutes or readers[before.node.inputs[0]] > 1 or before.inputs[0] not in ops:
            return None
        before = ops[before.inputs[0]]
    if before.grid is not None:
        return None
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


def _fill(node: Node) -> float | None:
    """What a node puts beside its inputs, if anything."""
    if isinstance(node, Take):
        return node.fill if min(node.index) == FILL else None
    return 0.0 if isinstance(node, PadChannels | PadMap) else None


def _folded(op: MatrixOp, name: str, gain: NDArray[np.float64], shift: NDArray[np.float64]) -> MatrixOp:
    """gain · (W x + b) + shift as one W and b, under the values of the node ``name``."""
    return dataclasses.replace(op, gain=op.gain * gain, bias=op.bias * gain + shift, sum_node=name, output_node=name)


def affine(norm: BatchNorm) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A batch norm as gain · x + shift, a number of each a channel."""
    gain = norm.scale.astype(np.float64) / np.sqrt(norm.variance.astype(np.float64) + norm.eps)
    return gain, norm.shift - norm.mean * gain


def _channel_line(node: Node) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Gain and shift of each channel, or one of all, if that is what a node does."""
    if isinstance(node, BatchNorm):
        return affine(node)
    if isinstance(node, Affine) and all(math.prod(a.shape[1:]) == 1 for a in (node.scale, node.shift)):
        return node.scale.reshape(-1).astype(np.float64), node.shift.reshape(-1).astype(np.float64)
    return None


def logits_op(ops: Sequence[FusedOp]) -> str:
    """Name of the operation that gives the logits their scale: the last one before operations that only move codes."""
    by_name = {op.name: op for op in ops}
    op = ops[-1]
    while isinstance(op, PassOp) and op.inputs[0] in by_name:
        op = by_name[op.inputs[0]]
    return op.name


def may_be_negative(op: FusedOp, inputs: Sequence[bool]) -> bool:
    """Whether the codes of an operation have a sign, those of its inputs having one or not."""
    if isinstance(op, PassOp):
        return inputs[0]
    if any(inputs) or op.low >= 0:
        return op.low < 0
    match op:
        case AddOp(subtract=subtract):
            return subtract
        case ConcatOp() | AvgPoolOp():
            return False
        case DigitalOp(node=Product() | MatMul() | Reduce()):
            return False
        case DigitalOp(node=Affine() as node):
            return min(float(node.scale.min()), float(node.shift.min())) < 0
        case DigitalOp(node=PRelu()):
            return False
        case DigitalOp(node=Resample() as node):
            return min(float(node.rows.min()), float(node.columns.min())) < 0
    return True


class _Said(TypedDict):
    """Fields of every operation."""

    name: str
    inputs: tuple[str, ...]
    output_node: str
    output_shape: Shape


def _op(node: Node, sources: tuple[str, ...], inputs: list[Shape], shape: Shape) -> FusedOp:
    """A node as an operation of its own."""
    first = inputs[0]
    said: _Said = {"name": node.name, "inputs": sources, "output_node": node.name, "output_shape": shape}
    match node:
        case Conv():
            out, _, *kernel = node.weight.shape
            geometry = ((kernel[0], kernel[1]), node.stride, node.padding, node.dilation)
            weight = node.weight.reshape(node.groups, out // node.groups, -1)
            return _matrix(said, weight, node.bias, Window(first[0], first[1], first[2], *geometry))
        case Linear():
            return _matrix(said, node.weight[None], node.bias, None)
        case BatchNorm():
            scale, shift = (a.astype(np.float32).reshape(-1, *[1] * (len(first) - 1)) for a in affine(node))
            return DigitalOp(**said, node=Affine(name=node.name, inputs=node.inputs, scale=scale, shift=shift))
        case Add() | Subtract():
            return AddOp(**said, subtract=isinstance(node, Subtract))
        case Concat():
            return ConcatOp(**said, axis=node.axis)
        case AvgPool():
            return AvgPoolOp(**said, kernel=node.kernel, stride=node.stride, padding=node.padding, flatten=False)
        case GlobalAvgPool():
            size = (first[1], first[2])
            return AvgPoolOp(**said, kernel=size, stride=size, padding=(0, 0), flatten=True)
        case Relu() | Relu6() | HardTanh():
            low, high = _clamp(node)
            return ClampOp(**said, low=low, high=high)
        case Grid():
            return ClampOp(**said, grid=node)
        case MaxPool() | Flatten() | PadChannels() | PadMap() | Slice() | Reshape() | Permute() | Take():
            return PassOp(**said, node=node)
        case Reduce(operation="max" | "min"):
            return PassOp(**said, node=node)
        case Unary() | Softmax():
            low, high = (0.0, 1.0) if isinstance(node, Softmax) else (FUNCTIONS[node.function].least, math.inf)
            return DigitalOp(**said, low=low, high=high, node=node)
        case PRelu() | Affine() | Product() | MatMul() | Reduce() | Resample() | Norm():
            return DigitalOp(**said, node=node)
    raise TypeError(f"{node.name}: {type(node).__name__} is not a node of a graph")


def _matrix(
    said: _Said, weight: NDArray[np.floating], bias: NDArray[np.floating] | None, window: Window | None
) -> MatrixOp:
    return MatrixOp(
        **said,
        sum_node=said["name"],
        stored=weight,
        gain=np.ones(weight.shape[0] * weight.shape[1]),
        bias=np.zeros(weight.shape[0] * weight.shape[1]) if bias is None else bias.astype(np.float64),
        window=window,
    )
