"""The virtual chip of one campaign that faults are put into, built from a program and a record alone."""

from __future__ import annotations

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
from mapping.recipe.rewrite import Rewrite


def fault_context(
    base: ConductanceProgram,
    checked: CheckedProgram,
    record: CalibrationRecord,
    *,
    age_s: float,
    seed: int,
    rewrite: Rewrite | None = None,
) -> FaultContext:
    """Virtual chip 0 of a seed, in fast mode, with its checksum columns. The same whenever it is built."""
    chips = VirtualChips(
        checked.program,
        record,
        Recipe(() if rewrite is None else (rewrite,), age_s),
        1,
        seed,
        inputs=training_inputs(checked.program),
        mode=SimulationMode.FAST,
    )
    drawn = chips.draw(0)
    virtual = build_chip(checked.program, record, drawn, seed=chips.noise_seed, number=0, mode=SimulationMode.FAST)
    return FaultContext(ChipUnderTest(base, checked.program, record, drawn), virtual, checked.checks)
