"""Price of a plan on a target, or on that of several whose array is the cheapest for it: energy times latency."""

from __future__ import annotations

from mapping.network.graph import NetworkGraph
from mapping.workload import unplaced_workload
from search.pruned.plan import PruningPlan, Teacher
from search.space.target import Target


class PlanPrices:
    """EDP in mJ·ms of plans of one teacher, each asked of the targets once. What is too large costs far more.

    Of several ``targets`` the cheapest counts: they differ in what a perfect chip gives the same answers on.
    """

    def __init__(self, teacher: Teacher, *targets: Target) -> None:
        self.teacher, self.targets = teacher, targets
        self.known: dict[tuple[object, ...], tuple[float, int]] = {}
        self.graphs: dict[tuple[object, ...], NetworkGraph] = {}

    def __call__(self, plan: PruningPlan) -> float:
        return self._cheapest(plan)[0]

    def target(self, plan: PruningPlan) -> Target:
        """The array on which the network of a plan is cheapest."""
        return self.targets[self._cheapest(plan)[1]]

    def _cheapest(self, plan: PruningPlan) -> tuple[float, int]:
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
            costs = [target.cost(work) for target in self.targets]
            prices = [found.edp_mj_ms * (1 + found.excess_macros) for found in costs]
            self.known[plan.key] = min((price, number) for number, price in enumerate(prices))
        return self.known[plan.key]
