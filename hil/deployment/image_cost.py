"""What one image costs by ``hil estimate``, for the report of a run."""

from __future__ import annotations

from cim.errors import CimError
from hil.cost.as_deployed import cost_as_deployed
from hil.verdict.image_cost import ImageCost, LayerImageCost
from mapping.errors import MappingError
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.recipe import Recipe


def image_cost(program: ConductanceProgram, recipe: Recipe) -> ImageCost | None:
    """Cost of one image of a program with what a recipe adds; None where the cost model has no equation for it."""
    try:
        cost = cost_as_deployed(program, recipe)
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
