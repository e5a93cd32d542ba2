"""Techniques, alone and in pairs, done alike to a chip on the wire, a virtual and a counted one."""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from cim.chip.file import load_chip
from cim.record.published import nominal_record
from hil.deployment.options import DeployOptions, usual_recipe
from hil.deployment.targets.counted import CountedTarget, count_recipe
from hil.deployment.targets.wired import WiredTarget
from hil.driver.open_chip import open_chip
from hil.simulation.virtual_chips import VirtualChips
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.layout.lay_out import LayoutOptions
from mapping.program.conductance import ConductanceProgram
from mapping.program.training_inputs import training_inputs
from mapping.recipe.recipe import Recipe, run_recipe
from mapping.recipe.registry import techniques
from mapping.recipe.target import RecipeTarget
from mapping.recipe.technique import RecipeError, settings_of
from mapping.settings import short

from ..small_net import small_network

MACROS = 16
NAMES = ("copies", "residual", "aims", "rewrite", "tune", "adapters", "reads", "rounds", "repeat")


@dataclass
class Noted:
    """A target whose calls are noted, without what only its own cells decide."""

    inner: Any
    done: list[tuple[Any, ...]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def write(self, program: ConductanceProgram) -> tuple[int, ...]:
        slots: tuple[int, ...] = self.inner.write(program)
        self.done.append(("write", tuple(sorted(slots))))  # virtual cells have no order
        return slots

    def write_again(self, program: ConductanceProgram, slot: int, targets_us: Any, number: int) -> None:
        self.done.append(("write again", number))
        self.inner.write_again(program, slot, targets_us, number)

    def wait(self, seconds: float) -> None:
        self.done.append(("wait", seconds))
        self.inner.wait(seconds)

    def let_age(self, planned_s: float) -> float:
        self.done.append(("let age", planned_s))
        return float(self.inner.let_age(planned_s))

    def read(self, program: ConductanceProgram, slot: int, reads: int, number: int) -> Any:
        self.done.append(("read", slot, reads, number))
        return self.inner.read(program, slot, reads, number)

    def read_back(self, program: ConductanceProgram, reads: int) -> Any:
        self.done.append(("read back", program.slots, reads))
        return self.inner.read_back(program, reads)

    def tune(self, tune: Any, written: Any) -> Any:
        self.done.append(("tune", len(tune.targets.images), tune.targets.rank, written.number))
        return self.inner.tune(tune, written)

    def stage(self, name: str) -> AbstractContextManager[None]:
        self.done.append(("stage", name))
        stage: AbstractContextManager[None] = self.inner.stage(name)
        return stage

    @property
    def order(self) -> list[tuple[Any, ...]]:
        """The calls; writing again once for all slots, since a slot without a cell that is far off is left out."""
        return [call for call, _ in itertools.groupby(c for c in self.done if c[0] != "read")]


def recipes() -> list[Recipe]:
    """Each technique alone with what it builds on, and each pair that excludes nothing."""
    found = {}
    for number in (1, 2):
        for names in itertools.combinations(NAMES, number):
            needed = {other for name in names for other in techniques()[name].needs}
            try:
                recipe = Recipe().changed(sorted({*names, *needed}), [])
            except RecipeError:
                continue
            found[str(recipe)] = recipe
    return list(found.values())


def test_the_table_has_every_technique_of_ours() -> None:
    assert set(NAMES) <= set(techniques())
    assert {t.name for recipe in recipes() for t in recipe.techniques} == set(NAMES)


@pytest.mark.parametrize("number", ["1e400", "1e309", "1e18"])
def test_a_number_beyond_its_limits_is_refused_for_every_setting_of_every_technique(number: str) -> None:
    for name in NAMES:
        for own in settings_of(techniques()[name]):
            if isinstance(own.default, int | float) and not isinstance(own.default, bool):
                with pytest.raises(RecipeError, match=f"{name}: "):
                    Recipe().changed([f"{name}={short(own)}={number}"], [])


@pytest.fixture(scope="module")
def programs() -> dict[LayoutOptions, ConductanceProgram]:
    return {}


@pytest.mark.parametrize("recipe", recipes(), ids=str)
def test_what_is_done_to_a_chip_is_done_to_every_kind_of_chip(
    recipe: Recipe, programs: dict[LayoutOptions, ConductanceProgram]
) -> None:
    layout = recipe.laid_out(LayoutOptions())
    if layout not in programs:
        network = replace(small_network(), weight_bits=8 if layout.residual else 4)
        programs[layout] = compile_network(network, load_chip("lab-128", macros=MACROS), options=layout)
    program = programs[layout]
    recipe = replace(recipe, age_s=60.0, reads=2)
    record, inputs = nominal_record(program.spec, range(MACROS)), training_inputs(program)
    chips, targets = VirtualChips(program, record, recipe, 1, 0, inputs=inputs, mode="fast"), recipe.targets(program)
    virtual, done = chips._target(0), []
    with open_chip(f"emulated:lab-128?seed=3&macros={MACROS}", chip=program.spec) as driver:
        wired, counted = WiredTarget(driver, record, Watch(), force=True), CountedTarget(record, recipe)
        for target in (wired, virtual, counted):
            noted = Noted(target)
            written = run_recipe(recipe, program, noted, inputs, targets)  # type: ignore[arg-type]
            assert (written.tuned is None) == (targets is None or target is counted)
            done.append([call for call in noted.order if call != ("stage", "waiting")])
    assert done[0] == done[1] == done[2]
    assert (("stage", "tuning") in done[0]) == bool(recipe.tune_plan.images)


def test_what_is_counted_is_what_a_chip_on_the_wire_is_asked_for() -> None:
    network = replace(small_network(), weight_bits=4)
    program = compile_network(network, load_chip("lab-128", macros=MACROS))
    options = DeployOptions(age_s=60.0, recipe=usual_recipe("rewrite=2,after=1s"))
    counted = count_recipe(program, options.recipe_of(program))
    record = nominal_record(program.spec, range(MACROS))
    with open_chip(f"emulated:lab-128?seed=3&macros={MACROS}", chip=program.spec) as driver:
        target: RecipeTarget = WiredTarget(driver, record, Watch(), force=True)
        run_recipe(options.recipe_of(program), program, target, training_inputs(program))
        assert counted.cells == sum(int(np.isfinite(target.targets_us(slot)).sum()) for slot in program.slots)
        assert counted.pulses + counted.pulses_again == pytest.approx(target.pulses, rel=0.5)
