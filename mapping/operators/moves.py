"""Operators that move values unchanged: flattening, slices, reshapes, permutations, selections along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cim.cost.workload import WorkKind
from mapping.operators.channels import ChannelClasses, Channels, KeptChannels
from mapping.operators.family import Family
from mapping.operators.integer import digital_ops, tensor_ops
from mapping.operators.integer.digital_ops import INT32_HIGH, Codes
from mapping.operators.integer.requantise import Ints
from mapping.operators.integer.scales import CodeScale
from mapping.operators.node import LARGEST_MAP, MOST_AXES, Move, Node, StepNames, Stored, require, require_axes
from mapping.operators.step import ChipOperation, Shape, Span, Step, check_axes, need, span_together
from mapping.operators.work import WorkForm, of_whole

if TYPE_CHECKING:
    from torch import Tensor

FILL = -1
"""Index of ``Take`` that stands for a padded place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten(Move):
    """Maps as one vector, channel first."""

    kind = "flatten"

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return (math.prod(inputs[0]),)

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return inputs[0].flatten(1)

    def channels(self, inputs: Sequence[Channels], shapes: Sequence[Shape], classes: ChannelClasses) -> Channels | None:
        return [channel for channel in inputs[0] for _ in range(math.prod(shapes[0][1:]))]

    def run(self, codes: Sequence[Codes]) -> Codes:
        return digital_ops.flatten(codes[0])

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation("ReshapeCodes")

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_whole(WorkKind.MOVE, inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice(Move):
    """Channels ``start`` … ``stop`` − 1 and every ``step``-th row and column, from the first."""

    kind = "slice"
    takes_maps = True

    step: tuple[int, int] = (1, 1)
    start: int = 0
    stop: int | None = None

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        channels, height, width = inputs[0]
        stop = channels if self.stop in (None, INT32_HIGH) else self.stop
        require(self, 0 <= self.start < stop <= channels, f"channels {self.start} to {stop} of {channels}")
        require(self, min(self.step) >= 1, f"step {self.step} must be at least 1")
        return (stop - self.start, -(-height // self.step[0]), -(-width // self.step[1]))

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return inputs[0][:, self.start : self.stop, :: self.step[0], :: self.step[1]]

    def channels(self, inputs: Sequence[Channels], shapes: Sequence[Shape], classes: ChannelClasses) -> Channels | None:
        return inputs[0][self.start : self.stop]

    def without_channels(self, given: KeptChannels, own: KeptChannels) -> Node:
        start = int((given.places < self.start).sum())
        if self.stop is None:
            return replace(self, start=start)
        inside = (given.places >= self.start) & (given.places < self.stop)
        return replace(self, start=start, stop=start + int(inside.sum()))

    def integer_step(
        self, names: StepNames, sources: Sequence[CodeScale], shapes: Sequence[Shape], out: CodeScale
    ) -> Step:
        return replace(self, **names, stop=INT32_HIGH if self.stop is None else self.stop)

    def run(self, codes: Sequence[Codes]) -> Codes:
        return digital_ops.slice_map(codes[0], self.step, self.start, self.stop)

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation("SliceCodes", start=(self.start, 0, 0), step=(1, *self.step))

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return WorkForm(WorkKind.MOVE, stride=self.step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape(Move):
    """Reshape to ``shape``; elements and their order stay."""

    kind = "reshape"

    shape: tuple[int, ...]

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        first, shape = inputs[0], self.shape
        good = 1 <= len(shape) <= MOST_AXES and min(shape) >= 1 and math.prod(shape) == math.prod(first)
        require(self, good, f"{first} has not the elements of {shape}")
        return shape

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return inputs[0].reshape(inputs[0].shape[0], *self.shape)

    def run(self, codes: Sequence[Codes]) -> Codes:
        return codes[0].reshape(len(codes[0]), *self.shape)

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation("ReshapeCodes")

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_whole(WorkKind.MOVE, inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permute(Move):
    """Axis i of the output is axis ``order[i]`` of the input."""

    kind = "permute"

    order: tuple[int, ...]

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        first = inputs[0]
        require(self, sorted(self.order) == list(range(len(first))), f"order {self.order} of {first}")
        return tuple(first[axis] for axis in self.order)

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return inputs[0].permute(0, *(1 + axis for axis in self.order))

    def run(self, codes: Sequence[Codes]) -> Codes:
        return codes[0].transpose(0, *(1 + axis for axis in self.order))

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation("PermuteAxes", order=self.order)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_whole(WorkKind.MOVE, inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Take(Node):
    """y[…, i, …] = x[…, index[i], …] along ``axis``; an index of −1 gives ``fill``.

    Slices with any step, reversal, rolling, repetition, nearest upsampling and every kind of padding are this.
    """

    kind = "take"
    moves = True

    index: tuple[int, ...]
    axis: int
    fill: float = 0.0

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        first, index = inputs[0], self.index
        require_axes(self, (self.axis,), first)
        good = len(index) > 0 and min(index) >= FILL and max(index) < first[self.axis]
        require(self, good, f"index does not fit axis {self.axis} of {first}")
        return (*first[: self.axis], len(index), *first[self.axis + 1 :])

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        import torch

        x = inputs[0]
        index = torch.tensor(self.index, device=x.device)
        taken = x.index_select(1 + self.axis, index.clamp_min(0))
        if min(self.index) == FILL:
            at = index.view(-1, *[1] * (x.dim() - 2 - self.axis))
            taken = torch.where(at < 0, torch.tensor(self.fill, dtype=x.dtype, device=x.device), taken)
        return taken

    @property
    def fills(self) -> float | None:
        return self.fill if min(self.index) == FILL else None

    def channels(self, inputs: Sequence[Channels], shapes: Sequence[Shape], classes: ChannelClasses) -> Channels | None:
        return inputs[0] if self.axis else None

    def integer_step(
        self, names: StepNames, sources: Sequence[CodeScale], shapes: Sequence[Shape], out: CodeScale
    ) -> Step:
        fill = int(np.clip(np.rint(self.fill / out.scale), out.low, out.high))
        return TakeStep(**names, index=np.array(self.index, np.int32), axis=self.axis, fill=fill)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_whole(WorkKind.MOVE, inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeStep(Step):
    """q[…, i, …] = x[…, index[i], …] along ``axis``; where the index is −1, the code ``fill``."""

    kind = "take"
    takes_wide = True

    index: Ints
    axis: int
    fill: int

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        first = inputs[0]
        return (*first[: self.axis], len(self.index), *first[self.axis + 1 :])

    def check(self, inputs: Sequence[Shape]) -> None:
        first, index = inputs[0], self.index
        check_axes(self, (self.axis,), first)
        need(index.ndim == 1 and 1 <= index.size <= LARGEST_MAP, self, f"takes {index.shape} places")
        inside = int(index.min()) >= FILL and int(index.max()) < first[self.axis]
        need(inside and -(1 << 15) <= self.fill < 1 << 15, self, f"takes places that {first} has not")

    def run(self, codes: Sequence[Codes]) -> Codes:
        return tensor_ops.take(codes[0], self.index, self.axis, self.fill)

    def span(self, inputs: Sequence[Span]) -> Span:
        return span_together([*inputs, (self.fill, self.fill)])

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation("TakeCodes", axis=self.axis, fill=self.fill, index=self.index)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_whole(WorkKind.MOVE, inputs)


OPERATORS = Family(nodes=(Flatten, Slice, Reshape, Permute, Take), steps=(Flatten, Slice, Reshape, Permute, TakeStep))
