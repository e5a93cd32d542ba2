"""A network as data: ordered nodes, each a frozen dataclass, weights as numpy arrays.

Layout is (channels, height, width) for maps and (features,) for vectors; the batch axis is
never part of a shape here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mapping.errors import MappingFileError

Array = NDArray[np.float32]
Shape = tuple[int, ...]

INPUT = "input"
LARGEST_MAP = 2**26
"""Elements of the largest feature map that a graph may have, per image."""


class GraphError(MappingFileError, ValueError):
    """A graph that cannot run; ``node`` is the name of the node at fault, or ``""``."""

    def __init__(self, node: str, text: str) -> None:
        super().__init__(f"node {node!r}: {text}" if node else text)
        self.node, self.text = node, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operation: ``name`` is unique, ``inputs`` name earlier nodes (or ``"input"``)."""

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(Node):
    """y = w ⋆ x + bias; weight (out, in / groups, kernel height, kernel width)."""

    weight: Array
    bias: Array | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Node):
    """y = w x + bias; weight (out, in)."""

    weight: Array
    bias: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm(Node):
    """y = scale · (x − mean) / √(variance + eps) + shift, per channel."""

    scale: Array
    shift: Array
    mean: Array
    variance: Array
    eps: float = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Relu(Node):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Relu6(Node):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class HardTanh(Node):
    low: float = -1.0
    high: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool(Node):
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AvgPool(Node):
    """Mean over each window; padded zeros count (``count_include_pad``)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAvgPool(Node):
    """(channels, height, width) -> (channels,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Node):
    """Sum of two inputs of one shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(Node):
    """Inputs joined along channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten(Node):
    """(channels, height, width) -> (features,), channel first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PadChannels(Node):
    """Zero channels before and after."""

    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PadMap(Node):
    """Zero rows and columns around a map; for padding that is not the same on both sides (even kernels)."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice(Node):
    """Every ``step``-th row and column (ResNet option A), and channels ``start`` to ``stop``."""

    step: tuple[int, int] = (1, 1)
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Pixel to network input: (pixel / 255 − mean) / std per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class NetworkGraph:
    """A network in execution order; the last node gives the logits.

    ``input_shape`` is (channels, height, width); ``classes`` names the logits. A graph that
    cannot run raises ``GraphError`` here.
    """

    input_shape: tuple[int, int, int]
    nodes: tuple[Node, ...]
    preprocess: Preprocess
    classes: tuple[str, ...]
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = node_shapes(self)
        if not self.nodes:
            raise GraphError("", "a network needs at least one node")
        logits = shapes[self.nodes[-1].name]
        if logits != (len(self.classes),):
            raise GraphError(self.nodes[-1].name, f"logits are {logits}, but there are {len(self.classes)} classes")
        channels = {len(self.preprocess.mean), len(self.preprocess.std)}
        if channels != {self.input_shape[0]}:
            raise GraphError("", f"preprocess has {channels} means and stds for {self.input_shape[0]} channels")
        if not all(map(math.isfinite, self.preprocess.mean + self.preprocess.std)) or min(self.preprocess.std) <= 0:
            raise GraphError("", "preprocess needs finite means and stds above zero")


def node_shapes(graph: NetworkGraph) -> dict[str, Shape]:
    """Give the shape of ``"input"`` and of every node's output, without the batch axis.

    Maps are (channels, height, width), vectors (features,). Raises ``GraphError`` naming the
    first node whose inputs, options or weights do not fit.
    """
    if len(graph.input_shape) != 3 or min(graph.input_shape) < 1:
        raise GraphError("", f"input shape {graph.input_shape} is not (channels, height, width), each at least 1")
    shapes: dict[str, Shape] = {INPUT: tuple(graph.input_shape)}
    for node in graph.nodes:
        if not node.name or node.name in shapes or "/" in node.name or not node.name.isprintable():
            raise GraphError(node.name, "the name is empty, used twice, or holds '/' or a control character")
        for source in node.inputs:
            if source not in shapes:
                raise GraphError(node.name, f"input {source!r} is not an earlier node")
        shape = output_shape(node, [shapes[source] for source in node.inputs])
        if math.prod(shape) > LARGEST_MAP:
            raise GraphError(node.name, f"output {shape} is above {LARGEST_MAP} elements")
        shapes[node.name] = shape
    return shapes


