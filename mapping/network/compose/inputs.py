"""Inputs of a network as one map of pixels, and the values that it begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mapping.network.compose.composer import Composer, ModulePlace
from mapping.network.compose.refusal import need
from mapping.network.compose.values import Value, image_shape
from mapping.network.graph import Preprocess
from mapping.network.nodes import INPUT, Shape

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Asked:
    """What the network takes: ``shapes`` with the batch, and ``image``, the (channels, height, width) of the graph.

    (n, channels, height, width) as it is; (n, channels, length) as (channels, 1, length) and (n, time, features) as
    (1, time, features), by the number of means; (n, features) likewise. Several inputs of one size side by side as
    channels.
    """

    shapes: tuple[Shape, ...]
    image: tuple[int, int, int]

    @property
    def batch(self) -> int:
        return self.shapes[0][0]

    @classmethod
    def of(cls, shapes: Sequence[Shape], channels: int | None) -> Asked:
        """``channels``: number of means, one a channel of the graph's input; None if they are not known."""
        need(len(shapes) > 0, "the network has no input")
        need(all(len(shape) >= 2 and min(shape) >= 1 for shape in shapes), f"inputs {list(shapes)} have no batch")
        alike = {(shape[0], *shape[2:]) for shape in shapes}
        need(
            len(alike) == 1,
            f"inputs {list(shapes)} differ beyond their channels",
            "one input tensor with all of them side by side, taken apart by slices in forward()",
        )
        first = shapes[0]
        wide = sum(shape[1] for shape in shapes)
        if len(first) == 4:
            return cls(tuple(shapes), (wide, first[2], first[3]))
        need(len(first) <= 3, f"an input {first} of more than two axes of places", "channels times frames as channels")
        length = first[2] if len(first) == 3 else 1
        if channels in (wide, None) or len(shapes) > 1:
            return cls(tuple(shapes), (wide, 1, length))
        if len(first) == 2:
            return cls(tuple(shapes), (1, 1, wide))
        return cls(tuple(shapes), (1, wide, length))

    def preprocess(self, given: Preprocess | None) -> Preprocess:
        """``given``, or one of usual size where only costs are asked for."""
        return given or Preprocess((0.5,) * self.image[0], (0.25,) * self.image[0])

    def tensors(self, images: Tensor) -> list[Tensor]:
        """Images of the graph (n, channels, height, width) as the tensors that the network takes."""
        flat = images.reshape(len(images), sum(shape[1] for shape in self.shapes), -1)
        parts = flat.split([shape[1] for shape in self.shapes], 1)
        return [part.reshape(len(images), *shape[1:]) for part, shape in zip(parts, self.shapes, strict=True)]


def opened(c: Composer, asked: Asked) -> list[Value]:
    """The inputs as values, cut out of the graph's one input."""
    c.start(asked.image)
    c.begin(ModulePlace("inputs"))
    found, first = [], 0
    for shape in asked.shapes:
        node = c.take(INPUT, range(first, first + shape[1]), 0) if len(asked.shapes) > 1 else INPUT
        first += shape[1]
        found.append(Value(c.reshape(node, image_shape(shape, 0, c.batch)), shape, 0))
    return found
