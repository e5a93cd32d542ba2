"""Rules of ATen for everything that only moves elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mapping.network.compose.arithmetic import times
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import (
    chunk_sizes,
    closed,
    cut,
    expand,
    gather,
    join,
    opened,
    pad,
    permute,
    pieces,
    reshape,
    select,
    stack,
    swap,
    take,
    tile,
)
from mapping.network.compose.places import gathered, numbered, picked, scattered, written
from mapping.network.compose.refusal import need, refuse
from mapping.network.compose.values import Operand, Value
from mapping.network.compose.windows import folded
from mapping.network.operations.call import Call, Rule


def _reshape(c: Composer, a: Call) -> Operand:
    return reshape(c, a.x, a.shape)


def _squeeze(c: Composer, a: Call) -> Operand:
    rank = len(a.x.shape)
    asked = a.get("dim")
    axes = range(rank) if asked is None else [axis % rank for axis in a.integers("dim", len(np.atleast_1d(asked)))]
    found = a.x
    for axis in sorted((axis for axis in axes if a.x.shape[axis] == 1), reverse=True):
        found = closed(c, found, axis)
    return found


def _move(c: Composer, a: Call) -> Operand:
    rank = len(a.x.shape)
    source, target = ([axis % rank for axis in a.integers(name, 1)] for name in ("source", "destination"))
    rest = [axis for axis in range(rank) if axis not in source]
    for axis, place in sorted(zip(source, target, strict=True), key=lambda pair: pair[1]):
        rest.insert(place, axis)
    return permute(c, a.x, rest)


def _swap(c: Composer, a: Call) -> Operand:
    first, second = (a.get(name, a.get(other)) for name, other in (("dim0", "axis0"), ("dim1", "axis1")))
    return swap(c, a.x, first, second)


def _last_two(c: Composer, a: Call) -> Operand:
    return swap(c, a.x, 0, 1) if len(a.x.shape) == 2 else a.x


def _chunk(c: Composer, a: Call) -> list[Operand]:
    return pieces(c, a.x, a["dim"], chunk_sizes(a.x.shape[a["dim"]], a["chunks"]))


def _split(c: Composer, a: Call) -> list[Operand]:
    sizes = a.get("split_size", a.get("split_sizes"))
    length = a.x.shape[a["dim"]]
    if isinstance(sizes, int):
        sizes = [min(sizes, length - start) for start in range(0, length, sizes)]
    return pieces(c, a.x, a["dim"], sizes)


def _split_as_array(c: Composer, a: Call) -> list[Operand]:
    length = a.x.shape[a["dim"]]
    if a.overload == "sections":
        parts = np.array_split(np.arange(length), a["sections"])
        return pieces(c, a.x, a["dim"], [len(part) for part in parts])
    ends = [*a["indices"], length]
    return [cut(c, a.x, a["dim"], start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _unbind(c: Composer, a: Call) -> list[Operand]:
    return [select(c, a.x, a["dim"], place) for place in range(a.x.shape[a["dim"]])]


def _slice(c: Composer, a: Call) -> Operand:
    return cut(c, a.x, a["dim"], a["start"], a["end"], a["step"])


def _narrow(c: Composer, a: Call) -> Operand:
    start = int(np.asarray(a["start"])) % a.x.shape[a["dim"]]
    return cut(c, a.x, a["dim"], start, start + a["length"])


def _index_select(c: Composer, a: Call) -> Operand:
    index = a.operand("index")
    need(not isinstance(index, Value), "an index that is computed", "stored indices")
    return take(c, a.x, np.asarray(index).ravel().tolist(), a["dim"])


def _index(c: Composer, a: Call) -> Operand:
    index = a["indices"]
    need(not any(isinstance(places, Value) for places in index), "an index that is computed", "stored indices")
    at = [axis for axis, places in enumerate(index) if places is not None]
    if at == list(range(at[0], at[0] + len(at))):
        return gather(c, a.x, index)
    return picked(c, a.x, numbered(a.x)[_whole(index)])


def _whole(index: Sequence[Any]) -> tuple[Any, ...]:
    """An index of all axes: the stored places of those that have some, ``slice(None)`` for the others."""
    return tuple(slice(None) if places is None else places for places in index)


def _stored_index(a: Call) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    index = a.operand("index")
    if isinstance(index, Value):
        refuse("places that are computed", "stored places, or a product with a one-hot mask")
    return np.asarray(index)


def _gathered(c: Composer, a: Call) -> Operand:
    return gathered(c, a.x, _stored_index(a), a["dim"])


def _scattered(add: bool) -> Rule:
    def rule(c: Composer, a: Call) -> Operand:
        need(not a.get("reduce") or a["reduce"] == "sum", f"scatter with {a.get('reduce')}", "scatter or scatter_add")
        index = _stored_index(a)
        source = a.operand("src") if "src" in a.arguments else a.operand("value")
        return scattered(c, a.x, index, source, a["dim"], add)

    return rule


def _written(c: Composer, a: Call) -> Operand:
    """``self`` with values in stored places (index_put)."""
    need(not any(isinstance(p, Value) for p in a["indices"]), "places that are computed", "torch.where with a mask")
    return written(c, a.x, numbered(a.x)[_whole(a["indices"])], a.operand("values"), bool(a.get("accumulate")))


def _lines(c: Composer, a: Call, add: bool) -> Operand:
    """Whole lines written to stored places of an axis (index_copy, index_add, index_fill)."""
    axis = a["dim"] % len(a.x.shape)
    at = _whole([*[None] * axis, _stored_index(a).ravel()])
    lines = a.operand("source") if "source" in a.arguments else a.operand("value")
    alpha = a.get("alpha", 1)
    return written(c, a.x, numbered(a.x)[at], lines if alpha == 1 else times(c, lines, np.asarray(alpha)), add)


def _diagonal(c: Composer, a: Call) -> Operand:
    return picked(c, a.x, numbered(a.x).diagonal(a["offset"], a["dim1"], a["dim2"]))


def _on_diagonal(c: Composer, a: Call) -> Operand:
    import torch

    numbers = torch.diag_embed(torch.tensor(numbered(a.x)) + 1, a["offset"], a["dim1"], a["dim2"])
    return picked(c, a.x, numbers.numpy() - 1)


def _roll(c: Composer, a: Call) -> Operand:
    found, dims = a.x, a.integers("dims", len(a["dims"]))
    shifts = a.integers("shifts", max(len(dims), 1))
    if not dims:
        flat = reshape(c, found, (-1,))
        places = np.roll(np.arange(flat.shape[0]), shifts[0]).tolist()
        return reshape(c, take(c, flat, places, 0), found.shape)
    for shift, axis in zip(shifts, dims, strict=True):
        found = take(c, found, np.roll(np.arange(found.shape[axis]), shift).tolist(), axis)
    return found


def _flip(c: Composer, a: Call) -> Operand:
    found = a.x
    for axis in a["dims"]:
        found = take(c, found, range(found.shape[axis] - 1, -1, -1), axis)
    return found


def _repeat_each(c: Composer, a: Call) -> Operand:
    counts = a["repeats"]
    need(
        a["dim"] is not None and not isinstance(counts, Value),
        "repetition without an axis",
        "a stored number of repeats, and dim=",
    )
    length = a.x.shape[a["dim"]]
    return take(c, a.x, np.repeat(np.arange(length), np.asarray(counts)).tolist(), a["dim"])


def _concat(c: Composer, a: Call) -> Operand:
    parts = [part for part in a["tensors"] if part.shape != (0,)]  # torch passes over empty vectors
    return join(c, parts, a["dim"])


def _pairs(given: Sequence[int], rank: int) -> list[tuple[int, int]]:
    """(before, after) for each axis of torch's list, which begins with the last axis."""
    flat = [*given, *[0] * (2 * rank - len(given))]
    return [(int(flat[2 * n]), int(flat[2 * n + 1])) for n in reversed(range(rank))]


