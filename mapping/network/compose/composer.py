"""Builds the nodes of a graph one after the other and joins or drops moves between them.

Reshapes and permutes sink behind functions, so that a product and what follows it stand together, as a chip runs them;
two moves in a row are one. Names are given at the end, when it is known which nodes are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapping.network.compose.refusal import BROKEN, Unfit, refuse, within
from mapping.network.compose.values import Value, image_shape
from mapping.network.graph_records import MOST_NODES
from mapping.operators.activations import Grid
from mapping.operators.affine import Affine
from mapping.operators.moves import Flatten, Permute, Reshape, Slice, Take
from mapping.operators.node import INPUT, GraphError, Node, output_shape
from mapping.operators.padding import PadChannels, PadMap
from mapping.operators.pools import AvgPool, GlobalAvgPool
from mapping.operators.products import Conv, Linear
from mapping.operators.step import Shape

ENDLESS = 2.0**100
"""In place of infinity where a computed mask is multiplied by it."""


@dataclass(frozen=True, slots=True)
class ModulePlace:
    """Where an operation stands: ``path`` of the module; ``own`` if the module is this operation and no more."""

    path: str = ""
    own: bool = False


class Composer:
    """The nodes found so far. ``batch``: images in the tensors of the network that is read."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.place = ModulePlace()
        self.operation = 0
        self._merged: dict[str, tuple[str, Affine, tuple[str, ModulePlace, int]]] = {}  # layer that an affine map is in
        self._nodes: dict[str, Node] = {}
        self._origins: dict[str, tuple[str, ModulePlace, int]] = {}  # name asked for, place, number of the operation
        self._shapes: dict[str, Shape] = {}
        self.one_hot: dict[str, Value] = {}  # (n, length, tokens), by the node of their numbers (n, length)

    def start(self, shape: Shape) -> None:
        """Begin with an input of this shape, one image's."""
        self._shapes[INPUT] = shape

    def begin(self, place: ModulePlace) -> None:
        """All nodes that follow belong to one operation at ``place``."""
        self.place = place
        self.operation += 1

    def shape(self, node: str) -> Shape:
        """The shape of one image's part of a node."""
        return self._shapes[node]

    def node(self, name: str) -> Node | None:
        return self._nodes.get(name)

    def add(self, kind: type[Node], inputs: Sequence[str], *, name: str = "", **fields: Any) -> str:
        """Append a node, moves before it put behind it; give the result's name. ``name``: of its weights' owner."""
        made = kind(name=f"#{len(self._nodes)}", inputs=tuple(inputs), **fields)
        return self._sunk(made, name) or self._folded(made) or self._append(made, name)

    def value(self, node: str, like: Value, shape: Shape | None = None, axis: int | None = None) -> Value:
        """A value of ``node`` with the batch where ``like`` has it; ``shape`` with the batch."""
        made = replace(
            like, node=node, shape=like.shape if shape is None else shape, axis=like.axis if axis is None else axis
        )
        expected = image_shape(made.shape, made.axis, self.batch)
        assert self.shape(node) == expected, f"{self._nodes[node]}: {self.shape(node)} is not {expected}"
        return made

    def reshape(self, node: str, shape: Shape) -> str:
        """Reshape each image; its elements and their order stay."""
        if self.shape(node) == shape:
            return node
        while isinstance(before := self._nodes.get(node), Reshape | Flatten):
            node = before.inputs[0]
        if self.shape(node) == shape:
            return node
        if len(shape) == 1 and isinstance(before, AvgPool) and self._pools_whole_map(before):
            _, place, operation = self._origins[node]
            now, self.place, self.operation = (self.place, self.operation), place, operation
            found = self.add(GlobalAvgPool, before.inputs)
            self.place, self.operation = now
            return found
        if len(shape) == 1 and len(self.shape(node)) == 3:
            return self._append(Flatten(name=f"#{len(self._nodes)}", inputs=(node,)), "")
        return self._append(Reshape(name=f"#{len(self._nodes)}", inputs=(node,), shape=shape), "")

    def permute(self, node: str, order: Sequence[int]) -> str:
        """Axis i of the output is axis ``order[i]`` of one image."""
        if isinstance(before := self._nodes.get(node), Permute):
            node, order = before.inputs[0], [before.order[axis] for axis in order]
        shape = self.shape(node)
        moved = [axis for axis in order if shape[axis] > 1]
        if moved == sorted(moved):
            return self.reshape(node, tuple(shape[axis] for axis in order))
        return self._append(Permute(name=f"#{len(self._nodes)}", inputs=(node,), order=tuple(order)), "")

    def take(self, node: str, index: Sequence[int], axis: int, fill: float = 0.0) -> str:
        """Places ``index`` along one axis of one image; −1 gives ``fill``."""
        shape = self.shape(node)
        places = tuple(int(i) for i in index)
        if places == tuple(range(shape[axis])):
            return node
        if len(places) == 0:
            refuse(f"nothing is left of {shape} along axis {axis}", "a slice that keeps at least one place")
        if len(shape) == 3 and (found := self._slice(node, places, axis)):
            return found
        before = self._nodes.get(node)
        if isinstance(before, Take) and before.axis == axis and min(*places, *before.index) >= 0:
            node, places = before.inputs[0], tuple(before.index[i] for i in places)
        return self.add(Take, [node], index=places, axis=axis, fill=fill)

    def pad(self, node: str, pads: Sequence[tuple[int, int]], fill: float = 0.0) -> str:
        """``fill`` around one image: (before, after) for each axis, negative ones cut off."""
        shape = self.shape(node)
        if len(shape) == 3 and not fill and min(min(pair) for pair in pads) >= 0:
            if any(pads[0]):
                node = self.add(PadChannels, [node], before=pads[0][0], after=pads[0][1])
            (top, bottom), (left, right) = pads[1:]
            if top or bottom or left or right:
                node = self.add(PadMap, [node], top=top, left=left, bottom=bottom, right=right)
            return node
        for axis, (before, after) in enumerate(pads):
            within(shape[axis] + max(before, 0) + max(after, 0))
            places = range(-before, shape[axis] + after)
            node = self.take(node, [i if 0 <= i < shape[axis] else -1 for i in places], axis, fill)
        return node

    def finish(self, result: str) -> tuple[Node, ...]:
        """The nodes that ``result`` needs, in order, under names of their own."""
        kept = self._needed(result)
        while shared := [name for name in kept if self._merged.get(name, ("",))[0] in kept]:
            old, affine, origin = self._merged.pop(shared[0])  # its layer is read by others too: weights stand once
            self._nodes[shared[0]] = replace(affine, name=shared[0], inputs=(old,))
            self._origins[shared[0]] = origin
            kept = self._needed(result)
        for name in kept:
            node = self._nodes[name]
            arrays = [values for field in node.arrays if (values := getattr(node, field)) is not None]
            if not all(_bounded(values) for values in arrays):
                path = self._origins[name][1].path
                refuse(
                    f"a constant that is not finite{path and f' in {path}'}, before anything but a softmax",
                    "a mask of a finite number such as -100, or scaled_dot_product_attention",
                )
        sizes: dict[int, int] = {}
        for name in kept:
            asked, _, operation = self._origins[name]
            sizes[operation] = sizes.get(operation, 0) + (not asked)
        names = {INPUT: INPUT}
        taken = {INPUT}
        for name in kept:
            asked, place, operation = self._origins[name]
            alone = place.own and place.path and sizes[operation] == 1
            parts = (place.path,) if alone else (place.path, self._nodes[name].kind)
            names[name] = _unique(asked or ".".join(filter(None, parts)), taken)
        return tuple(
            replace(self._nodes[name], name=names[name], inputs=tuple(names[i] for i in self._nodes[name].inputs))
            for name in kept
        )

    def _needed(self, result: str) -> list[str]:
        """Names of the nodes that ``result`` is made of, in order."""
        needed = {result}
        for name in reversed(self._nodes):
            if name in needed:
                needed.update(self._nodes[name].inputs)
        return [name for name in self._nodes if name in needed]

    def _pools_whole_map(self, node: AvgPool) -> bool:
        return node.kernel == self.shape(node.inputs[0])[1:] and node.padding == (0, 0)

    def _append(self, node: Node, name: str) -> str:
        if len(self._nodes) >= 4 * MOST_NODES:
            refuse(f"more than {4 * MOST_NODES} nodes", "a shorter sequence, or fewer layers")
        try:
            self._shapes[node.name] = output_shape(node, [self.shape(source) for source in node.inputs])
        except GraphError as error:
            raise Unfit(error.text, BROKEN) from None
        within(*self._shapes[node.name])
        self._nodes[node.name] = node
        self._origins[node.name] = (name, self.place, self.operation)
        return node.name

    def _slice(self, node: str, places: tuple[int, ...], axis: int) -> str:
        """Slice maps by a node: a range of channels, or each n-th row or column; "" for other places."""
        size = self.shape(node)[axis]
        step = places[1] - places[0] if len(places) > 1 else size
        if min(places) < 0 or step < 1 or places != tuple(range(places[0], places[-1] + 1, step)):
            return ""
        if axis == 0:
            whole = step == 1 or len(places) == 1
            return self.add(Slice, [node], start=places[0], stop=places[-1] + 1) if whole else ""
        if places[0] or len(places) != -(-size // step):
            return ""
        before = self._nodes.get(node)
        if axis == 2 and isinstance(before, Slice) and before.step[1] == 1:
            merged = replace(before, name=f"#{len(self._nodes)}", step=(before.step[0], step))
            return self._append(merged, "")
        return self.add(Slice, [node], step=(step, 1) if axis == 1 else (1, step))

    def _folded(self, node: Node) -> str:
        """Fold an affine map of channels into the weights of the layer before it; "" where no layer comes before."""
        before = self._nodes.get(node.inputs[0])
        if not isinstance(node, Affine) or not isinstance(before, Conv | Linear) or not node.scales_channels:
            return ""
        if not np.isfinite(node.shift).all():  # for a softmax, which looks for it in a node of its own
            return ""
        outputs = len(before.weight)
        scale, shift = (np.broadcast_to(v.ravel().astype(np.float64), (outputs,)) for v in (node.scale, node.shift))
        bias = scale * (0.0 if before.bias is None else before.bias) + shift
        weight = before.weight * scale.reshape(-1, *[1] * (before.weight.ndim - 1))
        merged = replace(
            before,
            name=f"#{len(self._nodes)}",
            weight=weight.astype(np.float32),
            bias=bias.astype(np.float32) if before.bias is not None or shift.any() else None,
        )
        name, place, operation = self._origins[node.inputs[0]]
        made = self._append(merged, name)
        root, whole = node.inputs[0], node
        if root in self._merged:
            root, first, _ = self._merged[root]
            whole = replace(node, scale=node.scale * first.scale, shift=node.scale * first.shift + node.shift)
        self._merged[made] = (root, whole, ("", self.place, self.operation))
        self._origins[made] = (name, place, operation)
        return made

    def _codes_first(self, node: Node, name: str) -> str:
        """The codes of an input, chosen before it is flattened; "" if it is not."""
        first = self._nodes.get(node.inputs[0])
        if not isinstance(node, Grid) or not isinstance(first, Flatten):
            return ""
        made = self._append(replace(node, inputs=first.inputs), name)
        return self._append(replace(first, name=f"#{len(self._nodes)}", inputs=(made,)), "")

    def _sunk(self, node: Node, name: str) -> str:
        """The node before the move that feeds it, then the move; "" if it cannot be turned round."""
        if made := self._codes_first(node, name):
            return made
        moves = [self._nodes.get(source) for source in node.inputs]
        first = moves[0]
        sources = tuple(move.inputs[0] for move in moves if isinstance(move, Reshape | Permute))
        if not isinstance(first, Reshape | Permute) or len(sources) != len(moves):
            return ""
        turned = self._before(node, moves, sources)
        if turned is None:
            return ""
        made = self._sunk(turned, name) or self._folded(turned) or self._append(turned, name)
        return self.reshape(made, first.shape) if isinstance(first, Reshape) else self.permute(made, first.order)

    def _before(self, node: Node, moves: Sequence[Node | None], sources: tuple[str, ...]) -> Node | None:
        """The node applied to ``sources``, before the moves that feed it; None where it depends on those moves."""
        first, inside = moves[0], {self.shape(source) for source in sources}
        if len(moves) > 1:
            kinds, orders = {type(move) for move in moves}, {move.order for move in moves if isinstance(move, Permute)}
            outside = {self.shape(source) for source in node.inputs}
            if any(len(different) > 1 for different in (kinds, inside, outside, orders)):
                return None
        if isinstance(first, Permute):
            turned = node.before_permute(first.order)
        else:
            turned = node.before_reshape(self.shape(sources[0]), self.shape(node.inputs[0]))
        return None if turned is None else replace(turned, inputs=sources)


def _unique(stem: str, taken: set[str]) -> str:
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}_{count}"
    taken.add(name)
    return name


def _bounded(values: NDArray[Any]) -> bool:
    """Whether all values are finite, by minimum and maximum: ``isfinite`` would need a copy of large weights."""
    ends = [float(values.min(initial=0)), float(values.max(initial=0))]
    return all(np.isfinite(end) and abs(end) != ENDLESS for end in ends)
