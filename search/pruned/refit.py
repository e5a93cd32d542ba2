"""Weights of a pruned network in closed form, layer after layer, on the codes that its layers will really get.

A layer is to give the sums t that its teacher gives for the same images, from its own input codes x, which earlier
layers of that network have made. With C the covariance of x and R that of x and t,

    W = (C + λ I)⁻¹ (R + λ W₀)        b = mean(t) − W mean(x)

λ keeps seldom seen inputs at their teacher's weights W₀.
A layer whose sums are added to a shortcut is to give what the *sum* misses, so the shortcut's own error goes, too.
Where a ReLU follows, a sum that is below zero in both is right already: t is moved there, and W found again.
Weights then become integers whose errors make up for each other (``mapping.quantise.rounding``), each output on the
scale of least error of several, and every map is put on its codes (``Grid``). Where an array is named, scales are those
of least error on it (``search.pruned.array_errors``), and a share of its noise is on the codes that later layers learn
from. A compiler takes such weights and codes
as they are, so the pruned network that was measured is the one that is written. Imports torch: import this module late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mapping.bits import BitWidths
from mapping.network.float_run import network_input, stored
from mapping.network.graph import NetworkGraph
from mapping.operators.activations import Grid, Relu
from mapping.operators.fused import MatrixOp
from mapping.operators.joins import Add
from mapping.operators.node import INPUT, Node, may_be_negative
from mapping.operators.products import Conv, Linear
from mapping.quantise.lower import lower
from mapping.quantise.rounding import Correlated, compensated, weighted_scale
from mapping.quantise.scales import best_scale, code_limits
from mapping.quantise.widths import code_widths
from search.pruned.array_errors import IMAGES, ArrayErrors, LayerOnArray
from search.pruned.channels import Channels

Floats = NDArray[np.float32]

RIDGE = 1e-3  # λ, of the mean variance of an input
MOST_ELEMENTS = 1 << 24  # of the input vectors that a layer is fitted on
CHUNK = 64  # images that a layer answers together
LEARNED = 0.5  # of the standard deviation that the array adds, on what later layers learn from
TIMES = 2  # that targets below a ReLU are moved
ENDS = np.array([0.8, 0.87, 0.94, 1.0, 1.07, 1.15])  # scales that are tried, of that of least nearest rounding


@dataclass(frozen=True, slots=True)
class FitSettings:
    """``array``: whose errors weights are to stand; None: a perfect chip."""

    ridge: float = RIDGE
    array: ArrayErrors | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Refitted:
    """A network with weights on integers. ``added``: variances that the array adds to sums, (outputs,) by layer."""

    graph: NetworkGraph
    added: Mapping[str, NDArray[np.float64]]


def refitted(
    teacher: NetworkGraph,
    narrowed: NetworkGraph,
    channels: Channels,
    without: frozenset[int],
    bits: BitWidths,
    images: NDArray[np.uint8],
    settings: FitSettings,
) -> Refitted:
    """The ``narrowed`` graph with weights on integers and maps on codes, which answers as the teacher does.

    Args:
        teacher: with batch norms folded; ``narrowed`` has its names.
        without: classes of channels that are gone.
        images: uint8 (n, height, width, channels). Maps of all of them stand in memory, those of the teacher and of
            the pruned network that are still read: about 6 maps of 4 bytes a value in a residual network.
    """
    return _Refit(teacher, narrowed, channels, without, bits, settings).run(images)


class _Refit:
    def __init__(
        self, teacher: NetworkGraph, narrowed: NetworkGraph, channels: Channels, without: frozenset[int],
        bits: BitWidths, settings: FitSettings,
    ) -> None:  # fmt: skip
        self.teacher, self.graph, self.settings, self.bits = teacher, narrowed, settings, bits
        self.kept = {name: torch.tensor(channels.kept(name, without)) for name in channels.of}
        self.whole = {name: len(of) for name, of in channels.of.items()}
        ops = lower(narrowed)
        self.ops = {op.name: op for op in ops if isinstance(op, MatrixOp)}
        self.widths, self.signed = code_widths(ops, bits), dict[str, bool]()
        mean = narrowed.preprocess.mean
        self.signed[INPUT] = any(m > 0 for m in mean)
        for op in ops:
            self.signed[op.name] = may_be_negative(op, [self.signed[name] for name in op.inputs])
        self.readers = Counter(name for node in narrowed.nodes for name in node.inputs)
        self.reader = {name: node for node in narrowed.nodes for name in node.inputs}
        self.op_of = {node: op.name for op in ops for node in (op.name, op.output_node)}
        self.steps = dict[str, float]()  # what a code stands for, by node
        self.added = dict[str, NDArray[np.float64]]()
        self.random = torch.Generator().manual_seed(0)

    def run(self, images: NDArray[np.uint8]) -> Refitted:
        graph, made = self.graph, list[Node]()
        last_own = {name: node.name for node in graph.nodes for name in node.inputs}
        last_taught = {name: node.name for node in self.teacher.nodes for name in node.inputs}
        pixels = network_input(graph.preprocess, images)
        taught: dict[str, Tensor] = {INPUT: pixels}
        values: dict[str, Tensor] = {}
        self.names: dict[str, str] = {}  # of the node that now gives what a node gave
        grid = self._grid(INPUT, pixels, self.widths[INPUT], self.signed[INPUT])
        made.append(grid)
        values[INPUT] = _on_grid(pixels, grid)
        self.names[INPUT], self.steps[INPUT] = grid.name, grid.scale
        own = {node.name: node for node in graph.nodes}
        for old in self.teacher.nodes:
            taught[old.name] = _applied(old, [taught[name] for name in old.inputs])
            node = own.get(old.name)
            if node is not None:
                made += self._node(node, values, taught)
                for name in set(node.inputs):
                    if last_own[name] == node.name:
                        values.pop(name, None)
            for name in set(old.inputs):
                if last_taught[name] == old.name:
                    taught.pop(name, None)
        return Refitted(replace(graph, nodes=tuple(made)), self.added)

    def _node(self, node: Node, values: dict[str, Tensor], taught: Mapping[str, Tensor]) -> list[Node]:
        inputs = [values[name] for name in node.inputs]
        last = node is self.graph.nodes[-1]
        if isinstance(node, Conv | Linear):
            node = self._fitted(node, inputs[0], values, taught)
        found = _applied(node, inputs)
        if node.name in self.added:
            found += LEARNED * noise_like(found, self.added[node.name], self.random)
        if node.moves:
            self.steps[node.name] = self.steps.get(node.inputs[0], 0.0)
        renamed = replace(node, inputs=tuple(self.names[name] for name in node.inputs))
        self.names[node.name] = node.name
        values[node.name] = found
        if last or not self._ends_here(node):
            return [renamed]
        op = self.op_of.get(node.name, node.name)
        grid = self._grid(node.name, found, self.widths[op], self.signed[op])
        values[node.name] = _on_grid(found, grid)
        self.names[node.name], self.steps[node.name] = grid.name, grid.scale
        return [renamed, grid]

    def _ends_here(self, node: Node) -> bool:
        """Whether the values of a node become codes: new ones, unless an activation follows (after an activation, too:
        that of a block that was left out)."""
        reader = self.reader.get(node.name)
        clamped = self.readers[node.name] == 1 and reader is not None and reader.clamp is not None
        return not clamped and (node.clamp is not None or not node.moves)

    def _grid(self, name: str, values: Tensor, bits: int, signed: bool) -> Grid:
        low, high = code_limits(bits, signed, False)
        flat = values.flatten()
        some = flat[:: max(1, flat.numel() >> 18) | 1].numpy()
        scale = best_scale(some, max(float(values.abs().max()), 1e-6), low, high)
        return Grid(name=f"{name}.codes", inputs=(name,), scale=scale, low=low, high=high)

    def _shortcut(self, node: Node, values: Mapping[str, Tensor]) -> str | None:
        """The other input of the addition that alone reads a layer, where the pruned network has made it already."""
        reader = self.reader.get(node.name)
        if self.readers[node.name] != 1 or not isinstance(reader, Add):
            return None
        other = next((name for name in reader.inputs if name != node.name), None)
        return other if other in values else None

    def _fitted(
        self, node: Conv | Linear, codes: Tensor, values: Mapping[str, Tensor], taught: Mapping[str, Tensor]
    ) -> Conv | Linear:
        wanted, beside = taught[node.name], None
        last = node is self.graph.nodes[-1]
        if (other := self._shortcut(node, values)) is not None and other in taught:
            own, old = values[other], self._taken(other, taught[other])
            wanted, beside = self._taken(node.name, wanted) + old - own, own
            clamped = self._clamped(self.reader[node.name].name)
        else:
            wanted, clamped = self._taken(node.name, wanted), self._clamped(node.name)
        vectors, sums, more = _samples(node, codes, wanted, beside)
        bits = self.bits.weights_of(node.name)
        parts = []
        groups = node.groups if isinstance(node, Conv) else 1
        rows = node.weight.reshape(groups, len(node.weight) // groups, -1)
        inputs = vectors.reshape(groups, rows.shape[2], -1)
        outputs = sums.reshape(groups, rows.shape[1], -1)
        beside_rows = None if more is None else more.reshape(outputs.shape)
        for g in range(groups):
            given = None if beside_rows is None else beside_rows[g]
            parts.append(_layer(inputs[g], outputs[g], given, rows[g], clamped and not last, self.settings))
        array = self._on_array(node, codes)
        if array is None:
            integers = [_integers(part.weight, part.damped, bits) for part in parts]
            held = np.stack([levels * scale[:, None] for levels, scale in integers])
        else:
            found = array.weights(np.stack([p.weight for p in parts]), np.stack([p.damped for p in parts]), inputs)
            held, self.added[node.name] = found.levels * found.scale[:, :, None], found.added.reshape(-1)
        bias = np.concatenate([p.wanted - w @ p.mean for p, w in zip(parts, held, strict=True)])
        return replace(node, weight=held.reshape(node.weight.shape).astype(np.float32), bias=bias.astype(np.float32))

    def _on_array(self, node: Conv | Linear, codes: Tensor) -> LayerOnArray | None:
        """The layer on the array whose errors count; None: none do."""
        array, op, step = self.settings.array, self.ops[self.op_of[node.name]], self.steps[node.inputs[0]]
        if array is None:
            return None
        source = op.inputs[0]
        whole = (codes[:IMAGES] / step).round().numpy().astype(np.int16)
        bits = self.bits.weights_of(node.name)
        return LayerOnArray(op, bits, self.widths[source], self.signed[source], whole, step, array)

    def _clamped(self, name: str) -> bool:
        return self.readers[name] == 1 and isinstance(self.reader.get(name), Relu)

    def _taken(self, name: str, full: Tensor) -> Tensor:
        """The channels of a teacher's map that the pruned network has."""
        kept = self.kept[name]
        return full if len(kept) == self.whole[name] else full[:, kept]


