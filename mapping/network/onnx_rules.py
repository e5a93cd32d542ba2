"""Rules from ONNX operations to nodes and their options; opsets 7 to current."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from mapping.network.nodes import (
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Flatten,
    GlobalAvgPool,
    HardTanh,
    Linear,
    MaxPool,
    Node,
    PadChannels,
    Relu,
    Relu6,
    Slice,
)
from mapping.network.onnx_reader import OnnxReader, Rule


def conv(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    stride, padding = _window(r, op, a)
    return r.add(
        op,
        Conv,
        op.input[:1],
        key=op.input[1],
        weight=r.needed(op, 1),
        bias=r.weights(op, 2),
        stride=stride,
        padding=padding,
        dilation=_pair(r, op, a.get("dilations", [1, 1])),
        groups=a.get("group", 1),
    )


def gemm(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    plain = a.get("alpha", 1.0) == 1.0 and a.get("beta", 1.0) == 1.0 and not a.get("transA", 0)
    r.need(op, plain, "only x · W + b without factors")
    weight, bias = r.needed(op, 1), r.weights(op, 2)
    r.need(op, weight.ndim == 2, f"weight {weight.shape} is not a matrix")
    weight = weight if a.get("transB", 0) else np.ascontiguousarray(weight.T)
    if bias is not None:
        r.need(op, bias.size in (1, len(weight)), f"bias {bias.shape} does not fit {len(weight)} outputs")
        bias = np.ascontiguousarray(np.broadcast_to(bias.ravel(), weight.shape[:1]))
    return r.add(op, Linear, op.input[:1], key=op.input[1], weight=weight, bias=bias)


def matmul(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    weight = r.needed(op, 1)
    r.need(op, weight.ndim == 2, f"weight {weight.shape} is not a matrix")
    return r.add(op, Linear, op.input[:1], key=op.input[1], weight=np.ascontiguousarray(weight.T))


def add(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    """A sum of two maps, or the bias of the product before it."""
    constant = next((i for i in (0, 1) if op.input[i] in r.constants), None)
    if constant is None:
        return r.add(op, Add, op.input)
    source = op.input[1 - constant]
    before, bias = r.nodes.get(r.source(op, source)), r.needed(op, constant).ravel()
    alone = isinstance(before, Linear) and before.bias is None and len(r.readers[source]) == 1
    r.need(op, alone and bias.size == r.shape(op, 1 - constant)[0], "a constant can only be the bias of a product")
    assert isinstance(before, Linear)
    r.nodes[before.name] = replace(before, bias=bias)
    return before.name


def batch_norm(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    r.need(op, not a.get("training_mode", 0), "it uses the statistics of the batch")
    scale, shift, mean, variance = (r.needed(op, index) for index in (1, 2, 3, 4))
    eps = float(a.get("epsilon", 1e-5))
    return r.add(
        op, BatchNorm, op.input[:1], key=op.input[1], scale=scale, shift=shift, mean=mean, variance=variance, eps=eps
    )


def clip(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    low, high = (r.weights(op, index) for index in (1, 2))
    floor = a.get("min") if low is None else float(low.ravel()[0])
    roof = a.get("max") if high is None else float(high.ravel()[0])
    if floor == 0 and roof is None:
        return r.add(op, Relu, op.input[:1])
    if floor == 0 and roof == 6:
        return r.add(op, Relu6, op.input[:1])
    if floor is None or roof is None:
        raise r.refusal(op, "needs two bounds, or 0 and none")
    return r.add(op, HardTanh, op.input[:1], low=floor, high=roof)


def max_pool(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    r.need(op, _pair(r, op, a.get("dilations", [1, 1])) == (1, 1), "dilated pooling is not supported")
    return _pool(r, op, a, MaxPool)


def avg_pool(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    _, padding = _window(r, op, a)
    r.need(op, bool(a.get("count_include_pad", 0)) or not any(padding), "padding must count (count_include_pad)")
    whole = tuple(a["kernel_shape"]) == r.shape(op)[1:] and not any(padding)
    return global_avg_pool(r, op, a) if whole else _pool(r, op, a, AvgPool)


def global_avg_pool(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    """A vector if all that follows flattens the 1 x 1 map, else the map."""
    readers = r.readers.get(op.output[0], [])
    if readers and all(RULES.get(reader.op_type) is flatten for reader in readers):
        return r.add(op, GlobalAvgPool, op.input[:1])
    size = r.shape(op)[1:]
    return r.add(op, AvgPool, op.input[:1], kernel=size, stride=size)


def reduce_mean(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    axes = sorted(axis % 4 for axis in r.integers(op, 1, a.get("axes")) or [])
    r.need(op, len(r.shape(op)) == 3 and axes == [2, 3], "only the mean over height and width")
    return global_avg_pool(r, op, a) if a.get("keepdims", 1) else r.add(op, GlobalAvgPool, op.input[:1])


def flatten(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    """Flatten, Reshape and Squeeze, where they give (n, features)."""
    shape = r.shape(op)
    total = math.prod(shape)
    if op.op_type == "Flatten":
        flat = a.get("axis", 1) == 1
    elif op.op_type == "Squeeze":
        axes = r.integers(op, 1, a.get("axes"))
        flat = shape[1:] in ((), (1, 1)) and (axes is None or sorted(axis % 4 for axis in axes) == [2, 3])
    else:
        wanted = r.integers(op, 1) or []
        flat = len(wanted) == 2 and wanted[1] in (-1, total)
    r.need(op, flat, f"only flattening of (channels, height, width), not of {shape}")
    return r.add(op, Flatten, op.input[:1]) if len(shape) == 3 else r.source(op, op.input[0])


def concat(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    r.need(op, a["axis"] in (1, -len(r.shape(op))), "only along channels")
    return r.add(op, Concat, op.input) if len(op.input) > 1 else r.source(op, op.input[0])


def pad(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    pads, value, axes = r.integers(op, 1, a.get("pads")) or [], r.weights(op, 2), r.integers(op, 3)
    zero = a.get("mode", b"constant") == b"constant" and (value is None or not value.any()) and not a.get("value", 0.0)
    r.need(op, zero and axes is None and len(pads) == 8, "only zeros on feature maps")
    spatial = pads[0:1] + pads[2:5] + pads[6:]
    r.need(op, not any(spatial), "only channels can be padded: give height and width to the convolution")
    return r.add(op, PadChannels, op.input[:1], before=pads[1], after=pads[5])


def slice_(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    shape = r.shape(op)
    starts, stops = r.integers(op, 1, a.get("starts")) or [], r.integers(op, 2, a.get("ends")) or []
    axes = r.integers(op, 3, a.get("axes")) or list(range(len(starts)))
    steps = r.integers(op, 4) or [1] * len(starts)
    r.need(op, len(shape) == 3 and len(starts) == len(stops) == len(axes) == len(steps), "only slices of feature maps")
    step, channels = [1, 1], (0, shape[0])
    for axis, start, stop, every in zip((axis % 4 for axis in axes), starts, stops, steps, strict=True):
        r.need(op, axis > 0 and every >= 1, "the batch cannot be sliced, and no step be negative")
        first, last, every = slice(start, stop, every).indices(shape[axis - 1])
        if axis == 1:
            r.need(op, every == 1, "channels only without a step")
            channels = (first, last)
        else:
            r.need(op, (first, last) == (0, shape[axis - 1]), "rows and columns only from the first to the last")
            step[axis - 2] = every
    return r.add(op, Slice, op.input[:1], step=(step[0], step[1]), start=channels[0], stop=channels[1])


def same(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    """Identity and Dropout."""
    return r.source(op, op.input[0])


def relu(r: OnnxReader, op: Any, a: dict[str, Any]) -> str:
    return r.add(op, Relu, op.input[:1])


def _pool(r: OnnxReader, op: Any, a: dict[str, Any], kind: type[Node]) -> str:
    stride, padding = _window(r, op, a)
    kernel = _pair(r, op, a["kernel_shape"])
    if a.get("ceil_mode", 0):
        sizes = [s + 2 * p - k for s, p, k in zip(r.shape(op)[1:], padding, kernel, strict=True)]
        r.need(op, not any(size % step for size, step in zip(sizes, stride, strict=True)), "ceil_mode is not supported")
    return r.add(op, kind, op.input[:1], kernel=kernel, stride=stride, padding=padding)


def _window(r: OnnxReader, op: Any, a: dict[str, Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(stride, padding) of a window."""
    pads = list(a.get("pads", [0, 0, 0, 0]))
    r.need(op, a.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID"), "automatic padding is not supported")
    r.need(op, len(pads) == 4 and pads[:2] == pads[2:], f"padding {pads} is not the same on both sides")
    return _pair(r, op, a.get("strides", [1, 1])), (pads[0], pads[1])


def _pair(r: OnnxReader, op: Any, values: Any) -> tuple[int, int]:
    r.need(op, len(values) == 2 and min(values) >= 1, f"{list(values)} is not a pair of numbers above zero")
    return values[0], values[1]


RULES: dict[str, Rule] = {
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "Add": add,
    "BatchNormalization": batch_norm,
    "Relu": relu,
    "Clip": clip,
    "MaxPool": max_pool,
    "AveragePool": avg_pool,
    "GlobalAveragePool": global_avg_pool,
    "ReduceMean": reduce_mean,
    "Flatten": flatten,
    "Reshape": flatten,
    "Squeeze": flatten,
    "Concat": concat,
    "Pad": pad,
    "Slice": slice_,
    "Dropout": same,
    "Identity": same,
}
