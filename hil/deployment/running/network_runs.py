"""A whole network on the chip: by the chip's own sequencer where it has one, else with the host between the layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.messages import Capability
from hil.deployment.inference import IMAGES_IN_FLIGHT, MeasuredLayers, measured_multiply
from hil.deployment.plans.network_plan import Carried, NoPlan, as_flat, carried_values, network_plan
from hil.deployment.targets.measured_sums import Conversions, MeasuredSums
from hil.driver.chip_driver import ChipDriver
from hil.driver.samples import REPEAT
from hil.errors import BeyondLimit
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import Corrections
from mapping.program.execute import run

Progress = Callable[[int, str], None]


def silent(done: int, what: str) -> None:
    """Report progress to nobody."""


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
    """Products on the chip, all steps between them on the host; one pass after another."""

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


@dataclass
class PlannedEnd:
    """A network whose first steps run on the host between products, and whose last run on the chip's sequencer."""

    program: ConductanceProgram
    multiply: MeasuredLayers
    carried: Carried
    end: Planned

    @property
    def conversions(self) -> Mapping[str, Conversions]:
        return self.multiply.conversions

    def logits(
        self, images: NDArray[np.uint8], sample: int, passes: int = 1, progress: Progress = silent
    ) -> NDArray[np.int32]:
        start = replace(self.program, steps=self.program.steps[: self.carried.at])
        found = []
        for number in range(passes):
            parts, first = [], sample + number * REPEAT
            for at, batch in _batches(images):
                progress(number * len(images) + at, f"repeat {number + 1} of {passes}")
                codes = run(start, batch, self.multiply, sample=first + at, batch=len(batch))
                (answers,) = self.end.logits(as_flat(codes, self.carried.low), first + at)
                parts.append(answers)
            found.append(np.concatenate(parts))
        return np.stack(found)


def _batches(images: NDArray[np.uint8]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The images in batches, each with the number of its first image."""
    return ((at, images[at : at + IMAGES_IN_FLIGHT]) for at in range(0, len(images), IMAGES_IN_FLIGHT))


def network_run(driver: ChipDriver, program: ConductanceProgram, corrections: Corrections) -> NetworkRun:
    """Load a program that the chip holds as a whole, with as many of its steps as the chip executes.

    Raises:
        UsageError: the program takes several rounds, and the chip holds one at a time.
    """
    multiply = measured_multiply(driver, program, corrections)
    if Capability.PLAN in driver.capabilities and isinstance(multiply, MeasuredLayers):
        try:
            return _planned(driver, program, multiply)
        except (NoPlan, BeyondLimit) as error:
            why = error.what
        if (part := _longest_end(driver, program, multiply)) is not None:
            steps = f"{part.carried.at} of {len(program.steps)} steps, up to {part.carried.name}"
            driver.fall_back(f"plan: {steps}, with the host between the layers ({why}); the rest by the chip")
            return part
        driver.fall_back(f"plan: steps between layers by the host ({why})")
    return StepByStep(program, multiply)


def _planned(
    driver: ChipDriver, program: ConductanceProgram, multiply: MeasuredLayers, since: Carried | None = None
) -> Planned:
    """The network, or its steps since a value, loaded as a plan. Raises ``NoPlan``, ``BeyondLimit``."""
    plan = network_plan(program, multiply.numbers, since)
    if not driver.takes_images(plan):
        raise NoPlan(f"an image is longer than its messages of {driver.max_message} bytes")
    driver.load_plan(plan)
    steps = program.steps[since.at if since is not None else 0 :]
    names = tuple("" if layer is None else layer.name for layer in map(program.product_of, steps))
    return Planned(driver, ("",) * (since is not None) + names, multiply.conversions)


def _longest_end(driver: ChipDriver, program: ConductanceProgram, multiply: MeasuredLayers) -> PlannedEnd | None:
    """The longest run of last steps that the chip's sequencer has room for, found by halving."""
    cuts, found = carried_values(program), None
    while cuts:
        middle = len(cuts) // 2
        try:
            end = _planned(driver, program, multiply, cuts[middle])
        except (NoPlan, BeyondLimit):
            cuts = cuts[middle + 1 :]
        else:
            found, cuts = PlannedEnd(program, multiply, cuts[middle], end), cuts[:middle]
    if found is not None:
        found.end = _planned(driver, program, multiply, found.carried)  # another one may have been tried since
    return found
