"""Everything that only moves elements."""

from __future__ import annotations

import math
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
from mapping.network.compose.refusal import BROKEN, need
from mapping.network.compose.values import Operand, Value
from mapping.network.compose.windows import folded
from mapping.network.operations.call import Call, Rule
from mapping.operators.family import NamedOperation


def _reshape(c: Composer, a: Call) -> Operand:
    return reshape(c, a.x, a.shape)


def _reshape_to(c: Composer, a: Call) -> Operand:
    wanted = a.whole("shape") or []
    if not a.get("allowzero"):
        wanted = [a.x.shape[n] if size == 0 and n < len(a.x.shape) else size for n, size in enumerate(wanted)]
    need(wanted.count(-1) <= 1 and min(wanted, default=1) >= -1, f"a shape {wanted}", "a shape with at most one -1")
    return reshape(c, a.x, wanted)


def _flatten(c: Composer, a: Call) -> Operand:
    axis = a["axis"] + len(a.x.shape) * (a["axis"] < 0)
    return reshape(c, a.x, (math.prod(a.x.shape[:axis]), math.prod(a.x.shape[axis:])))


def _squeeze(strict: bool) -> Rule:
    """``strict``: axes of another size are a mistake; torch leaves them."""

    def rule(c: Composer, a: Call) -> Operand:
        rank, axes = len(a.x.shape), a.whole("dim")
        gone = range(rank) if axes is None else [axis % rank for axis in axes]
        found = a.x
        for axis in sorted(gone, reverse=True):
            if a.x.shape[axis] == 1 or (strict and axes is not None):
                found = closed(c, found, axis)
        return found

    return rule


def _unsqueeze(c: Composer, a: Call) -> Operand:
    axes = a.whole("dim") or []
    rank, found = len(a.x.shape) + len(axes), a.x
    for axis in sorted(axis % rank for axis in axes):
        found = opened(c, found, axis)
    return found


def _permute(c: Composer, a: Call) -> Operand:
    return permute(c, a.x, a.whole("dims") or range(len(a.x.shape))[::-1])


def _move(c: Composer, a: Call) -> Operand:
    rank = len(a.x.shape)
    source, target = ([axis % rank for axis in a.integers(name, 1)] for name in ("source", "destination"))
    rest = [axis for axis in range(rank) if axis not in source]
    for axis, place in sorted(zip(source, target, strict=True), key=lambda pair: pair[1]):
        rest.insert(place, axis)
    return permute(c, a.x, rest)


def _swap(c: Composer, a: Call) -> Operand:
    one, other = (a.get(name, a.get(also)) for name, also in (("dim0", "axis0"), ("dim1", "axis1")))
    return swap(c, a.x, one, other)


def _chunk(c: Composer, a: Call) -> list[Operand]:
    length, count = a.x.shape[a["dim"]], a.get("chunks", a.outputs)
    need(count >= 1, f"{count} pieces of {length} places", BROKEN)
    return pieces(c, a.x, a["dim"], chunk_sizes(length, count))


def _split(c: Composer, a: Call) -> list[Operand]:
    sizes, length = a.get("split_size", a.get("split_sizes")), a.x.shape[a["dim"]]
    if sizes is None:
        need(a.get("chunks", a.outputs) <= length, f"{a.get('chunks', a.outputs)} pieces of {length} places", BROKEN)
        return _chunk(c, a)
    if isinstance(sizes, int):
        sizes = [min(sizes, length - start) for start in range(0, length, sizes)]
    return pieces(c, a.x, a["dim"], [int(size) for size in np.ravel(sizes)])


