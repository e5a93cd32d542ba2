"""Operators of several activations place by place: sums, differences, products, and joins along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mapping.operators.node import Node, Shape, Stored, of_one_rank, require, shape_together

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Node):
    """Sum of two inputs; axes of size 1 are repeated, missing ones stand before the first (numpy's rule)."""

    kind = "add"
    takes = (2, 2)

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return shape_together(self, inputs)

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        first, second = of_one_rank(inputs)
        return first + second


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtract(Node):
    """First input minus second; axes of size 1 are repeated, missing ones stand before the first (numpy's rule)."""

    kind = "subtract"
    takes = (2, 2)

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return shape_together(self, inputs)

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        first, second = of_one_rank(inputs)
        return first - second


@dataclass(frozen=True, slots=True, kw_only=True)
class Product(Node):
    """Product of two inputs element by element; axes of size 1 are repeated (numpy's rule)."""

    kind = "product"
    takes = (2, 2)

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return shape_together(self, inputs)

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        first, second = of_one_rank(inputs)
        return first * second


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(Node):
    """Inputs joined along ``axis``: channels."""

    kind = "concat"
    later: ClassVar = {"axis": 0}
    takes = (2, math.inf)

    axis: int = 0

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        first, axis = inputs[0], self.axis
        require(self, 0 <= axis < len(first), f"axis {axis} of {first}")
        rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in inputs}
        require(self, len(rest) == 1, f"inputs differ beyond axis {axis}: {inputs}")
        return joined_shape(inputs, axis)

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        import torch

        return torch.cat(list(inputs), 1 + self.axis)


def joined_shape(shapes: Sequence[Shape], axis: int) -> Shape:
    """Of shapes side by side along an axis."""
    first = shapes[0]
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


NODES = (Add, Subtract, Product, Concat)
