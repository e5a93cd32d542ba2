"""Requests of a typical calibration, sent to a stand-in, so that its bytes, chip time and wear are known beforehand.

``hil.calibration.steps`` decides by what it measures when a step is precise enough. Here each
step ends where it ended on emulated chips.
"""

from __future__ import annotations

import numpy as np

from cim.array.wire_law import max_unit
from hil.calibration.measurements import Probes
from hil.calibration.plan import FIRST_AGE_S, CalibrationPlan, later_ages
from hil.driver.chip_driver import ChipDriver
from hil.transports import is_serial
from hil.watch import SetOfSteps, Watch

LAWS, COLUMNS = "fitting laws of cells", "fitting columns"

# Seen with hil calibrate --emulated lab-128; neurram-256, whose columns are longer, takes four batches.
USUAL_STUCK_CYCLES = 2  # the doubtful cells of the first lie all over a macro
USUAL_DOUBTFUL = 0.024  # of all cells after the first cycle
USUAL_BATCHES = 1  # of transfer vectors, until gains are known


# Work of a set of steps, seconds on one core with an emulated lab-128: hil deploy --emulated --recalibrate
WRITING_S, READING_S, MULTIPLYING_S = 0.03, 0.005, 0.02  # a macro
LAWS_S, COLUMNS_S = 4.0, 0.2  # of all cells, of a macro's columns
SLOW_LINE = 20.0  # times longer is what goes over a serial line, or is done by silicon


def usual_sets(
    driver: ChipDriver, macros: tuple[int, ...], plan: CalibrationPlan, age_s: float, second: bool
) -> tuple[SetOfSteps, ...]:
    """Groups of measurements and fits of a typical calibration, in order, each with its name and its usual time.

    Args:
        second: the calibration measures at a second temperature, too.
    """
    slow = SLOW_LINE if is_serial(driver.address) or driver.description.kind == "silicon" else 1.0
    all_macros, some = len(macros), min(len(macros), plan.noise_macros)
    sets = [("offsets", MULTIPLYING_S * all_macros)]
    sets += [("stuck cells", 2 * WRITING_S * all_macros)] * min(USUAL_STUCK_CYCLES, plan.stuck_cycles)
    sets += [("pattern", WRITING_S * all_macros)]
    sets += [("cells", READING_S * all_macros)] * (len(later_ages(age_s, all_macros * FIRST_AGE_S, plan)) - 1)
    sets += [("repeated reads", READING_S * some)] * (1 + len(plan.noise_gaps_s))
    sets += [("aged cells", 2 * READING_S * all_macros)]
    products = ("transfer",) * USUAL_BATCHES + ("single rows", "near and far rows")
    products += ("steps of the row drivers",) if max_unit(driver.spec.macro) > 1 else ()
    sets += [(name, MULTIPLYING_S * all_macros) for name in (*products, "network-like products")]
    if second:
        hot = ("cells before heating", "cells at the second temperature", "repeated reads")
        sets += [*((name, READING_S * all_macros) for name in hot), ("transfer", MULTIPLYING_S * all_macros)]
    fits = [(LAWS, LAWS_S), (COLUMNS, COLUMNS_S * all_macros)]
    return tuple(SetOfSteps(*one) for one in [*((name, slow * work) for name, work in sets), *fits])


def dry_run(driver: ChipDriver, macros: tuple[int, ...], plan: CalibrationPlan, age_s: float, pattern_s: float) -> None:
    """Make every request of a usual calibration of ``macros``.

    Args:
        pattern_s: chip time that writing the test pattern takes, of one macro.
    """
    probes = Probes(driver, macros, 0, Watch())
    driver.status()
    probes.idle(plan.idle_vectors)
    rng, shape = np.random.default_rng(0), (driver.spec.macro.rows, driver.spec.macro.columns)
    for cycle in range(min(USUAL_STUCK_CYCLES, plan.stuck_cycles)):
        doubtful = {macro: rng.random(shape) < USUAL_DOUBTFUL for macro in macros} if cycle else None
        probes.stuck_cells(plan.stuck_reads, doubtful)
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
