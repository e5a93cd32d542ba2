"""Operators of several activations place by place: sums, differences, products, and joins along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mapping.operators.integer import digital_ops, tensor_ops
from mapping.operators.integer.digital_ops import Codes
from mapping.operators.integer.requantise import Requantise
from mapping.operators.node import Node, Shape, Stored, of_one_rank, require, shape_together
from mapping.operators.step import (
    Span,
    Step,
    check_one_factor,
    check_rule,
    check_together,
    need,
    repeated_shape,
    span_together,
)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class AddStep(Step):
    """q = requantise(sat(x' ± y')), x' and y' requantised to the output scale with bits more; axes of size 1 repeated.

    ``subtract``: first minus second. Missing axes stand before the first.
    """

    kind = "add"
    later: ClassVar = {"subtract": False}
    takes = (2, 2)
    takes_wide = True

    rescale: tuple[Requantise, Requantise]
    requantise: Requantise
    subtract: bool = False

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return repeated_shape(inputs)

    def check(self, inputs: Sequence[Shape]) -> None:
        check_together(self, inputs)
        one = inputs[0] == inputs[1]
        for rule in (*self.rescale, self.requantise):
            check_rule(self, rule, inputs[0] if one else (0,))

    def run(self, codes: Sequence[Codes]) -> Codes:
        return digital_ops.add(codes[0], codes[1], self.rescale, self.requantise, subtract=self.subtract)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductStep(Step):
    """q = requantise(x · y), axes of size 1 repeated, missing ones before the first."""

    kind = "product"
    takes = (2, 2)

    requantise: Requantise

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return repeated_shape(inputs)

    def check(self, inputs: Sequence[Shape]) -> None:
        check_one_factor(self, self.requantise)
        check_together(self, inputs)

    def run(self, codes: Sequence[Codes]) -> Codes:
        return tensor_ops.product(codes[0], codes[1], self.requantise)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatStep(Step):
    """Inputs, each requantised to the output scale, joined along ``axis``."""

    kind = "concat"
    later: ClassVar = {"axis": 0}
    takes = (1, math.inf)
    takes_wide = True

    rescale: tuple[Requantise, ...]
    axis: int = 0

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return joined_shape(inputs, self.axis)

    def check(self, inputs: Sequence[Shape]) -> None:
        first, axis = inputs[0], self.axis
        need(0 <= axis < len(first), self, f"joins axis {axis} of {first}")
        rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in inputs}
        need(len(inputs) == len(self.rescale) and len(rest) == 1, self, f"joins {inputs}")
        for rule, shape in zip(self.rescale, inputs, strict=True):
            check_rule(self, rule, shape)

    def run(self, codes: Sequence[Codes]) -> Codes:
        return digital_ops.concat(codes, self.rescale, self.axis)

    def span(self, inputs: Sequence[Span]) -> Span:
        return span_together([(rule.low, rule.high) for rule in self.rescale])


NODES = (Add, Subtract, Product, Concat)
STEPS = (
    AddStep,
    ProductStep,
    ConcatStep,
)
