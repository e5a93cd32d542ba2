"""The interface of an operator as a node of a network's graph.

Layout is (channels, height, width) for maps and (features,) for vectors, and any number of axes for what is
neither; the batch axis is never part of a shape here. Axes count without the batch: 0 is the first axis of a shape,
channels of a map. Arrays are numpy's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, TypedDict

import numpy as np
from numpy.typing import NDArray

from mapping.bits import DIGITAL_BITS
from mapping.errors import MappingFileError
from mapping.operators.channels import ChannelClasses, Channels, KeptChannels
from mapping.operators.fused import FusedOp, OpFields, Scales
from mapping.operators.integer.scales import CodeScale
from mapping.operators.step import Part, ProgramRecordError, Shape, Span, Step, span_together
from mapping.operators.work import WorkForm

if TYPE_CHECKING:
    from torch import Tensor


Array = NDArray[np.float32]
Line = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Gain and shift of each channel, or one of all."""
Stored = Callable[[Array], "Tensor"]
"""A node's array as a tensor (on another device, say)."""

INPUT = "input"
MOST_AXES = 8
LARGEST_MAP = 2**26
"""Elements of the largest feature map that a graph may have, per image."""


class GraphError(MappingFileError, ValueError):
    """A graph that cannot run; ``node`` is the name of the node at fault, or ``""``."""

    def __init__(self, node: str, text: str) -> None:
        super().__init__(f"node {node!r}: {text}" if node else text)
        self.node, self.text = node, text


