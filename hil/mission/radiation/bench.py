"""The bench of one campaign: the virtual chip that faults are put into, built from a program and a record alone."""

from __future__ import annotations

from cim.record.calibration import CalibrationRecord
from cim.record.rewriting import Rewrite
from cim.simulator.modes import SimulationMode
from hil.deployment.options import DeployOptions
from hil.mission.radiation.checksums import CheckedProgram
from hil.mission.radiation.inject import ChipUnderTest
from hil.mission.radiation.run import FaultBench
from hil.simulation.virtual_chip import build_chip
from hil.simulation.virtual_chips import VirtualChips
from mapping.program.conductance import ConductanceProgram
from mapping.program.training_inputs import training_inputs


def build_bench(
    base: ConductanceProgram,
    checked: CheckedProgram,
    record: CalibrationRecord,
    *,
    age_s: float,
    seed: int,
    rewrite: Rewrite | None = None,
) -> FaultBench:
    """Virtual chip 0 of a seed, in fast mode, with its checksum columns. The same whenever it is built."""
    reads = DeployOptions().read_back_reads
    chips = VirtualChips(
        checked.program,
        record,
        age_s,
        1,
        seed,
        reads,
        inputs=training_inputs(checked.program),
        mode=SimulationMode.FAST,
        rewrite=rewrite,
    )
    drawn = chips.draw(0)
    virtual = build_chip(checked.program, record, drawn, seed=chips.noise_seed, number=0, mode=SimulationMode.FAST)
    return FaultBench(ChipUnderTest(base, checked.program, record, drawn), virtual, checked.checks)
