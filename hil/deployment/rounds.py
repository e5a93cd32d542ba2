"""A network larger than the chip, measured: program, wait, read back, correct and run, round after round.

Every round runs for all images and all repeats before the chip is written again, so there is one
look at the images and no early stop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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
from hil.deployment.switching_off import switch_off
from hil.deployment.targets.wired import MacroReport, ProgramReport, WiredTarget
from hil.driver.chip_driver import ChipDriver
from hil.samples import INFER, READ_AFTER, REPEAT, ROUND, TUNE, UNTUNED
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import Corrections
from mapping.program.rounds import RoundRun, part_of_round
from mapping.program.training_inputs import LayerInputs
from mapping.recipe.recipe import run_recipe
from mapping.tune.channel_affine import ChannelTune, Tuned, TuneTargets

ByCell = dict[int, NDArray[np.floating]]


@dataclass
class RoundsRun:
    """All rounds, as a ``hil.deployment.chip_run.ChipRun``; ``logits`` (repeats, n, classes) of all images."""

    program: ConductanceProgram
    macros: list[MacroReport] = field(default_factory=list)
    readings_us: ByCell = field(default_factory=dict)
    after_us: ByCell = field(default_factory=dict)
    age_s: float = math.inf
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

    def measured(self, number: int, start_ns: int, end_ns: int, conversions: Mapping[str, Conversions]) -> None:
        """Note when round ``number`` ran its images, and what it converted."""
        self.times_ns += [start_ns, end_ns]
        born = [m.programmed_s for m in self.macros if m.slot // self.program.spec.macros == number]
        self.measured_at_s += [start_ns * 1e-9 - max(born), end_ns * 1e-9 - min(born)]
        for name, own in conversions.items():
            count = self.conversions.setdefault(name, Conversions())
            count.total += own.total
            count.saturated += own.saturated

    def add_layers(self, corrections: Corrections, sums: Mapping[str, LayerSums]) -> None:
        """Add what one round has of its layers: tiles of a layer are in order of their rounds."""
        for name, own in corrections.items():
            self.corrections[name] = self.corrections.get(name, ()) + own
            self.layers[name] = self.layers[name] + sums[name] if name in self.layers else sums[name]

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
            early = options.early_reads if options.causes else 0
            target = WiredTarget(driver, record, watch, options.seed, number, program.rounds, early)
            written = run_recipe(options.recipe_of(program), part, target, inputs)
            one, corrections = OneRound(driver, part, number, program.rounds, options, watch), written.corrections
            found.macros += target.reports.values()
            found.readings_us |= written.readings_us
            found.age_s = min(found.age_s, written.age_s)
            running = program
            if tune is not None and plain is not None:
                found.tuned = one.tune(tune, plain, corrections)
                running = found.tuned.program
            start_ns = driver.chip_time_ns
            conversions = one.measure(run, running, corrections)
            found.measured(number, start_ns, driver.chip_time_ns, conversions)
            with watch.stage("layers"):
                sums = measure_layers(driver, one.part, corrections, exact, watch, number * ROUND)
            with watch.stage("reading back"):
                found.after_us |= target.readings(part, options.read_back_reads, READ_AFTER)
            found.add_layers(corrections, sums)
        found.logits = run.logits
        if plain is not None:
            found.untuned = plain.logits
            plain.close()
        if run.spilled_bytes:
            watch.note(f"{run.spilled_bytes / 1e6:.0f} MB of activations waited on disk between rounds")
    switch_off(driver, watch)
    return found


@dataclass(frozen=True)
class OneRound:
    """One round on the chip: ``part`` is the program's part that stands there, ``number`` of ``rounds``."""

    driver: ChipDriver
    part: ConductanceProgram
    number: int
    rounds: int
    options: DeployOptions
    watch: Watch

    def tune(self, tune: ChannelTune, plain: RoundRun, corrections: Corrections) -> Tuned:
        """Run the first images once as the chip is, then tune the layers of this round."""
        with self.watch.stage("without the tune"):
            chip = measured_multiply(self.driver, self.part, corrections)
            plain.run(self.number, chip, further_sample=self.number * ROUND)
        with self.watch.stage("tuning"):
            sums = MeasuredSums(self.driver, corrections)
            tune.run(sums, number=self.number, sample=TUNE + self.number * ROUND, progress=self.watch.step)
            return tune.tuned.of_chip(self.driver.description.serial)

    def measure(
        self, run: RoundRun, running: ConductanceProgram, corrections: Corrections
    ) -> Mapping[str, Conversions]:
        """Run all images through this round of ``running``, tuned or not; conversions by layer."""
        with self.watch.stage("measuring"):
            chip = measured_multiply(self.driver, part_of_round(running, self.number), corrections)
            told = partial(self.watch.step, what=f"round {self.number + 1} of {self.rounds}")
            run.run(self.number, chip, further_sample=self.number * ROUND, progress=told, program=running)
        return chip.conversions