def _split_even(c: Composer, a: Call) -> list[Operand]:
    length, count, axis = a.x.shape[int(np.ravel(a["dim"])[0])], a["chunks"], int(np.ravel(a["dim"])[0])
    need(1 <= count <= length and length % count == 0, f"{length} places in {count} parts", BROKEN)
    return pieces(c, a.x, axis, [length // count] * count)


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


def _slices(c: Composer, a: Call) -> Operand:
    starts, stops = a.whole("start") or [], a.whole("end") or []
    axes, steps = a.whole("dim") or list(range(len(starts))), a.whole("step") or [1] * len(starts)
    same = len(starts) == len(stops) == len(axes) == len(steps)
    need(same, "starts, ends, axes and steps of different lengths", BROKEN)
    found = a.x
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        need(step != 0, "a step of zero", "a step other than zero")
        found = cut(c, found, axis, start, None if step < 0 and stop < -(2**30) else stop, step)
    return found


def _slice_of_sizes(c: Composer, a: Call) -> Operand:
    found = a.x
    for axis, (start, size) in enumerate(zip(a.whole("begin") or [], a.whole("size") or [], strict=True)):
        if not isinstance(found, Value) or axis != found.axis:
            found = cut(c, found, axis, start, None if size == -1 else start + size)
    return found


def _strided(c: Composer, a: Call) -> Operand:
    """Slices of TFLite, whose masks leave out ends and take axes away."""
    plain = not (a["ellipsis"] or a["new"])
    need(plain, "slices with ellipses or new axes", "slices with begin, end and strides")
    x, single = a.x, []
    bounds = zip(*(a.whole(name) or [] for name in ("begin", "end", "strides")), strict=True)
    for axis, (start, stop, step) in enumerate(bounds):
        shrinks = bool(a["shrinks"] >> axis & 1)
        low = None if a["begins"] >> axis & 1 and not shrinks else start
        high = (start + 1 or None) if shrinks else None if a["ends"] >> axis & 1 else stop
        if isinstance(x, Value) and axis == x.axis:
            whole = not shrinks and low in (None, 0) and (high is None or high >= 1)
            need(whole, "it cuts the batch", "slices that keep the whole batch")
            continue
        x = cut(c, x, axis, low, high, step)
        single += [axis] if shrinks else []
    return reshape(c, x, [n for axis, n in enumerate(x.shape) if axis not in single]) if single else x


def _narrow(c: Composer, a: Call) -> Operand:
    start = int(np.asarray(a["start"])) % a.x.shape[a["dim"]]
    return cut(c, a.x, a["dim"], start, start + a["length"])


def _index_select(c: Composer, a: Call) -> Operand:
    return take(c, a.x, a.stored("index").ravel().tolist(), a["dim"])


def _index(c: Composer, a: Call) -> Operand:
    index = a["indices"]
    need(not any(isinstance(places, Value) for places in index), "an index that is computed", "stored indices")
    at = [axis for axis, places in enumerate(index) if places is not None]
    if at == list(range(at[0], at[0] + len(at))):
        return gather(c, a.x, index)
    return picked(c, a.x, numbered(a.x)[_whole(index)])


def _gather(c: Composer, a: Call) -> Operand:
    return gather(c, a.x, [*[None] * (a["dim"] % len(a.x.shape)), a.stored("index")])


def _gather_nd(c: Composer, a: Call) -> Operand:
    index = a.stored("index")
    need(
        a["batch_dims"] == 0 and index.ndim >= 1,
        "indices of their own for each image",
        "the same stored indices for every image, batch_dims=0",
    )
    return gather(c, a.x, [index[..., n] for n in range(index.shape[-1])])


def _whole(index: Sequence[Any]) -> tuple[Any, ...]:
    """An index of all axes: the stored places of those that have some, ``slice(None)`` for the others."""
    return tuple(slice(None) if places is None else places for places in index)


def _gathered(c: Composer, a: Call) -> Operand:
    return gathered(c, a.x, a.stored("index"), a["dim"])


def _adds(a: Call) -> bool:
    rule = a.get("reduce") or "none"
    need(rule in ("none", "add", "sum"), f"elements written by {rule!r}", "none or add")
    return bool(rule != "none")


def _source(a: Call, name: str) -> Operand:
    return a.operand(name if name in a.arguments else "value")


def _scattered(add: bool) -> Rule:
    return lambda c, a: scattered(c, a.x, a.stored("index"), _source(a, "src"), a["dim"], _adds(a) or add)


def _scatter_nd(c: Composer, a: Call) -> Operand:
    index = a.stored("index")
    target = numbered(a.x)[tuple(index[..., n] for n in range(index.shape[-1]))]
    return written(c, a.x, target, a.operand("src"), _adds(a))


def _written(c: Composer, a: Call) -> Operand:
    """``self`` with values in stored places (index_put)."""
    need(not any(isinstance(p, Value) for p in a["indices"]), "places that are computed", "torch.where with a mask")
    return written(c, a.x, numbered(a.x)[_whole(a["indices"])], a.operand("values"), bool(a.get("accumulate")))


def _lines(add: bool) -> Rule:
    """Whole lines written to stored places of an axis (index_copy, index_add, index_fill)."""

    def rule(c: Composer, a: Call) -> Operand:
        at = _whole([*[None] * (a["dim"] % len(a.x.shape)), a.stored("index").ravel()])
        lines, alpha = _source(a, "source"), a.get("alpha", 1)
        return written(c, a.x, numbered(a.x)[at], lines if alpha == 1 else times(c, lines, np.asarray(alpha)), add)

    return rule


def _diagonal(c: Composer, a: Call) -> Operand:
    return picked(c, a.x, numbered(a.x).diagonal(a["offset"], a["dim1"], a["dim2"]))


def _on_diagonal(c: Composer, a: Call) -> Operand:
    import torch

    numbers = torch.diag_embed(torch.tensor(numbered(a.x)) + 1, a["offset"], a["dim1"], a["dim2"])
    return picked(c, a.x, numbers.numpy() - 1)


def _triangle(c: Composer, a: Call) -> Operand:
    ones, offset = np.ones(a.x.shape[-2:], np.float32), int(a.number("offset", 0))
    return times(c, a.x, np.triu(ones, offset) if a["upper"] else np.tril(ones, offset))


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
    stored = a["dim"] is not None and not isinstance(counts, Value)
    need(stored, "repetition without an axis", "a stored number of repeats, and dim=")
    length = a.x.shape[a["dim"]]
    return take(c, a.x, np.repeat(np.arange(length), np.asarray(counts)).tolist(), a["dim"])


def _tile(c: Composer, a: Call) -> Operand:
    counts = a.whole("repeats" if "repeats" in a.arguments else "dims") or []
    return tile(c, a.x, [*[1] * (len(a.x.shape) - len(counts)), *counts])


def _expand(c: Composer, a: Call) -> Operand:
    return expand(c, a.x, a.shape)


def _expand_both(c: Composer, a: Call) -> Operand:
    """Axes of size 1 on either side are repeated."""
    wanted = a.whole("shape") or []
    old = (1,) * (len(wanted) - len(a.x.shape)) + tuple(a.x.shape)
    wanted = [1] * (len(old) - len(wanted)) + wanted
    return expand(c, a.x, [o if w == 1 else w for o, w in zip(old, wanted, strict=True)])


def _concat(c: Composer, a: Call) -> Operand:
    parts = [part for part in a["tensors"] if part.shape != (0,)]  # torch passes over empty vectors
    return join(c, parts, a["dim"])


def _pad(mode: str = "constant") -> Rule:
    """(before, after) of each axis: of torch from the last axis on, of ONNX all before, of TFLite in order."""

    def rule(c: Composer, a: Call) -> Operand:
        rank = len(a.x.shape)
        around = [(0, 0)] * rank
        if "pads" in a.arguments:
            pads, axes = a.whole("pads") or [], a.whole("axes") or list(range(rank))
            need(len(pads) == 2 * len(axes), f"{len(pads)} numbers of padding for {len(axes)} axes", BROKEN)
            for n, axis in enumerate(axes):
                around[axis % rank] = (pads[n], pads[n + len(axes)])
        elif "paddings" in a.arguments:
            around = [(int(before), int(after)) for before, after in a.stored("paddings").reshape(-1, 2)]
            need(not a.get("symmetric"), "symmetric padding", "reflected padding")
        else:
            flat = a.get("pad", a.get("padding"))
            for n in range(len(flat) // 2):
                around[rank - 1 - n] = (int(flat[2 * n]), int(flat[2 * n + 1]))
        return pad(c, a.x, around, a.get("mode") or mode, a.number("value", 0.0))

    return rule


def _to_space(c: Composer, a: Call) -> Operand:
    """Blocks of channels as blocks of places; ``mode`` DCR: channels are the last part of each block."""
    r, (*lead, channels, high, wide) = a["upscale_factor"], a.x.shape
    n, less = len(lead), channels // r**2
    if a.get("mode") == "DCR":
        moved = permute(c, reshape(c, a.x, (*lead, r, r, less, high, wide)), (*range(n), n + 2, n + 3, n, n + 4, n + 1))
    else:
        moved = permute(c, reshape(c, a.x, (*lead, less, r, r, high, wide)), (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return reshape(c, moved, (*lead, less, high * r, wide * r))


def _to_depth(c: Composer, a: Call) -> Operand:
    r, (*lead, channels, high, wide) = a["downscale_factor"], a.x.shape
    n = len(lead)
    split = reshape(c, a.x, (*lead, channels, high // r, r, wide // r, r))
    order = (n + 2, n + 4, n, n + 1, n + 3) if a.get("mode") == "DCR" else (n, n + 2, n + 4, n + 1, n + 3)
    return reshape(c, permute(c, split, (*range(n), *order)), (*lead, channels * r**2, high // r, wide // r))


def _last_blocks(to_space: bool) -> Rule:
    """Blocks of channels as blocks of places, channels last: (b, b, C) of each place."""

    def rule(c: Composer, a: Call) -> Operand:
        size, (n, h, w, channels) = a["block"], a.value.shape
        need(size >= 1, f"blocks of {size}", BROKEN)
        if to_space:
            need(channels % size**2 == 0, f"{channels} channels in blocks of {size}", BROKEN)
            split, to = (h, w, size, size, channels // size**2), (h * size, w * size, channels // size**2)
        else:
            need(h % size == 0 and w % size == 0, f"a map of {h} x {w} in blocks of {size}", BROKEN)
            split, to = (h // size, size, w // size, size, channels), (h // size, w // size, size**2 * channels)
        return reshape(c, permute(c, reshape(c, a.x, (n, *split)), (0, 1, 3, 2, 4, 5)), (n, *to))

    return rule


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
    size, kernel = a.whole("output_size") or [], a.whole("kernel_size") or []
    need(len(size) == len(kernel) == 2, "windows folded into other than maps", "maps of height and width")
    gap, step = (a.integers(name, 2) if a.get(name) else (1, 1) for name in ("dilation", "stride"))
    pads = a.whole("pads" if "pads" in a.arguments else "padding") or [0, 0]
    before, after = pads[:2], pads[2:] or pads[:2]
    need(before == after, f"uneven padding {pads} of folded windows", "even padding, and a slice")
    return folded(c, a.x, size, kernel, step, before, gap)


def _unfold(c: Composer, a: Call) -> Operand:
    """Windows of an axis as a new last axis."""
    axis, size, step = a["dimension"] % len(a.x.shape), a["size"], a["step"]
    count = (a.x.shape[axis] - size) // step + 1
    places = np.arange(count)[:, None] * step + np.arange(size)
    taken = take(c, a.x, places.ravel().tolist(), axis)
    split = reshape(c, taken, (*a.x.shape[:axis], count, size, *a.x.shape[axis + 1 :]))
    order = [n for n in range(len(split.shape)) if n != axis + 1]
    return permute(c, split, [*order, axis + 1])


def _scatter_slice(c: Composer, a: Call) -> Operand:
    """``self`` with ``src`` in the places of a slice."""
    axis = a["dim"] % len(a.x.shape)
    length = a.x.shape[axis]
    index = list(range(length))
    for number, place in enumerate(range(*slice(a["start"], a["end"], a["step"]).indices(length))):
        index[place] = length + number
    return take(c, join(c, [a.x, a.operand("src")], axis), index, axis)


def _select_scatter(c: Composer, a: Call) -> Operand:
    axis, length = a["dim"] % len(a.x.shape), a.x.shape[a["dim"]]
    part = opened(c, a.operand("src"), axis)
    index = list(range(length))
    index[a["index"]] = length
    return take(c, join(c, [a.x, part], axis), index, axis)


OPERATIONS = (
    NamedOperation(_reshape, "view reshape _unsafe_view flatten unflatten view_as", "", "RESHAPE SQUEEZE EXPAND_DIMS"),
    NamedOperation(_reshape_to, onnx="Reshape(self, shape; allowzero)"),
    NamedOperation(_flatten, onnx="Flatten(self; axis=1)"),
    NamedOperation(_squeeze(False), "squeeze"),
    NamedOperation(_squeeze(True), onnx="Squeeze(self, dim; dim:axes)"),
    NamedOperation(_unsqueeze, "unsqueeze", "Unsqueeze(self, dim; dim:axes)"),
    NamedOperation(_permute, "permute numpy_T", "Transpose(self; dims:perm)", "TRANSPOSE(self, dims)"),
    NamedOperation(_swap, "transpose swapaxes swapdims"),
    NamedOperation(_move, "movedim moveaxis"),
    NamedOperation(lambda c, a: swap(c, a.x, 0, 1) if len(a.x.shape) == 2 else a.x, "t"),
    NamedOperation(lambda c, a: swap(c, a.x, -1, -2), "mT"),
    NamedOperation(_chunk, "chunk"),
    NamedOperation(
        _split,
        "split split_with_sizes",
        "Split(self, split_sizes; split_sizes:split, dim:axis=0, chunks:num_outputs)",
    ),
    NamedOperation(_split_even, lite="SPLIT(dim, self; chunks:NumSplits)"),
    NamedOperation(_split_as_array, "tensor_split"),
    NamedOperation(_unbind, "unbind"),
    NamedOperation(lambda c, a: select(c, a.x, a["dim"], a["index"]), "select"),
    NamedOperation(_slice, "slice"),
    NamedOperation(_slices, onnx="Slice(self, start, end, dim, step; start:starts, end:ends, dim:axes)"),
    NamedOperation(_slice_of_sizes, lite="SLICE(self, begin, size)"),
    NamedOperation(
        _strided,
        lite="STRIDED_SLICE(self, begin, end, strides; begins:BeginMask, ends:EndMask, shrinks:ShrinkAxisMask, "
        "ellipsis:EllipsisMask, new:NewAxisMask)",
    ),
    NamedOperation(_narrow, "narrow"),
    NamedOperation(_index_select, "index_select"),
    NamedOperation(_index, "index _unsafe_index"),
    NamedOperation(_gather, onnx="Gather(self, index; dim:axis=0)"),
    NamedOperation(_gather_nd, onnx="GatherND(self, index; batch_dims=0)"),
    NamedOperation(_gathered, "gather", "GatherElements(self, index; dim:axis=0)"),
    NamedOperation(
        _scattered(False),
        "scatter",
        "ScatterElements(self, index, src; dim:axis=0, reduce:reduction) Scatter(self, index, src; dim:axis=0)",
    ),
    NamedOperation(_scattered(True), "scatter_add scatter_reduce"),
    NamedOperation(_scatter_nd, onnx="ScatterND(self, index, src; reduce:reduction)"),
    NamedOperation(_written, "index_put _unsafe_index_put"),
    NamedOperation(_lines(False), "index_copy index_fill"),
    NamedOperation(_lines(True), "index_add"),
    NamedOperation(_diagonal, "diagonal"),
    NamedOperation(_on_diagonal, "diag_embed"),
    NamedOperation(_triangle, onnx="Trilu(self, offset; upper=1)"),
    NamedOperation(lambda c, a: np.eye(a.x.shape[0], a.x.shape[1], a["k"], np.float32), onnx="EyeLike(self; k=0)"),
    NamedOperation(_roll, "roll"),
    NamedOperation(_flip, "flip"),
    NamedOperation(_tile, "repeat tile", "Tile(self, repeats)", "TILE(self, repeats)"),
    NamedOperation(_repeat_each, "repeat_interleave"),
    NamedOperation(_expand, "expand expand_as"),
    NamedOperation(_expand_both, onnx="Expand(self, shape)"),
    NamedOperation(lambda c, a: expand(c, a.operand("src"), a.x.shape), "copy"),
    NamedOperation(lambda c, a: stack(c, a["tensors"], a["dim"]), "stack"),
    NamedOperation(
        _concat,
        "cat concat concatenate",
        "Concat(*tensors; dim:axis=1)",
        "CONCATENATION(*tensors; dim:Axis)",
    ),
    NamedOperation(
        _pad(),
        "pad constant_pad_nd",
        "Pad(self, pads, value, axes; mode='constant')",
        "PAD(self, paddings) PADV2(self, paddings, value)",
    ),
    NamedOperation(
        _pad("reflect"), "reflection_pad1d reflection_pad2d", "", "MIRROR_PAD(self, paddings; symmetric:Mode)"
    ),
    NamedOperation(_pad("replicate"), "replication_pad1d replication_pad2d"),
    NamedOperation(_to_space, "pixel_shuffle", "DepthToSpace(self; upscale_factor:blocksize, mode='DCR')"),
    NamedOperation(_to_depth, "pixel_unshuffle", "SpaceToDepth(self; downscale_factor:blocksize, mode='DCR')"),
    NamedOperation(_last_blocks(True), lite="DEPTH_TO_SPACE(self; block:BlockSize)"),
    NamedOperation(_last_blocks(False), lite="SPACE_TO_DEPTH(self; block:BlockSize)"),
    NamedOperation(_channel_shuffle, "channel_shuffle native_channel_shuffle"),
    NamedOperation(_unfold_map, "im2col"),
    NamedOperation(
        _fold_map, "col2im", "Col2Im(self, output_size, kernel_size; pads, stride:strides, dilation:dilations)"
    ),
    NamedOperation(_unfold, "unfold"),
    NamedOperation(_scatter_slice, "slice_scatter"),
    NamedOperation(_select_scatter, "select_scatter"),
    NamedOperation(
        lambda c, a: np.array(a.x.shape[a.get("start", 0) : a.get("end")], np.int64), onnx="Shape(self; start, end)"
    ),
    NamedOperation(lambda c, a: np.array(math.prod(a.x.shape), np.int64), onnx="Size"),
)
