"""Pareto search: accuracy against ln EDP and macros, under the chip's size and a user's caps.

    found = pareto_search(space, accuracy, simulate, budget=256, seed=1)

Networks that look good on the models of ln EDP and ln macros fitted so far are simulated whole, the models
are fitted again, and so on. Spaces of at most 200,000 networks are enumerated on the models; larger
ones are searched there by NSGA-II (pymoo), and half of the budget is an NSGA-II on simulations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.choice.accuracy import Accuracy
from search.choice.candidate_costs import Progress, Simulate
from search.choice.front import Front, Member, front_of, non_dominated
from search.choice.genetic import evolve
from search.choice.hardware_significance import (
    CostModels,
    Measure,
    combinations,
    cost_models,
    draw_candidates,
    hardware_significance,
)
from search.errors import SearchError
from search.space.candidate import CandidateCost
from search.space.genes import Genome, Space
from search.space.significance import Floats, Genomes

ENUMERABLE = 200_000
POPULATION, GENERATIONS = 64, 40
PJ_NS_TO_MJ_MS = math.log(1e15)
ROUNDS = 8  # of the budget, between two fits
UNKNOWN = (1e9, 1e9, 1e9)  # beyond the budget
ALPHAS = tuple(np.linspace(0.05, 0.95, 19))


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits of a network besides the chip's macros."""

    latency_ns: float = math.inf
    energy_pj: float = math.inf
    accuracy: float = 0.0  # least lower bound, percent

    def excess(self, cost: CandidateCost, accuracy_low: float) -> tuple[float, float, float, float]:
        """Relative excess over macros, latency and energy, and missing points; at most 0 is kept."""
        return (
            cost.macros / cost.macros_available - 1,
            cost.latency_ns / self.latency_ns - 1,
            cost.energy_pj / self.energy_pj - 1,
            (self.accuracy - accuracy_low) / 100,
        )


NO_CAPS = Caps()


class Search:
    """Simulations of one search so far."""

    def __init__(
        self, space: Space, accuracy: Accuracy, simulate: Simulate, budget: int, kappa: float, caps: Caps,
        progress: Progress | None,
    ) -> None:  # fmt: skip
        self.space, self.accuracy, self.simulate, self.budget = space, accuracy, simulate, budget
        self.kappa, self.caps, self.progress = kappa, caps, progress
        self.members: dict[Genome, Member] = {}

    @property
    def left(self) -> int:
        """Simulations that may still be made."""
        return self.budget - len(self.members)

    def add(self, genomes: Genomes) -> int:
        """Simulate those that are new, as many as the budget allows; gives how many."""
        wanted = list(dict.fromkeys(g for g in map(_genome, genomes) if g not in self.members))[: self.left]
        if not wanted:
            return 0
        architectures = [self.space.decode(g) for g in wanted]
        table = np.array(wanted)
        rows = zip(
            wanted, architectures, self.simulate(architectures),
            self.accuracy.predict(table).tolist(), self.accuracy.lower(table, self.kappa).tolist(), strict=True,
        )  # fmt: skip
        for genome, architecture, cost, mean, low in rows:
            self.members[genome] = Member(architecture, cost, mean, low)
        if self.progress is not None:
            self.progress(len(self.members), self.budget, "whole networks simulated")
        return len(wanted)

    @property
    def genomes(self) -> Genomes:
        return np.array(list(self.members), np.int64)

    @property
    def costs(self) -> list[CandidateCost]:
        return [m.cost for m in self.members.values()]

    def expected(self, models: CostModels, genomes: Genomes) -> tuple[Floats, Floats]:
        """Objectives of a member and excess over the caps as the models have them, (networks, 3) and (networks, 4)."""
        latency, energy, macros = models.predict(genomes).T
        low = self.accuracy.lower(genomes, self.kappa)
        room = self.costs[0].macros_available
        objectives = np.column_stack([-low, latency + energy - PJ_NS_TO_MJ_MS, np.exp(macros)])
        excess = np.column_stack([
            np.exp(macros) / room - 1, np.exp(latency) / self.caps.latency_ns - 1,
            np.exp(energy) / self.caps.energy_pj - 1, (self.caps.accuracy - low) / 100,
        ])  # fmt: skip
        return objectives, excess

    def kept(self) -> list[Member]:
        """The members that keep to the number of macros and all caps."""
        return [m for m in self.members.values() if max(self.caps.excess(m.cost, m.accuracy_low)) <= 0]

    def front(self, method: str, target: str, seed: int) -> Front:
        """Raises ``SearchError`` when nothing simulated keeps the caps."""
        kept = self.kept()
        if not kept:
            least = min((m.cost for m in self.members.values()), key=lambda c: c.macros)
            raise SearchError(
                f"none of {len(self.members)} simulated networks keeps the caps; the smallest has {least.macros} "
                f"macros of {least.macros_available}, {least.latency_ns:.4g} ns, {least.energy_pj:.4g} pJ\n"
                "  try     looser caps, a smaller space, or a chip with more macros"
            )
        return front_of(kept, target=target, method=method, seed=seed, simulations=len(self.members))


