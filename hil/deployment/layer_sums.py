"""Level sums of single layers for exact input codes: exact, and on the chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hil.deployment.inference import Conversions, MeasuredSums
from hil.driver.chip_driver import ChipDriver
from hil.samples import LAYERS, REPEAT
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.corrections import Corrections
from mapping.program.execute import IdealMultiply, run

LAYER_REPEATS = 2

Exact = Mapping[str, tuple[NDArray[np.int16], NDArray[np.int32]]]
"""Input codes and exact level sums of every layer for the images of the layer samples."""


def exact_layers(program: ConductanceProgram, images: NDArray[np.uint8]) -> Exact:
    """Input codes and level sums of every layer, by exact execution."""
    layers: dict[str, tuple[NDArray[np.int16], NDArray[np.int32]]] = {}

    def keep(step: MatrixStep, codes: NDArray[np.int16], sums: NDArray[np.int32]) -> None:
        layers[step.name] = (codes, sums)

    run(program, images, IdealMultiply(program), tap=keep, batch=len(images))
    return layers


@dataclass(frozen=True, slots=True)
class LayerSums:
    """One layer's level sums on the chip, (repeats, n, outputs, …), and its conversions."""

    sums: NDArray[np.int32]
    count: Conversions

    def __add__(self, other: LayerSums) -> LayerSums:
        """Of a layer that goes over several rounds."""
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
    chip = MeasuredSums(driver, corrections)
    found = {}
    for done, step in enumerate(program.matrices):
        watch.step(done, len(program.matrices), step.name)
        codes, first = exact[step.name][0], LAYERS + further_sample
        sums = np.stack([chip.sums(step, codes, first + n * REPEAT) for n in range(LAYER_REPEATS)])
        found[step.name] = LayerSums(sums, chip.conversions[step.name])
    return found
