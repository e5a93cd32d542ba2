"""Kinds of nodes that no array multiplies: functions, products of activations, moves, norms, softmax.

Axes count without the batch: 0 is the first axis of a shape, channels of a map.
"""

from __future__ import annotations

from dataclasses import dataclass

from mapping.network.nodes import Array, Node

REDUCTIONS = ("mean", "sum", "max", "min")
FILL = -1
"""Index of ``Take`` that stands for a padded place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unary(Node):
    """y = f(x) element by element; ``function`` is one of ``mapping.network.functions``; it takes both numbers."""

    function: str
    alpha: float = 0.0
    beta: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PRelu(Node):
    """y = x above zero, slope · x below; ``slope`` has the rank of x, its axes of size 1 repeated."""

    slope: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine(Node):
    """y = scale · x + shift; both have the rank of x, their axes of size 1 repeated.

    Learned scales, sums with stored tensors (position embeddings) and norms behind no product are this.
    """

    scale: Array
    shift: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid(Node):
    """y = scale · clamp(round(x / scale), low, high): values as codes, chosen by whoever quantised the network.

    ``low`` and ``high`` count from zero: 8-bit codes with zero point −128 are 0 to 255.
    """

    scale: float
    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtract(Node):
    """First input minus second; axes of size 1 are repeated, missing ones stand before the first (numpy's rule)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product(Node):
    """Product of two inputs element by element; axes of size 1 are repeated (numpy's rule)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMul(Node):
    """Product of two activations: (…, m, k) times (…, k, n); leading axes as in ``Product``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduce(Node):
    """Mean, sum, largest or least value over ``axes``, which stay as size 1 if ``keep``."""

    operation: str
    axes: tuple[int, ...]
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape(Node):
    """The same elements in the same order under another ``shape``."""

    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Permute(Node):
    """Axis i of the output is axis ``order[i]`` of the input."""

    order: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Take(Node):
    """y[…, i, …] = x[…, index[i], …] along ``axis``; an index of −1 gives ``fill``.

    Slices with any step, reversal, rolling, repetition, nearest upsampling and every kind of padding are this.
    """

    index: tuple[int, ...]
    axis: int
    fill: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resample(Node):
    """Maps (…, H, W) as rows · map · columnsᵀ: bilinear upsampling, adaptive pooling, averages of unequal windows.

    ``rows`` (new H, H), ``columns`` (new W, W).
    """

    rows: Array
    columns: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm(Node):
    """y = (x − mean) / √(variance + eps) · scale + shift, with mean and variance of each input over ``axes``.

    ``scale`` and ``shift`` have the rank of x, their axes of size 1 repeated. Without ``centre`` no mean is taken
    off and the mean square stands for the variance (RMS norm). Layer, group and instance norm are this.
    """

    axes: tuple[int, ...]
    scale: Array
    shift: Array
    eps: float = 1e-5
    centre: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(Node):
    """exp(x) / Σ exp(x) along ``axis``."""

    axis: int