def output_shape(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Give the output shape of one node for its input shapes, or raise ``GraphError``."""
    _check_inputs(node, inputs)
    first = inputs[0]
    match node:
        case Conv():
            return _conv_shape(node, first)
        case Linear():
            _check(node, node.weight.ndim == 2 and len(first) == 1, f"a matrix and a vector are needed, not {first}")
            _check(node, node.weight.shape[1] == first[0], f"weight {node.weight.shape} does not fit {first[0]} inputs")
            _check_vector(node, "bias", node.bias, node.weight.shape[0])
            return (node.weight.shape[0],)
        case BatchNorm():
            for name in ("scale", "shift", "mean", "variance"):
                _check_vector(node, name, getattr(node, name), first[0])
            _check(node, node.eps > 0 and float(node.variance.min()) >= 0, "eps must be > 0 and no variance negative")
            return first
        case MaxPool() | AvgPool():
            _check_window(node, node.kernel, node.stride, node.padding)
            _check(
                node, all(2 * p <= k for p, k in zip(node.padding, node.kernel, strict=True)), "padding > kernel / 2"
            )
            return (first[0], *_window_steps(node, first, node.kernel, node.stride, node.padding, (1, 1)))
        case GlobalAvgPool():
            return first[:1]
        case Flatten():
            return (math.prod(first),)
        case Add():
            _check(node, inputs[0] == inputs[1], f"inputs differ in shape: {inputs[0]} and {inputs[1]}")
            return first
        case Concat():
            _check(node, len({shape[1:] for shape in inputs}) == 1, f"inputs differ beyond channels: {inputs}")
            return (sum(shape[0] for shape in inputs), *first[1:])
        case PadChannels():
            _check(node, min(node.before, node.after) >= 0, "padding must not be negative")
            return (node.before + first[0] + node.after, *first[1:])
        case PadMap():
            _check(node, min(node.top, node.left, node.bottom, node.right) >= 0, "padding must not be negative")
            return (first[0], node.top + first[1] + node.bottom, node.left + first[2] + node.right)
        case Slice():
            stop = first[0] if node.stop is None else node.stop
            _check(node, 0 <= node.start < stop <= first[0], f"channels {node.start} to {stop} of {first[0]}")
            _check(node, min(node.step) >= 1, f"step {node.step} must be at least 1")
            return (stop - node.start, -(-first[1] // node.step[0]), -(-first[2] // node.step[1]))
        case HardTanh():
            _check(node, node.low < node.high, f"low {node.low} is not below high {node.high}")
            return first
        case Relu() | Relu6():
            return first
    raise GraphError(node.name, f"unknown kind {type(node).__name__}")


_MAPS_ONLY = (Conv, MaxPool, AvgPool, GlobalAvgPool, PadChannels, PadMap, Slice)


def _check(node: Node, good: bool, text: str) -> None:
    if not good:
        raise GraphError(node.name, f"{type(node).__name__}: {text}")


def _check_inputs(node: Node, inputs: Sequence[Shape]) -> None:
    count = len(inputs)
    right = count == 2 if isinstance(node, Add) else count >= 2 if isinstance(node, Concat) else count == 1
    _check(node, right, f"has {count} inputs")
    if isinstance(node, _MAPS_ONLY):
        _check(node, len(inputs[0]) == 3, f"needs a map (channels, height, width), not {inputs[0]}")


def _check_vector(node: Node, name: str, values: Array | None, length: int) -> None:
    _check(node, values is None or values.shape == (length,), f"{name} {np.shape(values)} is not ({length},)")  # type: ignore[arg-type]


def _check_window(node: Node, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> None:
    pairs = len(kernel) == len(stride) == len(padding) == 2
    good = pairs and min(*kernel, *stride) >= 1 and min(padding) >= 0
    _check(node, good, f"kernel {kernel}, stride {stride} and padding {padding} must be pairs >= 1, >= 1 and >= 0")


def _conv_shape(node: Conv, first: Shape) -> Shape:
    _check(node, node.weight.ndim == 4, f"weight {node.weight.shape} is not (out, in / groups, height, width)")
    kernel = (node.weight.shape[2], node.weight.shape[3])
    _check_window(node, kernel, node.stride, node.padding)
    _check(node, len(node.dilation) == 2 and min(node.dilation) >= 1, f"dilation {node.dilation} must be at least 1")
    outputs, per_group = node.weight.shape[:2]
    _check(
        node,
        node.groups >= 1 and outputs >= 1 and outputs % node.groups == 0 and per_group * node.groups == first[0],
        f"weight {node.weight.shape} in {node.groups} groups does not fit {first[0]} channels",
    )
    _check_vector(node, "bias", node.bias, outputs)
    return (outputs, *_window_steps(node, first, kernel, node.stride, node.padding, node.dilation))


def _window_steps(
    node: Node, first: Shape, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], gap: Sequence[int]
) -> tuple[int, int]:
    """Output height and width: ⌊(size + 2 · padding − gap · (kernel − 1) − 1) / stride⌋ + 1."""
    height, width = (
        (size + 2 * p - g * (k - 1) - 1) // s + 1
        for size, k, s, p, g in zip(first[1:], kernel, stride, padding, gap, strict=True)
    )
    _check(node, min(height, width) >= 1, f"kernel {tuple(kernel)} does not fit a padded {first[1]} x {first[2]} map")
    return height, width
