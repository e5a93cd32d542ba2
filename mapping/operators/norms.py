"""Norms of each input over its own axes, and softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cim.cost.workload import WorkKind
from mapping.operators.affine import AffineStep
from mapping.operators.family import Family
from mapping.operators.fused import FusedOp, OpFields, Scales
from mapping.operators.integer import tensor_ops
from mapping.operators.integer.digital_ops import Codes
from mapping.operators.integer.limits import (
    AFFINE_BITS,
    EXP_BITS,
    LARGEST_TABLE,
    NORM_BITS,
    OFFSET_BITS,
    SHARE_BITS,
    SQUARE_BITS,
)
from mapping.operators.integer.requantise import Ints, Requantise
from mapping.operators.integer.scales import TINY, CodeScale, in_units, largest, requantise_by, requantise_to
from mapping.operators.joins import TERM_LIMIT, AddStep
from mapping.operators.node import (
    Array,
    DigitalOp,
    Node,
    StepNames,
    Stored,
    of_one_rank,
    require,
    require_axes,
    require_repeated,
    shape_together,
)
from mapping.operators.step import ChipOperation, Shape, Step, check_axes, check_one_factor, check_weights, need
from mapping.operators.work import WorkForm, of_whole

if TYPE_CHECKING:
    from torch import Tensor
FRACTION_BITS = 8  # of a mean in a norm, at most
NORM_OPERATIONS = 4  # an element: sum, square, times the root, times its weight
SOFTMAX_OPERATIONS = 3  # an element: look-up, sum, times the reciprocal
MASKED_BITS = 15  # of scores beside the code of places that are left out


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

    def before_permute(self, order: Sequence[int]) -> Node | None:
        back, axes = np.argsort(order).tolist(), tuple(sorted(order[axis] for axis in self.axes))
        return replace(self, scale=self.scale.transpose(back), shift=self.shift.transpose(back), axes=axes)

    def integer_step(
        self, names: StepNames, sources: Sequence[CodeScale], shapes: Sequence[Shape], out: CodeScale
    ) -> Step:
        source, count = sources[0], math.prod(shapes[0][axis] for axis in self.axes)
        fraction = min(FRACTION_BITS, (62 - SQUARE_BITS - (count - 1).bit_length()) // 2)
        eps = min(round(self.eps / source.scale**2 * 4.0**fraction), 1 << 61)
        eps_shift = max(0, eps.bit_length() - 31)
        most = max(largest(self.scale), largest(self.shift) * 2.0 ** (NORM_BITS + AFFINE_BITS - OFFSET_BITS), TINY)
        unit = most / (1 << AFFINE_BITS)
        return NormStep(
            **names,
            axes=self.axes,
            centre=self.centre,
            fraction=fraction,
            eps=eps >> eps_shift,
            eps_shift=eps_shift,
            weight=in_units(self.scale, unit),
            offset=in_units(self.shift, unit / (1 << NORM_BITS)),
            requantise=requantise_to(unit / (1 << NORM_BITS), out),
        )

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_whole(WorkKind.NORM, inputs, NORM_OPERATIONS * math.prod(inputs[0]))


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

    def lower(self, op: OpFields, inputs: Sequence[Shape]) -> FusedOp:
        return DigitalOp(**op, low=0.0, high=1.0, node=self)

    def integer_step(
        self, names: StepNames, sources: Sequence[CodeScale], shapes: Sequence[Shape], out: CodeScale
    ) -> Step:
        step = sources[0].scale
        size = min(math.ceil((EXP_BITS + 1) * math.log(2) / step) + 1, LARGEST_TABLE)
        table = np.rint(2.0**EXP_BITS * np.exp(-np.arange(size) * step)).astype(np.int32)
        return SoftmaxStep(**names, axis=self.axis, table=table, requantise=requantise_to(2.0**-SHARE_BITS, out))

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_whole(WorkKind.SOFTMAX, inputs, SOFTMAX_OPERATIONS * math.prod(inputs[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedSoftmax(Softmax):
    """A softmax over the places that ``kept`` (1 or 0, of the rank of x, axes of size 1 repeated) or a second input
    (1 or 0) keeps; 0 at the others. Rows without such a place have the same weight everywhere."""

    kind = "masked_softmax"
    takes = (1, 2)
    arrays: ClassVar = {"kept": "kept"}

    kept: Array | None = None

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        require(self, (self.kept is None) == (len(inputs) == 2), "takes one mask, stored or computed")
        require_axes(self, (self.axis,), inputs[0])
        if self.kept is not None:
            return require_repeated(self, {"kept": self.kept}, inputs[0])
        require(self, shape_together(self, inputs) == inputs[0], f"a mask {inputs[1]} for {inputs[0]}")
        return inputs[0]

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        import torch

        x, *mask = of_one_rank(inputs)
        kept = mask[0] if self.kept is None else stored(self.kept)
        return torch.where(kept > 0.5, x, torch.finfo(x.dtype).min).softmax(1 + self.axis)

    def integer_steps(self, op: FusedOp, around: Scales) -> tuple[Step, ...]:
        """Scores go to codes from 0 on, places that are left out to −2^15: further from every largest code than the
        table of the softmax reaches, so that they are in neither the maximum nor the sum."""
        (scores, *_), (shape, *masks), name = around.inputs, around.shapes, f"{op.name}.kept"
        less = max(0, (scores.high - scores.low).bit_length() - MASKED_BITS)  # bits that would not fit beside them
        rule = requantise_by(2.0**-less, -1 << MASKED_BITS, (1 << MASKED_BITS) - 1)
        if self.kept is not None:
            kept = self.kept > 0.5
            offset = np.where(kept, -scores.low, -1 << MASKED_BITS + less).astype(np.int32)
            before: list[Step] = [
                AffineStep(name=name, inputs=op.inputs, weight=kept.astype(np.int32), offset=offset, requantise=rule)
            ]
        else:
            ones, mask = (1,) * len(masks[0]), around.inputs[1].scale
            side = AffineStep(
                name=f"{op.name}.left_out", inputs=op.inputs[1:], weight=np.full(ones, 1 << AFFINE_BITS, np.int32),
                offset=np.full(ones, -round(0.5 / mask * (1 << AFFINE_BITS)), np.int32),
                requantise=requantise_by(1 << AFFINE_BITS, -1 << MASKED_BITS + less + 2, -scores.low),
            )  # fmt: skip
            same = requantise_by(1.0, -TERM_LIMIT, TERM_LIMIT)
            before = [
                side,
                AddStep(name=name, inputs=(op.inputs[0], side.name), rescale=(same, same), requantise=rule),
            ]
        source = CodeScale(scores.scale * 2**less, 0, rule.high, False)
        step = self.integer_step({"name": op.name, "inputs": (name,)}, [source], [shape], around.out)
        assert isinstance(step, SoftmaxStep)
        return *before, replace(step, table=step.table[: 1 << MASKED_BITS])


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

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation(
            "NormaliseCodes",
            axes=self.axes,
            centre=self.centre,
            fraction=self.fraction,
            eps=self.eps,
            eps_shift=self.eps_shift,
            weight=self.weight,
            offset=self.offset,
            rescale=self.requantise,
        )

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_whole(WorkKind.NORM, inputs, NORM_OPERATIONS * math.prod(inputs[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxStep(Step):
    """q = requantise(2^30 · e / Σ e) along ``axis``, e = table[largest − x], and 0 beyond the table."""

    kind = "softmax"

    axis: int
    table: Ints
    requantise: Requantise

    def check(self, inputs: Sequence[Shape]) -> None:
        check_one_factor(self, self.requantise)
        check_axes(self, (self.axis,), inputs[0])
        size = self.table.shape
        need(len(size) == 1 and 1 <= size[0] <= LARGEST_TABLE, self, f"has a table of {size}")
        good = int(self.table.min()) >= 0 and int(self.table[0]) == int(self.table.max()) == 1 << EXP_BITS
        need(good, self, "has a table that does not fall from 2^16")

    def run(self, codes: Sequence[Codes]) -> Codes:
        return tensor_ops.softmax(codes[0], self.axis, self.table, self.requantise)

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation("SoftmaxCodes", axis=self.axis, entries=self.table, rescale=self.requantise)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_whole(WorkKind.SOFTMAX, inputs, SOFTMAX_OPERATIONS * math.prod(inputs[0]))


OPERATORS = Family(
    nodes=(Norm, Softmax, MaskedSoftmax),
    steps=(
        NormStep,
        SoftmaxStep,
    ),
)
