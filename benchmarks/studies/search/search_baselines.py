"""Baselines of a search, in the same interface: random search, Top-k frequency, evolution, a fixed network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from search.choice.accuracy import Accuracy
from search.choice.additive import AdditiveModel
from search.choice.candidate_costs import Progress, Simulate
from search.choice.front import Front, area
from search.choice.hardware_significance import Measure, combinations, draw_candidates, hardware_significance
from search.choice.pareto import ALPHAS, NO_CAPS, Caps, Search
from search.space.architecture import Architecture
from search.space.file import load_space
from search.space.genes import Genome, Space
from search.space.significance import Floats, Genomes

POPULATION, PARENTS = 32, 10


def explained(model: AdditiveModel, genomes: Genomes, values: Floats) -> float:
    """R² of a model on networks, best ones that it was not fitted to: how much of a cost is a sum over choices."""
    rest = values - model.predict(genomes)[0]
    return 1.0 - float(rest @ rest) / float(((values - values.mean()) ** 2).sum())


def volume(points: Sequence[tuple[float, float]], accuracy_floor: float, least_edp: float, most_edp: float) -> float:
    """Hypervolume of (accuracy in percent, EDP in mJ·ms) pairs in (accuracy, ln EDP), each scaled to 0..1: from the
    floor to 100 %, and from the least to the most EDP."""
    span = math.log(most_edp / least_edp)
    return area(
        np.array([((a - accuracy_floor) / (100 - accuracy_floor), math.log(most_edp / e) / span) for a, e in points])
    )


def random_search(
    space: Space, accuracy: Accuracy, simulate: Simulate, *, budget: int, seed: int, target: str = "",
    kappa: float = 1.0, caps: Caps = NO_CAPS, progress: Progress | None = None,
) -> Front:  # fmt: skip
    """The front of networks drawn at random."""
    run = Search(space, accuracy, simulate, budget, kappa, caps, progress)
    run.add(draw_candidates(space, None, budget, np.random.default_rng(seed)))
    return run.front("random", target, seed)


def top_k_search(
    space: Space, accuracy: Accuracy, simulate: Simulate, *, budget: int, seed: int, target: str = "",
    kappa: float = 1.0, caps: Caps = NO_CAPS, progress: Progress | None = None,
    measure: Measure = Measure.FREQUENCY, task_share: float = 1.0, by_gene: bool = True,
) -> Front:  # fmt: skip
    """The front of the best genomes of α T̂ + (1 − α) Ĥ over a sweep of α.

    The defaults are our literal reading of the abstract of NAS4CIM (doi 10.11999/JEIT250978): candidates
    combined by the task ranking, how often each operator is among the K of least EDP, each position
    scaled for itself. Part of the budget is kept for the networks of the sweep.
    """
    run = Search(space, accuracy, simulate, budget, kappa, caps, progress)
    task = accuracy.significance
    rng = np.random.default_rng(seed)
    first = max(budget - len(ALPHAS), 1)
    run.add(draw_candidates(space, task, first, rng, task_share=task_share))
    costs = [m.cost for m in run.members.values()]
    hardware = hardware_significance(space.choices, run.genomes, costs, measure)
    chosen = combinations(task, hardware, ALPHAS, by_gene=by_gene)
    run.add(chosen)
    wanted = {tuple(int(i) for i in g) for g in chosen}
    run.members = {g: m for g, m in run.members.items() if g in wanted}
    front = run.front("top-k " + measure.value, target, seed)
    return replace(front, simulations=min(budget, first + len(chosen)))


def evolution(
    space: Space, accuracy: Accuracy, simulate: Simulate, *, budget: int, seed: int, target: str = "",
    kappa: float = 1.0, caps: Caps = NO_CAPS, progress: Progress | None = None,
) -> Front:  # fmt: skip
    """Evolution of accuracy alone under the macro budget, as NAS4RRAM does under its budget of cells.

    Population 32, the best 10 are parents, one mutation a child. Cost is not an objective: the front that it
    gives is of all networks that it met.
    """
    run = Search(space, accuracy, simulate, budget, kappa, caps, progress)
    rng = np.random.default_rng(seed)
    run.add(draw_candidates(space, None, min(POPULATION, budget), rng))
    population = list(run.members)

    def rank(genome: Genome) -> tuple[float, float, Genome]:
        member = run.members[genome]
        excess = max(caps.excess(member.cost, member.accuracy_low))
        return max(excess, 0.0), -member.accuracy_low, genome

    while run.left:
        parents = sorted(population, key=rank)[:PARENTS]
        children: dict[Genome, None] = {}
        for _ in range(20 * POPULATION):
            parent = parents[int(rng.integers(len(parents)))]
            gene = int(rng.integers(len(parent)))
            value = int(rng.integers(space.choices[gene]))
            child = (*parent[:gene], value, *parent[gene + 1 :])
            if child not in run.members:
                children[child] = None
            if len(children) >= min(POPULATION, run.left):
                break
        if not run.add(np.array(list(children), np.int64).reshape(-1, len(space.choices))):
            break
        population = [*parents, *children]
    return run.front("evolution", target, seed)


def resnet20(*, weight_bits: int = 4, activation_bits: int = 8, adc_bits: int = 8) -> tuple[Space, Architecture]:
    """ResNet-20 for CIFAR-10, option B, as a space of one network.

    Raises ``SpaceError`` for bits that ``spaces/resnet20.toml`` does not list.
    """
    space = load_space("resnet20")
    first = space.decode((0,) * len(space.choices))
    chosen = replace(first, weight_bits=(weight_bits,), activation_bits=(activation_bits,), adc_bits=adc_bits)
    space.encode(chosen)
    return space, chosen
