"""Exact input codes and level sums of single layers: the reference for layers on the chip and on virtual chips."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.execute import IdealMultiply, run
from mapping.tune.fit_limits import some_places

Exact = Mapping[str, tuple[NDArray[np.int16], NDArray[np.int32]]]
"""Input codes of every layer for the images of the layer samples, and exact level sums at some places of its map."""


def exact_layers(program: ConductanceProgram, images: NDArray[np.uint8]) -> Exact:
    """Input codes and level sums of every layer, by exact execution."""
    layers: dict[str, tuple[NDArray[np.int16], NDArray[np.int32]]] = {}

    def keep(step: MatrixStep, codes: NDArray[np.int16], sums: NDArray[np.int32]) -> None:
        layers[step.name] = (codes, some_places(sums))

    run(program, images, IdealMultiply(program), tap=keep, batch=len(images))
    return layers
