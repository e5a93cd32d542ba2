"""One number for several places: pools, and reductions over whole axes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cim.chip.windows import Window
from cim.cost.workload import WorkKind
from mapping.operators.affine import moved_codes
from mapping.operators.family import Family
from mapping.operators.fused import FusedOp, OpFields, Scales
from mapping.operators.integer import digital_ops, tensor_ops
from mapping.operators.integer.digital_ops import Codes
from mapping.operators.integer.requantise import Requantise
from mapping.operators.integer.scales import CodeScale, excess_bits, requantise_by, requantise_to
from mapping.operators.node import (
    DigitalOp,
    Move,
    Node,
    PassOp,
    StepNames,
    Stored,
    require,
    require_axes,
    require_window,
    window_steps,
)
from mapping.operators.step import (
    ChipOperation,
    Shape,
    Step,
    check_axes,
    check_one_factor,
    check_rule,
    check_shift,
    need,
)
from mapping.operators.work import WorkForm, of_whole

if TYPE_CHECKING:
    from torch import Tensor

REDUCTIONS = ("mean", "sum", "max", "min")
EXTREMES = ("max", "min")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool(Move):
    """Largest value of each window; padded places never win."""

    kind = "max_pool"
    by_channel = True
    takes_maps = True

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return _pooled_shape(self, inputs[0])

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        """Windows side by side as maxima of strided maps: torch's own pooling of bfloat16 takes ten times as long."""
        import torch
        from torch.nn import functional

        x = inputs[0]
        (high, wide), (height, width) = self.kernel, x.shape[2:]
        if self.stride != self.kernel or self.padding != (0, 0) or height % high or width % wide:
            return functional.max_pool2d(x, self.kernel, self.stride, self.padding)
        maps = [x[:, :, i::high, j::wide] for i in range(high) for j in range(wide)]
        return functools.reduce(torch.maximum, maps)

    def run(self, codes: Sequence[Codes]) -> Codes:
        return digital_ops.max_pool(codes[0], self.kernel, self.stride, self.padding)

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation("PoolLargest", window=(*self.kernel, *self.stride, *self.padding))

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return WorkForm(WorkKind.MAX_POOL, self.kernel, self.stride, self.padding)


@dataclass(frozen=True, slots=True, kw_only=True)
class AvgPool(Node):
    """Mean over each window; padded zeros count (``count_include_pad``)."""

    kind = "avg_pool"
    by_channel = True
    takes_maps = True
    reads_bits = None

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return _pooled_shape(self, inputs[0])

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        from torch.nn import functional

        return functional.avg_pool2d(inputs[0], self.kernel, self.stride, self.padding)

    @property
    def gives_signed(self) -> bool:
        return False

    def integer_steps(self, op: FusedOp, around: Scales) -> tuple[Step, ...]:
        return _mean(op, around, self.kernel, self.stride, self.padding, flatten=False)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return WorkForm(WorkKind.AVG_POOL, self.kernel, self.stride, self.padding)


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAvgPool(Node):
    """Mean over each map: (channels, height, width) -> (channels,)."""

    kind = "global_avg_pool"
    by_channel = True
    takes_maps = True
    reads_bits = None

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0][:1]

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return inputs[0].mean((2, 3))

    @property
    def gives_signed(self) -> bool:
        return False

    def integer_steps(self, op: FusedOp, around: Scales) -> tuple[Step, ...]:
        _, height, width = around.shapes[0]
        return _mean(op, around, (height, width), (height, width), (0, 0), flatten=True)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        _, height, width = inputs[0]
        return WorkForm(WorkKind.AVG_POOL, (height, width), (height, width))