@dataclass(frozen=True, slots=True)
class FloatWeights:
    """Weights of one group, (outputs, inputs), the mean and damped covariance of its inputs, and the mean sums
    ``wanted``, (outputs,)."""

    weight: NDArray[np.float64]
    mean: NDArray[np.float64]
    damped: NDArray[np.float64]
    wanted: NDArray[np.float64]


def _layer(
    x: Floats, t: Floats, beside: Floats | None, start: Floats, clamped: bool, settings: FitSettings
) -> FloatWeights:
    """Weights of least error of one group.

    Args:
        x: (inputs, vectors); t: (outputs, vectors); beside: what is added to the sums before a ReLU.
    """
    mean, number = x.mean(1, dtype=np.float64), x.shape[1]
    centred = x - mean[:, None].astype(np.float32)
    covariance = (centred @ centred.T).astype(np.float64) / number
    floor = settings.ridge * max(float(np.diag(covariance).mean()), 1e-12)
    damped = covariance + floor * np.eye(len(covariance))
    wanted, first = t, start.astype(np.float64)
    for again in range(1 + (TIMES if clamped else 0)):
        target = wanted.mean(1, dtype=np.float64)
        cross = (wanted - target[:, None].astype(np.float32)) @ centred.T / number
        weight = np.linalg.solve(damped, (cross.astype(np.float64) + floor * first).T).T
        if clamped and again < TIMES:
            found = weight.astype(np.float32) @ centred + target[:, None].astype(np.float32)
            if beside is None:
                wanted = np.where(t < 0, np.minimum(found, 0), t)
            else:
                wanted = np.where(t + beside < 0, np.minimum(found, -beside), t)
    return FloatWeights(weight, mean, damped, target)


