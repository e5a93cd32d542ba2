"""Input codes of every layer for the training images that a program holds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.execute import IdealMultiply, run

IMAGES = 32  # of the stored training images

LayerInputs = Mapping[str, NDArray[np.int16]]
"""Input codes of every layer for some images."""


def training_inputs(program: ConductanceProgram) -> LayerInputs:
    """Input codes of every layer for the stored training images, exact execution."""
    inputs: dict[str, list[NDArray[np.int16]]] = {}

    def keep(step: MatrixStep, codes: NDArray[np.int16], sums: NDArray[np.int32]) -> None:
        inputs.setdefault(step.name, []).append(codes)

    run(program, program.calibration_images[:IMAGES], IdealMultiply(program), tap=keep)
    return {name: np.concatenate(parts) for name, parts in inputs.items()}
