"""Codes that a training chose, found in the arithmetic that trainings write them with.

    y = a · clamp(round(clamp(x) · g + h), …) + d

in any order of clamps, products and sums of single numbers around one rounding (``round``, or ``floor`` after half a
step), is a ``Grid`` of scale a. Learned steps (LSQ), clipped activations (PACT) and fake quantisation by hand are
written so; their straight-through estimators, x + (q − x), are q.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mapping.operators.activations import GRID_CODES, Grid, Unary
from mapping.operators.affine import Affine
from mapping.operators.joins import Add, Subtract
from mapping.operators.node import Node

CLOSE = 1e-4  # of a step; factors and shifts went through float32
ROUNDINGS = {"round": 0.0, "floor": 0.5}  # what stands above the nearest whole number


def with_chosen_codes(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes with a ``Grid`` for each chain of nodes that makes codes of values, under the name of its last."""
    nodes = _without_estimators(nodes)
    by_name = {node.name: node for node in nodes}
    readers = Counter(source for node in nodes for source in node.inputs)
    reader = {source: node for node in nodes for source in node.inputs}
    gone: set[str] = set()
    instead: dict[str, tuple[Node, ...]] = {}  # by the name of a chain's last node
    for node in nodes:
        if not (isinstance(node, Unary) and node.function in ROUNDINGS and node.name not in gone):
            continue
        before: list[Node] = [node]
        after: list[Node] = [node]
        while (source := by_name.get(before[0].inputs[0])) and _joins(source, readers, gone):
            before.insert(0, source)
        while readers[after[-1].name] == 1 and _line(reader[after[-1].name]):
            after.append(reader[after[-1].name])
        for end in range(len(after), 0, -1):
            chain = [*before, *after[1:end]]
            if grid := _grid(chain, len(before) - 1):
                gone.update(part.name for part in chain)
                instead[chain[-1].name] = grid
                break
    if not instead:
        return tuple(nodes)
    return tuple(part for node in nodes for part in instead.get(node.name, () if node.name in gone else (node,)))


def _joins(node: Node, readers: Mapping[str, int], gone: set[str]) -> bool:
    return readers[node.name] == 1 and node.name not in gone and _line(node)


def _without_estimators(nodes: Sequence[Node]) -> Sequence[Node]:
    """x + (q − x) and (q − x) + x are q."""
    by_name = {node.name: node for node in nodes}
    instead: dict[str, str] = {}
    for node in nodes:
        if not isinstance(node, Add):
            continue
        for x, difference in (node.inputs, node.inputs[::-1]):
            found = by_name.get(difference)
            if isinstance(found, Subtract) and found.inputs[1] == x and found.inputs[0] in by_name:
                instead[node.name] = found.inputs[0]
    if not instead:
        return nodes
    last = nodes[-1].name

    def kept(name: str) -> str:
        while name in instead:
            name = instead[name]
        return name

    if last in instead:  # the result keeps a node of its own name
        return nodes
    return _needed([replace(node, inputs=tuple(map(kept, node.inputs))) for node in nodes if node.name not in instead])


def _needed(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes that the last one needs, in their order."""
    needed = {nodes[-1].name}
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return tuple(node for node in nodes if node.name in needed)


@dataclass(frozen=True, slots=True)
class _Line:
    """clamp(gain · x + shift, low, high)."""

    gain: float = 1.0
    shift: float = 0.0
    low: float = -math.inf
    high: float = math.inf

    def then(self, node: Node) -> _Line:
        """The line followed by the affine map or the clamp of a node."""
        if isinstance(node, Affine):
            gain, shift = float(node.scale.ravel()[0]), float(node.shift.ravel()[0])
            ends = sorted((_moved(self.low, gain, shift), _moved(self.high, gain, shift)))
            return _Line(self.gain * gain, self.shift * gain + shift, *ends)
        low, high = node.clamp or (-math.inf, math.inf)
        return replace(self, low=min(max(self.low, low), high), high=max(min(self.high, high), low))


def _moved(end: float, gain: float, shift: float) -> float:
    return end * gain + shift if gain else shift


def _line(node: Node) -> bool:
    """Whether a node multiplies with, adds, or clamps by single numbers."""
    if isinstance(node, Affine):
        return node.scale.size == node.shift.size == 1 and bool(node.scale.ravel()[0])
    return node.clamp is not None


def _grid(chain: Sequence[Node], rounding: int) -> tuple[Node, ...] | None:
    """The ``Grid`` of a chain whose node number ``rounding`` rounds, behind an ``Affine`` where values are of another
    unit; None: the chain makes no codes of a scale."""
    before, after = _Line(), _Line()
    for node in chain[:rounding]:
        before = before.then(node)
    for node in chain[rounding + 1 :]:
        after = after.then(node)
    node = chain[rounding]
    above = ROUNDINGS[node.function] if isinstance(node, Unary) else 0.0
    scale = after.gain
    if scale <= 0 or before.gain <= 0:
        return None
    zero = -after.shift / scale
    ends = [after.low / scale + zero, after.high / scale + zero]  # in whole numbers
    if abs(zero - round(zero)) > CLOSE or any(math.isfinite(e) and abs(e - round(e)) > CLOSE for e in ends):
        return None
    low = max(_nearest(before.low, above), ends[0]) - zero
    high = min(_nearest(before.high, above), ends[1]) - zero
    if not (math.isfinite(low) and math.isfinite(high) and low <= CLOSE and high >= -CLOSE and high > low):
        return None
    if max(-low, high) > GRID_CODES:
        return None
    last, first = chain[-1], chain[0].inputs[0]
    gain, shift = scale * before.gain, scale * (before.shift - above - round(zero))
    parts: list[Node] = []
    if abs(gain - 1.0) > CLOSE * 1e-2 or abs(shift) > CLOSE * scale:
        rank = next((node.scale.ndim for node in chain if isinstance(node, Affine)), 0)
        if rank == 0:
            return None
        line = np.full((1,) * rank, gain, np.float32), np.full((1,) * rank, shift, np.float32)
        parts.append(Affine(name=f"{last.name}.scaled", inputs=(first,), scale=line[0], shift=line[1]))
        first = parts[0].name
    return *parts, Grid(name=last.name, inputs=(first,), scale=scale, low=round(low), high=round(high))


def _nearest(end: float, above: float) -> float:
    """Whole number that an end of a range of codes is rounded to; rounded down where ``above`` is not 0."""
    if not math.isfinite(end):
        return end
    if above:
        return float(math.floor(end + CLOSE))
    whole = round(end)
    return float(whole) if abs(end - whole) < CLOSE else float(np.rint(end))
