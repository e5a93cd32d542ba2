"""The chip on the wire as the target of a recipe: its macros are written, verified and read through the driver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cim.record.calibration import CalibrationRecord
from hil.deployment.plans.network_plan import NoPlan
from hil.deployment.plans.taps import Taps
from hil.deployment.targets.measured_sums import MeasuredSums
from hil.deployment.targets.written_macros import EarlyReads, MacroReport, ProgramReport, written_again
from hil.driver.chip_driver import WAITED_ENOUGH, ChipDriver
from hil.driver.samples import PROGRAM, READ_BEFORE, READ_EARLY, ROUND, TUNE
from hil.errors import BeyondLimit, DeviceError, UsageError
from hil.pages.tables import duration
from hil.watch import Watch
from mapping.layout.place import macro_targets_us, tiles_by_slot
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import Corrections
from mapping.program.file import held_digest_at
from mapping.program.rounds import part_of_round
from mapping.program.training_inputs import LayerInputs
from mapping.recipe.standing import Standing, Written
from mapping.recipe.target import corrected
from mapping.tune.channel_affine import ChannelTune, Tuned

if TYPE_CHECKING:
    from mapping.recipe.standing import Cells

LINES_AT_ONCE = 16  # word lines between two early readings
NEXT_WRITING = 1 << 24  # distance of the sample numbers of two writings


@dataclass
class WiredTarget:
    """A chip behind its driver; satisfies ``mapping.recipe.target.RecipeTarget``.

    Args:
        seed: of the host; two programmings draw different noise.
        part: number of the part, if the network is written in parts; None: as a whole, or in rounds.
        early_reads: readings of each cell right after it is written; 0: it is not read then.
        force: program the cells even if the chip holds this program.
    """

    driver: ChipDriver
    record: CalibrationRecord
    watch: Watch
    seed: int = 0
    part: int | None = None
    early_reads: int = 0
    force: bool = False
    reports: dict[int, MacroReport] = field(default_factory=dict)  # by slot, in the order of writing
    rounds: int = field(default=0, init=False)  # of a network larger than the chip

    @property
    def written(self) -> ProgramReport | None:
        """Report on the writing of the cells; None: the chip held the program already."""
        return ProgramReport(tuple(self.reports.values())) if self.reports else None

    @property
    def pulses(self) -> int:
        return sum(report.all_pulses for report in self.reports.values())

    @property
    def time_s(self) -> float:
        return self.driver.chip_time_ns * 1e-9

    def targets_us(self, slot: int) -> NDArray[np.float32]:
        return self.reports[slot].targets_us

    def parts(self, program: ConductanceProgram) -> Iterator[tuple[int | None, ConductanceProgram]]:
        if program.rounds == 1:
            yield None, program
            return
        self.rounds = program.rounds
        for self.part in range(program.rounds):
            yield self.part, part_of_round(program, self.part)

    def write(self, program: ConductanceProgram) -> tuple[int, ...]:
        early = EarlyReads(self.early_reads, READ_EARLY + (self.part or 0)) if self.early_reads else None
        found: ProgramReport | None
        if self.part is None:
            found = ensure_programmed(
                self.driver, program, sample=self._sample(0), force=self.force, watch=self.watch, early=early
            )
        else:
            start_s = self.time_s
            found = program_chip(self.driver, program, sample=self._sample(0), watch=self.watch, early=early)
            if self.rounds:
                self.note(
                    f"round {self.part + 1} of {self.rounds}: {len(found.macros)} macros, {found.cells} cells, "
                    f"{found.pulses} pulses, {found.unreached} unreached, "
                    f"{self.time_s - start_s:.1f} s of chip time to write"
                )
        self.reports = {report.slot: report for report in found.macros} if found else {}
        return tuple(self.reports)

    def write_again(self, program: ConductanceProgram, slot: int, targets_us: NDArray[np.float32], number: int) -> None:
        outcome = self.driver.program_cells(program.macro_of(slot), targets_us, sample=self._sample(number))
        self.reports[slot] = written_again(self.reports[slot], targets_us, outcome, self.time_s)

    def hold(self, program: ConductanceProgram) -> None:
        if program.digest:
            self.driver.hold_program(bytes.fromhex(program.held_digest))

    def wait(self, seconds: float) -> None:
        self.driver.wait(seconds, self.watch)

    def let_age(self, planned_s: float) -> float:
        return let_age(self.driver, planned_s, self.watch)

    def read(self, program: ConductanceProgram, slot: int, reads: int, number: int) -> NDArray[np.float32]:
        sample = READ_EARLY + (self.part or 0) + number * NEXT_WRITING
        return self.driver.read_cells(program.macro_of(slot), reads=reads, sample=sample, rounded=True)

    def read_back(self, program: ConductanceProgram, reads: int) -> dict[int, NDArray[np.float32]]:
        return self.readings(program, reads, READ_BEFORE)

    def readings(self, program: ConductanceProgram, reads: int, purpose: int) -> dict[int, NDArray[np.float32]]:
        """By slot, mean of ``reads`` readings of every cell, (rows, columns) µS, with the noise of a ``purpose``."""
        slots = {program.macro_of(slot): slot for slot in program.slots}
        sample = purpose + (self.part or 0)
        readings = read_back(self.driver, tuple(slots), reads=reads, sample=sample, watch=self.watch)
        return {slots[macro]: cells for macro, cells in readings.items()}

    def correct(self, standing: Standing, readings_us: Cells, inputs: LayerInputs) -> Corrections:
        return corrected(self, standing, readings_us, inputs)

    def tune(self, tune: ChannelTune, written: Written) -> Tuned:
        serial, first = self.driver.description.serial, TUNE + (written.number or 0) * ROUND
        if written.number is None and not tune.targets.rank:
            try:
                return self._tune_by_taps(tune, written.corrections, first).of_chip(serial)
            except NoPlan:
                pass
            except BeyondLimit as error:
                self.driver.fall_back(f"taps: steps between layers by the host ({error.what})")
        sums = MeasuredSums(self.driver, written.corrections, apart=True)
        tune.run(sums, number=written.number, sample=first, progress=self.watch.step)
        return tune.tuned.of_chip(serial)

    def _tune_by_taps(self, tune: ChannelTune, corrections: Corrections, sample: int) -> Tuned:
        """Fit gains and biases with layer sums from the chip's sequencer, which sends them at some positions only."""
        taps, images = Taps(self.driver, tune.program, corrections), tune.targets.images
        tune.run_at_places(lambda so_far, step: taps.after(so_far, step.name, images, sample), self.watch.step)
        return tune.tuned

    def stage(self, name: str) -> AbstractContextManager[None]:
        return self.watch.stage(name)

    def step(self, done: int, total: int, what: str) -> None:
        self.watch.step(done, total, what)

    def note(self, text: str) -> None:
        self.watch.note(text)

    def _sample(self, number: int) -> int:
        return (PROGRAM | (self.seed & 0xFFFF) << 32) + (self.part or 0) + number * NEXT_WRITING


