"""Genes of pruned networks: what a search over one trained network may choose, and the plan that a genome stands for.

    space = pruning_space(teacher, relevance, limits)
    plan = space.plan(space.draw(1, rng)[0])

Channels of each group, residual blocks, kernels, weight bits and activation bits. The layers of a residual block have
their bits together. A choice says how much stays, the first of a gene most: which channels go is for their relevance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mapping.bits import LayerBits
from mapping.operators.products import Conv, Linear
from search.pruned.choose import SHARES
from search.pruned.limits import PruningLimits
from search.pruned.plan import PruningPlan, Teacher, centred
from search.pruned.relevance import Relevance
from search.space.genes import Genome

CHANNELS, BLOCK, KERNEL, WEIGHTS, CODES = "channels", "block", "kernel", "weight bits", "activation bits"
SUMS = "sums"  # place of the gene of codes that are only added
OTHERWISE = (0.0, 0.05, 0.15)  # share of genes in which a network that is drawn differs from a uniform one
RARELY = 0.4  # of that share: blocks and kernels that go


@dataclass(frozen=True, slots=True)
class PruningGene:
    """``values``: shares of channels, or bits; of a block or kernel 1 or 0. ``place``: the node it begins at."""

    kind: str
    place: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PruningSpace:
    """All pruned networks of a ``teacher``. ``order``: classes of each group of channels, first those that go."""

    teacher: Teacher
    genes: tuple[PruningGene, ...]
    order: Mapping[str, tuple[int, ...]]
    layers: Mapping[str, tuple[str, ...]]  # that a gene of bits at a place is of

    @property
    def choices(self) -> tuple[int, ...]:
        return tuple(len(gene.values) for gene in self.genes)

    @property
    def kinds(self) -> NDArray[np.float64]:
        """Choices that are the same thing in several places, 0 or 1, (Σ choices, kinds)."""
        labels = [(gene.kind, value) for gene in self.genes for value in gene.values]
        every = list(dict.fromkeys(labels))
        return np.array([[float(label == one) for one in every] for label in labels])

    def plan(self, genome: Genome | NDArray[np.int64]) -> PruningPlan:
        """What a genome leaves out; bits of layers that are gone say nothing."""
        chosen = {(gene.kind, gene.place): gene.values[int(i)] for gene, i in zip(self.genes, genome, strict=True)}
        gone, points, weights, codes = set[int](), set[str](), dict[str, int](), dict[str, int]()
        blocks = frozenset(place for (kind, place), value in chosen.items() if kind == BLOCK and not value)
        without = {name for block in self.teacher.blocks if block.add in blocks for name in block.branch}
        for (kind, place), value in chosen.items():
            if kind == CHANNELS:
                classes = self.order[place]
                gone.update(classes[: len(classes) - _left(value, len(classes))])
            elif kind == KERNEL and not value:
                points.add(place)
            elif kind in (WEIGHTS, CODES) and place != SUMS:
                found = weights if kind == WEIGHTS else codes
                found.update(dict.fromkeys(self.layers[place], int(value)))
        return PruningPlan(
            max(weights.values()),
            int(chosen[CODES, SUMS]),
            frozenset(gone),
            blocks,
            {name: LayerBits(weights[name], codes[name]) for name in weights if name not in without},
            frozenset(points - without),
        )

    def uniform(self, share: float, weight_bits: int, activation_bits: int) -> Genome:
        """The pruned network that takes as much of every group, and the same bits everywhere."""
        wanted = {CHANNELS: share, BLOCK: 1.0, KERNEL: 1.0, WEIGHTS: weight_bits, CODES: activation_bits}
        return tuple(int(np.abs(np.array(gene.values) - wanted[gene.kind]).argmin()) for gene in self.genes)

    def nearest(self, plan: PruningPlan) -> Genome:
        """The genome that is most like a plan: as many channels of each group; of layers that have their bits together
        the mean."""
        found = []
        for gene in self.genes:
            values = np.array(gene.values)
            if gene.kind == CHANNELS:
                classes = self.order[gene.place]
                values = np.array([_left(share, len(classes)) for share in gene.values])
                wanted = float(len(set(classes) - plan.classes))
            elif gene.kind == BLOCK:
                wanted = float(gene.place not in plan.blocks)
            elif gene.kind == KERNEL:
                wanted = float(gene.place not in plan.points)
            elif gene.place == SUMS:
                wanted = plan.activation_bits
            else:
                own = [plan.layer_bits.get(name, LayerBits()) for name in self.layers[gene.place]]
                weights = [bits.weight or plan.weight_bits for bits in own]
                codes = [bits.activation or plan.activation_bits for bits in own]
                wanted = float(np.mean(weights if gene.kind == WEIGHTS else codes))
            found.append(int(np.abs(values - wanted).argmin()))
        return tuple(found)

    def narrower(self, genome: Genome) -> Genome:
        """A step fewer channels of every group, as far as there are."""
        steps = zip(self.genes, genome, self.choices, strict=True)
        return tuple(min(i + 1, count - 1) if gene.kind == CHANNELS else i for gene, i, count in steps)

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Genomes around uniform ones, (count, genes): some are uniform, in others genes differ by a step."""
        shares, weights, codes = (self._values(kind) for kind in (CHANNELS, WEIGHTS, CODES))
        made = []
        for _ in range(count):
            share, weight, code = (float(rng.choice(values)) for values in (shares, weights, codes))
            genome = np.array(self.uniform(share, int(weight), int(code)), np.int64)
            often = float(rng.choice(OTHERWISE))
            rare = np.array([gene.kind in (BLOCK, KERNEL) for gene in self.genes])
            other = rng.random(len(genome)) < often * np.where(rare, RARELY, 1.0)
            step = rng.choice([-1, 1], len(genome))
            genome = np.where(other, np.clip(genome + step, 0, np.array(self.choices) - 1), genome)
            made.append(np.where(other & rare, 1, genome))
        return np.array(made, np.int64).reshape(count, len(self.genes))

    def _values(self, kind: str) -> list[float]:
        return list(dict.fromkeys(value for gene in self.genes if gene.kind == kind for value in gene.values)) or [1.0]