def _pad(c: Composer, a: Call) -> Operand:
    return pad(c, a.x, _pairs(a["pad"], len(a.x.shape)), a.get("mode", "constant"), a.get("value") or 0)


def _pad_by(mode: str) -> Rule:
    return lambda c, a: pad(c, a.x, _pairs(a["padding"], len(a.x.shape)), mode)


def _pixel_shuffle(c: Composer, a: Call) -> Operand:
    r = a["upscale_factor"]
    *lead, channels, high, wide = a.x.shape
    n = len(lead)
    split = reshape(c, a.x, (*lead, channels // r**2, r, r, high, wide))
    moved = permute(c, split, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return reshape(c, moved, a.shape)


def _pixel_unshuffle(c: Composer, a: Call) -> Operand:
    r = a["downscale_factor"]
    *lead, channels, high, wide = a.x.shape
    n = len(lead)
    split = reshape(c, a.x, (*lead, channels, high // r, r, wide // r, r))
    moved = permute(c, split, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return reshape(c, moved, a.shape)


def _channel_shuffle(c: Composer, a: Call) -> Operand:
    groups, (images, channels, *rest) = a["groups"], a.x.shape
    split = reshape(c, a.x, (images, groups, channels // groups, *rest))
    return reshape(c, swap(c, split, 1, 2), a.x.shape)


def _unfold_map(c: Composer, a: Call) -> Operand:
    """Every window of a map as a column: (n, channels · kernel, windows)."""
    kernel, gap, around, step = (a.integers(name, 2) for name in ("kernel_size", "dilation", "padding", "stride"))
    images, channels, *size = a.x.shape
    found = pad(c, a.x, [(0, 0), (0, 0), *((p, p) for p in around)])
    counts = []
    for axis in range(2):
        count = (size[axis] + 2 * around[axis] - gap[axis] * (kernel[axis] - 1) - 1) // step[axis] + 1
        places = np.arange(kernel[axis])[:, None] * gap[axis] + np.arange(count) * step[axis]
        found = take(c, found, places.ravel().tolist(), axis + 2)
        counts.append(count)
    split = reshape(c, found, (images, channels, kernel[0], counts[0], kernel[1], counts[1]))
    return reshape(c, permute(c, split, (0, 1, 2, 4, 3, 5)), a.shape)


def _fold_map(c: Composer, a: Call) -> Operand:
    kernel, gap, around, step = (a.integers(name, 2) for name in ("kernel_size", "dilation", "padding", "stride"))
    return folded(c, a.x, a.integers("output_size", 2), kernel, step, around, gap)


def _unfold(c: Composer, a: Call) -> Operand:
    """Windows of an axis as a new last axis."""
    axis, size, step = a["dimension"] % len(a.x.shape), a["size"], a["step"]
    count = (a.x.shape[axis] - size) // step + 1
    places = np.arange(count)[:, None] * step + np.arange(size)
    taken = take(c, a.x, places.ravel().tolist(), axis)
    split = reshape(c, taken, (*a.x.shape[:axis], count, size, *a.x.shape[axis + 1 :]))
    order = [n for n in range(len(split.shape)) if n != axis + 1]
    return permute(c, split, [*order, axis + 1])


def _scatter(c: Composer, a: Call) -> Operand:
    """``self`` with ``src`` in the places of a slice."""
    axis = a["dim"] % len(a.x.shape)
    length = a.x.shape[axis]
    at = list(range(*slice(a["start"], a["end"], a["step"]).indices(length)))
    index = list(range(length))
    for number, place in enumerate(at):
        index[place] = length + number
    return take(c, join(c, [a.x, a.operand("src")], axis), index, axis)


def _select_scatter(c: Composer, a: Call) -> Operand:
    axis, length = a["dim"] % len(a.x.shape), a.x.shape[a["dim"]]
    part = opened(c, a.operand("src"), axis)
    index = list(range(length))
    index[a["index"]] = length
    return take(c, join(c, [a.x, part], axis), index, axis)


def _copied(c: Composer, a: Call) -> Operand:
    return expand(c, a.operand("src"), a.x.shape)


RULES: dict[str, Rule] = {
    "gather": _gathered,
    "scatter": _scattered(False),
    "scatter_add": _scattered(True),
    "scatter_reduce": _scattered(True),
    "index_put": _written,
    "_unsafe_index_put": _written,
    "_unsafe_index": _index,
    "index_copy": lambda c, a: _lines(c, a, False),
    "index_fill": lambda c, a: _lines(c, a, False),
    "index_add": lambda c, a: _lines(c, a, True),
    "diagonal": _diagonal,
    "diag_embed": _on_diagonal,
    **{name: _reshape for name in ("view", "reshape", "_unsafe_view", "flatten", "unflatten")},
    "unsqueeze": lambda c, a: opened(c, a.x, a["dim"]),
    "squeeze": _squeeze,
    "permute": lambda c, a: permute(c, a.x, a["dims"]),
    "transpose": _swap,
    "swapaxes": _swap,
    "swapdims": _swap,
    "movedim": _move,
    "moveaxis": _move,
    "t": _last_two,
    "numpy_T": lambda c, a: permute(c, a.x, range(len(a.x.shape))[::-1]),
    "mT": lambda c, a: swap(c, a.x, -1, -2),
    "chunk": _chunk,
    "split": _split,
    "split_with_sizes": _split,
    "tensor_split": _split_as_array,
    "unbind": _unbind,
    "select": lambda c, a: select(c, a.x, a["dim"], a["index"]),
    "slice": _slice,
    "narrow": _narrow,
    "index_select": _index_select,
    "index": _index,
    "roll": _roll,
    "flip": _flip,
    "repeat": lambda c, a: tile(c, a.x, a["repeats"]),
    "tile": lambda c, a: tile(c, a.x, (*(1,) * (len(a.x.shape) - len(a["dims"])), *a["dims"])),
    "repeat_interleave": _repeat_each,
    "expand": lambda c, a: expand(c, a.x, a.shape),
    "expand_as": lambda c, a: expand(c, a.x, a.shape),
    "stack": lambda c, a: stack(c, a["tensors"], a["dim"]),
    "cat": _concat,
    "concat": _concat,
    "concatenate": _concat,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "reflection_pad1d": _pad_by("reflect"),
    "reflection_pad2d": _pad_by("reflect"),
    "replication_pad1d": _pad_by("replicate"),
    "replication_pad2d": _pad_by("replicate"),
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "native_channel_shuffle": _channel_shuffle,
    "im2col": _unfold_map,
    "col2im": _fold_map,
    "unfold": _unfold,
    "slice_scatter": _scatter,
    "select_scatter": _select_scatter,
    "copy": _copied,
}
