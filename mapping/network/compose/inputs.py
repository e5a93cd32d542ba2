"""Inputs of a network as one map of pixels, and the values that it begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mapping.network.compose.composer import Composer, ModulePlace
from mapping.network.compose.moves import reshape
from mapping.network.compose.products import linear
from mapping.network.compose.refusal import need
from mapping.network.compose.values import Value, activation, image_shape
from mapping.network.graph import Preprocess
from mapping.operators.node import INPUT
from mapping.operators.step import Shape

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Asked:
    """What the network takes: ``shapes`` with the batch, and ``image``, the (channels, height, width) of the graph.

    (n, channels, height, width) as it is; (n, channels, length) as (channels, 1, length) and (n, time, features) as
    (1, time, features), by the number of means; (n, features) likewise; (n, channels, depth, height, width) with its
    depths as channels; (n, height, width, channels) where there is a mean for each of the last. Several inputs of one
    size side by side as channels.
    """

    shapes: tuple[Shape, ...]
    image: tuple[int, int, int]
    channels_last: bool = False
    tokens: int = 0
    """Of an input (n, length) of token ids: how many there are; the graph takes (1, length, tokens), one-hot."""

    @property
    def batch(self) -> int:
        return self.shapes[0][0]

    @classmethod
    def of(cls, shapes: Sequence[Shape], channels: int | None, tokens: int = 0) -> Asked:
        """``channels``: number of means, one a channel of the graph's input; None if they are not known."""
        if tokens:
            alone = len(shapes) == 1 and len(shapes[0]) == 2 and channels in (1, None)
            need(alone, f"token ids among inputs {list(shapes)}", "token ids (n, length) as the only input, one mean")
            return cls(tuple(shapes), (1, shapes[0][1], tokens), tokens=tokens)
        need(len(shapes) > 0, "the network has no input", "a network that takes at least one tensor")
        need(
            all(len(shape) >= 2 and min(shape) >= 1 for shape in shapes),
            f"inputs {list(shapes)} have no batch",
            "inputs (n, channels, height, width), (n, channels, length) or (n, features)",
        )
        alike = {(shape[0], *shape[2:]) for shape in shapes}
        need(
            len(alike) == 1,
            f"inputs {list(shapes)} differ beyond their channels",
            "one input tensor with all of them side by side, taken apart by slices in forward()",
        )
        first = shapes[0]
        wide = sum(shape[1] for shape in shapes)
        if len(first) == 5 and len(shapes) == 1:
            return cls(tuple(shapes), (first[1] * first[2], first[3], first[4]))
        colours = channels if channels not in (None, 1) else 3
        if len(first) == 4 and len(shapes) == 1 and first[3] == colours and first[1] != colours and first[1] > 4:
            return cls(tuple(shapes), (first[3], first[1], first[2]), True)
        if len(first) == 4:
            return cls(tuple(shapes), (wide, first[2], first[3]))
        need(len(first) <= 3, f"an input {first} of too many axes", "channels times frames as channels")
        length = first[2] if len(first) == 3 else 1
        if channels in (wide, None) or len(shapes) > 1:
            return cls(tuple(shapes), (wide, 1, length))
        if len(first) == 2:
            return cls(tuple(shapes), (1, 1, wide))
        return cls(tuple(shapes), (1, wide, length))

    def preprocess(self, given: Preprocess | None) -> Preprocess:
        """``given``, a single mean repeated for all channels; usual values where only costs are wanted."""
        count, given = self.image[0], given or Preprocess((0.5,), (0.25,))
        named = self.shapes[0][1] if len(self.shapes[0]) == 5 else count  # of a volume, one for all its depths
        mean, std = (
            values * count if len(values) == 1 else tuple(np.repeat(values, count // named).tolist())
            for values in (given.mean, given.std)
        )
        return Preprocess(mean, std)

    def tensors(self, images: Tensor) -> list[Tensor]:
        """Images of the graph (n, channels, height, width) as the tensors that the network takes."""
        if self.tokens:
            return [images[:, 0].argmax(-1)]
        if self.channels_last:
            return [images.permute(0, 2, 3, 1)]
        flat = images.reshape(len(images), sum(shape[1] for shape in self.shapes), -1)
        parts = flat.split([shape[1] for shape in self.shapes], 1)
        return [part.reshape(len(images), *shape[1:]) for part, shape in zip(parts, self.shapes, strict=True)]


def opened(c: Composer, asked: Asked) -> list[Value]:
    """The inputs as values, cut out of the graph's one input."""
    c.start(asked.image)
    c.begin(ModulePlace("inputs"))
    if asked.tokens:
        return [token_ids(c, asked)]
    found, first = [], 0
    for shape in asked.shapes:
        node = c.take(INPUT, range(first, first + shape[1]), 0) if len(asked.shapes) > 1 else INPUT
        first += shape[1]
        if asked.channels_last:
            node = c.permute(node, (1, 2, 0))
        found.append(Value(c.reshape(node, image_shape(shape, 0, c.batch)), shape, 0))
    return found


def token_ids(c: Composer, asked: Asked) -> Value:
    """Numbers of the tokens; ``c.one_hot`` keeps what they were made of, for all that reads one token from another."""
    (shape,) = asked.shapes
    one_hot = Value(c.reshape(INPUT, (shape[1], asked.tokens)), (*shape, asked.tokens), 0)
    ids = reshape(c, linear(c, one_hot, np.arange(asked.tokens, dtype=np.float32)[None], None), shape)
    c.one_hot[activation(ids).node] = one_hot
    return activation(ids)
