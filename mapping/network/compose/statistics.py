"""Means, sums and extremes over axes, and norms by them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mapping.network.compose.arithmetic import affine, beside, function, minus, plus, power, times
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import closed, cut, pad, reshape, take
from mapping.network.compose.products import floats
from mapping.network.compose.refusal import need, refuse
from mapping.network.compose.values import Constant, Operand, Value, activation, image_axis, image_part
from mapping.operators.affine import BatchNorm
from mapping.operators.node import Array
from mapping.operators.norms import Norm
from mapping.operators.pools import AvgPool, GlobalAvgPool, Reduce

MOST_FACTORS = 64
_NUMPY = {"mean": np.mean, "sum": np.sum, "max": np.max, "min": np.min}


def reduce(c: Composer, x: Operand, operation: str, axes: Sequence[int], keep: bool = False) -> Operand:
    """Mean, sum, max or min over ``axes``; without axes over all of them."""
    rank = len(x.shape)
    axes = sorted({axis % rank for axis in axes} or set(range(rank)))
    if not isinstance(x, Value):
        found: Constant = np.asarray(_NUMPY[operation](x, axis=tuple(axes), keepdims=keep))  # type: ignore[operator]
        return found
    x = beside(c, x, axes)
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    inner = tuple(image_axis(x, axis, c.batch) for axis in axes)
    shape = c.shape(x.node)
    if operation == "mean" and len(shape) == 3 and inner == (1, 2):
        if keep:
            return c.value(c.add(AvgPool, [x.node], kernel=shape[1:], stride=shape[1:]), x, kept)
        node = c.add(GlobalAvgPool, [x.node])
    else:
        node = c.add(Reduce, [x.node], operation=operation, axes=inner, keep=True)
        if keep:
            return c.value(node, x, kept)
        left = tuple(size for axis, size in enumerate(shape) if axis not in inner) or (1,)
        node = c.reshape(node, left)
    left = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    return c.value(node, x, left, x.axis - sum(axis < x.axis for axis in axes))


def product_along(c: Composer, x: Operand, axis: int, keep: bool) -> Operand:
    """The product of all places along an axis, one after the other."""
    count = x.shape[axis]
    need(count <= MOST_FACTORS, f"a product of {count} factors", "the exponential of a sum of logarithms")
    parts = [cut(c, x, axis, n, n + 1) for n in range(count)]
    found = functools.reduce(lambda x, y: times(c, x, y), parts)
    return found if keep else closed(c, found, axis)


def variance(c: Composer, x: Operand, axes: Sequence[int], correction: float, keep: bool) -> Operand:
    """Mean square distance from the mean over ``axes``, with n − correction for n."""
    rank = len(x.shape)
    axes = sorted({axis % rank for axis in axes} or set(range(rank)))
    count = math.prod(x.shape[axis] for axis in axes)
    need(
        count > correction,
        f"the variance of {count} numbers with correction {correction}",
        "more numbers, or correction=0",
    )
    centred = minus(c, x, reduce(c, x, "mean", axes, keep=True))
    squares = times(c, centred, centred)
    return times(c, reduce(c, squares, "mean", axes, keep), np.asarray(count / (count - correction)))


def length(c: Composer, x: Operand, axes: Sequence[int], order: float, keep: bool) -> Operand:
    """The norm of order 1 or 2, or the largest size, over ``axes``."""
    if order == 2:
        return function(c, reduce(c, times(c, x, x), "sum", axes, keep), "sqrt")
    if order not in (1, math.inf):
        need(order > 0, f"a norm of order {order:g}", "an order above zero")
        powers = power(c, function(c, x, "absolute"), np.asarray(order))
        return power(c, reduce(c, powers, "sum", axes, keep), np.asarray(1 / order))
    return reduce(c, function(c, x, "absolute"), "sum" if order == 1 else "max", axes, keep)


def log_sum_exp(c: Composer, x: Operand, axes: Sequence[int], keep: bool) -> Operand:
    """log Σ exp(x) over ``axes``, from the largest element on."""
    top = reduce(c, x, "max", axes, keep=True)
    sums = reduce(c, function(c, minus(c, x, top), "exp"), "sum", axes, keep)
    return plus(c, function(c, sums, "log"), top if keep else reshape(c, top, sums.shape))


def norm(
    c: Composer,
    x: Operand,
    axes: Sequence[int],
    scale: Any,
    shift: Any,
    eps: float,
    *,
    centre: bool = True,
) -> Value:
    """A norm over ``axes``; ``scale`` and ``shift`` combine with x as a sum would, None for one and zero."""
    x = beside(c, activation(x), axes)
    shape = c.shape(x.node)
    inner = tuple(sorted(image_axis(x, axis, c.batch) for axis in axes))

    def ranked(values: Any, default: float) -> Array:
        part = image_part(np.asarray(default if values is None else values), x, c.batch)
        return floats(part.reshape((1,) * (len(shape) - part.ndim) + part.shape))

    node = c.add(
        Norm, [x.node], axes=inner, scale=ranked(scale, 1.0), shift=ranked(shift, 0.0), eps=float(eps), centre=centre
    )
    return c.value(node, x)


def local_norm(c: Composer, x: Operand, size: int, alpha: float, beta: float, bias: float) -> Operand:
    """x / (bias + alpha · mean of squares of ``size`` channels around each one) ^ beta; zeros beyond the ends."""
    before, channels = (size - 1) // 2, x.shape[1]
    pads = [(0, 0), (before, size - 1 - before), *[(0, 0)] * (len(x.shape) - 2)]
    around = (np.arange(channels)[:, None] + np.arange(size)).ravel().tolist()
    windows = take(c, pad(c, times(c, x, x), pads), around, 1)
    means = reduce(c, reshape(c, windows, (x.shape[0], channels, size, *x.shape[2:])), "mean", [2])
    return times(c, x, power(c, affine(c, means, alpha, bias), np.asarray(-beta)))


def group_norm(c: Composer, x: Operand, groups: int, scale: Any, shift: Any, eps: float) -> Operand:
    """Norm of each group of channels (axis 1) with all its places; one channel a group: instance norm."""
    channels = x.shape[1]
    need(
        groups >= 1 and channels % groups == 0,
        f"{channels} channels in {groups} groups",
        "as many groups as divide the channels",
    )
    rank = len(x.shape)
    if groups in (1, channels):
        axes = range(1 if groups == 1 else 2, rank)
        scale, shift = (None if v is None else np.reshape(v, (channels, *[1] * (rank - 2))) for v in (scale, shift))
        return norm(c, x, axes, scale, shift, eps)
    split = reshape(c, x, (x.shape[0], groups, channels // groups, *x.shape[2:]))
    parts = (groups, channels // groups, *[1] * (rank - 2))
    scale, shift = (None if v is None else np.reshape(v, parts) for v in (scale, shift))
    return reshape(c, norm(c, split, range(2, rank + 1), scale, shift, eps), x.shape)


def batch_norm(c: Composer, x: Operand, stored: Sequence[Array | None], eps: float, name: str = "") -> Value:
    """(scale, shift, mean, variance) of each channel, axis 1; scale and shift may be None."""
    scale, shift, mean, spread = stored
    if mean is None or spread is None:
        refuse("it uses the statistics of the batch", "track_running_stats=True, and train it")
    x = beside(c, activation(x), [1])
    inner = image_axis(x, 1, c.batch)
    order = [inner, *(axis for axis in range(len(c.shape(x.node))) if axis != inner)]
    node = c.add(
        BatchNorm,
        [c.permute(x.node, order)],
        name=name,
        scale=np.ones_like(mean) if scale is None else floats(scale),
        shift=np.zeros_like(mean) if shift is None else floats(shift),
        mean=floats(mean),
        variance=floats(spread),
        eps=float(eps),
    )
    return c.value(c.permute(node, [int(axis) for axis in np.argsort(order)]), x)
