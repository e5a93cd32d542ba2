"""Energy, time and EDP of a program once a recipe was carried out: the one number that every command shows."""

from __future__ import annotations

from dataclasses import replace

from cim.cost.network_cost import Cost, NoCostModel, estimate
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.recipe.recipe import Recipe
from mapping.tune.low_rank import with_blank_adapters
from mapping.workload import placed, program_workload


def running(program: ConductanceProgram, recipe: Recipe) -> ConductanceProgram:
    """The program with blank adapters where the recipe's tune may give adapters; an adapted program is unchanged."""
    rank = recipe.tune_plan.rank if len(recipe.tune_images(program)) else 0
    if not rank or any(step.adapter is not None for step in program.matrices):
        return program
    return with_blank_adapters(program, rank)


def cost_as_deployed(program: ConductanceProgram, recipe: Recipe, name: str = "network") -> Cost:
    """The cost of a program, with its copies, rounds and repeated reads, and with the adapters that its tune adds.

    Raises:
        cim.cost.network_cost.NoCostModel: the chip file has no prices.
    """
    return estimate(program_workload(running(program, recipe), name), program.spec)


def cost_as_compiled(program: ConductanceProgram) -> Cost:
    """The cost of the same network without any technique: each layer once, no adapter, one round.

    Raises:
        cim.cost.network_cost.NoCostModel: the chip file has no prices.
        mapping.errors.CannotMap: the network needs rounds.
    """
    steps = tuple(replace(step, adapter=None) if isinstance(step, MatrixStep) else step for step in program.steps)
    return estimate(placed(program_workload(replace(program, steps=steps)), program.spec), program.spec)


def known_cost(program: ConductanceProgram, recipe: Recipe) -> Cost | None:
    """Cost of one image as deployed; None where the chip file has no prices."""
    try:
        return cost_as_deployed(program, recipe)
    except NoCostModel:
        return None
