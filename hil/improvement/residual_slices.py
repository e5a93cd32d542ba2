"""Residual slices on a chip, and on virtual chips by the same steps: write, wait, read, write the lower slices anew.

The highest slice of every weight is written and read back after a wait; the lower slices are then written to take up
what it missed (``mapping.tune.residual``). Products of the highest slice are read several times and averaged, since
what is left is the noise of single reads. Column corrections and the tune follow as in any deployment, and every
virtual chip goes through all of it with its own cells and answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.cells.history import CellHistory
from cim.cells.programming_law import redraw_law
from cim.record.calibration import CalibrationRecord
from cim.record.device import Columns, draw_columns
from cim.simulator.modes import SimulationMode
from hil.deployment.inference import MeasuredSums
from hil.deployment.programming import program_chip, read_back
from hil.driver.chip_driver import ChipDriver
from hil.samples import PROGRAM, READ_BEFORE, READ_EARLY, REPEAT, TUNE
from hil.simulation.corrections import column_corrections
from hil.simulation.virtual_chips import TUNE_IMAGES, Drawn, build_chip
from hil.watch import Watch
from mapping.layout.place import macro_targets_us
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.corrections import Corrections
from mapping.program.execute import Multiply, run
from mapping.program.training_inputs import LayerInputs, training_inputs
from mapping.tune.aims import aimed, aims_of
from mapping.tune.channel_affine import tune_channels, tune_targets
from mapping.tune.residual import ResidualSlices, of_slice, residual, with_top_copies

READ = REPEAT << 4  # distance of the sample numbers of two reads of one product
LOWER = 1 << 24  # distance of the sample numbers of the two writings
DRAW = 0x4E51  # purpose of the host's seeds: cells and converters of virtual chips
REST = 1 << 20  # distance of the noise of the highest slice and of the others


@dataclass(frozen=True, slots=True)
class ResidualPlan:
    """How residual slices are written and read.

    ``top_copies`` of the highest slices, averaged; each product with them is the mean of ``reads``. ``wait_s``: chip
    time from writing to the reading that lower slices are chosen by; ``age_s``: from then to the first image.
    """

    top_copies: int = 4
    reads: int = 8
    wait_s: float = 3600.0
    age_s: float = 3600.0
    cell_reads: int = 32
    tune_images: int = 128

    def __post_init__(self) -> None:
        if not (1 <= self.top_copies <= 64 and 1 <= self.reads <= 256 and 1 <= self.cell_reads <= 255):
            raise ValueError(f"{self.top_copies} copies, {self.reads} reads, {self.cell_reads} reads of a cell")
        if not (0.0 < self.wait_s < 1e8 and 0.0 <= self.age_s < 1e8):
            raise ValueError(f"a wait of {self.wait_s} s and an age of {self.age_s} s")

    def prepared(self, program: ConductanceProgram, record: CalibrationRecord) -> ConductanceProgram:
        """The program as it is written first: digits rounded, copies of the highest slices, targets for the age."""
        aims = aims_of(record.programming, program.spec.macro, self.wait_s + self.age_s, record.origin)
        return aimed(with_top_copies(program, self.top_copies), aims)


@dataclass(frozen=True)
class SlicedSums:
    """Products of the highest slice, averaged over reads, plus those of the others; satisfies ``Multiply``."""

    top: Multiply
    rest: Multiply
    top_steps: Mapping[str, MatrixStep]
    rest_steps: Mapping[str, MatrixStep]
    reads: int

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        top = self.top_steps[step.name]
        total = sum(self.top.sums(top, codes, sample + r * READ).astype(np.int64) for r in range(self.reads))
        mean = np.rint(np.asarray(total) / self.reads).astype(np.int32)
        return mean + self.rest.sums(self.rest_steps[step.name], codes, sample)


@dataclass(frozen=True)
class ResidualChip:
    """A chip, real or virtual, whose lower slices take up errors: it answers images.

    ``program`` holds its tuned gains and biases; ``left`` is ``mapping.tune.residual.ResidualSlices.left``.
    """

    program: ConductanceProgram
    multiply: SlicedSums
    left: float

    def logits(self, images: NDArray[np.uint8], sample: int = 0, batch: int = 32) -> NDArray[np.int32]:
        """Logit codes of uint8 images (n, height, width, channels); image i has the noise of ``sample`` + i."""
        return run(self.program, images, self.multiply, sample=sample, batch=batch)


def write_residual_slices(
    driver: ChipDriver, program: ConductanceProgram, record: CalibrationRecord, plan: ResidualPlan, watch: Watch
) -> ResidualChip:
    """Write ``program`` (as ``ResidualPlan.prepared`` gives it) on the chip in two steps, correct and tune it.

    Raises:
        hil.errors.HilError: the chip refused or fell silent.
    """
    with watch.stage("programming"):
        program_chip(driver, program, sample=PROGRAM, watch=watch)
    with watch.stage("waiting"):
        driver.wait(plan.wait_s)
    with watch.stage("reading the highest slices"):
        readings = read_back(driver, program.macros, reads=plan.cell_reads, sample=READ_EARLY, watch=watch)
    found = residual(program, readings)
    with watch.stage("writing the lower slices"):
        changed = changed_targets(program, found.program)
        for done, (slot, targets) in enumerate(changed.items()):
            watch.step(done, len(changed), f"macro {program.macro_of(slot)}")
            driver.program_cells(program.macro_of(slot), targets, sample=PROGRAM + LOWER)
        driver.hold_program(bytes.fromhex(found.program.digest))
    with watch.stage("waiting"):
        driver.wait(plan.age_s)
    with watch.stage("reading back"):
        now = read_back(driver, program.macros, reads=plan.cell_reads, sample=READ_BEFORE, watch=watch)
    corrections = column_corrections(found.program, record, now, training_inputs(program), wanted=found.wanted)
    (top, _, top_kept), (rest, _, rest_kept) = _halves(found, corrections)
    chip = SlicedSums(MeasuredSums(driver, top_kept), MeasuredSums(driver, rest_kept), top, rest, plan.reads)
    with watch.stage("tuning"):
        return _tuned(program, found, chip, plan, TUNE)


def virtual_residual_slices(
    program: ConductanceProgram,
    record: CalibrationRecord,
    plan: ResidualPlan,
    *,
    number: int,
    seed: int = 0,
    inputs: LayerInputs | None = None,
) -> ResidualChip:
    """Virtual chip ``number`` drawn from the record and treated as ``write_residual_slices`` treats a real one."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, DRAW, number]))
    law = redraw_law(record.programming, rng)
    used: dict[int, NDArray[np.bool_]] = {}
    cells: dict[int, CellHistory] = {}
    converters: dict[int, Columns] = {}
    for slot in program.slots:
        targets, macro = macro_targets_us(program, slot), program.macro_of(slot)
        used[slot] = np.isfinite(targets)
        stuck = record.macro(macro).stuck_us[used[slot]]
        cells[slot] = CellHistory(targets[used[slot]], law, None, rng, stuck_us=stuck, thermal=record.thermal)
        converters[slot] = draw_columns(record, macro, rng)

    def read(time_s: float) -> tuple[dict[int, NDArray[np.float32]], dict[int, NDArray[np.float32]]]:
        now: dict[int, NDArray[np.float32]] = {}
        seen: dict[int, NDArray[np.float32]] = {}
        for slot, mask in used.items():
            g = cells[slot].conductance_us(time_s)
            noise = np.sqrt(record.read_noise.at(g) / plan.cell_reads)
            now[slot], seen[slot] = np.zeros(mask.shape, np.float32), np.zeros(mask.shape, np.float32)
            now[slot][mask] = g
            seen[slot][mask] = g + noise * rng.standard_normal(g.shape)
        return now, seen

    found = residual(program, read(plan.wait_s)[1])
    for slot, targets in changed_targets(program, found.program).items():
        again = np.isfinite(targets[used[slot]])
        kept = cells[slot]
        kept.targets_us[again] = targets[used[slot]][again]
        kept.refresh(again, plan.wait_s)
    now, seen = read(plan.wait_s + plan.age_s)
    inputs = training_inputs(program) if inputs is None else inputs
    corrections = column_corrections(found.program, record, seen, inputs, wanted=found.wanted)
    (top, top_program, top_kept), (rest, rest_program, rest_kept) = _halves(found, corrections)
    top_chip, rest_chip = (
        build_chip(part, record, Drawn(now, converters, own), seed=seed, number=noise, mode=SimulationMode.FAST)
        for part, own, noise in ((top_program, top_kept, number), (rest_program, rest_kept, number + REST))
    )
    return _tuned(program, found, SlicedSums(top_chip, rest_chip, top, rest, plan.reads), plan, TUNE_IMAGES)


