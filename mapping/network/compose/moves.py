"""Moves of elements: reshape, permute, slices, joins, repetition, padding. Axes count with the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mapping.network.compose.arithmetic import affine, beside, placed, spread
from mapping.network.compose.composer import Composer
from mapping.network.compose.refusal import BROKEN, need, refuse, within
from mapping.network.compose.values import (
    Constant,
    Operand,
    Value,
    activation,
    image_axis,
    image_shape,
    place_of_batch,
)
from mapping.operators.joins import Concat
from mapping.operators.moves import FILL
from mapping.operators.step import Shape


def reshape(c: Composer, x: Operand, shape: Sequence[int]) -> Operand:
    """``x`` under another shape; one −1 is replaced by the remaining size."""
    size = math.prod(x.shape)
    known = math.prod(s for s in shape if s != -1)
    to = tuple(int(size // max(known, 1)) if s == -1 else int(s) for s in shape)
    need(math.prod(to) == size, f"{x.shape} has not the elements of {to}", BROKEN)
    if not isinstance(x, Value):
        return x.reshape(to)
    axis, outer = place_of_batch(to, x, c.batch)
    node = c.reshape(x.node, image_shape(to, axis, c.batch))
    return c.value(node, replace(x, outer=outer), to, axis)


def opened(c: Composer, x: Operand, axis: int) -> Operand:
    """A new axis of size 1 at place ``axis`` of the result."""
    axis %= len(x.shape) + 1
    to = (*x.shape[:axis], 1, *x.shape[axis:])
    return _with_axes(c, x, to, x.axis + (axis <= x.axis)) if isinstance(x, Value) else x.reshape(to)


def closed(c: Composer, x: Operand, axis: int) -> Operand:
    """An axis of size 1 gone."""
    axis %= len(x.shape)
    need(x.shape[axis] == 1, f"axis {axis} of {x.shape} is not of size 1", BROKEN)
    to = (*x.shape[:axis], *x.shape[axis + 1 :])
    if not isinstance(x, Value):
        return x.reshape(to)
    return reshape(c, x, to) if axis == x.axis else _with_axes(c, x, to, x.axis - (axis < x.axis))


def _with_axes(c: Composer, x: Value, shape: Shape, axis: int) -> Value:
    return c.value(c.reshape(x.node, image_shape(shape, axis, c.batch)), x, shape, axis)


def permute(c: Composer, x: Operand, order: Sequence[int]) -> Operand:
    rank = len(x.shape)
    axes = [axis % rank for axis in order]
    need(sorted(axes) == list(range(rank)), f"order {tuple(order)} of {x.shape}", BROKEN)
    if not isinstance(x, Value):
        return x.transpose(axes)
    dropped = x.shape[x.axis] == c.batch
    inner = [axis - (dropped and axis > x.axis) for axis in axes if not (dropped and axis == x.axis)]
    node = c.permute(x.node, inner) if inner else x.node
    return c.value(node, x, tuple(x.shape[axis] for axis in axes), axes.index(x.axis))


def swap(c: Composer, x: Operand, first: int, second: int) -> Operand:
    """Two axes exchanged."""
    order = list(range(len(x.shape)))
    order[first], order[second] = order[second], order[first]
    return permute(c, x, order)


def take(c: Composer, x: Operand, index: Sequence[int], axis: int, fill: float = 0.0) -> Operand:
    """Places ``index`` along one axis; −1 gives ``fill``."""
    axis %= len(x.shape)
    if not isinstance(x, Value):
        taken = x.take([max(i, 0) for i in index], axis=axis)
        if FILL in index:
            at = np.array(index).reshape(-1, *[1] * (x.ndim - 1 - axis)) < 0
            taken = np.where(at, np.asarray(fill, x.dtype), taken)
        return taken
    if tuple(index) == tuple(range(x.shape[axis])):
        return x
    if not len(index):  # prefix tokens of a network that has none
        return np.zeros((*x.shape[:axis], 0, *x.shape[axis + 1 :]), np.float32)
    x = beside(c, x, [axis])
    if axis == x.axis and c.batch > 1:
        return _along_batch(c, x, index)
    node = c.take(x.node, index, image_axis(x, axis, c.batch), fill)
    return c.value(node, x, (*x.shape[:axis], len(index), *x.shape[axis + 1 :]))


def _along_batch(c: Composer, x: Value, index: Sequence[int]) -> Value:
    """Places of the axis of the batch: whole batches that stand one behind the other, or each image repeated."""
    rest = x.shape[x.axis] // (x.outer * c.batch)
    at = np.array(index, np.int64)
    image, inside = at // rest % c.batch, at // (rest * c.batch) * rest + at % rest
    for outer in range(1, len(at) // c.batch + 1):
        if len(at) % (outer * c.batch):
            continue
        whose, places = (v.reshape(outer, c.batch, -1) for v in (image, inside))
        if (at >= 0).all() and (whose.swapaxes(1, 2) == np.arange(c.batch)).all() and (places == places[:, :1]).all():
            opened_up = c.reshape(x.node, (*x.shape[: x.axis], x.outer * rest, *x.shape[x.axis + 1 :]))
            shape = (*x.shape[: x.axis], len(at), *x.shape[x.axis + 1 :])
            node = c.take(opened_up, places[:, 0].ravel().tolist(), x.axis)
            return Value(c.reshape(node, image_shape(shape, x.axis, c.batch)), shape, x.axis, outer)
    refuse("it works along the batch", "whole batches, as chunk(n, 0) of what cat([...], 0) joined")


def _joined_batches(c: Composer, values: Sequence[Value], axis: int) -> Value:
    """Batches one behind the other in one axis: the network is run on each of them."""
    rest = {value.shape[axis] // (value.outer * c.batch) for value in values}
    need(len(rest) == 1, "batches of other sizes are joined", "batches of one size, or one after the other")
    nodes = []
    for value in values:
        size = value.shape[axis] // c.batch
        nodes.append(c.reshape(value.node, (*value.shape[:axis], size, *value.shape[axis + 1 :])))
    shape = (*values[0].shape[:axis], sum(value.shape[axis] for value in values), *values[0].shape[axis + 1 :])
    return Value(c.add(Concat, nodes, axis=axis), shape, axis, sum(value.outer for value in values))


def cut(c: Composer, x: Operand, axis: int, start: int | None, stop: int | None, step: int = 1) -> Operand:
    """``x[start:stop:step]`` along one axis."""
    return take(c, x, range(*slice(start, stop, step).indices(x.shape[axis])), axis)


def select(c: Composer, x: Operand, axis: int, place: int) -> Operand:
    """One place of an axis, which is removed."""
    axis %= len(x.shape)
    return closed(c, take(c, x, [place % x.shape[axis]], axis), axis)


def pieces(c: Composer, x: Operand, axis: int, sizes: Sequence[int]) -> list[Operand]:
    """``x`` cut along one axis into pieces of these sizes."""
    ends = np.cumsum(sizes).tolist()
    need(ends[-1] == x.shape[axis], f"pieces {list(sizes)} of axis {axis} of {x.shape}", BROKEN)
    return [cut(c, x, axis, end - size, end) for end, size in zip(ends, sizes, strict=True)]


def chunk_sizes(length: int, chunks: int) -> list[int]:
    """Sizes of at most ``chunks`` equal pieces, the last one shorter (``torch.chunk``)."""
    size = -(-length // chunks)
    return [min(size, length - start) for start in range(0, length, size)]


def join(c: Composer, parts: Sequence[Operand], axis: int) -> Operand:
    """Parts side by side along one axis; constants among them become places that are filled."""
    parts = [part for part in parts if part.shape[axis]] or parts[:1]
    parts = [beside(c, part, [axis]) if isinstance(part, Value) else part for part in parts]
    values = [part for part in parts if isinstance(part, Value)]
    if not values:
        return np.concatenate([part for part in parts if not isinstance(part, Value)], axis)
    like = values[0]
    axis %= len(like.shape)
    if len(values) == len(parts) > 1 and all(value.axis == axis for value in values):
        return _joined_batches(c, values, axis)
    if c.batch == 1:
        values = [placed(c, value, like.axis) for value in values]
        like = values[0]
    need(
        all((value.axis, value.outer) == (like.axis, like.outer) for value in values),
        "the images of a batch stand at other places in each input",
        "permute: the batch in the same axis of all inputs",
    )
    length = sum(part.shape[axis] for part in parts)
    shape = (*like.shape[:axis], length, *like.shape[axis + 1 :])
    inner = image_axis(like, axis, c.batch)
    node = like.node if len(values) == 1 else c.add(Concat, [value.node for value in values], axis=inner)
    joined = c.value(node, like, (*shape[:axis], sum(value.shape[axis] for value in values), *shape[axis + 1 :]))
    if len(values) == len(parts):
        return joined
    index, at, shift = [], 0, []
    for part in parts:
        size = part.shape[axis]
        index += list(range(at, at + size)) if isinstance(part, Value) else [FILL] * size
        at += size if isinstance(part, Value) else 0
        zeros = np.zeros((*shape[:axis], size, *shape[axis + 1 :]), np.float32)
        shift.append(zeros if isinstance(part, Value) else zeros + part.astype(np.float32))
    return affine(c, take(c, joined, index, axis), 1.0, np.concatenate(shift, axis))


def stack(c: Composer, parts: Sequence[Operand], axis: int) -> Operand:
    """Parts along a new axis."""
    rank = len(parts[0].shape) + 1
    axis %= rank
    return join(c, [opened(c, part, axis) for part in parts], axis)


def expand(c: Composer, x: Operand, shape: Sequence[int]) -> Operand:
    """Axes of size 1 repeated, missing ones put before the first; −1 leaves an axis as it is."""
    old = (1,) * (len(shape) - len(x.shape)) + tuple(x.shape)
    to = tuple(o if s == -1 else int(s) for o, s in zip(old, shape, strict=True))
    if not isinstance(x, Value):
        return np.broadcast_to(x, to)
    return spread(c, x, to)


def tile(c: Composer, x: Operand, counts: Sequence[int]) -> Operand:
    """The whole repeated side by side along each axis (``Tensor.repeat``)."""
    found = reshape(c, x, (1,) * (len(counts) - len(x.shape)) + tuple(x.shape))
    for axis, count in enumerate(counts):
        if count != 1:
            within(count, *found.shape)
            found = take(c, found, list(range(found.shape[axis])) * count, axis)
    return found


def pad(c: Composer, x: Operand, pads: Sequence[tuple[int, int]], mode: str = "constant", fill: float = 0) -> Operand:
    """(before, after) for each axis; ``mode``: constant, reflect, replicate or circular. Negative ones cut off."""
    x = activation(x)
    if mode == "constant":
        if not any(pads[x.axis]):
            dropped = x.shape[x.axis] == c.batch
            inner = [tuple(pair) for axis, pair in enumerate(pads) if not (dropped and axis == x.axis)]
            shape = tuple(size + sum(pair) for size, pair in zip(x.shape, pads, strict=True))
            return c.value(c.pad(x.node, [(b, a) for b, a in inner], fill), x, shape)
        refuse("images of a batch cannot be padded", "padding along other axes")
    found: Operand = x
    for axis, (before, after) in enumerate(pads):
        size = x.shape[axis]
        within(size + max(before, 0) + max(after, 0))
        places = np.arange(-before, size + after)
        if mode == "reflect":
            need(
                max(before, after) < size,
                f"reflected padding {(before, after)} of {size} places",
                "padding smaller than the map, or padding twice",
            )
            places = np.abs(places)
            places = np.where(places >= size, 2 * (size - 1) - places, places)
        elif mode in ("replicate", "edge"):
            places = places.clip(0, size - 1)
        elif mode in ("circular", "wrap"):
            places %= size
        else:
            refuse(f"padding mode {mode!r}", "constant, reflect, replicate or circular")
        found = take(c, found, places.tolist(), axis)
    return found


def gather(c: Composer, x: Operand, index: Sequence[Constant | None]) -> Operand:
    """``x[index]`` with stored integers for neighbouring axes, None for whole axes."""
    at = [axis for axis, places in enumerate(index) if places is not None]
    chosen = [np.asarray(places) for places in index if places is not None]
    if any(places.dtype == np.bool_ for places in chosen):
        need(len(chosen) == 1, "more than one mask as an index", "one mask, or stored indices")
        chosen = list(chosen[0].nonzero())
        at = list(range(at[0], at[0] + len(chosen)))
    need(
        at == list(range(at[0], at[0] + len(at))), "indices of axes that are not neighbours", "one axis after the other"
    )
    first, last = at[0], at[-1] + 1
    sizes = x.shape[first:last]
    wrapped = [np.where(p < 0, p + size, p) for p, size in zip(np.broadcast_arrays(*chosen), sizes, strict=True)]
    need(
        all(((p >= 0) & (p < size)).all() for p, size in zip(wrapped, sizes, strict=True)),
        f"an index outside of {tuple(sizes)}",
        "indices from 0 to the size less one",
    )
    flat = np.ravel_multi_index(tuple(p.astype(np.int64) for p in wrapped), sizes)
    merged = reshape(c, x, (*x.shape[:first], math.prod(sizes), *x.shape[last:])) if len(at) > 1 else x
    taken = take(c, merged, flat.ravel().tolist(), first)
    shape: Shape = (*x.shape[:first], *flat.shape, *x.shape[last:])
    return reshape(c, taken, shape)