class StepNames(TypedDict):
    """Fields that every integer step has, whatever it computes."""

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(Part):
    """One operation of a graph.

    ``arrays``: fields that hold an array, and the last part of its name in a torch state dict. ``takes_maps``: inputs
    are (channels, height, width). ``by_channel``: its channels are those of its input, and any of them can be pruned;
    ``by_value``: each number of the output is made of those at its place alone. ``moves``: codes only move and keep
    their scale. ``reads_bits``: bits of the codes that it reads; None: those of the network. ``output_shape`` raises
    ``GraphError`` where options or weights do not fit the inputs.
    """

    arrays: ClassVar[Mapping[str, str]] = {}
    takes_maps: ClassVar[bool] = False
    by_channel: ClassVar[bool] = False
    by_value: ClassVar[bool] = False
    moves: ClassVar[bool] = False
    reads_bits: ClassVar[int | None] = DIGITAL_BITS

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        """The output in floating point; the first axis of every tensor is the batch."""
        raise NotImplementedError(self.kind)

    @property
    def clamp(self) -> tuple[float, float] | None:
        """Ends of an activation that only clamps, and so joins the operation before it."""
        return None

    @property
    def fills(self) -> float | None:
        """The value that it puts beside its input, if any."""
        return None

    @property
    def gives_signed(self) -> bool:
        """Whether results may be below zero where no input is."""
        return True

    def channel_line(self) -> Line | None:
        """Scale and shift of each channel, which fold into the matrix product before; None: another node."""
        return None

    def channels(self, inputs: Sequence[Channels], shapes: Sequence[Shape], classes: ChannelClasses) -> Channels | None:
        """The channels of the output, those of the inputs being known; None: they cannot be told apart."""
        return inputs[0] if self.by_channel else None

    def without_channels(self, given: KeptChannels, own: KeptChannels) -> Node:
        """The node where only some channels of its first input are ``given``, and of its output its ``own`` stay."""
        return self

    def before_reshape(self, inside: Shape, outside: Shape) -> Node | None:
        """The equal node for an input not yet reshaped from ``inside``; None where the shape matters."""
        return self if self.by_value else None

    def before_permute(self, order: Sequence[int]) -> Node | None:
        """The equal node for an input not yet permuted by ``order``; None where the order matters."""
        return self if self.by_value else None

    def lower(self, op: OpFields, inputs: Sequence[Shape]) -> FusedOp:
        """The operation that it becomes where it joins no other; ``inputs`` are shapes."""
        return PassOp(**op, node=self) if self.moves else DigitalOp(**op, node=self)

    def integer_steps(self, op: FusedOp, around: Scales) -> tuple[Step, ...]:
        """The integer steps of an operation that is this node, its own last."""
        return (self.integer_step({"name": op.name, "inputs": op.inputs}, around.inputs, around.shapes, around.out),)

    def integer_step(
        self, names: StepNames, sources: Sequence[CodeScale], shapes: Sequence[Shape], out: CodeScale
    ) -> Step:
        """The integer step of the operation (of one on its own or one that moves codes).

        Args:
            sources, shapes: scale and shape of each input's codes.
            out: scale of the output's codes; of what moves codes, that of its input.
        """
        raise NotImplementedError(self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move(Node, Step):
    """An operation that is the same on numbers and on codes: its integer step is itself."""

    moves = True
    takes_wide = True

    def integer_step(
        self, names: StepNames, sources: Sequence[CodeScale], shapes: Sequence[Shape], out: CodeScale
    ) -> Step:
        return replace(self, **names)

    def check(self, inputs: Sequence[Shape]) -> None:
        try:
            output_shape(self, inputs)
        except GraphError as error:
            raise ProgramRecordError(f"step {self.name!r:.80}: {error.text}") from None

    def span(self, inputs: Sequence[Span]) -> Span:
        return span_together(inputs if self.fills is None else [*inputs, (0, 0)])


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOp(FusedOp):
    """An operation that no array multiplies, and that a ``node`` of a graph does, but for its clamp."""

    node: Node

    def as_node(self, inputs: tuple[str, ...]) -> Node:
        """The node of a graph that does this operation, under the name of the operation."""
        return replace(self.node, name=self.name, inputs=inputs)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return self.node.work(inputs, after)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassOp(NodeOp):
    """Codes move but keep their scale."""

    def integer_steps(self, around: Scales) -> tuple[Step, ...]:
        scale = around.inputs[0]
        return (self.node.integer_step({"name": self.name, "inputs": self.inputs}, [scale], around.shapes, scale),)


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitalOp(NodeOp):
    """Any other operation that no array multiplies; ``outputs``: it joins the tensors that a network gives."""

    outputs: bool = False

    @property
    def gives_signed(self) -> bool:
        return self.node.gives_signed

    @property
    def reads_bits(self) -> int | None:
        return DIGITAL_BITS if self.outputs else self.node.reads_bits

    def integer_steps(self, around: Scales) -> tuple[Step, ...]:
        return self.node.integer_steps(self, around)


def may_be_negative(op: FusedOp, inputs: Sequence[bool]) -> bool:
    """Whether the codes of an operation may be negative, given which of its inputs may."""
    if isinstance(op, PassOp):
        return inputs[0]
    if any(inputs) or op.low >= 0:
        return op.low < 0
    return op.gives_signed


def output_shape(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Give the output shape of one node for its input shapes, or raise ``GraphError``."""
    least, most = node.takes
    require(node, least <= len(inputs) <= most, f"has {len(inputs)} inputs")
    if node.takes_maps:
        require(node, len(inputs[0]) == 3, f"needs a map (channels, height, width), not {inputs[0]}")
    return node.output_shape(inputs)


def require(node: Node, good: bool, text: str) -> None:
    """Raise ``GraphError`` unless ``good``."""
    if not good:
        raise GraphError(node.name, f"{type(node).__name__}: {text}")


def require_vector(node: Node, name: str, values: Array | None, length: int) -> None:
    """Raise ``GraphError`` unless ``values`` are one number a channel, or None."""
    require(node, values is None or values.shape == (length,), f"{name} {np.shape(values)} is not ({length},)")  # type: ignore[arg-type]


def require_axes(node: Node, axes: Sequence[int], shape: Shape) -> None:
    """Raise ``GraphError`` unless ``axes`` are one or several axes of ``shape``, each once."""
    good = len(axes) >= 1 and len(set(axes)) == len(axes) and all(0 <= axis < len(shape) for axis in axes)
    require(node, good, f"axes {tuple(axes)} of {shape}")


def require_repeated(node: Node, arrays: Mapping[str, Array], shape: Shape) -> Shape:
    """Give ``shape``; raise ``GraphError`` unless the arrays have its rank and sizes equal to it or 1."""
    for name, values in arrays.items():
        good = values.ndim == len(shape) and all(a in (1, b) for a, b in zip(values.shape, shape, strict=True))
        require(node, good, f"{name} {values.shape} does not fit {shape}")
    return shape


def shape_together(node: Node, inputs: Sequence[Shape]) -> Shape:
    """The shape of two inputs whose axes of size 1 are repeated, missing ones before the first (numpy's rule)."""
    try:
        return tuple(int(size) for size in np.broadcast_shapes(*inputs))
    except ValueError:
        raise GraphError(node.name, f"{type(node).__name__}: inputs do not fit: {inputs[0]} and {inputs[1]}") from None


def of_one_rank(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Tensors with axes of size 1 behind the batch where others have more."""
    rank = max(x.dim() for x in inputs)
    return [x.reshape(x.shape[0], *[1] * (rank - x.dim()), *x.shape[1:]) for x in inputs]


def require_window(node: Node, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> None:
    pairs = len(kernel) == len(stride) == len(padding) == 2
    good = pairs and min(*kernel, *stride) >= 1 and min(padding) >= 0
    require(node, good, f"kernel {kernel}, stride {stride} and padding {padding} must be pairs >= 1, >= 1 and >= 0")


def window_steps(
    node: Node, first: Shape, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], gap: Sequence[int]
) -> tuple[int, int]:
    """Output height and width: ⌊(size + 2 · padding − gap · (kernel − 1) − 1) / stride⌋ + 1."""
    height, width = (
        (size + 2 * p - g * (k - 1) - 1) // s + 1
        for size, k, s, p, g in zip(first[1:], kernel, stride, padding, gap, strict=True)
    )
    require(node, min(height, width) >= 1, f"kernel {tuple(kernel)} does not fit a padded {first[1]} x {first[2]} map")
    return height, width