def _mean(
    op: FusedOp,
    around: Scales,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    *,
    flatten: bool,
) -> tuple[Step, ...]:
    """The integer mean. Halves of codes that others chose are rounded away from their zero point, not from the
    value 0: such codes are shifted there before and back after."""
    (scale, *_), out = around.inputs, around.out
    centre = (out.low + out.high + 1) // 2
    same = op.grid is not None and around.given and (scale.scale, scale.low) == (out.scale, out.low)
    turned = same and centre != 0 and not any(padding)
    name, inputs, move = op.name, op.inputs, centre if turned else 0
    if turned:
        name, inputs = f"{op.name}.mean", (f"{op.name}.centred",)
    rule = requantise_by(scale.scale / out.scale / math.prod(kernel), out.low - move, out.high - move)
    mean = AvgPoolStep(
        name=name, inputs=inputs, kernel=kernel, stride=stride, padding=padding, flatten=flatten, requantise=rule
    )
    if not turned:
        return (mean,)
    away = moved_codes(inputs[0], op.inputs[0], 3, -move, scale.low - move, scale.high - move)
    return away, mean, moved_codes(op.name, name, 1 if flatten else 3, move, out.low, out.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduce(Node):
    """Mean, sum, largest or least value over ``axes``, which stay as size 1 if ``keep``."""

    kind = "reduce"

    operation: str
    axes: tuple[int, ...]
    keep: bool = False

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        first = inputs[0]
        require(self, self.operation in REDUCTIONS, f"operation {self.operation!r} is none of {REDUCTIONS}")
        require_axes(self, self.axes, first)
        return reduced_shape(first, self.axes, keep=self.keep)

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        import torch

        x, axes = inputs[0], [1 + axis for axis in self.axes]
        reduced = {"mean": torch.mean, "sum": torch.sum, "max": torch.amax, "min": torch.amin}[self.operation]
        result: Tensor = reduced(x, axes, keepdim=True)  # type: ignore[operator]
        return result.reshape(x.shape[0], *reduced_shape(x.shape[1:], self.axes, keep=self.keep))

    @property
    def gives_signed(self) -> bool:
        return False

    def lower(self, op: OpFields, inputs: Sequence[Shape]) -> FusedOp:
        if self.operation in EXTREMES:
            return PassOp(**op, node=self)
        return DigitalOp(**op, node=self)

    def integer_step(
        self, names: StepNames, sources: Sequence[CodeScale], shapes: Sequence[Shape], out: CodeScale
    ) -> Step:
        if self.operation in EXTREMES:
            least = self.operation == "min"
            return ReduceStep(**names, axes=self.axes, keep=self.keep, least=least, shift=0)
        source, count = sources[0], math.prod(shapes[0][axis] for axis in self.axes)
        bits = excess_bits(count * max(-source.low, source.high))
        real = source.scale * 2.0**bits / (count if self.operation == "mean" else 1)
        rule = requantise_to(real, out)
        return ReduceStep(**names, axes=self.axes, keep=self.keep, least=False, shift=bits, requantise=rule)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_whole(WorkKind.REDUCE, inputs, math.prod(inputs[0]))


def reduced_shape(shape: Shape, axes: Sequence[int], *, keep: bool) -> Shape:
    """Shape after a reduction over ``axes``: without them, or with them at size 1; at least one axis is left."""
    if keep:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes) or (1,)


def _pooled_shape(node: MaxPool | AvgPool, first: Shape) -> Shape:
    require_window(node, node.kernel, node.stride, node.padding)
    narrow = all(2 * p <= k for p, k in zip(node.padding, node.kernel, strict=True))
    require(node, narrow, "padding > kernel / 2")
    return (first[0], *window_steps(node, first, node.kernel, node.stride, node.padding, (1, 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AvgPoolStep(Step):
    """q = requantise(Σ of each window), padded places are 0; 1 / window size is in the multiplier.

    ``flatten``: global pooling gives a vector.
    """

    kind = "avg_pool"
    takes_wide = True

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    flatten: bool
    requantise: Requantise

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        shape = _windows(self, inputs[0])
        return (math.prod(shape),) if self.flatten else shape

    def check(self, inputs: Sequence[Shape]) -> None:
        _check_window(self, inputs[0])
        check_rule(self, self.requantise, inputs[0])

    def run(self, codes: Sequence[Codes]) -> Codes:
        mean = digital_ops.avg_pool(codes[0], self.kernel, self.stride, self.padding, self.requantise)
        return digital_ops.flatten(mean) if self.flatten else mean

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation("PoolMean", window=(*self.kernel, *self.stride, *self.padding), rescale=self.requantise)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return WorkForm(WorkKind.AVG_POOL, self.kernel, self.stride, self.padding)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceStep(Step):
    """q = requantise(narrow(Σ x over the axes, shift)), 1 / n of a mean in the multiplier; or the largest, the least.

    Axes stay as size 1 if ``keep``. Without ``requantise`` the largest or, if ``least``, the least code.
    """

    kind = "reduce"

    axes: tuple[int, ...]
    keep: bool
    least: bool
    shift: int
    requantise: Requantise | None = None

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return reduced_shape(inputs[0], self.axes, keep=self.keep)

    def check(self, inputs: Sequence[Shape]) -> None:
        if self.requantise is not None:
            check_one_factor(self, self.requantise)
        check_axes(self, self.axes, inputs[0])
        check_shift(self, self.shift)

    def run(self, codes: Sequence[Codes]) -> Codes:
        if self.requantise is None:
            return tensor_ops.extreme(codes[0], self.axes, self.keep, self.least)
        return tensor_ops.total(codes[0], self.axes, self.keep, self.shift, self.requantise)

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        if self.requantise is None:
            return ChipOperation("ExtremeCodes", axes=self.axes, least=self.least)
        return ChipOperation("SumCodes", axes=self.axes, shift=self.shift, rescale=self.requantise)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_whole(WorkKind.REDUCE, inputs, math.prod(inputs[0]))


def _windows(step: AvgPoolStep, first: Shape) -> Shape:
    window = Window(first[0], first[1], first[2], step.kernel, step.stride, step.padding)
    return first[0], window.out_height, window.out_width


def _check_window(step: AvgPoolStep, first: Shape) -> None:
    need(len(first) == 3, step, f"pools {first}")
    need(min(step.kernel + step.stride) >= 1 and min(step.padding) >= 0, step, "has a window below one")
    sizes = zip(step.kernel, step.padding, first[1:], strict=True)
    fits = all(2 * p <= k <= size + 2 * p for k, p, size in sizes)
    need(fits, step, f"has a window {step.kernel} that does not fit {first}")


OPERATORS = Family(
    nodes=(MaxPool, AvgPool, GlobalAvgPool, Reduce),
    steps=(
        MaxPool,
        AvgPoolStep,
        ReduceStep,
    ),
)
