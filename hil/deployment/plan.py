"""The plan of a deployment before its first pulse, counted by carrying the recipe out on a chip of paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cim.cost.network_cost import Cost
from cim.errors import CimError
from cim.record.calibration import CalibrationRecord
from hil.cost.as_deployed import cost_as_compiled, cost_as_deployed, known_cost
from hil.cost.plan import DeploymentPlan
from hil.deployment.targets.counted import count_recipe
from hil.verdict.image_cost import ImageCost, LayerImageCost
from mapping.errors import MappingError
from mapping.program.conductance import ConductanceProgram
from mapping.program.counts import tile_counts, total
from mapping.recipe.recipe import Recipe


def plan_of(program: ConductanceProgram, recipe: Recipe, record: CalibrationRecord | None = None) -> DeploymentPlan:
    """The plan for a program; ``record``: law of the cells, from calibration; None: the models of the chip file."""
    counted, cost = count_recipe(program, recipe, record), known_cost(program, recipe)
    return DeploymentPlan(
        recipe=str(recipe),
        macros=len(program.macros),
        rounds=program.rounds,
        cells=counted.cells,
        pulses=counted.pulses,
        pulses_again=counted.pulses_again,
        cell_reads=sum(stage.readings for stage in counted.stages),
        write_s=counted.write_s,
        tune_images=sum(stage.images for stage in counted.stages) // program.rounds,
        reads=total(tile_counts(program)).reads,
        energy_uj=None if cost is None else cost.energy_pj * 1e-6,
        latency_us=None if cost is None else cost.latency_ns * 1e-3,
        edp_mj_ms=None if cost is None else cost.edp_mj_ms,
    )


def image_cost(program: ConductanceProgram, recipe: Recipe) -> ImageCost | None:
    """Cost of one image under a recipe, beside the cost of the network as compiled; None where the cost model has no
    equation for an operator."""
    used = _estimated(lambda: cost_as_deployed(program, recipe))
    bare = None if program.residual else _estimated(lambda: cost_as_compiled(program))  # else part of its weights
    return used if used is None or bare == used else replace(used, as_compiled=bare)


def _estimated(of: Callable[[], Cost]) -> ImageCost | None:
    try:
        cost = of()
    except (CimError, MappingError):  # a run that was measured is not lost for an estimate
        return None
    return ImageCost(
        energy_j=cost.energy_pj * 1e-12,
        latency_s=cost.latency_ns * 1e-9,
        by_part={name: pj * 1e-12 for name, pj in cost.energy_by_module_pj.items() if pj > 0},
        layers=tuple(
            LayerImageCost(layer.name, layer.total_pj * 1e-12, layer.latency_ns * 1e-9) for layer in cost.layers
        ),
    )
