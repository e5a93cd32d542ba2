"""Operators that may stand at one position of a network, and the layers that they make there.

An operator is a frozen value with two methods: ``fits`` says whether it can stand in a slot, ``layers``
gives its layers. Workloads (``search.space.candidate``) and trainable modules are both made from those layers,
so a user's own operator needs nothing else. Every convolution is followed by a batch norm and has no bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cim.cost.workload import WorkKind

SLOT = "slot"
"""The name by which an operator's layers call the operator's input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer. ``inputs`` name earlier layers; an empty operator (skip) is its own input.

    ``before`` is padding at the top and left, ``after`` at the bottom and right.
    ``kind`` is CONV, LINEAR, ADD or AVG_POOL (global: one value a channel).
    """

    name: str
    kind: WorkKind
    inputs: tuple[str, ...]
    outputs: int
    kernel: int = 1
    stride: int = 1
    before: int = 0
    after: int = 0
    groups: int = 1
    relu: bool = True

    def __post_init__(self) -> None:
        if min(self.outputs, self.kernel, self.stride, self.groups) < 1 or min(self.before, self.after) < 0:
            raise ValueError(f"{self.name}: outputs, kernel, stride and groups are at least 1, padding at least 0")
        if self.kind not in (WorkKind.CONV, WorkKind.LINEAR, WorkKind.ADD, WorkKind.AVG_POOL):
            raise ValueError(f"{self.name}: {self.kind.value} layers are none that an operator makes")

    def size(self, size: int) -> int:
        """Height (or width) of the output for one of the input."""
        if self.kind is WorkKind.CONV:
            return (size + self.before + self.after - self.kernel) // self.stride + 1
        return size if self.kind is WorkKind.ADD else 1


@dataclass(frozen=True, slots=True)
class Slot:
    """Place of an operator. ``side`` (0 or 1) alternates from position to position, for even kernels."""

    inputs: int
    outputs: int
    stride: int
    side: int = 0

    @property
    def same_shape(self) -> bool:
        return self.stride == 1 and self.inputs == self.outputs


class Operator(Protocol):
    """Frozen, comparable and picklable; its fields are the keys of its table in a space file."""

    def fits(self, slot: Slot) -> bool:
        """Whether this operator can take the place ``slot`` of a network."""

    def layers(self, slot: Slot) -> tuple[Layer, ...]:
        """Its layers, in order; the last gives its output, none means that the output is the input."""


def convolution(
    name: str,
    source: str,
    outputs: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    side: int = 0,
    relu: bool = True,
) -> Layer:
    """A convolution that keeps the size (over ``stride``).

    k − 1 zeros in all; an even kernel has one more after (side 0) or before (side 1).
    """
    less, more = (kernel - 1) // 2, kernel // 2
    before, after = (less, more) if side == 0 else (more, less)
    return Layer(
        name=name, kind=WorkKind.CONV, inputs=(source,), outputs=outputs, kernel=kernel, stride=stride,
        before=before, after=after, groups=groups, relu=relu,
    )  # fmt: skip


def addition(name: str, sources: tuple[str, ...], outputs: int, *, relu: bool = True) -> Layer:
    return Layer(name=name, kind=WorkKind.ADD, inputs=sources, outputs=outputs, relu=relu)


@dataclass(frozen=True, slots=True)
class ConvOperator:
    """One convolution, dense or in groups."""

    kernel: int
    groups: int = 1

    def fits(self, slot: Slot) -> bool:
        return slot.inputs % self.groups == 0 and slot.outputs % self.groups == 0

    def layers(self, slot: Slot) -> tuple[Layer, ...]:
        return (
            convolution(
                "conv", SLOT, slot.outputs, self.kernel, stride=slot.stride, groups=self.groups, side=slot.side
            ),
        )


@dataclass(frozen=True, slots=True)
class Residual:
    """Two convolutions and a shortcut (doi 10.1109/CVPR.2016.90); a strided 1x1 where the shape changes."""

    kernel: int = 3

    def fits(self, slot: Slot) -> bool:
        return True

    def layers(self, slot: Slot) -> tuple[Layer, ...]:
        first = convolution("conv1", SLOT, slot.outputs, self.kernel, stride=slot.stride, side=0)
        second = convolution("conv2", "conv1", slot.outputs, self.kernel, side=1, relu=False)
        if slot.same_shape:
            return first, second, addition("add", ("conv2", SLOT), slot.outputs)
        short = convolution("shortcut", SLOT, slot.outputs, stride=slot.stride, relu=False)
        return first, second, short, addition("add", ("conv2", "shortcut"), slot.outputs)


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing. ``project``: where the shape changes a strided 1x1 convolution without ReLU, else it does not fit."""

    project: bool = False

    def fits(self, slot: Slot) -> bool:
        return self.project or slot.same_shape

    def layers(self, slot: Slot) -> tuple[Layer, ...]:
        if slot.same_shape:
            return ()
        return (convolution("project", SLOT, slot.outputs, stride=slot.stride, relu=False),)


@dataclass(frozen=True, slots=True)
class MbConv:
    """1x1 expansion, depthwise, linear 1x1 projection, a shortcut where shapes match (doi 10.1109/CVPR.2018.00474)."""

    expansion: int
    kernel: int = 3

    def fits(self, slot: Slot) -> bool:
        return True

    def layers(self, slot: Slot) -> tuple[Layer, ...]:
        middle = slot.inputs * self.expansion
        made = [] if self.expansion == 1 else [convolution("expand", SLOT, middle)]
        source = made[-1].name if made else SLOT
        made.append(
            convolution("depthwise", source, middle, self.kernel, stride=slot.stride, groups=middle, side=slot.side)
        )
        made.append(convolution("project", "depthwise", slot.outputs, relu=False))
        if slot.same_shape:
            made.append(addition("add", ("project", SLOT), slot.outputs, relu=False))
        return tuple(made)


OPERATORS: Mapping[str, Callable[..., Operator]] = {
    "conv": ConvOperator,
    "residual": Residual,
    "skip": Skip,
    "mbconv": MbConv,
}
"""Kind in a space file -> class; the other keys of the table are its fields."""
