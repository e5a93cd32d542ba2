"""Kinds of nodes of a network: frozen dataclasses, weights as numpy arrays.

Layout is (channels, height, width) for maps and (features,) for vectors, and any number of axes for what is
neither; the batch axis is never part of a shape here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapping.errors import MappingFileError

Array = NDArray[np.float32]
Shape = tuple[int, ...]

INPUT = "input"


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
    """Sum of two inputs; axes of size 1 are repeated, missing ones stand before the first (numpy's rule)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(Node):
    """Inputs joined along ``axis``: channels."""

    axis: int = 0


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
