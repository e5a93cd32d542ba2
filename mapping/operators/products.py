"""Sums of products: of weights and activations (convolution, linear), and of two activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from cim.chip.windows import Window
from cim.cost.workload import WorkKind
from mapping.bits import FACTOR_BITS
from mapping.operators.channels import ChannelClasses, Channels, KeptChannels
from mapping.operators.family import Family
from mapping.operators.fused import FusedOp, MatrixOp, OpFields
from mapping.operators.integer import tensor_ops
from mapping.operators.integer.digital_ops import Codes
from mapping.operators.integer.limits import EXACT_BITS, SQUARE_BITS
from mapping.operators.integer.requantise import Requantise
from mapping.operators.integer.scales import CodeScale, excess_bits, requantise_to
from mapping.operators.node import (
    Array,
    Node,
    StepNames,
    Stored,
    of_one_rank,
    require,
    require_vector,
    require_window,
    shape_together,
    window_steps,
)
from mapping.operators.step import (
    ChipOperation,
    Shape,
    Step,
    check_one_factor,
    check_shift,
    check_together,
    need,
    repeated_shape,
)
from mapping.operators.work import WorkForm, of_whole

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(Node):
    """y = w ⋆ x + bias; weight (out, in / groups, kernel height, kernel width)."""

    kind = "conv"
    arrays: ClassVar = {"weight": "weight", "bias": "bias"}
    takes_maps = True

    weight: Array
    bias: Array | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        first = inputs[0]
        require(self, self.weight.ndim == 4, f"weight {self.weight.shape} is not (out, in / groups, height, width)")
        kernel = (self.weight.shape[2], self.weight.shape[3])
        require_window(self, kernel, self.stride, self.padding)
        spread = len(self.dilation) == 2 and min(self.dilation) >= 1
        require(self, spread, f"dilation {self.dilation} must be at least 1")
        outputs, per_group = self.weight.shape[:2]
        require(
            self,
            self.groups >= 1 and outputs >= 1 and outputs % self.groups == 0 and per_group * self.groups == first[0],
            f"weight {self.weight.shape} in {self.groups} groups does not fit {first[0]} channels",
        )
        require_vector(self, "bias", self.bias, outputs)
        return (outputs, *window_steps(self, first, kernel, self.stride, self.padding, self.dilation))

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        import torch
        from torch.nn import functional

        weight = stored(self.weight).contiguous(memory_format=torch.channels_last)
        bias = None if self.bias is None else stored(self.bias)
        return functional.conv2d(inputs[0], weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def channels(self, inputs: Sequence[Channels], shapes: Sequence[Shape], classes: ChannelClasses) -> Channels | None:
        made, first = classes.new(len(self.weight)), inputs[0]
        if self.groups == 1:
            return made
        if self.groups == len(first) == len(made):
            classes.join(first, made)
        else:
            classes.fix([*first, *made])
        return made

    def without_channels(self, given: KeptChannels, own: KeptChannels) -> Node:
        weight = self.weight[own.places]
        bias = None if self.bias is None else self.bias[own.places]
        if self.groups == 1:
            return replace(self, weight=np.ascontiguousarray(weight[:, given.places]), bias=bias)
        groups = len(own.places) if self.groups == own.whole else self.groups
        return replace(self, weight=np.ascontiguousarray(weight), bias=bias, groups=groups)

    def lower(self, op: OpFields, inputs: Sequence[Shape]) -> FusedOp:
        channels, height, width = inputs[0]
        out, _, *kernel = self.weight.shape
        geometry = ((kernel[0], kernel[1]), self.stride, self.padding, self.dilation)
        weight = self.weight.reshape(self.groups, out // self.groups, -1)
        return _on_cells(op, weight, self.bias, Window(channels, height, width, *geometry))


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Node):
    """y = w x + bias; weight (out, in)."""

    kind = "linear"
    arrays: ClassVar = {"weight": "weight", "bias": "bias"}

    weight: Array
    bias: Array | None = None

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        first, weight = inputs[0], self.weight
        require(self, weight.ndim == 2 and len(first) == 1, f"a matrix and a vector are needed, not {first}")
        require(self, weight.shape[1] == first[0], f"weight {weight.shape} does not fit {first[0]} inputs")
        require_vector(self, "bias", self.bias, weight.shape[0])
        return (weight.shape[0],)

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        from torch.nn import functional

        return functional.linear(inputs[0], stored(self.weight), None if self.bias is None else stored(self.bias))

    def channels(self, inputs: Sequence[Channels], shapes: Sequence[Shape], classes: ChannelClasses) -> Channels | None:
        return classes.new(len(self.weight))

    def without_channels(self, given: KeptChannels, own: KeptChannels) -> Node:
        bias = None if self.bias is None else self.bias[own.places]
        return replace(self, weight=np.ascontiguousarray(self.weight[own.places][:, given.places]), bias=bias)

    def lower(self, op: OpFields, inputs: Sequence[Shape]) -> FusedOp:
        return _on_cells(op, self.weight[None], self.bias, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMul(Node):
    """Product of two activations: (…, m, k) times (…, k, n); leading axes as in ``Product``."""

    kind = "matmul"
    reads_bits = FACTOR_BITS
    takes = (2, 2)

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        first, second = inputs
        require(self, all(len(shape) >= 2 for shape in inputs), f"needs matrices, not {inputs}")
        require(self, first[-1] == second[-2], f"{first} does not fit {second}")
        return (*shape_together(self, [shape[:-2] for shape in inputs]), first[-2], second[-1])

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        first, second = of_one_rank(inputs)
        return first @ second

    @property
    def gives_signed(self) -> bool:
        return False

    def integer_step(
        self, names: StepNames, sources: Sequence[CodeScale], shapes: Sequence[Shape], out: CodeScale
    ) -> Step:
        most = shapes[0][-1] * math.prod(max(-s.low, s.high) for s in sources)
        bits = excess_bits(most)
        real = sources[0].scale * sources[1].scale * 2.0**bits
        return MatMulStep(**names, shift=bits, requantise=requantise_to(real, out))

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_whole(WorkKind.MATMUL, inputs, math.prod(after) * inputs[0][-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMulStep(Step):
    """q = requantise(narrow(Σ_k x[…, m, k] · y[…, k, n], shift)), leading axes as in ``product``."""

    kind = "matmul"
    takes = (2, 2)

    shift: int
    requantise: Requantise

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        first, second = inputs
        return (*repeated_shape([shape[:-2] for shape in inputs]), first[-2], second[-1])

    def check(self, inputs: Sequence[Shape]) -> None:
        check_one_factor(self, self.requantise)
        first, second = inputs
        fits = all(len(shape) >= 2 for shape in inputs) and first[-1] == second[-2]
        need(fits and first[-1] <= 1 << (EXACT_BITS - SQUARE_BITS), self, f"multiplies {inputs}")
        check_shift(self, self.shift)
        check_together(self, [shape[:-2] for shape in inputs])

    def run(self, codes: Sequence[Codes]) -> Codes:
        return tensor_ops.matmul(codes[0], codes[1], self.shift, self.requantise)

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation("MultiplyMatrices", shift=self.shift, rescale=self.requantise)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_whole(WorkKind.MATMUL, inputs, math.prod(after) * inputs[0][-1])


def _on_cells(
    op: OpFields, weight: NDArray[np.floating], bias: NDArray[np.floating] | None, window: Window | None
) -> MatrixOp:
    outputs = weight.shape[0] * weight.shape[1]
    return MatrixOp(
        **op,
        sum_node=op["name"],
        stored=weight,
        gain=np.ones(outputs),
        bias=np.zeros(outputs) if bias is None else bias.astype(np.float64),
        window=window,
    )


OPERATORS = Family(nodes=(Conv, Linear, MatMul), steps=(MatMulStep,))
