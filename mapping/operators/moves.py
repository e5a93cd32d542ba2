"""The same numbers elsewhere: flattening, padding, slices, reshapes, permutations, and choices along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mapping.operators.node import MOST_AXES, Node, Shape, Stored, require, require_axes

if TYPE_CHECKING:
    from torch import Tensor

FILL = -1
"""Index of ``Take`` that stands for a padded place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten(Node):
    """(channels, height, width) -> (features,), channel first."""

    kind = "flatten"

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return (math.prod(inputs[0]),)

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return inputs[0].flatten(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PadChannels(Node):
    """Zero channels before and after."""

    kind = "pad_channels"
    takes_maps = True

    before: int
    after: int

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        require(self, min(self.before, self.after) >= 0, "padding must not be negative")
        channels, *size = inputs[0]
        return (self.before + channels + self.after, *size)

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        import torch

        x = inputs[0]
        before, after = (x.new_zeros(x.shape[0], n, *x.shape[2:]) for n in (self.before, self.after))
        return torch.cat([before, x, after], 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PadMap(Node):
    """Zero rows and columns around a map; for padding that is not the same on both sides (even kernels)."""

    kind = "pad_map"
    takes_maps = True

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        require(self, min(self.top, self.left, self.bottom, self.right) >= 0, "padding must not be negative")
        channels, height, width = inputs[0]
        return (channels, self.top + height + self.bottom, self.left + width + self.right)

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        from torch.nn import functional

        return functional.pad(inputs[0], (self.left, self.right, self.top, self.bottom))


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice(Node):
    """Every ``step``-th row and column (ResNet option A), and channels ``start`` to ``stop``."""

    kind = "slice"
    takes_maps = True

    step: tuple[int, int] = (1, 1)
    start: int = 0
    stop: int | None = None

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        channels, height, width = inputs[0]
        stop = channels if self.stop is None else self.stop
        require(self, 0 <= self.start < stop <= channels, f"channels {self.start} to {stop} of {channels}")
        require(self, min(self.step) >= 1, f"step {self.step} must be at least 1")
        return (stop - self.start, -(-height // self.step[0]), -(-width // self.step[1]))

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return inputs[0][:, self.start : self.stop, :: self.step[0], :: self.step[1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape(Node):
    """The same elements in the same order under another ``shape``."""

    kind = "reshape"

    shape: tuple[int, ...]

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        first, shape = inputs[0], self.shape
        good = 1 <= len(shape) <= MOST_AXES and min(shape) >= 1 and math.prod(shape) == math.prod(first)
        require(self, good, f"{first} has not the elements of {shape}")
        return shape

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return inputs[0].reshape(inputs[0].shape[0], *self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permute(Node):
    """Axis i of the output is axis ``order[i]`` of the input."""

    kind = "permute"

    order: tuple[int, ...]

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        first = inputs[0]
        require(self, sorted(self.order) == list(range(len(first))), f"order {self.order} of {first}")
        return tuple(first[axis] for axis in self.order)

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return inputs[0].permute(0, *(1 + axis for axis in self.order))


@dataclass(frozen=True, slots=True, kw_only=True)
class Take(Node):
    """y[…, i, …] = x[…, index[i], …] along ``axis``; an index of −1 gives ``fill``.

    Slices with any step, reversal, rolling, repetition, nearest upsampling and every kind of padding are this.
    """

    kind = "take"

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


NODES = (Flatten, PadChannels, PadMap, Slice, Reshape, Permute, Take)
