"""Norms of each input over its own axes, and softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mapping.operators.integer import tensor_ops
from mapping.operators.integer.digital_ops import Codes
from mapping.operators.integer.limits import AFFINE_BITS, EXP_BITS, LARGEST_TABLE, OFFSET_BITS, SQUARE_BITS
from mapping.operators.integer.requantise import Ints, Requantise
from mapping.operators.node import Array, Node, Shape, Stored, require, require_axes, require_repeated
from mapping.operators.step import Step, check_axes, check_one_factor, check_weights, need

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm(Node):
    """y = (x − mean) / √(variance + eps) · scale + shift, with mean and variance of each input over ``axes``.

    ``scale`` and ``shift`` have the rank of x, their axes of size 1 repeated. Without ``centre`` no mean is taken
    off and the mean square stands for the variance (RMS norm). Layer, group and instance norm are this.
    """

    kind = "norm"
    arrays: ClassVar = {"scale": "weight", "shift": "bias"}

    axes: tuple[int, ...]
    scale: Array
    shift: Array
    eps: float = 1e-5
    centre: bool = True

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        require_axes(self, self.axes, inputs[0])
        require(self, self.eps > 0, f"eps {self.eps} is not above 0")
        return require_repeated(self, {"scale": self.scale, "shift": self.shift}, inputs[0])

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        x, axes = inputs[0], [1 + axis for axis in self.axes]
        centred = x - x.mean(axes, keepdim=True) if self.centre else x
        normed = centred * (centred.square().mean(axes, keepdim=True) + self.eps).rsqrt()
        return normed * stored(self.scale) + stored(self.shift)


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(Node):
    """exp(x) / Σ exp(x) along ``axis``."""

    kind = "softmax"

    axis: int

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        require_axes(self, (self.axis,), inputs[0])
        return inputs[0]

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return inputs[0].softmax(1 + self.axis)


@dataclass(frozen=True, slots=True, kw_only=True)
class NormStep(Step):
    """q = requantise(z · weight + offset), z = round(2^10 · d / √(Σ d² / n + eps · 2^eps_shift)) over ``axes``.

    d = x · 2^fraction − mean if ``centre``, else without the mean, in units of 2^−fraction codes; eps in squares of
    such units. Arrays as in ``AffineStep``.
    """

    kind = "norm"

    axes: tuple[int, ...]
    centre: bool
    fraction: int
    eps: int
    eps_shift: int
    weight: Ints
    offset: Ints
    requantise: Requantise

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def check(self, inputs: Sequence[Shape]) -> None:
        first = inputs[0]
        check_one_factor(self, self.requantise)
        check_axes(self, self.axes, first)
        check_weights(self, self.weight, first, 1 << AFFINE_BITS)
        check_weights(self, self.offset, first, 1 << OFFSET_BITS)
        n = math.prod(first[axis] for axis in self.axes)
        room = 2 * self.fraction + SQUARE_BITS + (n - 1).bit_length() <= 62 and 0 <= self.fraction <= 8
        need(room and self.eps >= 0 and 0 <= self.eps_shift <= 31, self, f"norms {n} codes beyond 64 bits")

    def run(self, codes: Sequence[Codes]) -> Codes:
        eps = self.eps << self.eps_shift
        return tensor_ops.norm(
            codes[0], self.axes, self.fraction, eps, self.weight, self.offset, self.requantise, centre=self.centre
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxStep(Step):
    """q = requantise(2^30 · e / Σ e) along ``axis``, e = table[largest − x], and 0 beyond the table."""

    kind = "softmax"

    axis: int
    table: Ints
    requantise: Requantise

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def check(self, inputs: Sequence[Shape]) -> None:
        check_one_factor(self, self.requantise)
        check_axes(self, (self.axis,), inputs[0])
        size = self.table.shape
        need(len(size) == 1 and 1 <= size[0] <= LARGEST_TABLE, self, f"has a table of {size}")
        good = int(self.table.min()) >= 0 and int(self.table[0]) == int(self.table.max()) == 1 << EXP_BITS
        need(good, self, "has a table that does not fall from 2^16")

    def run(self, codes: Sequence[Codes]) -> Codes:
        return tensor_ops.softmax(codes[0], self.axis, self.table, self.requantise)


NODES = (Norm, Softmax)
STEPS = (
    NormStep,
    SoftmaxStep,
)
