"""A network larger than the chip, measured: program, wait, read back, correct and run, round after round.

Every round runs for all images and all repeats before the chip is written again, so there is one
look at the images and no early stop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cim.chip.correction import Correction
from cim.record.calibration import CalibrationRecord
from hil.deployment.inference import (
    IMAGES_IN_FLIGHT,
    Conversions,
    LayerSums,
    MeasuredSums,
    measure_layers,
    measured_multiply,
)
from hil.deployment.layer_sums import Exact
from hil.deployment.options import DeployOptions
from hil.deployment.programming import EarlyReads, MacroReport, ProgramReport, program_chip, read_back
from hil.deployment.rewriting import rewrite_cells
from hil.deployment.switching_off import switch_off
from hil.driver.chip_driver import ChipDriver
from hil.samples import INFER, PROGRAM, READ_AFTER, READ_BEFORE, READ_EARLY, REPEAT, ROUND, TUNE, UNTUNED
from hil.simulation.corrections import column_corrections
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.rounds import RoundRun, part_of_round
from mapping.program.training_inputs import LayerInputs
from mapping.tune.channel_affine import ChannelTune, Tuned, TuneTargets

ByCell = dict[int, NDArray[np.float32]]


@dataclass
class RoundsRun:
    """All rounds, as a ``hil.deployment.chip_run.ChipRun``; ``logits`` (repeats, n, classes) of all images."""

    program: ConductanceProgram
    macros: list[MacroReport] = field(default_factory=list)
    readings_us: ByCell = field(default_factory=dict)
    after_us: ByCell = field(default_factory=dict)
    corrections: dict[str, tuple[Correction, ...]] = field(default_factory=dict)
    conversions: dict[str, Conversions] = field(default_factory=dict)
    layers: dict[str, LayerSums] = field(default_factory=dict)
    times_ns: list[int] = field(default_factory=list)  # chip time at the ends of measuring
    measured_at_s: list[float] = field(default_factory=list)  # ages at the ends of measuring: youngest, oldest
    logits: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0, 0), np.int32))
    tuned: Tuned | None = None
    untuned: NDArray[np.int32] | None = None

    @property
    def written(self) -> ProgramReport:
        return ProgramReport(tuple(self.macros))

    @property
    def ages_s(self) -> tuple[float, float]:
        return min(self.measured_at_s), max(self.measured_at_s)

    def measure(self, images: NDArray[np.uint8], first: int, watch: Watch) -> NDArray[np.int32]:
        """Logit codes of images that have been through all rounds already."""
        return self.logits[:, first : first + len(images)]

    def finish(self, exact: Exact, watch: Watch) -> None:
        """Every round took its layer samples and read its macros again before the next was written."""


def run_rounds(
    driver: ChipDriver,
    program: ConductanceProgram,
    record: CalibrationRecord,
    inputs: LayerInputs,
    exact: Exact,
    images: NDArray[np.uint8],
    options: DeployOptions,
    watch: Watch,
    targets: TuneTargets | None = None,
) -> RoundsRun:
    """Take ``images`` through every round of ``program`` on the chip, ``options.repeats`` times.

    Args:
        inputs: input codes of every layer for training images, for the corrections.
        exact: input codes of every layer for the layer samples.
        targets: what each round is tuned towards before it runs; None: it is not tuned.
    """
    found = RoundsRun(program)
    tune = None if targets is None else ChannelTune(program, targets)
    plain = None if targets is None else RoundRun(program, images[: options.untuned_images], [UNTUNED])
    samples = [INFER + n * REPEAT for n in range(options.repeats)]
    with RoundRun(program, images, samples, batch=IMAGES_IN_FLIGHT) as run:
        for number in range(program.rounds):
            part = part_of_round(program, number)
            with watch.stage("programming"):
                written = write_round(driver, part, number, program.rounds, options, watch)
                if options.rewriting is not None:
                    sample = PROGRAM + number
                    written = rewrite_cells(
                        driver, part, record, written, options.rewriting, sample=sample, watch=watch
                    )
                found.macros += written.macros
            with watch.stage("waiting"):
                driver.wait(options.age_s)
            with watch.stage("reading back"):
                found.readings_us |= read_round(driver, part, number, READ_BEFORE, options, watch)
            with watch.stage("correcting"):
                corrections = column_corrections(part, record, found.readings_us, inputs)
            running = program
            if tune is not None and plain is not None:
                with watch.stage("without the tune"):
                    plain.run(number, measured_multiply(driver, part, corrections), further_sample=number * ROUND)
                with watch.stage("tuning"):
                    sums_of_tiles = MeasuredSums(driver, corrections)
                    tune.run(sums_of_tiles, number=number, sample=TUNE + number * ROUND, progress=watch.step)
                    found.tuned = tune.tuned.of_chip(driver.description.serial)
                    running = found.tuned.program
            with watch.stage("measuring"):
                start_ns = driver.chip_time_ns
                chip = measured_multiply(driver, part_of_round(running, number), corrections)
                what = f"round {number + 1} of {program.rounds}"
                run.run(
                    number,
                    chip,
                    further_sample=number * ROUND,
                    progress=partial(watch.step, what=what),
                    program=running,
                )
                found.times_ns += [start_ns, driver.chip_time_ns]
                born = [m.programmed_s for m in found.macros if m.slot // program.spec.macros == number]
                found.measured_at_s += [start_ns * 1e-9 - max(born), driver.chip_time_ns * 1e-9 - min(born)]
            with watch.stage("layers"):
                sums = measure_layers(driver, part, corrections, exact, watch, number * ROUND)
            with watch.stage("reading back"):
                found.after_us |= read_round(driver, part, number, READ_AFTER, options, watch)
            for name, own in corrections.items():  # tiles of a layer are in order of their rounds
                found.corrections[name] = found.corrections.get(name, ()) + own
                found.layers[name] = found.layers[name] + sums[name] if name in found.layers else sums[name]
                count = found.conversions.setdefault(name, Conversions())
                count.total += chip.conversions[name].total
                count.saturated += chip.conversions[name].saturated
        found.logits = run.logits
        if plain is not None:
            found.untuned = plain.logits
            plain.close()
        if run.spilled_bytes:
            watch.note(f"{run.spilled_bytes / 1e6:.0f} MB of activations waited on disk between rounds")
    switch_off(driver, watch)
    return found


def write_round(
    driver: ChipDriver, part: ConductanceProgram, number: int, rounds: int, options: DeployOptions, watch: Watch
) -> ProgramReport:
    """Write the macros of one round, and say what it took."""
    start_ns = driver.chip_time_ns
    sample = (PROGRAM | (options.seed & 0xFFFF) << 32) + number
    early = EarlyReads(options.early_reads, READ_EARLY + number) if options.causes else None
    written = program_chip(driver, part, sample=sample, watch=watch, early=early)
    watch.note(
        f"round {number + 1} of {rounds}: {len(written.macros)} macros, {written.cells} cells, "
        f"{written.pulses} pulses, {written.unreached} unreached, "
        f"{(driver.chip_time_ns - start_ns) * 1e-9:.1f} s of chip time to write"
    )
    return written


def read_round(
    driver: ChipDriver, part: ConductanceProgram, number: int, sample: int, options: DeployOptions, watch: Watch
) -> ByCell:
    """Readings of one round's macros, by slot."""
    readings = read_back(driver, part.macros, reads=options.read_back_reads, sample=sample + number, watch=watch)
    return {number * part.spec.macros + macro: cells for macro, cells in readings.items()}