def _integers(
    weight: NDArray[np.float64], damped: NDArray[np.float64], bits: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Integers, and what one of them stands for, (outputs,): the least error of several scales."""
    top = (1 << (bits - 1)) - 1
    integers, variance = np.arange(-top, top + 1), np.diag(damped)
    order = np.argsort(-variance, kind="stable")
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    part = Correlated(0, order, damped, np.ascontiguousarray(factor))
    nearest = weighted_scale(weight[None], variance[None], integers)[0]
    best = np.full(len(weight), np.inf)
    levels, scale = np.zeros(weight.shape), nearest.copy()
    for end in ENDS:
        tried = nearest * end
        found = np.empty(weight.shape)
        found[:, order], _ = compensated(weight[:, order] / tried[:, None], part.factor, integers)
        seen = found @ damped
        along, power = np.einsum("oi,oi->o", seen, weight), np.einsum("oi,oi->o", seen, found)
        good = (along > 0) & (power > 0)
        tried = np.where(good, along / np.where(power > 0, power, 1.0), tried)
        missed = weight - found * tried[:, None]
        loss = np.einsum("oi,oi->o", missed @ damped, missed)
        better = loss < best
        best, scale = np.where(better, loss, best), np.where(better, tried, scale)
        levels[better] = found[better]
    return levels, scale


def _samples(
    node: Conv | Linear, codes: Tensor, wanted: Tensor, beside: Tensor | None
) -> tuple[Floats, Floats, Floats | None]:
    """Input vectors (inputs of all groups, vectors) at an even choice of places, and sums there (outputs, vectors)."""
    if isinstance(node, Linear):
        more = None if beside is None else beside.T.numpy()
        return codes.T.contiguous().numpy(), wanted.T.contiguous().numpy(), more
    rows = codes.shape[1] * node.weight.shape[2] * node.weight.shape[3]
    places = wanted.shape[2] * wanted.shape[3]
    step = -(-len(codes) * places * rows // MOST_ELEMENTS) | 1
    vectors: list[Floats] = []
    sums: list[Floats] = []
    added: list[Floats] = []
    for start, part in _chunks(codes):
        unfolded = functional.unfold(part, node.weight.shape[2:], node.dilation, node.padding, node.stride)
        chosen = torch.arange((-start * places) % step, len(part) * places, step)
        image, place = chosen // places, chosen % places
        vectors.append(unfolded.permute(0, 2, 1)[image, place].T.numpy())
        for maps, kept in ((wanted, sums), (beside, added)):
            if maps is not None:
                some = maps[start : start + len(part)].flatten(2).permute(0, 2, 1)[image, place]
                kept.append(some.T.numpy())
    joined = [np.concatenate(parts, axis=1) for parts in (vectors, sums)]
    return joined[0], joined[1], np.concatenate(added, axis=1) if added else None


def _chunks(values: Tensor) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(values), CHUNK):
        yield start, values[start : start + CHUNK]


def _applied(node: Node, inputs: list[Tensor]) -> Tensor:
    return torch.cat(
        [node.forward([x[start : start + CHUNK] for x in inputs], stored) for start in range(0, len(inputs[0]), CHUNK)]
    )


def noise_like(values: Tensor, variance: NDArray[np.float64], random: torch.Generator) -> Tensor:
    """Normal noise for sums (images, outputs, …), its variance by output."""
    spread = torch.tensor(np.sqrt(variance), dtype=torch.float32).reshape(1, -1, *[1] * (values.ndim - 2))
    return torch.randn(values.shape, generator=random) * spread


def _on_grid(values: Tensor, grid: Grid) -> Tensor:
    return (values / grid.scale).round_().clamp_(grid.low, grid.high).mul_(grid.scale)
