"""Hardware significance of every choice, from simulations of whole networks (phase B).

    candidates = draw_candidates(space, task, 128, rng)
    costs = simulate([space.decode(g) for g in candidates])
    hardware = hardware_significance(space.choices, candidates, costs, Measure.RIDGE)
    genome = combined(task, hardware, alpha=MODES["balanced"]).best()

Three measures. ``FREQUENCY`` is our reading of the abstract of NAS4CIM (doi 10.11999/JEIT250978): how often a
choice is among the K networks of least EDP. ``LIFT`` sets that against how often it was among all
candidates. ``RIDGE`` is minus the coefficient of ln EDP, which uses every candidate.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from search.choice.additive import AdditiveModel, fit_additive
from search.errors import SearchError
from search.space.candidate import CandidateCost
from search.space.genes import Genome, Space
from search.space.significance import Floats, Genomes, Significance, combined, one_hot

MODES: Mapping[str, float] = {"accuracy": 0.9, "balanced": 0.5, "efficiency": 0.1}
"""Weight α of the task in S = α T̂ + (1 − α) Ĥ."""
TOP_SHARE, LEAST_TOP = 0.1, 16


class Measure(enum.StrEnum):
    FREQUENCY = "frequency"
    LIFT = "lift"
    RIDGE = "ridge"


def draw_candidates(
    space: Space,
    task: Significance | None,
    count: int,
    rng: np.random.Generator,
    *,
    task_share: float = 0.5,
    temperature: float = 1.0,
) -> Genomes:
    """Different genomes, int64 (count, genes), fewer where the space has fewer.

    A share of them has choices with probability ∝ exp(T̂ / temperature), the rest is uniform.
    Without ``task`` all are uniform.
    """
    wanted = min(count, space.size())
    ranked = task.normalised() if task is not None else None
    found: dict[Genome, None] = {}
    biased = round(task_share * wanted) if ranked is not None else 0
    tries = 0
    while len(found) < wanted:
        tries += 1
        by_task = ranked is not None and len(found) < biased and tries < 20 * wanted
        found[ranked.draw(rng, temperature) if ranked is not None and by_task else space.sample(rng)] = None
    return np.array(list(found), np.int64)


def hardware_significance(
    choices: Sequence[int],
    genomes: Genomes,
    costs: Sequence[CandidateCost],
    measure: Measure,
    *,
    top: int | None = None,
) -> Significance:
    """Give it from simulated candidates.

    Args:
        top: K; default a tenth of the candidates that fit, at least 16 (all where fewer fit).

    Raises:
        SearchError: no candidate fits the chip.
    """
    if measure is Measure.RIDGE:
        return Significance.of(choices, -edp_model(choices, genomes, costs).weights)
    fits = np.array([i for i, cost in enumerate(costs) if cost.feasible], np.int64)
    if not len(fits):
        least = min(cost.macros for cost in costs)
        raise SearchError(
            f"none of {len(costs)} candidates fits {costs[0].macros_available} macros; the smallest needs {least}\n"
            "  try     more candidates, a smaller space, or a chip with more macros"
        )
    edp = np.array([cost.edp_mj_ms for cost in costs if cost.feasible])
    k = min(top or max(LEAST_TOP, round(TOP_SHARE * len(fits))), len(fits))
    best = fits[np.argsort(edp, kind="stable")[:k]]
    hot = one_hot(choices, genomes)
    among_best = hot[best].sum(0)
    if measure is Measure.FREQUENCY:
        return Significance.of(choices, among_best / k)
    number = np.repeat(np.asarray(choices), choices)  # choices of the gene
    among_all = hot.sum(0)
    lift = np.log((among_best + 0.5) / (k + 0.5 * number)) - np.log((among_all + 0.5) / (len(hot) + 0.5 * number))
    return Significance.of(choices, lift)


@dataclass(frozen=True, slots=True, eq=False)
class CostModels:
    """ln latency (ns), ln energy (pJ) and ln macros as sums over choices, fitted to simulated candidates."""

    latency: AdditiveModel
    energy: AdditiveModel
    macros: AdditiveModel

    def predict(self, genomes: Genomes) -> Floats:
        """The three logarithms, (networks, 3)."""
        return np.column_stack([m.predict(genomes)[0] for m in (self.latency, self.energy, self.macros)])


def cost_models(choices: Sequence[int], genomes: Genomes, costs: Sequence[CandidateCost]) -> CostModels:
    table = np.log([(cost.latency_ns, cost.energy_pj, cost.macros) for cost in costs])
    return CostModels(*(fit_additive(choices, genomes, column) for column in table.T))


def edp_model(choices: Sequence[int], genomes: Genomes, costs: Sequence[CandidateCost]) -> AdditiveModel:
    """ln EDP (mJ·ms) as a sum over choices."""
    return fit_additive(choices, genomes, np.log([cost.edp_mj_ms for cost in costs]))


def combinations(
    task: Significance, hardware: Significance, alphas: Sequence[float], *, by_gene: bool = False
) -> Genomes:
    """The best genome at each α, each once, int64 (networks, genes)."""
    found = {combined(task, hardware, alpha, by_gene=by_gene).best(): None for alpha in alphas}
    return np.array(list(found), np.int64)