def changed_targets(before: ConductanceProgram, after: ConductanceProgram) -> dict[int, NDArray[np.float32]]:
    """By slot, targets in µS of the cells whose target changed, NaN elsewhere; only slots that have such cells."""
    found = {}
    for slot in before.slots:
        was, now = macro_targets_us(before, slot), macro_targets_us(after, slot)
        different = np.isfinite(now) & (was != now)
        if different.any():
            found[slot] = np.where(different, now, np.float32(np.nan))
    return found


def _halves(
    found: ResidualSlices, corrections: Corrections
) -> list[tuple[dict[str, MatrixStep], ConductanceProgram, Corrections]]:
    """Steps, program and corrections of the highest slice, and of the others."""
    halves: list[tuple[dict[str, MatrixStep], ConductanceProgram, Corrections]] = []
    for highest in (True, False):
        part, kept = of_slice(found.program, highest=highest)
        own = {name: tuple(corrections[name][i] for i in places) for name, places in kept.items()}
        halves.append(({step.name: step for step in part.matrices}, part, own))
    return halves


def _tuned(
    program: ConductanceProgram, found: ResidualSlices, chip: SlicedSums, plan: ResidualPlan, sample: int
) -> ResidualChip:
    """Gains and biases towards what the program gives in exact integers."""
    targets = tune_targets(program, program.calibration_images[: plan.tune_images])
    tuned = tune_channels(replace(found.program, tuned_to=None), targets, chip, sample=sample)
    return ResidualChip(tuned.program, chip, found.left)