def ensure_programmed(
    driver: ChipDriver,
    program: ConductanceProgram,
    *,
    sample: int,
    force: bool,
    watch: Watch,
    early: EarlyReads | None = None,
) -> ProgramReport | None:
    """Program the chip, unless it holds this program already and a spot check of its cells agrees (then None).

    Raises:
        hil.errors.DeviceError, hil.errors.LinkError: the chip refused or fell silent.
    """
    if holds(driver, program) and not force:
        if spot_check(driver, program, sample=sample):
            watch.note(
                "the chip already held this program: checked, not rewritten (hil deploy --reprogram forces); "
                "its cells are older than the age says"
            )
            return None
        watch.note("the chip says it holds this program, but its cells do not match: programming again")
    return program_chip(driver, program, sample=sample, watch=watch, early=early)


def holds(driver: ChipDriver, program: ConductanceProgram, age_s: float | None = None) -> bool:
    """Whether the chip reports the digest of this program, or, with ``age_s``, of its targets offset for that age."""
    held = {program.held_digest}
    if age_s is not None and program.aims is None:
        held.add(held_digest_at(program.digest, age_s))
    return driver.held_program() in {bytes.fromhex(digest) for digest in held}


def program_chip(
    driver: ChipDriver,
    program: ConductanceProgram,
    *,
    sample: int,
    watch: Watch,
    early: EarlyReads | None = None,
) -> ProgramReport:
    """Write every macro of ``program`` by number, and let the chip hold its digest.

    Of a program of several rounds this takes one round's part, which is held under no digest.

    Raises:
        DeviceError: not one cell reached its window.
    """
    check_one_round(program)
    reports = []
    slots = {program.macro_of(slot): slot for slot in program.slots}
    tiles = tiles_by_slot(program)
    for m in slots:  # before the first pulse of any
        driver.check_formed(m, np.isfinite(macro_targets_us(program, slots[m], tiles[slots[m]])))
    targets_of = ((m, macro_targets_us(program, slots[m], tiles[slots[m]])) for m in slots)
    writes = targets_of if early is None else ((m, lot) for m, targets in targets_of for _, lot in lots(targets))
    driver.offer_writes(writes, sample=sample)
    for done, macro in enumerate(slots):
        watch.step(done, len(slots), f"macro {macro}")
        targets = macro_targets_us(program, slots[macro], tiles[slots[macro]])
        if early is None:
            outcome = driver.program_cells(macro, targets, sample=sample)
            report = MacroReport(
                slots[macro], targets, outcome.readings_us, outcome.pulses, outcome.reached, driver.chip_time_ns * 1e-9
            )
        else:
            report = replace(write_and_read(driver, macro, targets, sample, early), slot=slots[macro])
        reports.append(report)
    written = ProgramReport(tuple(reports))
    if written.unreached == written.cells > 0:
        raise DeviceError(
            f"none of {written.cells:,} cells reached its window after {written.pulses:,} pulses",
            where=driver.address,
            likely="no pulse arrives (supply of SET and RESET, drivers), or cells are not read as they are written",
            hint=f"hil board cells --port {driver.address}, hil board mvm --port {driver.address} --level 1",
        )
    if program.digest:
        driver.hold_program(bytes.fromhex(program.held_digest))
    return written


