"""Run a whole compiled network, given something that multiplies.

Ideal, simulated and measured results come from this one function; only the ``Multiply``
differs: exact integers (``IdealMultiply``), the simulator, or a chip behind its driver.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mapping.operators.integer import digital_ops, tensor_ops
from mapping.operators.integer.digital_ops import Codes
from mapping.operators.step import Step
from mapping.program.adapter import adapted
from mapping.program.conductance import AgainStep, ConductanceProgram, InputCodes, MatrixStep
from mapping.program.exact_product import ExactProduct
from mapping.program.shapes import step_shapes

SUM_BYTES = 1 << 25  # of the largest layer, for images in flight together
MOST_IN_FLIGHT = 64
TURN = 1 << 28
"""Samples between two uses of a layer in one run of the network."""
Tap = Callable[[MatrixStep, NDArray[np.int16], NDArray[np.int32]], None]


class Multiply(Protocol):
    """Something that multiplies codes by the tiles of a layer."""

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        """Level sums without bias: (n, outputs, OH, OW) of maps, (n, outputs) of vectors.

        ``codes`` is (n, C, H, W) or (n, features); image i is sample ``sample + i``.
        """
        ...


@runtime_checkable
class RunsLayers(Protocol):
    """Something that also adds the bias and requantises by itself (a chip with layer support).

    Layers with an adapter are asked for their sums (``Multiply``), and the host does the rest.
    """

    def layer(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[Any]:
        """Output codes of the whole step."""
        ...


def run(
    program: ConductanceProgram,
    images: NDArray[np.uint8],
    multiply: Multiply | RunsLayers,
    *,
    sample: int = 0,
    tap: Tap | None = None,
    batch: int | None = None,
) -> NDArray[np.int32]:
    """Give the logit codes of images, (n, logits).

    Args:
        program: as compiled.
        images: uint8 (n, height, width, channels).
        multiply: what gives the level sums of a layer: exactly, simulated or measured.
        sample: number of the first image; image i is ``sample + i``.
        tap: called after the first product of each layer with the step, its input codes and its level sums, both in
            the order of the step's places (not for layers that ``multiply`` finishes by itself),
            once a batch.
        batch: images in flight together, None: ``images_in_flight``; results do not depend on it.

    Returns:
        int32 (n, logits); times `program.logit_scale` they are the logits.

    Raises:
        ValueError: images are not of the program's shape.

    Example:
        >>> run(program, images, IdealMultiply(program)).shape
        (20, 3)
    """
    height, width = program.input.shape[1:]
    if images.dtype != np.uint8 or images.shape[1:] != (height, width, program.input.shape[0]):
        raise ValueError(
            f"images are {images.dtype} {images.shape[1:]}, the network takes uint8 "
            f"{(height, width, program.input.shape[0])}"
        )
    if len(images) == 0:
        return np.zeros((0, program.width), np.int32)
    last_use = {name: i for i, step in enumerate(program.steps) for name in step.inputs}
    parts, layers, batch = [], program.layers, batch or images_in_flight(program)
    for first in range(0, len(images), batch):
        values: dict[str, Codes] = {"input": input_codes(images[first : first + batch], program.input)}
        for i, step in enumerate(program.steps):
            values[step.name] = apply(step, values, multiply, sample + first, tap, layers=layers)
            for name in step.inputs:
                if last_use[name] == i:
                    values.pop(name, None)
        parts.append(values[program.steps[-1].name].astype(np.int32))
    return np.concatenate(parts)


def images_in_flight(program: ConductanceProgram) -> int:
    """Images that a run takes at a time: as few as keep the level sums of the largest layer small.

    Example: 96 channels of 112 x 112 places are 4.8 MB an image, so 6 images; of small maps 64.
    """
    largest = max(math.prod(shape) for shape in step_shapes(program).values())
    return max(1, min(MOST_IN_FLIGHT, SUM_BYTES // (np.dtype(np.int32).itemsize * largest)))


def input_codes(images: NDArray[np.uint8], rule: InputCodes) -> NDArray[np.int16]:
    """Pixels (n, height, width, channels) to codes (n, channels, height, width), by table."""
    return tensor_ops.pixel_codes(images, rule.table)


def apply(
    step: Step,
    values: Mapping[str, Codes],
    multiply: Multiply | RunsLayers,
    sample: int = 0,
    tap: Tap | None = None,
    *,
    layers: Mapping[str, MatrixStep],
) -> Codes:
    """Output codes of one step, from the codes of the steps before it; ``layers`` are those of the program.

    A layer that is read again has noise of its own there: ``TURN`` samples on.
    """
    codes = [values[name] for name in step.inputs]
    match step:
        case MatrixStep():
            return _matrix(step, codes[0].astype(np.int16, copy=False), multiply, sample, tap)
        case AgainStep():
            given, turned = codes[0].astype(np.int16, copy=False), sample + step.turn * TURN
            return _matrix(layers[step.layer], given, multiply, turned, None)
        case _:
            return step.run(codes)


def _matrix(
    step: MatrixStep, codes: NDArray[np.int16], multiply: Multiply | RunsLayers, sample: int, tap: Tap | None
) -> Codes:
    codes = in_places(step, codes)
    finish = getattr(multiply, "layer", None)  # as isinstance says of ``RunsLayers``, without its cost at every layer
    if finish is not None and step.adapter is None:
        output: Codes = finish(step, codes, sample).astype(digital_ops.code_type(step.requantise))
    else:
        sums = cast("Multiply", multiply).sums(step, codes, sample)
        if tap is not None:
            tap(step, codes, sums)
        output = digital_ops.finish(adapted(step, codes, sums), step.bias, step.requantise)
    return out_of_places(step, output)


def in_places(step: MatrixStep, codes: NDArray[np.int16]) -> NDArray[np.int16]:
    """Input codes of a matrix step in the order of its places (``input_order``)."""
    return codes if step.input_order is None else codes[:, step.input_order]


def out_of_places(step: MatrixStep, output: Codes) -> Codes:
    """Output codes of a matrix step, reordered from places on the chip to the network's outputs (``output_order``)."""
    return output if step.output_order is None else output[:, np.argsort(step.output_order)]


class IdealMultiply:
    """The exact integer product of a program's own levels.

    Example:
        >>> run(program, images, IdealMultiply(program)).shape
        (20, 3)
    """

    def __init__(self, program: ConductanceProgram) -> None:
        self._products = {m.name: ExactProduct(m.group) for m in program.matrices}

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        return self._products[step.name](codes)
