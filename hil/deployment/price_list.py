"""Prices of all techniques that are used without being named, on one network and chip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from hil.cost.plan import DeploymentPlan
from hil.deployment.network_source import program_of
from hil.deployment.options import NetworkOptions, TechniqueOptions
from hil.deployment.plan import plan_of
from hil.pages.tables import duration
from hil.watch import Watch
from mapping.errors import CannotMap
from mapping.layout.lay_out import LayoutOptions
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.recipe import Recipe
from mapping.recipe.registry import offers, technique
from mapping.recipe.technique import Technique


def price_list(network: str | Path | None, source: NetworkOptions, watch: Watch) -> dict[str, DeploymentPlan | str]:
    """By technique as ``--with`` takes it, from cheap to dear, the plan of the network with it and what it builds on
    alone; first that without any, "compiled". Words where the chip has no place for it."""
    made: dict[LayoutOptions, ConductanceProgram] = {}
    # Steps of compiling are not told: those of the list are what progress is counted by.
    compiled = partial(program_of, network, source, Watch())

    def planned(recipe: Recipe) -> DeploymentPlan:
        layout = recipe.laid_out(LayoutOptions())
        if layout not in made:
            made[layout] = compiled(recipe=recipe)[0]
        return plan_of(made[layout], recipe)

    found: dict[str, DeploymentPlan | str] = {"compiled": planned(TechniqueOptions(0).recipe())}
    for kind, recipes in _alone():
        watch.step(len(found), len(offers()) + 1, kind.name)
        for recipe in recipes:
            try:
                found[str(recipe.get(kind))] = planned(recipe)
                break
            except CannotMap as error:
                if recipe is recipes[-1]:
                    found[str(recipe.get(kind))] = error.reason
    return found


def _alone() -> Iterator[tuple[type[Technique], list[Recipe]]]:
    """Each offer in a recipe of its own, with its settings from the best to the least."""
    before: dict[str, list[Recipe]] = {}
    for kind, offer in offers():
        needed = Recipe(tuple(technique(name)() for name in kind.needs))
        stand = before[kind.name] if offer.upon else [needed]
        recipes = [
            recipe.having(replace(recipe.get(kind) or kind(), **changes))  # type: ignore[type-var]
            for recipe in stand
            for changes in offer.changes
        ]
        before[kind.name] = recipes
        yield kind, recipes


HEAD = ("technique", "cells", "macros", "reads", "energy", "EDP", "pulses", "chip time to write", "images of the tune")
"""Columns of ``price_row``: cells, reads, energy, EDP and pulses (wear) are times those of the network as compiled."""


def price_row(plan: DeploymentPlan, compiled: DeploymentPlan) -> tuple[str, ...]:
    """What a technique costs, beside the network as compiled."""

    def times(new: float | None, old: float | None) -> str:
        return f"{new / old:.3g} ×" if old and new is not None else "–"

    return (
        times(plan.cells, compiled.cells),
        f"{plan.macros}",
        times(plan.reads, compiled.reads),
        times(plan.energy_uj, compiled.energy_uj),
        times(plan.edp_mj_ms, compiled.edp_mj_ms),
        times(plan.pulses + plan.pulses_again, compiled.pulses + compiled.pulses_again),
        duration(round(plan.write_s, 1)),
        f"{plan.tune_images or '–'}",
    )
