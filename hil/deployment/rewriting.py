"""Relax and rewrite on the chip: wait, read, write the cells again that left their window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cim.record.calibration import CalibrationRecord
from cim.record.rewriting import Rewrite, expected_us, left_window
from hil.deployment.programming import MacroReport, ProgramReport
from hil.driver.chip_driver import ChipDriver
from hil.samples import READ_EARLY
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram

AGAIN = 1 << 24  # distance of the sample numbers of two rounds


def rewrite_cells(
    driver: ChipDriver,
    program: ConductanceProgram,
    record: CalibrationRecord,
    written: ProgramReport,
    rewrite: Rewrite,
    *,
    sample: int,
    watch: Watch,
) -> ProgramReport:
    """Write again, ``rewrite.times`` times, the cells that left their window since they were last written.

    Cells that the record lists as stuck are left alone. The report counts all pulses; ``early_us`` of a cell that was
    written again is its last verify reading.
    """
    reports = list(written.macros)
    start_ns, cells = driver.chip_time_ns, 0
    for turn in range(rewrite.times):
        driver.wait(rewrite.after_s)
        for at, report in enumerate(reports):
            watch.step(at, len(reports), f"rewrite {turn + 1} of {rewrite.times}")
            reports[at], count = _again(driver, program, record, report, rewrite, sample + (turn + 1) * AGAIN, turn)
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
    sample: int,
    turn: int,
) -> tuple[MacroReport, int]:
    """One macro, once: its report and how many cells were written."""
    macro, spec = program.macro_of(report.slot), program.spec.macro
    readings = driver.read_cells(macro, reads=rewrite.reads, sample=READ_EARLY + (turn + 1) * AGAIN)
    off = left_window(readings, expected_us(record.programming, report.targets_us, rewrite.after_s), spec.tolerance_us)
    off &= np.isnan(record.macro(macro).stuck_us)
    count = int(off.sum())
    if not count:
        return report, 0
    targets = np.where(off, report.targets_us, np.float32(np.nan))
    outcome = driver.program_cells(macro, targets, sample=sample)
    pulses = report.pulses.astype(np.int64) + np.where(off, outcome.pulses, 0)
    early = report.early_us
    return replace(
        report,
        readings_us=np.where(off, outcome.readings_us, report.readings_us),
        pulses=np.minimum(pulses, np.iinfo(np.uint16).max).astype(np.uint16),
        reached=np.where(off, outcome.reached, report.reached),
        programmed_s=driver.chip_time_ns * 1e-9,
        early_us=None if early is None else np.where(off, outcome.readings_us, early),
    ), count
