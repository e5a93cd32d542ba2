"""The plan of a deployment before its first pulse, counted by carrying the recipe out on a chip of paper."""

from __future__ import annotations

from cim.record.calibration import CalibrationRecord
from hil.cost.as_deployed import known_cost
from hil.cost.plan import DeploymentPlan
from hil.deployment.targets.counted import count_recipe
from mapping.program.conductance import ConductanceProgram
from mapping.program.counts import tile_counts, total
from mapping.recipe.recipe import Recipe


def plan_of(program: ConductanceProgram, recipe: Recipe, record: CalibrationRecord | None = None) -> DeploymentPlan:
    """The plan for a program; ``record``: of the chip, None: the models of the chip file."""
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
