"""Level sums of single layers from the sequencer of a chip, at the places that fits and statistics look at.

A tap is a plan that ends at the layer: the layer is loaded so that its codes are its level sums, and the plan takes
some places of their map. It begins with the images, so that the chip runs what is before the layer; or with the
layer's own input codes in place of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.chip.correction import Correction
from firmware_protocols.messages import Capability
from firmware_protocols.plans.messages import PlanResult
from firmware_protocols.plans.plan import PIXELS, Plan
from hil.deployment.plans.layer_loads import answering_sums, layer_message
from hil.deployment.plans.network_plan import NoPlan, Numbers, PlanWriting, as_flat, flat_codes
from hil.driver.chip_driver import ChipDriver
from hil.driver.samples import REPEAT
from mapping.operators.step import Step
from mapping.program.conductance import AgainStep, ConductanceProgram, MatrixStep
from mapping.program.copies import copies_of
from mapping.program.corrections import Corrections

IMAGES_TOGETHER = 32  # in one request


@dataclass(frozen=True, slots=True)
class TappedSums:
    """Level sums of a layer, int32 (passes, n, outputs, places), and its conversions."""

    sums: NDArray[np.int32]
    conversions: int
    saturated: int


class Taps:
    """Sums of the layers of one program, which the chip holds as a whole.

    Raises:
        NoPlan, hil.errors.BeyondLimit: the chip cannot answer so, also later; whoever asks it next loads layers anew.
    """

    def __init__(self, driver: ChipDriver, program: ConductanceProgram, corrections: Corrections) -> None:
        again = any(max(m.group.reads) > 1 for m in program.matrices)
        needed = Capability.PLAN | Capability.LAYER | (Capability.REPEATED_READS if again else Capability(0))
        if needed not in driver.capabilities:
            raise NoPlan("the chip has no sequencer")
        if program.rounds > 1:
            raise NoPlan(f"the chip is written in {program.rounds} rounds")
        self.driver, self.corrections, self._macro = driver, corrections, program.spec.macro
        self._numbers: Numbers = {
            key: number
            for number, key in enumerate((m.name, copy.number) for m in program.matrices for copy in copies_of(m.group))
        }
        self._loaded: dict[str, MatrixStep] = {}

    def after(
        self, program: ConductanceProgram, layer: str, images: NDArray[np.uint8], sample: int
    ) -> NDArray[np.int32]:
        """Level sums of a layer for images, (n, outputs, places): the chip runs the steps of ``program`` before it,
        too; image i is sample ``sample + i``."""
        if any(step.adapter is not None for step in program.matrices):
            raise NoPlan("the host executes adapters")
        before, layers = _before(program.steps, layer), program.layers
        tapped = answering_sums(layers[layer])
        for step in before:
            if isinstance(step, MatrixStep):
                self._load(step)
        self._load(tapped)
        writing = PlanWriting(program.input)
        writing.run([*before, tapped], layers | {layer: tapped}, self._numbers, self._macro)
        writing.some_places(layer)
        plan, parts = self._checked(writing.plan()), []
        self.driver.load_plan(plan)
        for first in range(0, len(images), IMAGES_TOGETHER):
            found = self.driver.run_plan(images[first : first + IMAGES_TOGETHER], sample=sample + first)
            parts.append(_shaped(plan, found)[0])
        return np.concatenate(parts)

    def alone(self, step: MatrixStep, codes: NDArray[np.int16], sample: int, passes: int) -> TappedSums:
        """Sums of a layer for its own input codes, (n, C, H, W) or (n, features) in the order of its places."""
        low, high, shape = int(codes.min()), int(codes.max()), codes.shape[1:]
        if high - low >= PIXELS:
            raise NoPlan(f"input codes of {step.name} beyond a pixel")
        writing, given = PlanWriting(flat_codes(shape, low)), f"{step.name}, given"
        writing.shaped(given, shape, low, high)
        tapped = replace(answering_sums(step), inputs=(given,), input_order=None)
        self._load(tapped)
        writing.run([tapped], {step.name: tapped}, self._numbers, self._macro)
        writing.some_places(step.name)
        plan = self._checked(writing.plan())
        self.driver.load_plan(plan)
        found = self.driver.run_plan(as_flat(codes, low), sample=sample, passes=passes, pass_step=REPEAT)
        return TappedSums(_shaped(plan, found), int(found.conversions.sum()), int(found.saturated.sum()))

    def _load(self, step: MatrixStep) -> None:
        """Load a layer into the chip unless it is loaded in this form already."""
        if self._loaded.get(step.name) is step:
            return
        corrections: tuple[Correction, ...] = self.corrections[step.name]
        for copy in copies_of(step.group):
            own = corrections[copy.tiles.start : copy.tiles.stop]
            self.driver.load_layer(layer_message(self._numbers[step.name, copy.number], copy.of(step), own))
        self._loaded[step.name] = step

    def _checked(self, plan: Plan) -> Plan:
        if not self.driver.takes_images(plan):
            raise NoPlan(f"an image or its sums are longer than messages of {self.driver.max_message} bytes")
        return plan


def _before(steps: Sequence[Step], layer: str) -> list[Step]:
    """The steps that a layer depends on, in order; a layer used twice counts at its first use."""
    wanted, found = {layer}, list[Step]()
    for step in reversed(steps):
        if step.name in wanted:
            found.append(step)
            wanted |= {*step.inputs} | ({step.layer} if isinstance(step, AgainStep) else set())
    return found[:0:-1]


def _shaped(plan: Plan, found: PlanResult) -> NDArray[np.int32]:
    """Values of a plan's answer as (passes, n, outputs, places)."""
    return found.values.reshape(*found.values.shape[:2], *plan.answer.shape)