def check_one_round(program: ConductanceProgram) -> None:
    """Refuse a program of which the chip holds a part at a time."""
    if len({t.round for m in program.matrices for t in m.group.tiles}) > 1:
        raise UsageError(
            f"this program takes {program.rounds} rounds, the chip rewritten for each",
            hint="hil deploy runs it; from Python, mapping.program.rounds.RoundRun and part_of_round",
        )


def write_and_read(
    driver: ChipDriver, macro: int, targets_us: NDArray[np.float32], sample: int, early: EarlyReads
) -> MacroReport:
    """Write a macro some word lines at a time and read each lot at once, before its cells relax.

    Cells of a lot are written and read in the same order, so that their mean age is half the time
    from the first pulse to the last reading.
    """
    readings, early_us = np.full((2, *targets_us.shape), np.nan, np.float32)
    pulses, reached = np.zeros(targets_us.shape, np.uint16), np.ones(targets_us.shape, np.bool_)
    ages = []
    for lines, lot in lots(targets_us):
        at = slice(lines.start, lines.stop)
        start_ns = driver.chip_time_ns
        outcome = driver.program_cells(macro, lot, sample=sample)
        early_us[at] = driver.read_cells(macro, reads=early.reads, sample=early.sample, lines=lines, rounded=True)[at]
        ages.append((driver.chip_time_ns - start_ns) * 0.5e-9)
        readings[at], pulses[at], reached[at] = (a[at] for a in (outcome.readings_us, outcome.pulses, outcome.reached))
    time_s = driver.chip_time_ns * 1e-9
    age_s = sum(ages) / len(ages) if ages else None
    return MacroReport(macro, targets_us, readings, pulses, reached, time_s, early_us, age_s)


