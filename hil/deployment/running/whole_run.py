"""A program that the chip holds as a whole: it is written once, then runs the images of all interim analyses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hil.deployment.inference import LayerSums, measure_layers
from hil.deployment.layer_sums import Exact
from hil.deployment.options import DeployOptions
from hil.deployment.running.network_runs import network_run
from hil.deployment.switching_off import switch_off
from hil.deployment.targets.measured_sums import Conversions
from hil.deployment.targets.wired import WiredTarget
from hil.driver.samples import INFER, READ_AFTER, REPEAT, UNTUNED
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.standing import Written
from mapping.tune.channel_affine import Tuned

if TYPE_CHECKING:
    from mapping.recipe.standing import Cells


@dataclass
class WholeRun:
    """A program that the chip holds as a whole: it is written once, then runs the images of all interim analyses.

    Satisfies ``hil.deployment.chip_run.ChipRun``. ``images``: also run before the tune.
    """

    target: WiredTarget
    options: DeployOptions
    images: NDArray[np.uint8] | None = None
    times_ns: list[int] = field(default_factory=list)
    ages_s: None = None
    layers: dict[str, LayerSums] = field(default_factory=dict)
    after_us: Cells = field(default_factory=dict)
    tuned: Tuned | None = None
    untuned: NDArray[np.int32] | None = None  # logits of the first images without the tune, (passes, n, classes)

    def corrected(self, written: Written) -> None:
        """Keep what was written and read; run the first images before the tune."""
        self.driver, self.program, self.corrections = self.target.driver, written.program, written.corrections
        self.written, self.readings_us, self.age_s = self.target.written, written.readings_us, written.age_s
        self.target.watch.found(
            "write", "held already, nothing written" if self.written is None else self.written.words
        )
        self._runs(self.program)
        if self.images is not None:
            watch = self.target.watch
            with watch.stage("without the tune"):
                self.untuned = self._logits(self.images, UNTUNED, 1, watch)

    def ready(self, written: Written) -> None:
        """Run the tuned program from now on."""
        self.tuned = written.tuned
        if self.tuned is not None:
            self.target.watch.found("tune", self.tuned.words)
            self._runs(self.tuned.program)

    def untuned_again(self, watch: Watch) -> NDArray[np.int32]:
        """Run the first images again without the tune; all passes without it."""
        assert self.images is not None
        assert self.untuned is not None
        assert self.tuned is not None
        self._runs(self.program)
        with watch.stage("without the tune"):
            again = self._logits(self.images, UNTUNED + REPEAT, 1, watch)
        self.untuned = np.concatenate([self.untuned, again])
        self._runs(self.tuned.program)
        return self.untuned

    def leave_tune(self) -> None:
        """Run without the fitted gains and biases from now on."""
        self.tuned = None
        self.times_ns.clear()
        self._runs(self.program)

    def _runs(self, program: ConductanceProgram) -> None:
        self._chip = network_run(self.driver, program, self.corrections)

    @property
    def conversions(self) -> Mapping[str, Conversions]:
        return self._chip.conversions

    def measure(self, images: NDArray[np.uint8], first: int, watch: Watch) -> NDArray[np.int32]:
        """Logit codes (repeats, n, classes)."""
        with watch.stage("measuring"):
            self.times_ns.append(self.driver.chip_time_ns)
            answers = self._logits(images, INFER + first, self.options.repeats, watch)
            self.times_ns.append(self.driver.chip_time_ns)
        return answers

    def _logits(self, images: NDArray[np.uint8], sample: int, passes: int, watch: Watch) -> NDArray[np.int32]:
        total = passes * len(images)
        return self._chip.logits(images, sample, passes, lambda done, what: watch.step(done, total, what))

    def finish(self, exact: Exact, watch: Watch) -> None:
        with watch.stage("layers"):
            self.layers = measure_layers(self.driver, self.program, self.corrections, exact, watch)
        with watch.stage("reading back"):
            self.after_us = self.target.readings(self.program, self.options.read_back_reads, READ_AFTER)
        switch_off(self.driver, watch)
