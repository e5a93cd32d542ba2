"""The virtual chip of one campaign that faults are put into, built from a program and a record alone."""

from __future__ import annotations

from dataclasses import replace

from cim.record.calibration import CalibrationRecord
from cim.simulator.modes import SimulationMode
from hil.payload.radiation.checksums import CheckedProgram
from hil.payload.radiation.inject import ChipUnderTest
from hil.payload.radiation.run import FaultContext
from hil.simulation.virtual_chip import build_chip
from hil.simulation.virtual_chips import VirtualChips
from mapping.program.conductance import ConductanceProgram
from mapping.program.training_inputs import training_inputs
from mapping.recipe.recipe import Recipe


def fault_context(
    base: ConductanceProgram,
    checked: CheckedProgram,
    record: CalibrationRecord,
    recipe: Recipe,
    *,
    seed: int,
) -> FaultContext:
    """Virtual chip 0 of a seed, in fast mode, with its checksum columns, after a recipe. The same whenever it is built.

    Args:
        base: prepared by the recipe (``Recipe.prepared``), as ``checked`` is.
    """
    chips = VirtualChips(
        checked.program,
        record,
        recipe,
        1,
        seed,
        inputs=training_inputs(checked.program),
        mode=SimulationMode.FAST,
    )
    drawn = chips.draw(0)
    virtual = build_chip(checked.program, record, drawn, seed=chips.noise_seed, number=0, mode=SimulationMode.FAST)
    program, targets = checked.program, recipe.targets(base)
    if targets is not None:  # checks are not tuned: nothing but their sums is looked at
        base = virtual.tuned(base, targets).program
        tuned = {step.name: step for step in base.steps}
        program = replace(program, steps=tuple(tuned.get(step.name, step) for step in program.steps))
    return FaultContext(ChipUnderTest(base, program, record, drawn), virtual, checked.checks)
