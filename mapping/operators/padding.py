"""Zeros around a map, and channels of zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cim.cost.workload import WorkKind
from mapping.operators.channels import ChannelClasses, Channels, KeptChannels
from mapping.operators.family import Family
from mapping.operators.integer import digital_ops
from mapping.operators.integer.digital_ops import Codes
from mapping.operators.node import Move, Node, Stored, require
from mapping.operators.step import ChipOperation, Shape
from mapping.operators.work import WorkForm

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class PadChannels(Move):
    """Channels of zeros before and after."""

    kind = "pad_channels"
    takes_maps = True

    before: int
    after: int

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        sides = (self.before, self.after)
        require(self, 0 <= min(sides) <= max(sides) <= 1 << 20, f"padding {sides} is not from 0 to {1 << 20}")
        channels, *size = inputs[0]
        return (self.before + channels + self.after, *size)

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        import torch

        x = inputs[0]
        before, after = (x.new_zeros(x.shape[0], n, *x.shape[2:]) for n in (self.before, self.after))
        return torch.cat([before, x, after], 1)

    @property
    def fills(self) -> float:
        return 0.0

    def channels(self, inputs: Sequence[Channels], shapes: Sequence[Shape], classes: ChannelClasses) -> Channels | None:
        return [*classes.new(self.before), *inputs[0], *classes.new(self.after)]

    def without_channels(self, given: KeptChannels, own: KeptChannels) -> Node:
        before = int((own.places < self.before).sum())
        return replace(self, before=before, after=int((own.places >= own.whole - self.after).sum()))

    def run(self, codes: Sequence[Codes]) -> Codes:
        return digital_ops.pad_channels(codes[0], self.before, self.after)

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation("PadCodes", before=(self.before, *[0] * (len(output) - 1)))

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return WorkForm(WorkKind.MOVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PadMap(Move):
    """Rows and columns of zeros around each map."""

    kind = "pad_map"
    by_channel = True
    takes_maps = True

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        sides = (self.top, self.left, self.bottom, self.right)
        require(self, 0 <= min(sides) <= max(sides) <= 1 << 10, f"padding {sides} is not from 0 to 1024")
        channels, height, width = inputs[0]
        return (channels, self.top + height + self.bottom, self.left + width + self.right)

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        from torch.nn import functional

        return functional.pad(inputs[0], (self.left, self.right, self.top, self.bottom))

    @property
    def fills(self) -> float:
        return 0.0

    def run(self, codes: Sequence[Codes]) -> Codes:
        return digital_ops.pad_map(codes[0], self.top, self.left, self.bottom, self.right)

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation("PadCodes", before=(0, self.top, self.left))

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return WorkForm(WorkKind.MOVE, padding=(self.top, self.left))


OPERATORS = Family(nodes=(PadChannels, PadMap), steps=(PadChannels, PadMap))
