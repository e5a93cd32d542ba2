"""A whole network on the chip: by the chip's own sequencer where it has one, else with the host between the layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.messages import Capability
from hil.deployment.inference import IMAGES_IN_FLIGHT, MeasuredLayers, measured_multiply
from hil.deployment.plans.network_plan import NoPlan, network_plan
from hil.deployment.targets.measured_sums import Conversions, MeasuredSums
from hil.driver.chip_driver import ChipDriver
from hil.driver.samples import REPEAT
from hil.errors import BeyondLimit
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import Corrections
from mapping.program.execute import run

Progress = Callable[[int, str], None]


def silent(done: int, what: str) -> None:
    """Nobody is told."""


class NetworkRun(Protocol):
    """A network on the chip that answers images."""

    @property
    def conversions(self) -> Mapping[str, Conversions]: ...

    def logits(
        self, images: NDArray[np.uint8], sample: int, passes: int = 1, progress: Progress = silent
    ) -> NDArray[np.int32]:
        """Logit codes (passes, n, classes); image i of pass p is sample ``sample + p · REPEAT + i``.

        ``progress``: images that are done, of all passes together, and what is under way.
        """
        ...


@dataclass
class StepByStep:
    """Products on the chip, the steps between them on the host; pass after pass."""

    program: ConductanceProgram
    multiply: MeasuredSums | MeasuredLayers

    @property
    def conversions(self) -> Mapping[str, Conversions]:
        return self.multiply.conversions

    def logits(
        self, images: NDArray[np.uint8], sample: int, passes: int = 1, progress: Progress = silent
    ) -> NDArray[np.int32]:
        found = []
        for number in range(passes):
            parts, first = [], sample + number * REPEAT
            for at, batch in _batches(images):
                progress(number * len(images) + at, f"repeat {number + 1} of {passes}")
                parts.append(run(self.program, batch, self.multiply, sample=first + at, batch=len(batch)))
            found.append(np.concatenate(parts))
        return np.stack(found)


@dataclass
class Planned:
    """The network on the chip's sequencer: images go in, logits come out, all passes of a batch together."""

    driver: ChipDriver
    layers: tuple[str, ...]  # that each step reads, "" where no array works
    conversions: dict[str, Conversions] = field(default_factory=dict)

    def logits(
        self, images: NDArray[np.uint8], sample: int, passes: int = 1, progress: Progress = silent
    ) -> NDArray[np.int32]:
        parts = []
        for at, batch in _batches(images):
            progress(passes * at, f"image {at + 1} of {len(images)}")
            result = self.driver.run_plan(batch, sample=sample + at, passes=passes, pass_step=REPEAT)
            for name, total, saturated in zip(self.layers, result.conversions, result.saturated, strict=True):
                if name:
                    self.conversions.setdefault(name, Conversions()).count(int(total), int(saturated))
            parts.append(result.values)
        return np.concatenate(parts, axis=1)


def _batches(images: NDArray[np.uint8]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Images in flight together, and the number of the first."""
    return ((at, images[at : at + IMAGES_IN_FLIGHT]) for at in range(0, len(images), IMAGES_IN_FLIGHT))


def network_run(driver: ChipDriver, program: ConductanceProgram, corrections: Corrections) -> NetworkRun:
    """Load a program that the chip holds as a whole, with as many of its steps as the chip executes.

    Raises:
        UsageError: the program takes several rounds, and the chip holds one at a time.
    """
    multiply = measured_multiply(driver, program, corrections)
    if Capability.PLAN in driver.capabilities and isinstance(multiply, MeasuredLayers):
        try:
            plan = network_plan(program, multiply.numbers)
            if driver.takes_images(plan):
                driver.load_plan(plan)
                layers = (program.product_of(step) for step in program.steps)
                names = tuple("" if layer is None else layer.name for layer in layers)
                return Planned(driver, names, multiply.conversions)
            why = f"an image is longer than its messages of {driver.max_message} bytes"
        except (NoPlan, BeyondLimit) as error:
            why = error.what
        driver.fall_back(f"plan: steps between layers by the host ({why})")
    return StepByStep(program, multiply)
