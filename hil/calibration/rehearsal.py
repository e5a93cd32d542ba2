"""The measurements of a calibration as they usually come out, without their results: for counting what they cost.

``hil.calibration.steps`` decides by what it measures when a step is precise enough. Here each
step ends where it ended on emulated chips.
"""

from __future__ import annotations

from cim.array.wire_law import max_unit
from hil.calibration.measurements import Probes
from hil.calibration.plan import FIRST_AGE_S, CalibrationPlan, later_ages
from hil.driver.chip_driver import ChipDriver
from hil.watch import Watch

# Seen with hil calibrate --emulated lab-128; neurram-256, whose columns are longer, takes four batches.
USUAL_STUCK_CYCLES = 2  # the doubtful cells of the first lie all over a macro
USUAL_BATCHES = 1  # of transfer vectors, until gains are known


def rehearse(
    driver: ChipDriver, macros: tuple[int, ...], plan: CalibrationPlan, age_s: float, pattern_s: float
) -> None:
    """Make every request of a usual calibration of ``macros``.

    Args:
        pattern_s: chip time that writing the test pattern takes, of one macro.
    """
    probes = Probes(driver, macros, 0, Watch())
    driver.status()
    probes.idle(plan.idle_vectors)
    for _ in range(min(USUAL_STUCK_CYCLES, plan.stuck_cycles)):
        probes.stuck_cells(plan.stuck_reads)
    probes.write_pattern(plan.early_reads, FIRST_AGE_S)
    writing_s = (len(macros) - 1) * (pattern_s + FIRST_AGE_S)
    for _ in later_ages(age_s, writing_s, plan):  # the last of them: the cells once more, averaged
        probes.read(plan.early_reads, "cells")
    some = macros[:: max(1, len(macros) // plan.noise_macros)][: plan.noise_macros]
    probes.repeat(tuple(g for g in plan.noise_gaps_s if g <= age_s / 30.0), some)
    for batch in range(USUAL_BATCHES):
        probes.transfer(plan.batch, batch)
    probes.small(plan.zero_vectors)
    wired = macros[:: max(1, len(macros) // plan.wire_macros)][: plan.wire_macros]
    probes.blocks(plan.wire_vectors, wired)
    if max_unit(driver.spec.macro) > 1:
        probes.steps(plan.drive_subsets, wired)
    probes.network(plan.real_vectors)
