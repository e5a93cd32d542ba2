"""Which pruned networks to measure next: a model of what was measured, and NSGA-II over predictions and costs.

The loss of a pruned network is about what its channels, blocks and roundings lose to first order, each kind times a
factor of its own (of channels and blocks, weights in closed form win most back), and so much for each kernel that is
cut. The factors are fitted to a few measured networks; a sum over choices then learns what they miss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from search.choice.additive import AdditiveModel, fit_additive
from search.choice.front import non_dominated
from search.choice.genetic import evolve
from search.pruned.choose import Chooser
from search.pruned.genes import PruningSpace
from search.pruned.limits import PriceRange, PruningLimits, Way
from search.pruned.make import WAYS
from search.pruned.plan import PruningPlan
from search.pruned.relevance import Relevance
from search.space.genes import Genome
from search.space.significance import Floats, Genomes

POPULATION, GENERATIONS = 48, 15
DRAWN = 40  # networks that are drawn for one within the window
APART = 1e-9
NARROWER = 4  # steps that a plan is made narrower by


def drawn(
    space: PruningSpace, price: Callable[[PruningPlan], float], count: int, window: PriceRange, rng: np.random.Generator
) -> Genomes:
    """Different genomes within the window, as far as they are met with; (count or fewer, genes)."""
    found: dict[tuple[object, ...], Genome] = {}
    for _ in range(DRAWN * count):
        if len(found) == count:
            break
        genome = space.draw(1, rng)[0]
        plan = space.plan(genome)
        if window.holds(price(plan)):
            found.setdefault(plan.key, tuple(int(i) for i in genome))
    return np.array(list(found.values()), np.int64).reshape(len(found), len(space.genes))


def planned(
    space: PruningSpace, relevance: Relevance, price: Callable[[PruningPlan], float], prices: Sequence[float],
    limits: PruningLimits,
) -> list[Genome]:  # fmt: skip
    """The networks that pruning would plan for some prices (``search.pruned.make.WAYS``), each a little narrower where
    its genome costs more."""
    found = dict[Genome, None]()
    for most in prices:
        for way in WAYS:
            plan = Chooser(space.teacher, relevance, way.within(limits), way, price).chosen(most)
            genome = space.nearest(plan) if price(plan) <= most else None
            for _ in range(NARROWER):
                if genome is None or price(space.plan(genome)) <= most:
                    break
                genome = space.narrower(genome)
            if genome is not None and price(space.plan(genome)) <= most:
                found[genome] = None
    return list(found)


@dataclass(frozen=True, slots=True, eq=False)
class LossModel:
    """Logarithms of losses. ``factors`` of the columns of ``first_order``, and the ``least`` that they add up to;
    ``rest``: what they miss, as a sum over choices."""

    space: PruningSpace
    relevance: Relevance
    factors: Floats
    least: float
    rest: AdditiveModel

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean and standard error, (networks,) each."""
        missed, error = self.rest.predict(genomes)
        first = first_order(self.space, self.relevance, genomes) @ self.factors
        return missed + np.log(np.maximum(first, self.least)), error


def first_order(space: PruningSpace, relevance: Relevance, genomes: Genomes) -> Floats:
    """Mean squares of logits that channels, blocks and roundings lose to first order, how many kernels are cut, and 1,
    (networks, 5)."""
    rounding = Chooser(space.teacher, relevance, PruningLimits(), Way(0, 0, channels=0.0, blocks=0.0), lambda _: 0.0)
    rows = []
    for plan in map(space.plan, genomes):
        channels = sum(relevance.classes[i] for i in plan.classes)
        blocks = sum(relevance.blocks[name] for name in plan.blocks)
        rows.append((channels, blocks, rounding.loss(plan), float(len(plan.points)), 1.0))
    return np.array(rows).reshape(-1, 5)


def learned(space: PruningSpace, relevance: Relevance, genomes: Genomes, losses: Floats) -> LossModel:
    """Model of the logarithms of losses; choices of one kind have a part in common wherever they stand."""
    parts, measured = first_order(space, relevance, genomes), np.exp(losses)
    factors = nnls(parts / measured[:, None], np.ones(len(parts)))[0]  # relative errors count
    least = 0.1 * float(measured.min())
    missed = losses - np.log(np.maximum(parts @ factors, least))
    return LossModel(space, relevance, factors, least, fit_additive(space.choices, genomes, missed, (space.kinds,)))


def proposed(
    space: PruningSpace,
    model: LossModel,
    price: Callable[[PruningPlan], float],
    known: Sequence[Genome],
    best: Genomes,
    count: int,
    window: PriceRange,
    seed: int,
) -> Genomes:
    """Pruned networks that are worth measuring, (count or fewer, genes), spread over the prices.

    Args:
        known: measured already. best: of them, the start of the evolution.
    """
    rng = np.random.default_rng(seed)
    more = space.draw(POPULATION, rng)
    start = np.unique(np.concatenate([best[:POPULATION], more])[:POPULATION], axis=0)

    def evaluate(genomes: Genomes) -> tuple[Floats, Floats]:
        prices = np.log([max(price(space.plan(genome)), APART) for genome in genomes])
        outside = np.maximum(prices - math.log(window.most), math.log(max(window.least, APART)) - prices)
        return np.column_stack([prices, model.predict(genomes)[0]]), outside[:, None]

    last = evolve(space.choices, evaluate, start, objectives=2, constraints=1, generations=GENERATIONS, seed=seed)
    return _spread(space, last, evaluate, {space.plan(genome).key for genome in known}, count)


def _spread(
    space: PruningSpace,
    genomes: Genomes,
    evaluate: Callable[[Genomes], tuple[Floats, Floats]],
    known: Collection[tuple[object, ...]],
    count: int,
) -> Genomes:
    """The best of each range of prices, then the second best, and so on."""
    keys = [space.plan(genome).key for genome in genomes]
    new = {key: i for i, key in reversed(list(enumerate(keys))) if key not in known}
    if not new:
        return np.empty((0, len(space.genes)), np.int64)
    left = genomes[sorted(new.values())]
    objectives, outside = evaluate(left)
    inside = outside[:, 0] <= 0
    left, objectives = left[inside], objectives[inside]
    if not len(left):
        return left
    prices = objectives[:, 0]
    part = np.minimum(((prices - prices.min()) / max(float(np.ptp(prices)), APART) * count).astype(int), count - 1)
    rank = np.zeros(len(left), np.int64)
    for one in np.unique(part):
        there = np.flatnonzero(part == one)
        rank[there[np.argsort(objectives[there, 1], kind="stable")]] = np.arange(len(there))
    return left[np.lexsort((objectives[:, 1], rank))[:count]]


def pruned_front(prices: Floats, losses: Floats) -> list[int]:
    """Indices of pruned networks that no other beats in both price and loss, by rising price."""
    found = non_dominated(np.column_stack([prices, losses]))
    return sorted((int(i) for i in found), key=lambda i: float(prices[i]))