def pruning_space(teacher: Teacher, relevance: Relevance, limits: PruningLimits) -> PruningSpace:
    """The genes of a teacher within limits."""
    layers = list(_layers(teacher))
    together = _together(teacher, [layer.name for layer in layers])
    groups = {group.nodes[0]: group for group in teacher.channels.groups}
    shares = (1.0, *SHARES)
    genes = [PruningGene(CHANNELS, place, _apart(shares, len(group.classes))) for place, group in groups.items()]
    genes += [PruningGene(BLOCK, block.add, (1.0, 0.0)) for block in teacher.blocks]
    genes += [
        PruningGene(KERNEL, layer.name, (1.0, 0.0))
        for layer in layers[1:]
        if isinstance(layer, Conv) and layer.groups == 1 and centred(layer)
    ]
    for kind, least, most in (
        (WEIGHTS, limits.least_weight_bits, limits.most_weight_bits),
        (CODES, limits.least_activation_bits, limits.most_activation_bits),
    ):
        places = [*together, *([SUMS] if kind == CODES else [])]
        genes += [PruningGene(kind, place, tuple(map(float, range(most, least - 1, -1)))) for place in places]
    order = {place: tuple(sorted(group.classes, key=lambda i: relevance.classes[i])) for place, group in groups.items()}
    return PruningSpace(teacher, tuple(genes), order, together)


def _layers(teacher: Teacher) -> Iterator[Conv | Linear]:
    return (node for node in teacher.graph.nodes if isinstance(node, Conv | Linear))


def _together(teacher: Teacher, layers: list[str]) -> dict[str, tuple[str, ...]]:
    """Layers that have their bits together, by the first of them."""
    block_of = {name: block.add for block in teacher.blocks for name in block.branch}
    found: dict[str, list[str]] = {}
    for name in layers:
        found.setdefault(block_of.get(name, name), []).append(name)
    return {names[0]: tuple(names) for names in found.values()}


def _apart(shares: tuple[float, ...], classes: int) -> tuple[float, ...]:
    """The shares that leave different numbers of channels, out of ``classes``."""
    counts = [_left(share, classes) for share in shares]
    return (shares[0], *(share for share, (a, b) in zip(shares[1:], pairwise(counts), strict=True) if a != b))


def _left(share: float, classes: int) -> int:
    """Number of channels that a share leaves, out of ``classes``."""
    return max(1, math.floor(share * classes + 1e-9))
