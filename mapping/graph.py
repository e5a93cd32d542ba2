"""A network as data: ordered nodes, each a frozen dataclass, weights as numpy arrays.

Layout is (channels, height, width) for maps and (features,) for vectors; the batch axis is
never part of a shape here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


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

    ``input_shape`` is (channels, height, width); ``classes`` names the logits.
    """

    input_shape: tuple[int, int, int]
    nodes: tuple[Node, ...]
    preprocess: Preprocess
    classes: tuple[str, ...]
    provenance: Mapping[str, str] = field(default_factory=dict)
