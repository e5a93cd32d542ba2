"""Norms of each input over its own axes, and softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mapping.operators.node import Array, Node, Shape, Stored, require, require_axes, require_repeated

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


NODES = (Norm, Softmax)
