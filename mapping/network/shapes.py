"""Shapes of a graph's nodes: the one rule that checks inputs, options and weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mapping.network.digital_nodes import (
    FILL,
    REDUCTIONS,
    Affine,
    Grid,
    MatMul,
    Norm,
    Permute,
    PRelu,
    Product,
    Reduce,
    Resample,
    Reshape,
    Softmax,
    Subtract,
    Take,
    Unary,
)
from mapping.network.functions import FUNCTIONS
from mapping.network.nodes import (
    Add,
    Array,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Flatten,
    GlobalAvgPool,
    GraphError,
    HardTanh,
    Linear,
    MaxPool,
    Node,
    PadChannels,
    PadMap,
    Relu,
    Relu6,
    Shape,
    Slice,
)

_Products = Conv | Linear | MatMul
_Gathering = MaxPool | AvgPool | GlobalAvgPool | Reduce
_Moves = Flatten | Concat | Reshape | Permute | Take | Resample | PadChannels | PadMap | Slice
_PlaceByPlace = (
    BatchNorm | Add | Subtract | Product | Unary | Grid | PRelu | Affine | Norm | Softmax | HardTanh | Relu | Relu6
)


def output_shape(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Give the output shape of one node for its input shapes, or raise ``GraphError``."""
    _check_inputs(node, inputs)
    if isinstance(node, _Products):
        return _product_shape(node, inputs)
    if isinstance(node, _Gathering):
        return _gathered_shape(node, inputs)
    if isinstance(node, _Moves):
        return _moved_shape(node, inputs)
    if isinstance(node, _PlaceByPlace):
        return _placewise_shape(node, inputs)
    raise GraphError(node.name, f"unknown kind {type(node).__name__}")


def _product_shape(node: _Products, inputs: Sequence[Shape]) -> Shape:
    """Of sums of products of weights or of two maps."""
    first = inputs[0]
    match node:
        case Conv():
            return _conv_shape(node, first)
        case Linear():
            _check(node, node.weight.ndim == 2 and len(first) == 1, f"a matrix and a vector are needed, not {first}")
            _check(node, node.weight.shape[1] == first[0], f"weight {node.weight.shape} does not fit {first[0]} inputs")
            _check_vector(node, "bias", node.bias, node.weight.shape[0])
            return (node.weight.shape[0],)
        case MatMul():
            _check(node, all(len(shape) >= 2 for shape in inputs), f"needs matrices, not {inputs}")
            _check(node, first[-1] == inputs[1][-2], f"{first} does not fit {inputs[1]}")
            return (*_together(node, [shape[:-2] for shape in inputs]), first[-2], inputs[1][-1])


def _gathered_shape(node: _Gathering, inputs: Sequence[Shape]) -> Shape:
    """Of one number for several places."""
    first = inputs[0]
    match node:
        case MaxPool() | AvgPool():
            _check_window(node, node.kernel, node.stride, node.padding)
            _check(
                node, all(2 * p <= k for p, k in zip(node.padding, node.kernel, strict=True)), "padding > kernel / 2"
            )
            return (first[0], *_window_steps(node, first, node.kernel, node.stride, node.padding, (1, 1)))
        case GlobalAvgPool():
            return first[:1]
        case Reduce():
            _check(node, node.operation in REDUCTIONS, f"operation {node.operation!r} is none of {REDUCTIONS}")
            _check_axes(node, node.axes, first)
            kept = tuple(1 if axis in node.axes else size for axis, size in enumerate(first))
            left = tuple(size for axis, size in enumerate(first) if axis not in node.axes)
            return kept if node.keep else left or (1,)


def _moved_shape(node: _Moves, inputs: Sequence[Shape]) -> Shape:
    """Of the same numbers elsewhere, or of places between them."""
    first = inputs[0]
    match node:
        case Flatten():
            return (math.prod(first),)
        case Concat(axis=axis):
            _check(node, 0 <= axis < len(first), f"axis {axis} of {first}")
            rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in inputs}
            _check(node, len(rest) == 1, f"inputs differ beyond axis {axis}: {inputs}")
            return (*first[:axis], sum(shape[axis] for shape in inputs), *first[axis + 1 :])
        case Reshape():
            good = (
                1 <= len(node.shape) <= MOST_AXES and min(node.shape) >= 1 and math.prod(node.shape) == math.prod(first)
            )
            _check(node, good, f"{first} has not the elements of {node.shape}")
            return node.shape
        case Permute():
            _check(node, sorted(node.order) == list(range(len(first))), f"order {node.order} of {first}")
            return tuple(first[axis] for axis in node.order)
        case Take():
            _check_axes(node, (node.axis,), first)
            index = node.index
            good = len(index) > 0 and min(index) >= FILL and max(index) < first[node.axis]
            _check(node, good, f"index does not fit axis {node.axis} of {first}")
            return (*first[: node.axis], len(index), *first[node.axis + 1 :])
        case Resample():
            _check(node, len(first) >= 2 and node.rows.ndim == node.columns.ndim == 2, f"needs maps, not {first}")
            sizes = (node.rows.shape[1], node.columns.shape[1])
            _check(node, sizes == first[-2:], f"weights for {sizes} places do not fit {first}")
            return (*first[:-2], len(node.rows), len(node.columns))
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


