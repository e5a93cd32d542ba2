"""Input codes of every layer for the training images that a program holds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.driven import vector_images
from mapping.program.execute import IdealMultiply, run

IMAGES = 32  # of the stored training images
VECTORS = 1024  # of the inputs of a tile, by which its columns are corrected

LayerInputs = Mapping[str, NDArray[np.int16]]
"""Input codes of every layer for some images."""


def training_inputs(program: ConductanceProgram, images: Mapping[str, int] | None = None) -> LayerInputs:
    """Input codes of every layer for the stored training images, exact execution.

    ``images``: how many of them are kept of each layer; None: all.
    """
    inputs: dict[str, list[NDArray[np.int16]]] = {}

    def keep(step: MatrixStep, codes: NDArray[np.int16], sums: NDArray[np.int32]) -> None:
        parts = inputs.setdefault(step.name, [])
        left = len(codes) if images is None else images[step.name] - sum(map(len, parts))
        if left > 0:
            parts.append(codes if left >= len(codes) else codes[:left].copy())

    run(program, program.calibration_images[:IMAGES], IdealMultiply(program), tap=keep)
    return {name: np.concatenate(parts) for name, parts in inputs.items()}


def correction_inputs(program: ConductanceProgram) -> LayerInputs:
    """``training_inputs`` of as many images as ``VECTORS`` of a tile's inputs need: of large maps a few."""
    return training_inputs(program, {m.name: vector_images(m.group.window, IMAGES, VECTORS) for m in program.matrices})
