"""Price of a plan on a target: energy times latency."""

from __future__ import annotations

from mapping.network.graph import NetworkGraph
from mapping.workload import unplaced_workload
from search.pruned.plan import PruningPlan, Teacher
from search.space.target import Target


class PlanPrices:
    """EDP in mJ·ms of plans of one teacher, each asked of the target once. What is too large costs far more."""

    def __init__(self, teacher: Teacher, target: Target) -> None:
        self.teacher, self.target = teacher, target
        self.known: dict[tuple[object, ...], float] = {}
        self.graphs: dict[tuple[object, ...], NetworkGraph] = {}

    def __call__(self, plan: PruningPlan) -> float:
        if plan.key not in self.known:
            shape = plan.classes, plan.blocks, plan.points
            if shape not in self.graphs:
                self.graphs = {shape: self.teacher.narrowed(plan)}  # the last one: bits are tried on one shape
            graph = self.graphs[shape]
            work = unplaced_workload(
                graph,
                weight_bits=plan.weight_bits,
                activation_bits=plan.activation_bits,
                layer_bits=self.teacher.bits_in(plan, graph),
            )
            found = self.target.cost(work)
            self.known[plan.key] = found.edp_mj_ms * (1 + found.excess_macros)
        return self.known[plan.key]
