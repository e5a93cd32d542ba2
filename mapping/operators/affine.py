"""Learned scales and shifts: batch norm, affine, and the slopes of a PReLU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cim.cost.workload import WorkKind
from mapping.operators.channels import KeptChannels
from mapping.operators.family import Family
from mapping.operators.fused import FusedOp, OpFields
from mapping.operators.integer import tensor_ops
from mapping.operators.integer.digital_ops import Codes
from mapping.operators.integer.limits import AFFINE_BITS, OFFSET_BITS
from mapping.operators.integer.requantise import Ints, Requantise
from mapping.operators.integer.scales import TINY, CodeScale, in_units, largest, requantise_by, requantise_to
from mapping.operators.node import (
    Array,
    DigitalOp,
    Line,
    Node,
    StepNames,
    Stored,
    require,
    require_repeated,
    require_vector,
)
from mapping.operators.step import ChipOperation, Shape, Step, check_one_factor, check_weights
from mapping.operators.work import WorkForm, of_each

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm(Node):
    """y = scale · (x − mean) / √(variance + eps) + shift, per channel."""

    kind = "batch_norm"
    by_channel = True
    arrays: ClassVar = {"scale": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var"}

    scale: Array
    shift: Array
    mean: Array
    variance: Array
    eps: float = 1e-5

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        for name in self.arrays:
            require_vector(self, name, getattr(self, name), inputs[0][0])
        good = self.eps > 0 and float(self.variance.min()) >= 0
        require(self, good, "eps must be > 0 and no variance negative")
        return inputs[0]

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        from torch.nn import functional

        mean, variance, scale, shift = map(stored, (self.mean, self.variance, self.scale, self.shift))
        return functional.batch_norm(inputs[0], mean, variance, scale, shift, eps=self.eps)

    def channel_line(self) -> Line:
        gain = self.scale.astype(np.float64) / np.sqrt(self.variance.astype(np.float64) + self.eps)
        return gain, self.shift - self.mean * gain

    def without_channels(self, given: KeptChannels, own: KeptChannels) -> Node:
        parts = {field: getattr(self, field)[own.places] for field in self.arrays}
        return replace(self, **parts)

    def before_reshape(self, inside: Shape, outside: Shape) -> Node | None:
        return self if inside[0] == outside[0] else None

    def lower(self, op: OpFields, inputs: Sequence[Shape]) -> FusedOp:
        rank = len(inputs[0])
        scale, shift = (a.astype(np.float32).reshape(-1, *[1] * (rank - 1)) for a in self.channel_line())
        return DigitalOp(**op, node=Affine(name=self.name, inputs=self.inputs, scale=scale, shift=shift))


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine(Node):
    """y = scale · x + shift; both have the rank of x, their axes of size 1 repeated.

    Learned scales, sums with stored tensors (position embeddings) and norms behind no product are this.
    """

    kind = "affine"
    arrays: ClassVar = {"scale": "weight", "shift": "bias"}

    scale: Array
    shift: Array

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return require_repeated(self, {"scale": self.scale, "shift": self.shift}, inputs[0])

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return inputs[0] * stored(self.scale) + stored(self.shift)

    def channel_line(self) -> Line | None:
        if any(math.prod(a.shape[1:]) != 1 for a in (self.scale, self.shift)):
            return None
        return self.scale.reshape(-1).astype(np.float64), self.shift.reshape(-1).astype(np.float64)

    @property
    def scales_channels(self) -> bool:
        """Whether it has one scale and shift for each place of the first axis, or for all."""
        return all(values.size in (1, values.shape[0]) for values in (self.scale, self.shift))

    def before_reshape(self, inside: Shape, outside: Shape) -> Node | None:
        single = self.scale.size * self.shift.size == 1
        if not self.scales_channels or (inside[0] != outside[0] and not single):
            return None
        one = (-1, *(1,) * (len(inside) - 1))
        return replace(self, scale=self.scale.reshape(one), shift=self.shift.reshape(one))

    def before_permute(self, order: Sequence[int]) -> Node | None:
        back = np.argsort(order).tolist()
        return replace(self, scale=self.scale.transpose(back), shift=self.shift.transpose(back))

    @property
    def gives_signed(self) -> bool:
        return min(float(self.scale.min()), float(self.shift.min())) < 0

    def integer_step(
        self, names: StepNames, sources: Sequence[CodeScale], shapes: Sequence[Shape], out: CodeScale
    ) -> Step:
        source = sources[0].scale
        unit = max(largest(self.scale) * source / (1 << AFFINE_BITS), largest(self.shift) / (1 << OFFSET_BITS), TINY)
        weight, offset = in_units(self.scale, unit / source), in_units(self.shift, unit)
        return AffineStep(**names, weight=weight, offset=offset, requantise=requantise_to(unit, out))

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_each(WorkKind.ELEMENT, after)


@dataclass(frozen=True, slots=True, kw_only=True)
class PRelu(Node):
    """y = x above zero, slope · x below; ``slope`` has the rank of x, its axes of size 1 repeated."""

    kind = "prelu"
    arrays: ClassVar = {"slope": "weight"}

    slope: Array

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return require_repeated(self, {"slope": self.slope}, inputs[0])

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        import torch

        x = inputs[0]
        return torch.where(x < 0, x * stored(self.slope), x)

    @property
    def gives_signed(self) -> bool:
        return False

    def integer_step(
        self, names: StepNames, sources: Sequence[CodeScale], shapes: Sequence[Shape], out: CodeScale
    ) -> Step:
        source = sources[0].scale
        unit = max(1.0, largest(self.slope)) * source / (1 << AFFINE_BITS)
        one = np.full([1] * self.slope.ndim, 1.0)
        above, below = (np.rint(a * (source / unit)).astype(np.int32) for a in (one, self.slope))
        rule, nothing = requantise_to(unit, out), np.zeros(one.shape, np.int32)
        return AffineStep(**names, weight=above, offset=nothing, below=below, requantise=rule)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_each(WorkKind.ELEMENT, after)


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineStep(Step):
    """q = requantise(x · weight + offset); where x < 0, ``below`` instead of ``weight`` if there is one (PReLU).

    Arrays have the rank of x, their axes of size 1 repeated; |weight| <= 2^14, |offset| <= 2^30: int32 is enough.
    """

    kind = "affine"

    weight: Ints
    offset: Ints
    requantise: Requantise
    below: Ints | None = None

    def check(self, inputs: Sequence[Shape]) -> None:
        check_one_factor(self, self.requantise)
        for weight in (self.weight, *(() if self.below is None else (self.below,))):
            check_weights(self, weight, inputs[0], 1 << AFFINE_BITS)
        check_weights(self, self.offset, inputs[0], 1 << OFFSET_BITS)

    def run(self, codes: Sequence[Codes]) -> Codes:
        return tensor_ops.affine(codes[0], self.weight, self.offset, self.below, self.requantise)

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation(
            "ScaleCodes",
            weight=self.weight,
            offset=self.offset,
            below=() if self.below is None else self.below,
            rescale=self.requantise,
        )

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_each(WorkKind.ELEMENT, after)


def moved_codes(name: str, source: str, rank: int, by: int, low: int, high: int) -> AffineStep:
    """Codes moved by a number to between ``low`` and ``high``."""
    ones = (1,) * rank
    return AffineStep(
        name=name,
        inputs=(source,),
        weight=np.ones(ones, np.int32),
        offset=np.full(ones, by, np.int32),
        requantise=requantise_by(1.0, low, high),
    )


OPERATORS = Family(nodes=(BatchNorm, Affine, PRelu), steps=(AffineStep,))