def lots(targets_us: NDArray[np.float32]) -> Iterator[tuple[range, NDArray[np.float32]]]:
    """Word lines that are written at once and their targets, NaN elsewhere; lots without a target are left out."""
    rows = len(targets_us)
    for first in range(0, rows, LINES_AT_ONCE):
        lines = range(first, min(first + LINES_AT_ONCE, rows))
        lot = np.full_like(targets_us, np.nan)
        lot[lines.start : lines.stop] = targets_us[lines.start : lines.stop]
        if np.isfinite(lot).any():
            yield lines, lot


def spot_check(driver: ChipDriver, program: ConductanceProgram, *, sample: int) -> bool:
    """Whether cells of the first, middle and last macro lie near their targets.

    The median error must stay below half the mean distance of levels, and below all of it among the cells of
    the upper half of the window: those are few, and an erased macro would pass without them.
    """
    macros, spec = program.macros, program.spec.macro
    middle = (spec.levels_us[0] + spec.levels_us[-1]) / 2
    for macro in sorted({macros[0], macros[len(macros) // 2], macros[-1]}):
        targets = macro_targets_us(program, macro)
        error = np.abs(driver.read_cells(macro, reads=4, sample=sample, rounded=True) - targets)
        upper = error[targets > middle]
        if float(np.nanmedian(error)) > spec.level_gap_us / 2:
            return False
        if upper.size and float(np.median(upper)) > spec.level_gap_us:
            return False
    return True


def read_back(
    driver: ChipDriver, macros: tuple[int, ...], *, reads: int, sample: int, watch: Watch
) -> dict[int, NDArray[np.float32]]:
    """Mean of ``reads`` readings of every cell of each macro, µS, (rows, columns).

    Raises:
        DeviceError: all cells of all of them read 0. Of some that is noted.
    """
    readings: dict[int, NDArray[np.float32]] = {}
    for done, macro in enumerate(macros):
        watch.step(done, len(macros), f"macro {macro}")
        readings[macro] = driver.read_cells(macro, reads=reads, sample=sample, rounded=True)
    dead = [macro for macro, cells in readings.items() if not cells.any()]
    if not dead:
        return readings
    where = f"macros {', '.join(map(str, dead))}" if len(dead) > 1 else f"macro {dead[0]}"
    if len(dead) == len(readings):
        raise DeviceError(
            f"every cell of {where} reads 0 µS",
            where=driver.address,
            likely="no read voltage, or a read path that is cut: not even stuck cells read exactly 0",
            hint=f"hil board cells --port {driver.address}",
        )
    watch.note(f"every cell of {where} reads 0 µS: no answer of a layer on it means anything")
    return readings


def let_age(driver: ChipDriver, planned_s: float, watch: Watch) -> float:
    """Wait until cells have the planned age; returns the age that they really have by the clock, s.

    If they differ, the run continues with the real age and notes it.
    """
    with watch.stage("waiting"):
        passed_s = driver.wait(planned_s, watch)
    if passed_s >= WAITED_ENOUGH * planned_s:
        return planned_s
    watch.note(
        f"{driver.fallbacks[-1]}: cells count as {passed_s:.3g} s old, as virtual chips do; "
        f"{duration(planned_s)} were planned and not reached, so targets for that age miss"
    )
    return passed_s


def clock_set_back(youngest_s: float, age_s: float) -> str:
    """A note that the chip's clock was set back, as cells are younger by it than the wait; empty if it was not."""
    if youngest_s >= WAITED_ENOUGH * age_s:
        return ""
    return (
        f"by the chip's clock cells were {youngest_s:.3g} s old when they were read first, after a wait of "
        f"{duration(age_s)} that was seen to pass: its clock was set back, and its ages are not known"
    )
