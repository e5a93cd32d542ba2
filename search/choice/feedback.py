"""Costs corrected by chips: simulated costs times the ratio that measured networks took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from search.choice.additive import AdditiveModel, fit_additive
from search.choice.candidate_costs import Simulate
from search.space.architecture import Architecture
from search.space.candidate import CandidateCost
from search.space.genes import Space


@dataclass(frozen=True, slots=True, eq=False)
class CostFeedback:
    """ln(measured / simulated) of latency and of energy, as sums over choices that few measurements barely move."""

    latency: AdditiveModel
    energy: AdditiveModel

    def corrected(self, space: Space, simulate: Simulate) -> Simulate:
        """``simulate``, each cost times the ratio of these models."""

        def costs(architectures: Sequence[Architecture]) -> list[CandidateCost]:
            genomes = np.array([space.encode(a) for a in architectures])
            slower, dearer = self.latency.predict(genomes)[0], self.energy.predict(genomes)[0]
            return [
                replace(cost, latency_ns=cost.latency_ns * math.exp(a), energy_pj=cost.energy_pj * math.exp(b))
                for cost, a, b in zip(simulate(architectures), slower, dearer, strict=True)
            ]

        return costs


def cost_feedback(
    space: Space,
    architectures: Sequence[Architecture],
    simulated: Sequence[CandidateCost],
    latency_ns: Sequence[float],
    energy_pj: Sequence[float],
) -> CostFeedback:
    """Corrections of simulated costs, fitted to networks whose cost was measured, at least 2."""
    genomes = np.array([space.encode(a) for a in architectures])
    slower = np.log([measured / cost.latency_ns for measured, cost in zip(latency_ns, simulated, strict=True)])
    dearer = np.log([measured / cost.energy_pj for measured, cost in zip(energy_pj, simulated, strict=True)])
    return CostFeedback(*(fit_additive(space.choices, genomes, values) for values in (slower, dearer)))
