"""Rules from TFLite operations to nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mapping.network.compose import arithmetic, attention, moves, products, statistics, windows
from mapping.network.compose.refusal import BROKEN, need, refuse
from mapping.network.compose.values import Operand, Value, activation
from mapping.network.operations.call import Call, Form, forms
from mapping.network.operations.elementwise import OPERATIONS
from mapping.network.tflite.model import LiteOperation
from mapping.network.tflite.reading import Reading, Rule

Pair = tuple[int, int]
NONE, RELU, RELU_1, RELU6, TANH = range(5)  # fused activation functions


def finished(r: Reading, x: Operand, code: int) -> Operand:
    """The activation function that a TFLite operation ends with."""
    bounds = {RELU: (0, None), RELU_1: (-1, 1), RELU6: (0, 6)}
    if code in bounds:
        return arithmetic.clamp(r.composer, x, *bounds[code])
    if code == TANH:
        return arithmetic.function(r.composer, x, "tanh")
    need(code == NONE, f"fused activation {code}", "an activation as an operation of its own")
    return x


def pads(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], gap: Sequence[int], rule: int
) -> list[Pair]:
    """(before, after) of each axis; ``rule`` 0: as many outputs as strides (SAME), 1: none (VALID)."""
    if rule:
        return [(0, 0)] * len(size)
    found = []
    for n, k, s, g in zip(size, kernel, stride, gap, strict=True):
        need(s >= 1 and g >= 1, f"stride {s} and dilation {g}", BROKEN)
        total = max((-(-n // s) - 1) * s + (k - 1) * g + 1 - n, 0)
        found.append((total // 2, total - total // 2))
    return found


def conv(r: Reading, op: LiteOperation) -> Operand:
    o = op.options("Conv2DOptions")
    weight = r.constant(op, 1)
    need(weight.ndim == 4, f"weight {weight.shape}", BROKEN)
    x = r.maps(op)
    need(weight.shape[3] >= 1 and x.shape[1] % weight.shape[3] == 0, f"weight {weight.shape} for {x.shape}", BROKEN)
    return _convolved(r, op, o, x, weight.transpose(0, 3, 1, 2), x.shape[1] // weight.shape[3])


def depthwise(r: Reading, op: LiteOperation) -> Operand:
    o = op.options("DepthwiseConv2DOptions")
    weight, x = r.constant(op, 1), r.maps(op)
    need(weight.ndim == 4 and weight.shape[0] == 1, f"weight {weight.shape}", BROKEN)
    need(weight.shape[3] % x.shape[1] == 0, f"weight {weight.shape} for {x.shape}", BROKEN)
    return _convolved(r, op, o, x, weight.transpose(3, 0, 1, 2), x.shape[1])


def _convolved(r: Reading, op: LiteOperation, o: Any, x: Value, weight: Any, groups: int) -> Operand:
    stride, gap = (o.StrideH(), o.StrideW()), (o.DilationHFactor(), o.DilationWFactor())
    around = pads(x.shape[2:], weight.shape[2:], stride, gap, o.Padding())
    y = products.convolution(
        r.composer, x, weight, r.optional(op, 2), stride=stride, pads=around, dilation=gap, groups=groups
    )
    return r.back(finished(r, y, o.FusedActivationFunction()))


def transposed(r: Reading, op: LiteOperation) -> Operand:
    o = op.options("TransposeConvOptions")
    size, weight, x = r.integers(op, 0), r.constant(op, 1), r.maps(op, 2)
    need(weight.ndim == 4 and len(size) == 4, f"weight {weight.shape} for an output {size}", BROKEN)
    stride = (o.StrideH(), o.StrideW())
    around = pads(size[1:3], weight.shape[1:3], stride, (1, 1), o.Padding())
    extra = [
        n - ((m - 1) * s + k - sum(p))
        for n, m, s, k, p in zip(size[1:3], x.shape[2:], stride, weight.shape[1:3], around, strict=True)
    ]
    y = products.transposed_convolution(
        r.composer, x, weight.transpose(3, 0, 1, 2), r.optional(op, 3), stride=stride, pads=around, extra=extra,
        dilation=(1, 1), groups=1,
    )  # fmt: skip
    return r.back(finished(r, y, o.FusedActivationFunction()))


def fully_connected(r: Reading, op: LiteOperation) -> Operand:
    o = op.options("FullyConnectedOptions")
    need(o.WeightsFormat() == 0, "weights in a shuffled order", "a conversion without shuffled weights")
    x, weight = r.activation(op), r.constant(op, 1)
    need(weight.ndim == 2, f"weight {weight.shape} is not a matrix", BROKEN)
    if not o.KeepNumDims():
        x = activation(moves.reshape(r.composer, x, (-1, weight.shape[1])))
    bias = r.optional(op, 2)
    y = products.linear(r.composer, x, products.floats(weight), None if bias is None else bias.ravel())
    return finished(r, y, o.FusedActivationFunction())


def matmul(r: Reading, op: LiteOperation) -> Operand:
    o = op.options("BatchMatMulOptions")
    x, y = r.operand(op, 0), r.operand(op, 1)
    x, y = (moves.swap(r.composer, v, -2, -1) if turned else v for v, turned in ((x, o.AdjX()), (y, o.AdjY())))
    return products.product(r.composer, x, y)


def pair(name: str, options: str) -> Rule:
    """A sum, difference, product or quotient, with the activation that it ends with."""

    def rule(r: Reading, op: LiteOperation) -> Operand:
        work = {"ADD": arithmetic.plus, "SUB": arithmetic.minus, "MUL": arithmetic.times, "DIV": arithmetic.over}[name]
        y = work(r.composer, r.operand(op, 0), r.operand(op, 1))
        code = op.options(options).FusedActivationFunction() if op.table is not None else NONE
        return finished(r, y, code)

    return rule


def pool(largest: bool) -> Rule:
    def rule(r: Reading, op: LiteOperation) -> Operand:
        o, x = op.options("Pool2DOptions"), r.maps(op)
        kernel, stride = (o.FilterHeight(), o.FilterWidth()), (o.StrideH(), o.StrideW())
        around = pads(x.shape[2:], kernel, stride, (1, 1), o.Padding())
        y: Operand
        if largest:
            y = windows.max_pool(r.composer, x, kernel=kernel, stride=stride, pads=around, dilation=(1, 1), ceil=False)
        else:
            y = windows.average_pool(
                r.composer, x, kernel=kernel, stride=stride, pads=around, ceil=False, count_padding=False
            )
        return r.back(finished(r, y, o.FusedActivationFunction()))

    return rule


def gelu(r: Reading, op: LiteOperation) -> Operand:
    near = op.options("GeluOptions").Approximate()
    return arithmetic.function(r.composer, r.operand(op, 0), "gelu_tanh" if near else "gelu")


def leaky(r: Reading, op: LiteOperation) -> Operand:
    alpha = float(op.options("LeakyReluOptions").Alpha())
    return arithmetic.function(r.composer, r.operand(op, 0), "leaky_relu", alpha)


def softmax(r: Reading, op: LiteOperation) -> Operand:
    beta = float(op.options("SoftmaxOptions").Beta())
    x = r.operand(op, 0)
    x = arithmetic.affine(r.composer, x, beta, 0.0) if beta != 1.0 else x
    return attention.softmax(r.composer, x, -1)


def reduce(operation: str) -> Rule:
    def rule(r: Reading, op: LiteOperation) -> Operand:
        keep = bool(op.options("ReducerOptions").KeepDims())
        axes = r.integers(op, 1)
        x = r.activation(op)
        rank = len(x.shape)
        if rank == 4 and operation == "mean" and sorted(a % rank for a in axes) == [1, 2]:
            maps = r.maps(op)
            y: Operand = windows.average_pool(
                r.composer, maps, kernel=maps.shape[2:], stride=maps.shape[2:], pads=[(0, 0)] * 2, ceil=False,
                count_padding=True,
            )  # fmt: skip
            y = r.back(y)
            return y if keep else moves.reshape(r.composer, y, (x.shape[0], x.shape[3]))
        return statistics.reduce(r.composer, x, operation, axes, keep)

    return rule


def reshape(r: Reading, op: LiteOperation) -> Operand:
    x, to = r.operand(op, 0), r.model.tensors[op.outputs[0]].shape
    return moves.reshape(r.composer, x, r.batched(to) if isinstance(x, Value) else to)


def transpose(r: Reading, op: LiteOperation) -> Operand:
    return moves.permute(r.composer, r.operand(op, 0), r.integers(op, 1))


def concat(r: Reading, op: LiteOperation) -> Operand:
    o = op.options("ConcatenationOptions")
    y = moves.join(r.composer, [r.operand(op, i) for i in range(len(op.inputs))], o.Axis())
    return finished(r, y, o.FusedActivationFunction())


def pad(r: Reading, op: LiteOperation) -> Operand:
    around = np.asarray(r.constant(op, 1), np.int64).reshape(-1, 2)
    fill = 0.0 if len(op.inputs) < 3 else float(np.ravel(r.constant(op, 2))[0])
    return moves.pad(r.composer, r.operand(op, 0), [(int(a), int(b)) for a, b in around], fill=fill)


def mirror(r: Reading, op: LiteOperation) -> Operand:
    need(op.options("MirrorPadOptions").Mode() == 0, "symmetric padding", "reflected padding")
    around = np.asarray(r.constant(op, 1), np.int64).reshape(-1, 2)
    return moves.pad(r.composer, r.operand(op, 0), [(int(a), int(b)) for a, b in around], "reflect")


def resize(linear: bool) -> Rule:
    def rule(r: Reading, op: LiteOperation) -> Operand:
        o = op.options("ResizeBilinearOptions" if linear else "ResizeNearestNeighborOptions")
        x, size = r.maps(op), r.integers(op, 1)
        need(len(size) == 2 and min(size) >= 1, f"a size {size}", BROKEN)
        word = "align_corners" if o.AlignCorners() else "half_pixel" if o.HalfPixelCenters() else "asymmetric"
        at = [windows.positions(n, m, n / m, word) for n, m in zip(x.shape[2:], size, strict=True)]
        if linear:
            return r.back(windows.resampled(r.composer, x, at, None))
        shift = 0.5 if word != "asymmetric" else 0.0  # rounded, halves up
        return r.back(windows.nearest(r.composer, x, (2, 3), [places + shift for places in at]))

    return rule


def strided_slice(r: Reading, op: LiteOperation) -> Operand:
    o, x = op.options("StridedSliceOptions"), r.operand(op, 0)
    need(
        not (o.EllipsisMask() or o.NewAxisMask()),
        "slices with ellipses or new axes",
        "slices with begin, end and strides",
    )
    starts, stops, steps = (r.integers(op, i) for i in (1, 2, 3))
    single = []
    for axis, (start, stop, step) in enumerate(zip(starts, stops, steps, strict=True)):
        shrinks = bool(o.ShrinkAxisMask() >> axis & 1)
        first = None if o.BeginMask() >> axis & 1 and not shrinks else start
        last = (start + 1 or None) if shrinks else None if o.EndMask() >> axis & 1 else stop
        if isinstance(x, Value) and axis == x.axis:
            need(
                not shrinks and first in (None, 0) and (last is None or last >= 1),
                "it cuts the batch",
                "slices that keep the whole batch",
            )
            continue
        x = moves.cut(r.composer, x, axis, first, last, step)
        single += [axis] if shrinks else []
    shape = [n for axis, n in enumerate(x.shape) if axis not in single]
    return moves.reshape(r.composer, x, shape) if single else x


def cut(r: Reading, op: LiteOperation) -> Operand:
    x = r.operand(op, 0)
    for axis, (start, size) in enumerate(zip(r.integers(op, 1), r.integers(op, 2), strict=True)):
        if not isinstance(x, Value) or axis != x.axis:
            x = moves.cut(r.composer, x, axis, start, None if size == -1 else start + size)
    return x


def split(r: Reading, op: LiteOperation) -> list[Operand]:
    count = op.options("SplitOptions").NumSplits()
    x, axis = r.operand(op, 1), r.integers(op, 0)[0]
    need(1 <= count <= x.shape[axis] and x.shape[axis] % count == 0, f"{x.shape[axis]} places in {count} parts", BROKEN)
    return moves.pieces(r.composer, x, axis, [x.shape[axis] // count] * count)


def block(to_space: bool) -> Rule:
    """Blocks of channels as blocks of places, channels last: (b, b, C) of each place."""

    def rule(r: Reading, op: LiteOperation) -> Operand:
        c, x = r.composer, r.activation(op)
        size = op.options("DepthToSpaceOptions" if to_space else "SpaceToDepthOptions").BlockSize()
        n, h, w, channels = x.shape
        need(size >= 1, f"blocks of {size}", BROKEN)
        if to_space:
            need(channels % size**2 == 0, f"{channels} channels in blocks of {size}", BROKEN)
            y = moves.reshape(c, x, (n, h, w, size, size, channels // size**2))
            y = moves.permute(c, y, (0, 1, 3, 2, 4, 5))
            return moves.reshape(c, y, (n, h * size, w * size, channels // size**2))
        need(h % size == 0 and w % size == 0, f"a map of {h} x {w} in blocks of {size}", BROKEN)
        y = moves.reshape(c, x, (n, h // size, size, w // size, size, channels))
        y = moves.permute(c, y, (0, 1, 3, 2, 4, 5))
        return moves.reshape(c, y, (n, h // size, w // size, size**2 * channels))

    return rule


def squared_difference(r: Reading, op: LiteOperation) -> Operand:
    d = arithmetic.minus(r.composer, r.operand(op, 0), r.operand(op, 1))
    return arithmetic.function(r.composer, d, "square") if isinstance(d, Value) else np.square(d)


def tile(r: Reading, op: LiteOperation) -> Operand:
    return moves.tile(r.composer, r.operand(op, 0), r.integers(op, 1))


def no_node(hint: str) -> Rule:
    def rule(r: Reading, op: LiteOperation) -> Operand:
        refuse("there is no node for it", hint)

    return rule


def by_name(form: Form) -> Rule:
    """The rule of an operation of the table."""
    return lambda r, op: form.rule(r.composer, Call({name: r.operand(op, n) for n, name in enumerate(form.inputs)}))


RULES: Mapping[str, Rule] = {
    **{form.name: by_name(form) for form in forms(OPERATIONS, "lite")},
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "TRANSPOSE_CONV": transposed,
    "FULLY_CONNECTED": fully_connected,
    "BATCH_MATMUL": matmul,
    "ADD": pair("ADD", "AddOptions"),
    "SUB": pair("SUB", "SubOptions"),
    "MUL": pair("MUL", "MulOptions"),
    "DIV": pair("DIV", "DivOptions"),
    "MAX_POOL_2D": pool(True),
    "AVERAGE_POOL_2D": pool(False),
    "MEAN": reduce("mean"),
    "SUM": reduce("sum"),
    "REDUCE_MAX": reduce("max"),
    "REDUCE_MIN": reduce("min"),
    "SQUARED_DIFFERENCE": squared_difference,
    "GELU": gelu,
    "LEAKY_RELU": leaky,
    "SOFTMAX": softmax,
    "LOG_SOFTMAX": no_node("end with the logits: the loss, not the network, takes their logarithm"),
    "RESHAPE": reshape,
    "SQUEEZE": reshape,
    "EXPAND_DIMS": reshape,
    "TRANSPOSE": transpose,
    "CONCATENATION": concat,
    "PAD": pad,
    "PADV2": pad,
    "MIRROR_PAD": mirror,
    "RESIZE_BILINEAR": resize(True),
    "RESIZE_NEAREST_NEIGHBOR": resize(False),
    "STRIDED_SLICE": strided_slice,
    "SLICE": cut,
    "SPLIT": split,
    "DEPTH_TO_SPACE": block(True),
    "SPACE_TO_DEPTH": block(False),
    "TILE": tile,
    "ARG_MAX": no_node("end with the logits: the largest is found from them"),
    "EMBEDDING_LOOKUP": no_node("one-hot inputs and a fully connected layer"),
}
