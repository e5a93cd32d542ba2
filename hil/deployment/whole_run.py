"""A program that the chip holds as a whole: written once, it answers images look after look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cim.record.calibration import CalibrationRecord
from hil.deployment.chip_run import IMAGES_IN_FLIGHT
from hil.deployment.inference import Conversions, measured_multiply
from hil.deployment.layer_sums import Exact, LayerSums, measure_layers
from hil.deployment.options import DeployOptions
from hil.deployment.programming import EarlyReads, ProgramReport, ensure_programmed, read_back
from hil.driver.chip_driver import ChipDriver
from hil.samples import INFER, PROGRAM, READ_AFTER, READ_BEFORE, READ_EARLY, REPEAT
from hil.simulation.corrections import column_corrections
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import Corrections
from mapping.program.execute import run
from mapping.program.training_inputs import LayerInputs


@dataclass
class WholeRun:
    """A ``hil.deployment.chip_run.ChipRun``; readings by slot, which is the macro here."""

    driver: ChipDriver
    program: ConductanceProgram
    options: DeployOptions
    written: ProgramReport | None
    readings_us: dict[int, NDArray[np.float32]]
    corrections: Corrections
    times_ns: list[int] = field(default_factory=list)
    ages_s: None = None
    layers: dict[str, LayerSums] = field(default_factory=dict)
    after_us: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._chip = measured_multiply(self.driver, self.program, self.corrections)

    @property
    def conversions(self) -> Mapping[str, Conversions]:
        return self._chip.conversions

    def measure(self, images: NDArray[np.uint8], first: int, watch: Watch) -> NDArray[np.int32]:
        """Logit codes (repeats, n, classes); repeats are whole passes."""
        with watch.stage("measuring"):
            self.times_ns.append(self.driver.chip_time_ns)
            passes = [self._pass(images, first, repeat, watch) for repeat in range(self.options.repeats)]
            self.times_ns.append(self.driver.chip_time_ns)
        return np.stack(passes)

    def _pass(self, images: NDArray[np.uint8], first: int, repeat: int, watch: Watch) -> NDArray[np.int32]:
        parts, repeats, batch = [], self.options.repeats, IMAGES_IN_FLIGHT
        for at in range(0, len(images), batch):
            watch.step(repeat * len(images) + at, repeats * len(images), f"repeat {repeat + 1} of {repeats}")
            sample = INFER + repeat * REPEAT + first + at
            parts.append(run(self.program, images[at : at + batch], self._chip, sample=sample, batch=batch))
        return np.concatenate(parts)

    def finish(self, exact: Exact, watch: Watch) -> None:
        with watch.stage("layers"):
            self.layers = measure_layers(self.driver, self.program, self.corrections, exact, watch)
        with watch.stage("reading back"):
            reads = self.options.read_back_reads
            self.after_us = read_back(self.driver, self.program.macros, reads=reads, sample=READ_AFTER, watch=watch)
        self.driver.outputs_off()


def write_whole(
    driver: ChipDriver,
    program: ConductanceProgram,
    record: CalibrationRecord,
    inputs: LayerInputs,
    options: DeployOptions,
    watch: Watch,
    *,
    force: bool,
    order: Sequence[int] | None,
) -> WholeRun:
    """Write the program, wait until it has the planned age, read it back and correct its columns.

    Args:
        inputs: input codes of every layer for training images, for the corrections.
        force: write it although the chip holds it.
        order: of the macros; None: by number.
    """
    with watch.stage("programming"):
        sample = PROGRAM | (options.seed & 0xFFFF) << 32
        early = EarlyReads(options.early_reads, READ_EARLY) if options.causes else None
        written = ensure_programmed(driver, program, sample=sample, force=force, watch=watch, early=early, order=order)
    with watch.stage("waiting"):
        driver.wait(options.age_s)
    with watch.stage("reading back"):
        readings = read_back(driver, program.macros, reads=options.read_back_reads, sample=READ_BEFORE, watch=watch)
    with watch.stage("correcting"):
        corrections = column_corrections(program, record, readings, inputs)
    return WholeRun(driver, program, options, written, readings, corrections)
