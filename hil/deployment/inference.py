"""Measured inference: a compiled network whose products come from the chip on the wire, layer by layer or whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.messages import Capability
from hil.deployment.layer_sums import Exact
from hil.deployment.plans.layer_loads import layer_messages
from hil.deployment.plans.network_plan import NoPlan
from hil.deployment.plans.taps import Taps
from hil.deployment.targets.measured_sums import Conversions, MeasuredSums, as_maps
from hil.deployment.targets.wired import check_one_round
from hil.driver.chip_driver import ChipDriver
from hil.driver.samples import LAYERS, REPEAT
from hil.errors import BeyondLimit
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.copies import Copy, by_copy, joined
from mapping.program.corrections import Corrections
from mapping.program.driven import driven_codes
from mapping.tune.fit_limits import some_places

IMAGES_IN_FLIGHT = 32
LAYER_REPEATS = 2
LayersAlone = Callable[[MatrixStep, NDArray[np.int16], int], "LayerSums"]
"""A layer, its own input codes and the first sample -> its sums."""


@dataclass
class MeasuredLayers:
    """Whole layers on the chip: it adds tiles, corrects and requantises; activations come back.

    The chip treats each copy of a layer as a separate layer.

    Satisfies ``mapping.program.execute.RunsLayers``. Layers are sent once, when the object is made.
    """

    driver: ChipDriver
    program: ConductanceProgram
    corrections: Corrections
    conversions: dict[str, Conversions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        messages = layer_messages(self.program, self.corrections)
        self.numbers = {key: message.layer for key, message in messages.items()}  # layer and copy -> the chip's number
        for message in messages.values():
            self.driver.load_layer(message)

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        """Level sums of a layer of which the chip holds a part (``mapping.program.rounds``): tiles are added here."""
        return MeasuredSums(self.driver, self.corrections, self.conversions).sums(step, codes, sample)

    def layer(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        parts = [self._copy(step.name, copy, seen, sample) for copy, seen in by_copy(step.group, codes)]
        return joined(step.group, parts)

    def _copy(self, name: str, copy: Copy, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        group = copy.group
        driven, window = driven_codes(group, self.driver.spec.macro, codes)
        result = self.driver.run_layer(
            self.numbers[name, copy.number],
            driven,
            window=window,
            range_code=group.range_code,
            input_bits=group.input_bits,
            input_signed=group.input_signed,
            sample=sample,
        )
        self.conversions.setdefault(name, Conversions()).add(result)
        return as_maps(group, result.values.reshape(len(codes), -1, group.outputs))


def measured_multiply(
    driver: ChipDriver, program: ConductanceProgram, corrections: Corrections
) -> MeasuredSums | MeasuredLayers:
    """Runs whole layers on the chip where it has room for them, else reads sums of tiles and adds them on the host.

    Raises:
        UsageError: the program takes several rounds, and the chip holds one at a time.
    """
    check_one_round(program)
    again = any(max(m.group.reads) > 1 for m in program.matrices)
    needed = Capability.LAYER | Capability.REPEATED_READS if again else Capability.LAYER
    if needed in driver.capabilities:
        try:
            return MeasuredLayers(driver, program, corrections)
        except BeyondLimit as error:
            driver.fall_back(f"layers: tiles added by the host ({error.what})")
    return MeasuredSums(driver, corrections)


@dataclass(frozen=True, slots=True)
class LayerSums:
    """One layer's level sums on the chip at some places, (repeats, n, outputs, places), and its conversions."""

    sums: NDArray[np.int32]
    count: Conversions

    def __add__(self, other: LayerSums) -> LayerSums:
        """Sums of a layer whose tiles lie in several rounds: the sums of both parts, and all their conversions."""
        total, ends = self.count.total + other.count.total, self.count.saturated + other.count.saturated
        return LayerSums(self.sums + other.sums, Conversions(total, ends))


def measure_layers(
    driver: ChipDriver,
    program: ConductanceProgram,
    corrections: Corrections,
    exact: Exact,
    watch: Watch,
    further_sample: int = 0,
) -> dict[str, LayerSums]:
    """Level sums of every layer of ``program`` on the chip, for exact input codes."""
    first, found = LAYERS + further_sample, {}
    measured = _by_plan(driver, program, corrections) or _by_products(driver, corrections)
    for done, step in enumerate(program.matrices):
        watch.step(done, len(program.matrices), step.name)
        found[step.name] = measured(step, exact[step.name][0], first)
    return found


def _by_plan(driver: ChipDriver, program: ConductanceProgram, corrections: Corrections) -> LayersAlone | None:
    """Layers that the chip's sequencer runs; None where it cannot."""
    products = _by_products(driver, corrections)
    try:
        taps = Taps(driver, program, corrections)
    except NoPlan:
        return None

    def measured(step: MatrixStep, codes: NDArray[np.int16], sample: int) -> LayerSums:
        try:
            found = taps.alone(step, codes, sample, LAYER_REPEATS)
        except (NoPlan, BeyondLimit) as error:
            driver.fall_back(f"layer {step.name}: tiles added by the host ({error.what})")
            return products(step, codes, sample)
        return LayerSums(found.sums, Conversions(found.conversions, found.saturated))

    return measured


def _by_products(driver: ChipDriver, corrections: Corrections) -> LayersAlone:
    """A function that measures the level sums of one layer from products of its tiles, which the host adds; for chips
    that compute single tiles only."""
    chip = MeasuredSums(driver, corrections, apart=True)

    def measured(step: MatrixStep, codes: NDArray[np.int16], sample: int) -> LayerSums:
        sums = [some_places(chip.sums(step, codes, sample + n * REPEAT)) for n in range(LAYER_REPEATS)]
        return LayerSums(np.stack(sums), chip.conversions[step.name])

    return measured
