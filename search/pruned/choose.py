"""Choice of channels, blocks and bits for a price: the cheapest loss first, down; then what is free, up again.

A step down takes a bit from all activations or weights, channels from groups of one width (or from all), or a
block: the one with the least loss by how much it takes off the logarithm of the price. Groups of one width go
together because the price of a pipeline is that of its slowest layers, and a single one narrower gains little.
Then single layers take bits back, and groups channels, as far as the price allows. Losses are those of
``search.pruned.relevance``; a ``Way`` says how much of what these lose closed-form
weights cannot win back. Several ways (``search.pruned.make.WAYS``) are planned, and their networks measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mapping.bits import MOST, LayerBits
from mapping.network.graph import NetworkGraph
from mapping.operators.joins import Add
from mapping.operators.products import Conv, Linear
from search.pruned.channels import ChannelGroup
from search.pruned.limits import PruningLimits, Way
from search.pruned.plan import PruningPlan, Teacher, with_bits
from search.pruned.relevance import Relevance

LEAST_SHARE = 0.5  # of a group's channels that stay
SHARES = (0.94, 0.875, 0.8125, 0.75, 0.6875, 0.625, 0.5625, 0.5)  # of the channels of all groups
MOST_STEPS = 60

Price = Callable[[PruningPlan], float]


@dataclass(frozen=True, slots=True)
class Chooser:
    """Steps between plans of one teacher."""

    teacher: Teacher
    relevance: Relevance
    limits: PruningLimits
    way: Way
    price: Price

    def chosen(self, most: float) -> PruningPlan:
        """A plan whose price is at most ``most``; where there is none within the limits, the cheapest that was met."""
        first, last = self._ends()
        plan = PruningPlan(self.limits.most_weight_bits, self.limits.most_activation_bits)
        plan = replace(plan, layer_bits={first: LayerBits(None, self.limits.most_activation_bits)} if first else {})
        now = self.price(plan)
        for _ in range(MOST_STEPS):
            if now <= most:
                return self._raised(plan, most, (first, last))
            best: tuple[float, PruningPlan, float] | None = None
            before = self.loss(plan)
            for other in self._lower(plan, first):
                cost = self.price(other)
                gain = math.log(now) - math.log(max(cost, most))
                if gain < 1e-4:
                    continue
                rate = (self.loss(other) - before) / gain
                if best is None or rate < best[0]:
                    best = rate, other, cost
            if best is None:
                break
            _, plan, now = best
        return plan

    def loss(self, plan: PruningPlan) -> float:
        """Mean squares of logits that the plan loses, channels and blocks by their weight."""
        relevance = self.relevance
        total = self.way.channels * sum(relevance.classes[i] for i in plan.classes)
        total += self.way.blocks * sum(relevance.blocks[name] for name in plan.blocks)
        for layer in self._layers():
            bits = plan.layer_bits.get(layer.name, LayerBits())
            total += relevance.weights[layer.name][bits.weight or plan.weight_bits]
            source = layer.inputs[0]
            if source in relevance.maps:
                total += relevance.maps[source][bits.activation or plan.activation_bits]
        for name in self.added:
            total += relevance.maps[name][plan.activation_bits]
        return total

    @property
    def added(self) -> list[str]:
        """Maps that become codes only to be added."""
        read = {name for node in self._layers() for name in node.inputs}
        terms = {name for node in self.teacher.graph.nodes if isinstance(node, Add) for name in node.inputs}
        return sorted((terms - read) & self.relevance.maps.keys())

    def _layers(self) -> Iterator[Conv | Linear]:
        return (node for node in self.teacher.graph.nodes if isinstance(node, Conv | Linear))

    def _ends(self) -> tuple[str, str]:
        names = [node.name for node in self._layers()]
        return names[0], names[-1]

    def _lower(self, plan: PruningPlan, first: str) -> Iterator[PruningPlan]:
        """Plans one step smaller: one bit less of weights, of activations or of the codes of layer ``first``, narrower
        channel groups, or a block less."""
        limits = self.limits
        if plan.weight_bits > limits.least_weight_bits:
            yield replace(plan, weight_bits=plan.weight_bits - 1)
        if plan.activation_bits > limits.least_activation_bits:
            yield replace(plan, activation_bits=plan.activation_bits - 1)
        own = plan.layer_bits.get(first, LayerBits()).activation
        if own is not None and own > plan.activation_bits:
            yield with_bits(plan, first, LayerBits(None, own - 1))
        for groups in self._bundles():
            for share in SHARES:
                other = self._narrower(plan, groups, share)
                if other is not None:
                    yield other
        for block in () if self.way.even else self.teacher.blocks:
            if block.add not in plan.blocks:
                yield replace(plan, blocks=plan.blocks | {block.add})

    def _bundles(self) -> Iterator[Sequence[ChannelGroup]]:
        """Sets of channel groups that are pruned together: all of them, those of one width inside blocks, and each
        other group alone."""
        groups = self.teacher.channels.groups
        yield groups
        if self.way.even:
            return
        inner: dict[int, list[ChannelGroup]] = {}
        for group in groups:
            if len(group.nodes) <= 3:
                inner.setdefault(len(group.classes), []).append(group)
            else:
                yield (group,)
        yield from inner.values()

    def _narrower(self, plan: PruningPlan, groups: Sequence[ChannelGroup], share: float) -> PruningPlan | None:
        """The plan with at most a share of the channels of some groups; None: they are as narrow."""
        gone = set(plan.classes)
        for group in groups:
            count = len(group.classes) - max(1, math.floor(share * len(group.classes) + 1e-9))
            order = sorted(group.classes, key=lambda i: self.relevance.classes[i])
            there = [i for i in order if i in plan.classes]
            gone.update([i for i in order if i not in plan.classes][: max(0, count - len(there))])
        return replace(plan, classes=frozenset(gone)) if len(gone) > len(plan.classes) else None

    def _raised(self, plan: PruningPlan, most: float, ends: tuple[str, str]) -> PruningPlan:
        """What the price has room for: channels first, then bits of single layers, the largest gain first."""
        for group in () if self.way.even else self.teacher.channels.groups:
            for i in sorted(set(group.classes) & plan.classes, key=lambda i: -self.relevance.classes[i]):
                other = replace(plan, classes=plan.classes - {i})
                if self.price(other) > most:
                    break
                plan = other
        tried = set[FinerBits]()
        while True:
            before, found = self.loss(plan), None
            for gain, other, key in sorted(self._finer(plan, before), key=lambda item: -item[0]):
                if key in tried or gain <= 0:
                    continue
                tried.add(key)
                if self.price(other) <= most:
                    found = other
                    break
            if found is None:
                return plan
            plan = found

    def _finer(self, plan: PruningPlan, before: float) -> Iterator[tuple[float, PruningPlan, FinerBits]]:
        """Plans with a bit more in one layer, and what they win."""
        there = {node.name for node in self.teacher.narrowed(plan).nodes}
        for layer in self._layers():
            if layer.name not in there:
                continue
            own = plan.layer_bits.get(layer.name, LayerBits())
            weight, activation = own.weight or plan.weight_bits, own.activation or plan.activation_bits
            for more_w, more_a in ((weight + 1, activation), (weight, activation + 1)):
                if max(more_w, more_a) <= MOST:
                    other = with_bits(plan, layer.name, LayerBits(more_w, more_a))
                    yield before - self.loss(other), other, (layer.name, more_w, more_a)


FinerBits = tuple[str, int, int]


def counts(teacher: Teacher, graph: NetworkGraph) -> dict[str, tuple[int, int]]:
    """Outputs of each layer that is left, of the teacher and of the pruned network."""
    before = {node.name: len(node.weight) for node in teacher.graph.nodes if isinstance(node, Conv | Linear)}
    return {node.name: (before[node.name], len(node.weight)) for node in graph.nodes if isinstance(node, Conv | Linear)}
