"""Activations and constants while a network is read, and where the images of a batch stand in them.

A network is read with the batch in its tensors: (2, 3, 32, 32). Its graph knows one image only: (3, 32, 32). Many
networks move the batch about: sequence first (time, batch, features), or windows as more images (batch · windows,
places, channels). So each value says which axis holds the batch, and how many places of that axis stand outside of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mapping.network.compose.refusal import BROKEN, refuse
from mapping.operators.step import Shape

Constant: TypeAlias = NDArray[Any]

ROUNDING = 1e-5
"""Distance of constants that are the same, as a part of the largest."""


@dataclass(frozen=True, slots=True)
class Value:
    """One activation: the node that gives it, and its ``shape`` with the batch in it.

    Axis ``axis`` has ``outer`` · batch · rest places in that order; the node has outer · rest there, or no such axis
    if that is 1.
    """

    node: str
    shape: Shape
    axis: int
    outer: int = 1


Operand: TypeAlias = Value | Constant


def activation(x: Operand) -> Value:
    """``x``, which must not be a constant."""
    if not isinstance(x, Value):
        refuse("its input is a constant", "compute it before and store the result (register_buffer)")
    return x


def image_shape(shape: Shape, axis: int, batch: int) -> Shape:
    """The shape of one image's part: without the batch; (1,) for a single number."""
    left = shape[axis] // batch
    kept = (left,) if left > 1 else ()
    return (*shape[:axis], *kept, *shape[axis + 1 :]) or (1,)


def place_of_batch(shape: Shape, like: Value, batch: int) -> tuple[int, int]:
    """(axis, outer) of the batch in ``shape``, which has the elements of ``like`` in the same order of memory.

    A batch of one image may be any axis of size 1 there: that behind the same axes, else the first.
    """
    before = elements_before(like)
    found: list[tuple[tuple[bool, bool], int, int]] = []
    prefix = 1
    for axis, size in enumerate(shape):
        if before % prefix == 0 and size % (before // prefix * batch) == 0:
            alike = shape[:axis] == like.shape[: like.axis]
            worse = (size != batch or prefix != before, not alike)
            found.append((worse, axis, before // prefix))
        prefix *= size
    if not found:
        refuse(
            f"it mixes the images of a batch: a batch of {batch} does not stand whole in one axis of {shape}",
            "reshapes that keep the images of a batch apart",
        )
    _, axis, outer = min(found)
    return axis, outer


def image_axis(value: Value, axis: int, batch: int) -> int:
    """The axis of one image for an axis of the value, which may be negative; the batch has none."""
    rank = len(value.shape)
    if not -rank <= axis < rank:
        refuse(f"axis {axis} of {value.shape}", BROKEN)
    axis %= rank
    if axis == value.axis:
        refuse("it works along the batch", "one image must not change the answer for another")
    dropped = value.shape[value.axis] == batch and axis > value.axis
    return axis - dropped


def elements_before(value: Value) -> int:
    """How many elements lie before the batch axis in memory order: the product of the axes before it."""
    return math.prod(value.shape[: value.axis]) * value.outer


def image_part(values: Constant, like: Value, batch: int) -> Constant:
    """A constant that combines with ``like``, without the batch axis and with the rank of the node."""
    values = values.reshape((1,) * (len(like.shape) - values.ndim) + values.shape)
    size = values.shape[like.axis]
    if size > 1:
        parts = values.reshape(*values.shape[: like.axis], like.outer, batch, -1, *values.shape[like.axis + 1 :])
        first = parts.take([0], axis=like.axis + 1)
        if not alike(parts, first):
            refuse("a constant differs between the images of a batch", "use one constant for every image")
        values = first.reshape(*values.shape[: like.axis], -1, *values.shape[like.axis + 1 :])
    if like.shape[like.axis] == batch:
        values = values.squeeze(like.axis)
    return values if values.ndim else values.reshape(1)


def alike(values: Constant, first: Constant) -> bool:
    """Whether places are the same up to float rounding, which products of many rows do not share."""
    largest = np.abs(first, where=np.isfinite(first), out=np.zeros(first.shape)).max(initial=0.0)
    return bool(np.allclose(values, first, rtol=0.0, atol=ROUNDING * float(largest)))
