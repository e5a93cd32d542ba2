"""NSGA-II over genomes: pymoo's, with uniform crossover and a mutation that draws another choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from search.space.significance import Floats, Genomes

try:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.mutation import Mutation
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.optimize import minimize
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("network search needs a package more: pip install 'rram-hil[search]'") from error

Evaluate = Callable[[Genomes], tuple[Floats, Floats]]
"""Objectives, all to be small, (networks, objectives); constraints, kept where at most 0, (networks, constraints)."""


class _OtherChoice(Mutation):  # type: ignore[misc]
    """Each gene with probability 1 / genes takes a choice at random."""

    def _do(self, problem: Any, X: Genomes, *args: Any, random_state: Any = None, **kwargs: Any) -> Genomes:
        change = random_state.random(X.shape) < 1 / X.shape[1]
        drawn = random_state.integers(0, np.asarray(problem.xu) + 1, X.shape)
        return np.where(change, drawn, X)


class _Choices(Problem):  # type: ignore[misc]
    def __init__(self, choices: Sequence[int], evaluate: Evaluate, objectives: int, constraints: int) -> None:
        super().__init__(
            n_var=len(choices), n_obj=objectives, n_ieq_constr=constraints, xl=0, xu=np.array(choices) - 1, vtype=int
        )
        self.evaluate_genomes = evaluate

    def _evaluate(self, x: Genomes, out: dict[str, Floats], *args: Any, **kwargs: Any) -> None:
        out["F"], out["G"] = self.evaluate_genomes(x.astype(np.int64))


def evolve(
    choices: Sequence[int],
    evaluate: Evaluate,
    start: Genomes,
    *,
    objectives: int,
    constraints: int,
    generations: int,
    seed: int,
) -> Genomes:
    """Give the last population, int64 (at most as many as ``start``, genes).

    ``start`` is the first of ``generations`` populations. Feasible ones come before others, and among
    others those with less excess; no genome is twice in a population.
    """
    algorithm = NSGA2(
        pop_size=len(start),
        sampling=np.asarray(start),
        crossover=UniformCrossover(prob=0.9),
        mutation=_OtherChoice(prob=1.0),
        eliminate_duplicates=True,
    )
    problem = _Choices(choices, evaluate, objectives, constraints)
    result = minimize(problem, algorithm, ("n_gen", generations), seed=seed, verbose=False)
    return np.asarray(result.pop.get("X"), np.int64)
