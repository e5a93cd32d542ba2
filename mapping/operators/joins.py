"""Operators of several activations place by place: sums, differences, products, and joins along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cim.cost.workload import WorkKind
from mapping.operators.channels import ChannelClasses, Channels
from mapping.operators.family import Family
from mapping.operators.fused import FusedOp, Scales
from mapping.operators.integer import digital_ops, tensor_ops
from mapping.operators.integer.digital_ops import Codes
from mapping.operators.integer.requantise import Requantise
from mapping.operators.integer.scales import CodeScale, requantise_by, requantise_to
from mapping.operators.node import Node, StepNames, Stored, of_one_rank, require, shape_together
from mapping.operators.step import (
    ChipOperation,
    Shape,
    Span,
    Step,
    check_one_factor,
    check_rule,
    check_together,
    need,
    repeated_shape,
    span_together,
)
from mapping.operators.work import WorkForm, of_each

if TYPE_CHECKING:
    from torch import Tensor

MOST_FRACTION_BITS = 24  # of the terms of an addition
TERM_LIMIT = (1 << 30) - 1  # two terms of an addition never leave int32


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair(Node):
    """Two inputs place by place; axes of size 1 are repeated, missing ones stand before the first (numpy's rule)."""

    by_value = True
    takes = (2, 2)

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return shape_together(self, inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtract(Pair):
    """First input minus second; axes of size 1 are repeated, missing ones stand before the first (numpy's rule)."""

    kind = "subtract"

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        first, second = of_one_rank(inputs)
        return first - second

    def integer_steps(self, op: FusedOp, around: Scales) -> tuple[Step, ...]:
        return (_sum(op, around, subtract=True),)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return WorkForm(WorkKind.ADD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Pair):
    """Sum of two inputs; axes of size 1 are repeated, missing ones stand before the first (numpy's rule)."""

    kind = "add"
    reads_bits = None

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        first, second = of_one_rank(inputs)
        return first + second

    @property
    def gives_signed(self) -> bool:
        return False

    def channels(self, inputs: Sequence[Channels], shapes: Sequence[Shape], classes: ChannelClasses) -> Channels | None:
        first, second = inputs
        if len(first) == len(second) and len(shapes[0]) == len(shapes[1]):
            classes.join(first, second)
            return first
        classes.fix([*first, *second])
        return max(first, second, key=len)

    def integer_steps(self, op: FusedOp, around: Scales) -> tuple[Step, ...]:
        return (_sum(op, around),)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return WorkForm(WorkKind.ADD)


def _sum(op: FusedOp, around: Scales, *, subtract: bool = False) -> Step:
    """The sum of two terms that are kept with more bits than the output, except where it gives the logits."""
    out = around.out
    ratios = [s.scale / out.scale for s in around.inputs]
    bits = 0 if around.logits and op.grid is None else digital_ops.ADD_FRACTION_BITS
    if op.grid is not None:  # as fine as 32 bits allow: ties of codes that others chose are no accident
        largest = max(r * max(-s.low, s.high) for r, s in zip(ratios, around.inputs, strict=True))
        bits = min(MOST_FRACTION_BITS, max(0, math.floor(math.log2(TERM_LIMIT / max(largest, 1.0)))))
    first, second = (requantise_by(r * float(1 << bits), -TERM_LIMIT, TERM_LIMIT) for r in ratios)
    total = Requantise(np.ones(1, np.int32), np.full(1, bits, np.int32), out.low, out.high)
    return AddStep(name=op.name, inputs=op.inputs, rescale=(first, second), requantise=total, subtract=subtract)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product(Pair):
    """Product of two inputs element by element; axes of size 1 are repeated (numpy's rule)."""

    kind = "product"

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        first, second = of_one_rank(inputs)
        return first * second

    @property
    def gives_signed(self) -> bool:
        return False

    def integer_step(
        self, names: StepNames, sources: Sequence[CodeScale], shapes: Sequence[Shape], out: CodeScale
    ) -> Step:
        return ProductStep(**names, requantise=requantise_to(sources[0].scale * sources[1].scale, out))

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_each(WorkKind.ELEMENT, after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(Node):
    """Inputs joined along ``axis``: channels."""

    kind = "concat"
    later: ClassVar = {"axis": 0}
    takes = (2, math.inf)
    reads_bits = None

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

    def channels(self, inputs: Sequence[Channels], shapes: Sequence[Shape], classes: ChannelClasses) -> Channels | None:
        every = [channel for source in inputs for channel in source]
        if self.axis == 0:
            return every
        classes.fix(every)
        return inputs[0]

    @property
    def gives_signed(self) -> bool:
        return False

    def integer_steps(self, op: FusedOp, around: Scales) -> tuple[Step, ...]:
        """Requantise each input from its own scale to the common one."""
        out = around.out
        rules = tuple(requantise_by(s.scale / out.scale, out.low, out.high) for s in around.inputs)
        return (ConcatStep(name=op.name, inputs=op.inputs, rescale=rules, axis=self.axis),)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return WorkForm(WorkKind.CONCAT)


def joined_shape(shapes: Sequence[Shape], axis: int) -> Shape:
    """Shape of arrays of these shapes side by side along an axis."""
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

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        first, second = self.rescale
        return ChipOperation("AddCodes", subtract=self.subtract, first=first, second=second, rescale=self.requantise)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return WorkForm(WorkKind.ADD)


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

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation("MultiplyCodes", rescale=self.requantise)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_each(WorkKind.ELEMENT, after)


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

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation("JoinCodes", axis=self.axis, rescale=self.rescale)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return WorkForm(WorkKind.CONCAT)


OPERATORS = Family(
    nodes=(Add, Subtract, Product, Concat),
    steps=(
        AddStep,
        ProductStep,
        ConcatStep,
    ),
)
