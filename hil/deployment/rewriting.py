"""Cells that are written a second time, once they have relaxed and were read.

Relax and rewrite: those that left their window (``rewrite_cells``). Residual slices: those of lower bit slices, to take
up what the cells of the slices above missed (``write_lower_slices``). ``mapping.tune.residual`` chooses their digits,
and virtual chips go through the same steps (``hil.simulation.residual_cells``).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cim.record.calibration import CalibrationRecord
from cim.record.rewriting import Rewrite, expected_us, left_window
from hil.deployment.options import DeployOptions
from hil.deployment.programming import MacroReport, ProgramReport, read_back, written_again
from hil.driver.chip_driver import ChipDriver
from hil.errors import UsageError
from hil.samples import READ_EARLY
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.tune.residual import ResidualSlices, around_stuck, residual, writings

AGAIN = 1 << 24  # distance of the sample numbers of two writings


def rewrite_cells(
    driver: ChipDriver,
    program: ConductanceProgram,
    record: CalibrationRecord,
    written: ProgramReport,
    rewrite: Rewrite,
    *,
    sample: int,
    first_read: int = READ_EARLY,
    watch: Watch,
) -> ProgramReport:
    """Write again, ``rewrite.times`` times, the cells that left their window since they were last written.

    Cells that the record lists as stuck are left alone. The report counts all pulses; ``early_us`` of a cell that was
    written again is its last verify reading.

    Args:
        sample: number of the writing before; those of the rewrites follow it.
        first_read: number of the readings right after that writing; those before each rewrite follow it.
    """
    reports = list(written.macros)
    start_ns, cells = driver.chip_time_ns, 0
    for turn in range(rewrite.times):
        driver.wait(rewrite.after_s, watch)
        for at, report in enumerate(reports):
            watch.step(at, len(reports), f"rewrite {turn + 1} of {rewrite.times}")
            further = (turn + 1) * AGAIN
            reports[at], count = _again(
                driver, program, record, report, rewrite, sample=sample + further, read=first_read + further
            )
            cells += count
    if program.digest:  # a chip forgets what it holds when it is written
        driver.hold_program(bytes.fromhex(program.held_digest))
    found = ProgramReport(tuple(reports))
    watch.note(
        f"rewritten: {cells} of {found.cells} cells in {rewrite.times} rounds, {found.pulses - written.pulses} pulses, "
        f"{(driver.chip_time_ns - start_ns) * 1e-9:.1f} s of chip time"
    )
    return found


def _again(
    driver: ChipDriver,
    program: ConductanceProgram,
    record: CalibrationRecord,
    report: MacroReport,
    rewrite: Rewrite,
    *,
    sample: int,
    read: int,
) -> tuple[MacroReport, int]:
    """One macro, once: its report and how many cells were written."""
    macro, spec = program.macro_of(report.slot), program.spec.macro
    readings = driver.read_cells(macro, reads=rewrite.reads, sample=read)
    off = left_window(readings, expected_us(record.programming, report.targets_us, rewrite.after_s), spec.tolerance_us)
    off &= np.isnan(record.macro(macro).stuck_us)
    count = int(off.sum())
    if not count:
        return report, 0
    targets = np.where(off, report.targets_us, np.float32(np.nan))
    outcome = driver.program_cells(macro, targets, sample=sample)
    found = written_again(report, targets, outcome, driver.chip_time_ns * 1e-9)
    early = report.early_us
    return replace(found, early_us=None if early is None else np.where(off, outcome.readings_us, early)), count


def around_stuck_cells(program: ConductanceProgram, record: CalibrationRecord) -> ConductanceProgram:
    """The program as this chip is written first: residual slices go around cells that the record lists as stuck."""
    return around_stuck(program, stuck_cells(program, record)) if program.residual else program


def stuck_cells(program: ConductanceProgram, record: CalibrationRecord) -> dict[int, NDArray[np.float32]]:
    """By slot, mean readings of stuck cells, (rows, columns) µS, NaN elsewhere."""
    return {slot: record.macro(program.macro_of(slot)).stuck_us for slot in program.slots}


def write_lower_slices(
    driver: ChipDriver,
    program: ConductanceProgram,
    record: CalibrationRecord,
    written: ProgramReport,
    options: DeployOptions,
    *,
    sample: int,
    watch: Watch,
) -> tuple[ResidualSlices, ProgramReport]:
    """Choose lower slices for what those above read ``options.residual_wait_s`` after writing, and write them; again
    until the lowest is written.

    Args:
        program: with residual slices, as the chip holds it (``around_stuck_cells``).
        written: how that was written.

    Raises:
        hil.errors.HilError: the chip refused or fell silent.
    """
    found = ResidualSlices(program, {}, {}, 0.0)
    reports = {report.slot: report for report in written.macros}
    for settled in range(1, writings(program) + 1):
        with watch.stage("waiting"):
            driver.wait(options.residual_wait_s, watch)
        with watch.stage("reading back"):
            first = READ_EARLY + (settled - 1) * AGAIN
            readings = read_back(driver, program.macros, reads=options.read_back_reads, sample=first, watch=watch)
        found = residual(program, readings, settled, stuck_cells(program, record))
        with watch.stage("programming"):
            for done, (slot, targets) in enumerate(found.targets_us.items()):
                macro = program.macro_of(slot)
                watch.step(done, len(found.targets_us), f"lower slices of macro {macro}")
                outcome = driver.program_cells(macro, targets, sample=sample + settled * AGAIN)
                reports[slot] = written_again(reports[slot], targets, outcome, driver.chip_time_ns * 1e-9)
            driver.hold_program(bytes.fromhex(found.program.held_digest))
        program = found.program
    watch.note(
        f"residual slices: lower slices hold what those above missed, {found.left:.2f} levels (rms) of the highest left"
    )
    return found, replace(written, macros=tuple(reports.values()))


def check_residual(program: ConductanceProgram, options: DeployOptions) -> None:
    """Refuse a treatment of cells that residual slices leave no place for.

    Raises:
        UsageError: the program has residual slices, and cells are to be rewritten.
    """
    if program.residual and options.rewrite:
        raise UsageError("a program with residual slices is not rewritten", hint="leave --rewrite out")


def refuse_residual(program: ConductanceProgram, what: str) -> None:
    """Refuse a program whose lower slices depend on the chip that they are written to.

    Raises:
        UsageError: the program has residual slices.
    """
    if program.residual:
        raise UsageError(
            f"{what}: the program has residual slices, whose lower digits each chip gets for its own highest ones",
            hint="hil deploy and hil simulate take it; elsewhere a program compiled without --residual-slices",
        )