def _placewise_shape(
    node: BatchNorm
    | Add
    | Subtract
    | Product
    | Unary
    | Grid
    | PRelu
    | Affine
    | Norm
    | Softmax
    | HardTanh
    | Relu
    | Relu6,
    inputs: Sequence[Shape],
) -> Shape:
    """Of operations that go place by place."""
    first = inputs[0]
    match node:
        case BatchNorm():
            for name in ("scale", "shift", "mean", "variance"):
                _check_vector(node, name, getattr(node, name), first[0])
            _check(node, node.eps > 0 and float(node.variance.min()) >= 0, "eps must be > 0 and no variance negative")
            return first
        case Add() | Subtract() | Product():
            return _together(node, inputs)
        case Unary():
            _check(node, node.function in FUNCTIONS, f"function {node.function!r} is none of {', '.join(FUNCTIONS)}")
            return first
        case Grid():
            good = node.scale > 0 and -GRID_CODES <= node.low <= 0 <= node.high <= GRID_CODES and node.low < node.high
            _check(node, good, f"scale {node.scale} and codes {node.low} to {node.high} are no grid around zero")
            return first
        case PRelu():
            return _repeated(node, {"slope": node.slope}, first)
        case Affine():
            return _repeated(node, {"scale": node.scale, "shift": node.shift}, first)
        case Norm():
            _check_axes(node, node.axes, first)
            _check(node, node.eps > 0, f"eps {node.eps} is not above 0")
            return _repeated(node, {"scale": node.scale, "shift": node.shift}, first)
        case Softmax():
            _check_axes(node, (node.axis,), first)
            return first
        case HardTanh():
            _check(node, node.low < node.high, f"low {node.low} is not below high {node.high}")
            return first
        case Relu() | Relu6():
            return first


MOST_AXES = 8
GRID_CODES = (1 << 15) - 1
"""The largest code of a ``Grid`` in magnitude."""
_PAIRS = (Add, Subtract, Product, MatMul)
_MAPS_ONLY = (Conv, MaxPool, AvgPool, GlobalAvgPool, PadChannels, PadMap, Slice)


def _check(node: Node, good: bool, text: str) -> None:
    if not good:
        raise GraphError(node.name, f"{type(node).__name__}: {text}")


def _check_inputs(node: Node, inputs: Sequence[Shape]) -> None:
    count = len(inputs)
    right = count == 2 if isinstance(node, _PAIRS) else count >= 2 if isinstance(node, Concat) else count == 1
    _check(node, right, f"has {count} inputs")
    if isinstance(node, _MAPS_ONLY):
        _check(node, len(inputs[0]) == 3, f"needs a map (channels, height, width), not {inputs[0]}")


def _check_vector(node: Node, name: str, values: Array | None, length: int) -> None:
    _check(node, values is None or values.shape == (length,), f"{name} {np.shape(values)} is not ({length},)")  # type: ignore[arg-type]


def _check_axes(node: Node, axes: Sequence[int], shape: Shape) -> None:
    good = len(axes) >= 1 and len(set(axes)) == len(axes) and all(0 <= axis < len(shape) for axis in axes)
    _check(node, good, f"axes {tuple(axes)} of {shape}")


def _together(node: Node, inputs: Sequence[Shape]) -> Shape:
    """The shape of two inputs whose axes of size 1 are repeated."""
    try:
        return tuple(int(size) for size in np.broadcast_shapes(*inputs))
    except ValueError:
        raise GraphError(node.name, f"{type(node).__name__}: inputs do not fit: {inputs[0]} and {inputs[1]}") from None


def _repeated(node: Node, arrays: Mapping[str, Array], shape: Shape) -> Shape:
    for name, values in arrays.items():
        good = values.ndim == len(shape) and all(a in (1, b) for a, b in zip(values.shape, shape, strict=True))
        _check(node, good, f"{name} {values.shape} does not fit {shape}")
    return shape


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
