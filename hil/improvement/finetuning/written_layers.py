"""Chips that are written group by group of layers: one on the wire, and virtual chips of a record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cim.chip.correction import Correction
from cim.record.calibration import CalibrationRecord
from hil.deployment.inference import measured_multiply
from hil.deployment.targets.measured_sums import MeasuredSums
from hil.deployment.targets.wired import WiredTarget
from hil.driver.chip_driver import ChipDriver
from hil.simulation.virtual_chip import VirtualChip
from hil.simulation.virtual_chips import VirtualChips
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.execute import Multiply, RunsLayers
from mapping.program.training_inputs import LayerInputs
from mapping.recipe.recipe import Recipe, run_recipe

GROUP_SEEDS = 4096  # distance of the seeds of two virtual chips; groups take those between


class WrittenLayers(Protocol):
    """A chip with some layers written, to which further layers can be written."""

    @property
    def serial(self) -> str: ...

    @property
    def multiply(self) -> Multiply:
        """Level sums of the layers written so far."""
        ...

    def write(self, part: ConductanceProgram, inputs: LayerInputs, number: int) -> None:
        """Write the layers of ``part``, the group ``number``, wait until they are of the planned age, correct columns.

        Args:
            inputs: codes of these layers for training images, for the corrections.
        """
        ...

    def running(self, part: ConductanceProgram) -> Multiply | RunsLayers:
        """An executor for the layers of ``part``, with its present gains and biases."""
        ...

    def hold(self, program: ConductanceProgram) -> None:
        """Store the digest of ``program`` in the chip."""
        ...


@dataclass
class WiredLayers:
    """The chip behind a driver. ``pulses`` and ``cells``: totals written so far."""

    driver: ChipDriver
    record: CalibrationRecord
    recipe: Recipe
    seed: int
    watch: Watch
    corrections: dict[str, tuple[Correction, ...]] = field(default_factory=dict)
    pulses: int = 0
    cells: int = 0

    @property
    def serial(self) -> str:
        return self.driver.description.serial

    @property
    def multiply(self) -> Multiply:
        return MeasuredSums(self.driver, self.corrections)

    def write(self, part: ConductanceProgram, inputs: LayerInputs, number: int) -> None:
        target = WiredTarget(self.driver, self.record, self.watch, self.seed, number)
        written = run_recipe(self.recipe, part, target, inputs)
        self.pulses += target.pulses
        self.cells += sum(int(report.used.sum()) for report in target.reports.values())
        self.corrections.update(written.corrections)

    def running(self, part: ConductanceProgram) -> Multiply | RunsLayers:
        return measured_multiply(self.driver, part, self.corrections)

    def hold(self, program: ConductanceProgram) -> None:
        self.driver.hold_program(bytes.fromhex(program.held_digest))


@dataclass
class VirtualLayers:
    """Virtual chip ``number`` of a record, in fast mode; satisfies ``Multiply`` for the layers written so far."""

    record: CalibrationRecord
    recipe: Recipe
    seed: int
    number: int
    parts: dict[str, VirtualChip] = field(default_factory=dict)  # by layer

    @property
    def serial(self) -> str:
        return self.record.serial

    @property
    def multiply(self) -> Multiply:
        return self

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        return self.parts[step.name].sums(step, codes, sample)

    def write(self, part: ConductanceProgram, inputs: LayerInputs, number: int) -> None:
        seed = self.seed * GROUP_SEEDS + number
        chips = VirtualChips(part, self.record, self.recipe, 1, seed, inputs=inputs, mode="fast", first=self.number)
        chip = chips.chip(self.number)
        self.parts.update((step.name, chip) for step in part.matrices)

    def running(self, part: ConductanceProgram) -> Multiply | RunsLayers:
        return self

    def hold(self, program: ConductanceProgram) -> None:
        """Does nothing: a virtual chip keeps no state between runs."""
