"""Products with stored weights, for the array: convolutions of all kinds and linear layers; products of activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mapping.network.compose.arithmetic import aligned, beside, placed, spread, together
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import closed, opened, permute, reshape, select, stack, swap
from mapping.network.compose.refusal import fit, need, within
from mapping.network.compose.values import Constant, Operand, Value, activation, alike, image_axis
from mapping.operators.joins import Concat
from mapping.operators.node import Array
from mapping.operators.products import Conv, Linear, MatMul
from mapping.operators.step import Shape

Pair = tuple[int, int]


def floats(values: Any) -> Array:
    return np.ascontiguousarray(values, dtype=np.float32)


def with_maps(c: Composer, x: Value, layer: Any) -> Value:
    """``layer`` of every map (n, channels, height, width); maps that are more images than the batch one by one.

    ``layer(node)`` gives the node behind one map (channels, height, width) and becomes part of the value.
    """
    need(
        len(x.shape) == 4,
        f"{x.shape} is not (n, channels, height, width)",
        "reshape it to (n, channels, height, width) before",
    )
    if x.axis == 0 and x.shape[0] == c.batch:
        node = layer(x.node)
        return c.value(node, x, (c.batch, *c.shape(node)))
    if c.batch == 1 and x.axis:
        x = placed(c, x, 0)
    need(x.axis == 0, f"the batch is axis {x.axis} of {x.shape}, not the first", "permute it to the first")
    split = Value(x.node, (c.batch, x.shape[0] // c.batch, *x.shape[1:]), 0)
    done = []
    for place in range(split.shape[1]):
        done.append(with_maps(c, activation(select(c, split, 1, place)), layer))
    joined = activation(stack(c, done, 1))
    return Value(joined.node, (x.shape[0], *joined.shape[2:]), 0, x.outer)


def as_map(c: Composer, x: Operand) -> tuple[Value, bool]:
    """A sequence (n, channels, length) as a map (n, channels, 1, length), and whether it was a sequence."""
    x = activation(x)
    need(
        len(x.shape) in (3, 4),
        f"the input {x.shape} is neither (n, channels, length) nor (n, channels, height, width)",
        "reshape it to one of them before",
    )
    flat = len(x.shape) == 3
    return activation(reshape(c, x, (*x.shape[:2], 1, x.shape[2]))) if flat else x, flat


def as_before(c: Composer, x: Value, flat: bool) -> Value:
    return activation(reshape(c, x, (*x.shape[:2], x.shape[3]))) if flat else x


def convolution(
    c: Composer,
    x: Operand,
    weight: Array,
    bias: Array | None,
    *,
    stride: Sequence[int],
    pads: Sequence[Pair],
    dilation: Sequence[int],
    groups: int,
    name: str = "",
) -> Value:
    """A convolution of maps or sequences; ``weight`` (out, in / groups, kernel…), ``pads`` (before, after) an axis."""
    opened, flat = as_map(c, x)
    fit(weight.ndim == (3 if flat else 4), f"weight {weight.shape} for an input {x.shape}")
    if flat:
        weight, stride, dilation = weight[:, :, None], (1, *stride), (1, *dilation)
        pads = ((0, 0), *pads)

    def layer(node: str) -> str:
        return _conv(c, node, weight, bias, stride, pads, dilation, groups, name)

    return as_before(c, with_maps(c, opened, layer), flat)


def _conv(
    c: Composer,
    node: str,
    weight: Array,
    bias: Array | None,
    stride: Sequence[int],
    pads: Sequence[Pair],
    dilation: Sequence[int],
    groups: int,
    name: str,
) -> str:
    even = all(before == after for before, after in pads)
    if not even:
        node = c.pad(node, [(0, 0), *pads])
    return c.add(
        Conv,
        [node],
        name=name,
        weight=floats(weight),
        bias=None if bias is None else floats(bias),
        stride=_two(stride),
        padding=_two([before for before, _ in pads]) if even else (0, 0),
        dilation=_two(dilation),
        groups=int(groups),
    )


def transposed_convolution(
    c: Composer,
    x: Operand,
    weight: Array,
    bias: Array | None,
    *,
    stride: Sequence[int],
    pads: Sequence[Pair],
    extra: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    name: str = "",
) -> Value:
    """A transposed convolution; ``weight`` (in, out / groups, kernel…), ``extra`` places behind (output_padding).

    Place s·m + r of the output, before cropping, is Σ_t x[m − t] · w[k] over those k with k · dilation = r + s·t: for
    each r an ordinary convolution with a part of the kernel. Nothing is multiplied by an inserted zero.
    """
    opened, flat = as_map(c, x)
    fit(weight.ndim == (3 if flat else 4), f"weight {weight.shape} for an input {x.shape}")
    if flat:
        weight, stride, dilation, extra = weight[:, :, None], (1, *stride), (1, *dilation), (0, *extra)
        pads = ((0, 0), *pads)
    within(*stride, *opened.shape[2:])
    inputs, per_group, *kernel = weight.shape
    size = [
        (length - 1) * s - sum(p) + d * (k - 1) + e + 1
        for length, s, p, d, k, e in zip(opened.shape[2:], stride, pads, dilation, kernel, extra, strict=True)
    ]
    need(min(size) >= 1, f"nothing is left of {x.shape} after cropping {tuple(pads)}", "less padding")
    grouped = weight.reshape(groups, inputs // groups, per_group, *kernel).swapaxes(1, 2)
    forward = grouped.reshape(groups * per_group, inputs // groups, *kernel)  # (out, in / groups, …)
    steps = [max(-(-(p[0] + o) // s), n) for p, o, s, n in zip(pads, size, stride, opened.shape[2:], strict=True)]

    def layer(node: str) -> str:
        phases = []
        for rows in range(stride[0]):
            for columns in range(stride[1]):
                part, before = _phase(forward, (rows, columns), stride, dilation)
                around = [(b, m - n) for b, m, n in zip(before, steps, opened.shape[2:], strict=True)]
                phases.append(_conv(c, node, part, bias, (1, 1), around, (1, 1), groups, name))
        whole = c.add(Concat, phases) if len(phases) > 1 else phases[0]
        outputs = groups * per_group
        if len(phases) > 1:
            whole = c.reshape(whole, (*stride, outputs, *steps))
            whole = c.reshape(
                c.permute(whole, (2, 3, 0, 4, 1)), (outputs, *(m * s for m, s in zip(steps, stride, strict=True)))
            )
        for axis, (pair, length) in enumerate(zip(pads, size, strict=True)):
            whole = c.take(whole, range(pair[0], pair[0] + length), axis + 1)
        return whole

    return as_before(c, with_maps(c, opened, layer), flat)


def _phase(weight: Array, phase: Pair, stride: Sequence[int], dilation: Sequence[int]) -> tuple[Array, list[int]]:
    """The part of a kernel that gives one place of each stride, turned round, and the places it looks back."""
    part, before = weight, list[int]()
    for axis, (r, s, d) in enumerate(zip(phase, stride, dilation, strict=True), start=2):
        back = {(k * d - r) // s: k for k in range(part.shape[axis]) if k * d >= r and (k * d - r) % s == 0}
        reach = max(back, default=0)
        taps = [back.get(reach - u, -1) for u in range(reach + 1)]
        chosen = part.take([max(k, 0) for k in taps], axis=axis)
        kept = np.array([k >= 0 for k in taps]).reshape(-1, *[1] * (part.ndim - 1 - axis))
        part, before = chosen * kept, [*before, reach]
    return floats(part), before


def linear(c: Composer, x: Operand, weight: Array, bias: Array | None, name: str = "") -> Operand:
    """y = x Wᵀ + bias along the last axis; ``weight`` (out, in). Of a sequence a 1 x 1 convolution of its places."""
    if not isinstance(x, Value):
        return np.asarray(x @ weight.T + (0 if bias is None else bias))
    x = beside(c, x, [-1])
    inner = image_axis(x, len(x.shape) - 1, c.batch)
    outputs, inputs = weight.shape
    fit(x.shape[-1] == inputs, f"weight {weight.shape} for an input {x.shape}")
    shape = c.shape(x.node)
    bias = None if bias is None else floats(bias)
    if math.prod(shape) == inputs:
        node = c.add(Linear, [c.reshape(x.node, (inputs,))], name=name, weight=floats(weight), bias=bias)
        return c.value(c.reshape(node, (*shape[:inner], outputs)), x, (*x.shape[:-1], outputs))
    node = x.node
    if len(shape) != 3:
        rows = math.prod(shape[1:-1])
        node = c.reshape(node, (shape[0], rows, inputs))
    high, wide = c.shape(node)[:2]
    node = c.permute(node, (2, 0, 1))
    kernel = floats(weight)[:, :, None, None]
    node = c.add(Conv, [node], name=name, weight=kernel, bias=bias)
    node = c.reshape(c.permute(c.reshape(node, (outputs, high, wide)), (1, 2, 0)), (*shape[:-1], outputs))
    return c.value(node, x, (*x.shape[:-1], outputs))


def product(c: Composer, x: Operand, y: Operand, name: str = "") -> Operand:
    """The matrix product of two operands (``torch.matmul``); one that is stored becomes weights."""
    if not isinstance(x, Value) and not isinstance(y, Value):
        return np.asarray(np.matmul(x, y))
    if len(x.shape) == 1:
        found = product(c, reshape(c, x, (1, x.shape[0])), y, name)
        return reshape(c, found, (*found.shape[:-2], found.shape[-1]))
    if len(y.shape) == 1:
        found = product(c, x, reshape(c, y, (y.shape[0], 1)), name)
        return reshape(c, found, found.shape[:-1])
    fit(x.shape[-1] == y.shape[-2], f"matrices {x.shape} and {y.shape}")
    if not isinstance(x, Value):
        turned = product(c, swap(c, y, -1, -2), np.swapaxes(x, -1, -2), name)
        return swap(c, turned, -1, -2)
    if not isinstance(y, Value):
        return _by_stored(c, x, y, name)
    wide = max(len(x.shape), len(y.shape))
    first, second = (activation(reshape(c, v, (1,) * (wide - len(v.shape)) + v.shape)) for v in (x, y))
    first, second = aligned(c, beside(c, first, [-1, -2]), beside(c, second, [-1, -2]))
    need(
        first.axis < wide - 2,
        "the batch is an axis of the matrices",
        "permute: the batch before the two axes that are multiplied",
    )
    shape: Shape = (*together(first.shape[:-2], second.shape[:-2]), first.shape[-2], second.shape[-1])
    return c.value(c.add(MatMul, [first.node, second.node]), first, shape)


def _by_stored(c: Composer, x: Value, y: Constant, name: str) -> Operand:
    """x times stored matrices: a linear layer, or a grouped convolution where each leading place has its own."""
    if y.ndim == 2 or math.prod(y.shape[:-2]) == 1:
        found = linear(c, x, floats(y.reshape(y.shape[-2:]).T), None, name)
        return reshape(c, found, (*(1,) * (y.ndim - len(x.shape)), *found.shape))
    if x.axis == len(x.shape) - 2:  # the images are rows: each a matrix of one row
        rank = len(x.shape)
        turned = opened(c, permute(c, x, (rank - 2, *range(rank - 2), rank - 1)), -2)
        found = closed(c, _by_stored(c, activation(turned), y, name), -2)
        return permute(c, found, (*range(1, len(found.shape) - 1), 0, len(found.shape) - 1))
    leading = together(x.shape[:-2], y.shape[:-2])
    x = spread(c, x, (*leading, *x.shape[-2:]))
    need(x.axis < len(leading), "the batch is an axis that is summed over", "a batch in one of the axes before")
    own = np.broadcast_to(y, (*leading, *y.shape[-2:]))
    if (size := x.shape[x.axis]) != c.batch and x.outer == 1:  # windows as more images
        apart = (c.batch, size // c.batch)
        parts = [(*leading[: x.axis], *apart, *leading[x.axis + 1 :], *v.shape[-2:]) for v in (x, own)]
        found = _by_stored(c, activation(reshape(c, x, parts[0])), own.reshape(parts[1]), name)
        return reshape(c, found, (*leading, *found.shape[-2:]))
    take_one = [slice(None)] * own.ndim
    need(x.shape[x.axis] == c.batch, "matrices of their own for each window", "windows as an axis of their own")
    take_one[x.axis] = slice(0, 1)
    need(alike(own, own[tuple(take_one)]), "weights differ between the images of a batch", "one weight for every image")
    inputs, outputs = y.shape[-2:]
    groups = math.prod(leading) // c.batch
    weight = own[tuple(take_one)].reshape(groups, inputs, outputs).swapaxes(1, 2).reshape(groups * outputs, inputs)
    rows = x.shape[-2]
    node = c.permute(c.reshape(x.node, (groups, rows, inputs)), (0, 2, 1))
    node = c.reshape(node, (groups * inputs, rows, 1))
    node = c.add(Conv, [node], name=name, weight=floats(weight)[:, :, None, None], groups=groups)
    node = c.permute(c.reshape(node, (groups, outputs, rows)), (0, 2, 1))
    image = [size for axis, size in enumerate(leading) if axis != x.axis]
    return c.value(c.reshape(node, (*image, rows, outputs)), x, (*leading, rows, outputs))


def _two(values: Sequence[int]) -> Pair:
    first, second = values
    return int(first), int(second)
