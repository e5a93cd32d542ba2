"""A network larger than the chip, measured: program, wait, read back, correct and run, round after round.

Every round runs for all images and all repeats before the chip is written again, so there is one
look at the images and no early stop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cim.chip.correction import Correction
from hil.deployment.inference import IMAGES_IN_FLIGHT, LayerSums, measure_layers, measured_multiply
from hil.deployment.layer_sums import Exact
from hil.deployment.options import DeployOptions
from hil.deployment.switching_off import switch_off
from hil.deployment.targets.measured_sums import Conversions
from hil.deployment.targets.wired import WiredTarget
from hil.deployment.targets.written_macros import MacroReport, ProgramReport
from hil.driver.samples import INFER, READ_AFTER, REPEAT, ROUND, UNTUNED
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import Corrections
from mapping.program.rounds import RoundRun, part_of_round
from mapping.recipe.standing import Written
from mapping.tune.channel_affine import Tuned

ByCell = dict[int, NDArray[np.floating]]


@dataclass
class RoundsRun:
    """All rounds, as a ``hil.deployment.chip_run.ChipRun``; use it as a context manager.

    Args:
        exact: input codes of every layer for the layer samples.
        images: all images of the run, which every round processes ``options.repeats`` times, in run order.
        tuned_too: whether each round is tuned; then the first images also run before the tune.
    """

    target: WiredTarget
    program: ConductanceProgram
    exact: Exact
    images: NDArray[np.uint8]
    options: DeployOptions
    tuned_too: bool
    macros: list[MacroReport] = field(default_factory=list)
    readings_us: ByCell = field(default_factory=dict)
    after_us: ByCell = field(default_factory=dict)
    age_s: float = math.inf
    corrections: dict[str, tuple[Correction, ...]] = field(default_factory=dict)
    conversions: dict[str, Conversions] = field(default_factory=dict)
    layers: dict[str, LayerSums] = field(default_factory=dict)
    times_ns: list[int] = field(default_factory=list)  # chip time at the ends of measuring
    measured_at_s: list[float] = field(default_factory=list)  # ages at the ends of measuring: youngest, oldest
    logits: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0, 0), np.int32))  # (repeats, n, classes)
    tuned: Tuned | None = None
    untuned: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        samples = [INFER + n * REPEAT for n in range(self.options.repeats)]
        self._run = RoundRun(self.program, self.images, samples, batch=IMAGES_IN_FLIGHT)
        first = self.images[: self.options.untuned_images]
        self._plain = RoundRun(self.program, first, [UNTUNED]) if self.tuned_too else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for run in (self._run, self._plain):
            if run is not None:
                run.close()

    def corrected(self, written: Written) -> None:
        """Run the first images once before the tune, if each round is tuned."""
        if self._plain is not None:
            with self.target.stage("without the tune"):
                chip = measured_multiply(self.target.driver, written.program, written.corrections)
                self._plain.run(written.number or 0, chip, further_sample=(written.number or 0) * ROUND)

    def ready(self, written: Written) -> None:
        """Run all images through this round, take its layer samples, and read its cells again."""
        driver, part, number = self.target.driver, written.program, written.number or 0
        corrections = written.corrections
        self.tuned = written.tuned
        self.macros += self.target.reports.values()
        self.target.watch.found("write", ProgramReport(tuple(self.macros)).words)
        if self.tuned is not None:
            self.target.watch.found("tune", self.tuned.words)
        self.readings_us |= written.readings_us
        self.age_s = min(self.age_s, written.age_s)
        running = self.program if self.tuned is None else self.tuned.program
        start_ns = driver.chip_time_ns
        with self.target.stage("measuring"):
            chip = measured_multiply(driver, part_of_round(running, number), corrections)
            told = partial(self.target.step, what=f"round {number + 1} of {self.program.rounds}")
            self._run.run(number, chip, further_sample=number * ROUND, progress=told, program=running)
        self.measured(number, start_ns, driver.chip_time_ns, chip.conversions)
        with self.target.stage("layers"):
            sums = measure_layers(driver, part, corrections, self.exact, self.target.watch, number * ROUND)
        with self.target.stage("reading back"):
            self.after_us |= self.target.readings(part, self.options.read_back_reads, READ_AFTER)
        self.add_layers(corrections, sums)
        if number == self.program.rounds - 1:
            self.logits, self.untuned = self._run.logits, None if self._plain is None else self._plain.logits
            if self._run.spilled_bytes:
                self.target.note(f"{self._run.spilled_bytes / 1e6:.0f} MB of activations waited on disk between rounds")
            switch_off(driver, self.target.watch)

    @property
    def written(self) -> ProgramReport:
        return ProgramReport(tuple(self.macros))

    @property
    def ages_s(self) -> tuple[float, float]:
        return min(self.measured_at_s), max(self.measured_at_s)

    def measured(self, number: int, start_ns: int, end_ns: int, conversions: Mapping[str, Conversions]) -> None:
        """Note the chip times and ages at which round ``number`` ran its images, and its conversions."""
        self.times_ns += [start_ns, end_ns]
        born = [m.programmed_s for m in self.macros if m.slot // self.program.spec.macros == number]
        self.measured_at_s += [start_ns * 1e-9 - max(born), end_ns * 1e-9 - min(born)]
        for name, own in conversions.items():
            count = self.conversions.setdefault(name, Conversions())
            count.total += own.total
            count.saturated += own.saturated

    def add_layers(self, corrections: Corrections, sums: Mapping[str, LayerSums]) -> None:
        """Add the layer sums of one round: tiles of a layer are in the order of their rounds."""
        for name, own in corrections.items():
            self.corrections[name] = self.corrections.get(name, ()) + own
            self.layers[name] = self.layers[name] + sums[name] if name in self.layers else sums[name]

    def measure(self, images: NDArray[np.uint8], first: int, watch: Watch) -> NDArray[np.int32]:
        """Logit codes of images that all rounds have processed already."""
        return self.logits[:, first : first + len(images)]

    def finish(self, exact: Exact, watch: Watch) -> None:
        """Does nothing more: every round sampled its layers and read its macros before the next was written."""