def pareto_search(
    space: Space,
    accuracy: Accuracy,
    simulate: Simulate,
    *,
    budget: int,
    seed: int,
    target: str = "",
    kappa: float = 1.0,
    caps: Caps = NO_CAPS,
    progress: Progress | None = None,
) -> Front:
    """Give the front of at most ``budget`` whole-network simulations.

    Args:
        target: name of what ``simulate`` simulates, for the file.
        kappa: standard errors that the lower bound of the accuracy lies below its mean.

    Raises:
        SearchError: nothing simulated keeps the caps.
    """
    rng = np.random.default_rng(seed)
    run = Search(space, accuracy, simulate, budget, kappa, caps, progress)
    small = space.size() <= ENUMERABLE
    every = space.every() if small else None
    run.add(draw_candidates(space, accuracy.significance, max(budget // 4, 2), rng))
    on_models = budget if small else budget // 2
    while len(run.members) < on_models:
        share = min(max(budget // ROUNDS, 1), on_models - len(run.members))
        if not run.add(_promising(run, every, share, rng)):
            break
    if not small:
        _evolve(run, rng)
    return run.front("pareto", target, seed)


def _genome(row: Sequence[int] | NDArray[np.integer]) -> Genome:
    return tuple(int(i) for i in row)


def _promising(run: Search, every: Genomes | None, count: int, rng: np.random.Generator) -> Genomes:
    """At most ``count`` new genomes that the models expect on the front of all, else on the next one behind, ...

    Those simulated stand there with what was simulated. Where none is expected to keep the caps, those nearest to them.
    """
    models = cost_models(run.space.choices, run.genomes, run.costs)
    if every is None:
        every = _model_front(run, models, rng)
    new = every[[_genome(g) not in run.members for g in every]]
    objectives, excess = run.expected(models, new)
    fits = (excess <= 0).all(1)
    if not fits.any():  # those that come nearest, from which the models learn
        return new[np.argsort(excess.max(1), kind="stable")[:count]]
    new, objectives = new[fits], objectives[fits, :2]
    both = np.concatenate([objectives, np.array([m.objectives[:2] for m in run.kept()]).reshape(-1, 2)])
    left = np.arange(len(both))
    found: list[int] = []
    while len(found) < count and (left < len(new)).any():
        layer = left[non_dominated(both[left])]
        own = layer[layer < len(new)]
        own = own[np.argsort(both[own, 1], kind="stable")]
        if len(own) > count - len(found):  # evenly along the layer
            own = own[np.linspace(0, len(own) - 1, count - len(found)).round().astype(np.int64)]
        found += own.tolist()
        left = np.setdiff1d(left, layer)
    return new[np.array(found, np.int64)]


def _model_front(run: Search, models: CostModels, rng: np.random.Generator) -> Genomes:
    """A population near the front of the fitted models."""
    return evolve(
        run.space.choices, lambda genomes: run.expected(models, genomes), _start(run, rng),
        objectives=3, constraints=4, generations=GENERATIONS, seed=int(rng.integers(1 << 31)),
    )  # fmt: skip


def _start(run: Search, rng: np.random.Generator) -> Genomes:
    """A first population: combinations of task and hardware significance, the front so far, others at random."""
    hardware = hardware_significance(run.space.choices, run.genomes, run.costs, Measure.RIDGE)
    found = dict.fromkeys(_genome(g) for g in combinations(run.accuracy.significance, hardware, ALPHAS))
    best = front_of(run.kept(), target="", method="", seed=0, simulations=0)
    found |= dict.fromkeys(run.space.encode(m.architecture) for m in best.members)
    for genome in draw_candidates(run.space, None, POPULATION, rng):
        found[_genome(genome)] = None
    return np.array(list(found)[:POPULATION], np.int64)


def _evolve(run: Search, rng: np.random.Generator) -> None:
    """Spend what is left of the budget on NSGA-II over simulations, from what was found so far."""
    start = _start(run, rng)

    def evaluate(genomes: Genomes) -> tuple[Floats, Floats]:
        run.add(genomes)
        found = [run.members.get(_genome(g)) for g in genomes]
        objectives = np.array([UNKNOWN if m is None else m.objectives for m in found])
        excess = [(1e9,) * 4 if m is None else run.caps.excess(m.cost, m.accuracy_low) for m in found]
        return objectives, np.array(excess)

    while run.left:
        before = run.left
        generations = max(2, run.left // len(start) + 1)
        start = evolve(
            run.space.choices, evaluate, start, objectives=3, constraints=4, generations=generations,
            seed=int(rng.integers(1 << 31)),
        )  # fmt: skip
        if run.left == before:
            break
