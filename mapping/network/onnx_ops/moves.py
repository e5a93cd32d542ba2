"""Rules of ONNX for everything that only moves elements."""

from __future__ import annotations

import math

import numpy as np

from mapping.network.compose.arithmetic import times
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import closed, cut, expand, gather, join, opened, pad, permute, pieces, reshape, tile
from mapping.network.compose.places import gathered, numbered, scattered, written
from mapping.network.compose.refusal import BROKEN, need, refuse
from mapping.network.compose.values import Operand
from mapping.network.compose.windows import folded
from mapping.network.onnx_ops.call import OnnxCall, OnnxRule


def _reshape(c: Composer, a: OnnxCall) -> Operand:
    wanted = a.integers(1, a.get("shape")) or []
    if not a.get("allowzero", 0):
        wanted = [a.x.shape[n] if size == 0 and n < len(a.x.shape) else size for n, size in enumerate(wanted)]
    need(wanted.count(-1) <= 1 and min(wanted, default=1) >= -1, f"a shape {wanted}", "a shape with at most one -1")
    return reshape(c, a.x, wanted)


def _flatten(c: Composer, a: OnnxCall) -> Operand:
    axis = a.get("axis", 1)
    axis = axis + len(a.x.shape) if axis < 0 else axis
    return reshape(c, a.x, (math.prod(a.x.shape[:axis]), math.prod(a.x.shape[axis:])))


def _squeeze(c: Composer, a: OnnxCall) -> Operand:
    rank = len(a.x.shape)
    axes = a.integers(1, a.get("axes"))
    gone = [n for n in range(rank) if a.x.shape[n] == 1] if axes is None else [axis % rank for axis in axes]
    found = a.x
    for axis in sorted(gone, reverse=True):
        found = closed(c, found, axis)
    return found


def _unsqueeze(c: Composer, a: OnnxCall) -> Operand:
    axes = a.integers(1, a.get("axes")) or []
    rank = len(a.x.shape) + len(axes)
    found = a.x
    for axis in sorted(axis % rank for axis in axes):
        found = opened(c, found, axis)
    return found


def _transpose(c: Composer, a: OnnxCall) -> Operand:
    return permute(c, a.x, a.get("perm") or list(range(len(a.x.shape)))[::-1])


def _concat(c: Composer, a: OnnxCall) -> Operand:
    return join(c, [a.operand(n) for n in range(len(a.inputs))], a.get("axis", 1))


def _split(c: Composer, a: OnnxCall) -> list[Operand]:
    axis = a.get("axis", 0)
    length = a.x.shape[axis]
    sizes = a.integers(1, a.get("split"))
    if sizes is None:
        count = a.get("num_outputs", a.outputs)
        need(1 <= count <= length, f"{count} pieces of {length} places", BROKEN)
        each = -(-length // count)
        sizes = [min(each, length - n * each) for n in range(count)]
    return pieces(c, a.x, axis, sizes)


def _slice(c: Composer, a: OnnxCall) -> Operand:
    starts, stops = a.integers(1, a.get("starts")) or [], a.integers(2, a.get("ends")) or []
    axes = a.integers(3, a.get("axes")) or list(range(len(starts)))
    steps = a.integers(4) or [1] * len(starts)
    need(
        len(starts) == len(stops) == len(axes) == len(steps),
        "starts, ends, axes and steps of different lengths",
        BROKEN,
    )
    found = a.x
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        need(step != 0, "a step of zero", "a step other than zero")
        end = None if step < 0 and stop < -(2**30) else stop
        found = cut(c, found, axis, start, end, step)
    return found


def _gather(c: Composer, a: OnnxCall) -> Operand:
    index = a.constant(1)
    need(index is not None, "no indices", "stored indices")
    axis = a.get("axis", 0) % len(a.x.shape)
    return gather(c, a.x, [*[None] * axis, np.asarray(index)])


def _gather_nd(c: Composer, a: OnnxCall) -> Operand:
    index = np.asarray(a.constant(1))
    need(
        a.get("batch_dims", 0) == 0 and index.ndim >= 1,
        "indices of their own for each image",
        "the same stored indices for every image, batch_dims=0",
    )
    return gather(c, a.x, [index[..., n] for n in range(index.shape[-1])])


def _stored_index(a: OnnxCall) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    index = a.constant(1)
    if index is None:
        refuse("no indices", "stored indices")
    return np.asarray(index)


def _gather_elements(c: Composer, a: OnnxCall) -> Operand:
    return gathered(c, a.x, _stored_index(a), a.get("axis", 0))


def _adds(a: OnnxCall) -> bool:
    rule = a.text("reduction", "none")
    need(rule in ("none", "add"), f"elements written by {rule!r}", "none or add")
    return rule == "add"


def _scatter_elements(c: Composer, a: OnnxCall) -> Operand:
    return scattered(c, a.x, _stored_index(a), a.operand(2), a.get("axis", 0), _adds(a))


def _scatter_nd(c: Composer, a: OnnxCall) -> Operand:
    index = _stored_index(a)
    target = numbered(a.x)[tuple(index[..., n] for n in range(index.shape[-1]))]
    return written(c, a.x, target, a.operand(2), _adds(a))


def _triangle(c: Composer, a: OnnxCall) -> Operand:
    offset = a.integers(1) or [0]
    ones = np.ones(a.x.shape[-2:], np.float32)
    return times(c, a.x, np.triu(ones, offset[0]) if a.get("upper", 1) else np.tril(ones, offset[0]))


def _expand(c: Composer, a: OnnxCall) -> Operand:
    wanted = a.integers(1) or []
    old = (1,) * (len(wanted) - len(a.x.shape)) + tuple(a.x.shape)
    wanted = [1] * (len(old) - len(wanted)) + wanted
    return expand(c, a.x, [o if w == 1 else w for o, w in zip(old, wanted, strict=True)])


def _pad(c: Composer, a: OnnxCall) -> Operand:
    rank = len(a.x.shape)
    pads = a.integers(1, a.get("pads", a.get("paddings"))) or []
    axes = a.integers(3) or list(range(rank))
    need(len(pads) == 2 * len(axes), f"{len(pads)} numbers of padding for {len(axes)} axes", BROKEN)
    around = [(0, 0)] * rank
    for n, axis in enumerate(axes):
        around[axis % rank] = (pads[n], pads[n + len(axes)])
    return pad(c, a.x, around, a.text("mode", "constant"), a.number(2, a.get("value", 0.0)) or 0.0)


def _depth_to_space(c: Composer, a: OnnxCall) -> Operand:
    r, (n, channels, high, wide) = a["blocksize"], a.x.shape
    if a.text("mode", "DCR") == "DCR":
        split = reshape(c, a.x, (n, r, r, channels // r**2, high, wide))
        moved = permute(c, split, (0, 3, 4, 1, 5, 2))
    else:
        split = reshape(c, a.x, (n, channels // r**2, r, r, high, wide))
        moved = permute(c, split, (0, 1, 4, 2, 5, 3))
    return reshape(c, moved, (n, channels // r**2, high * r, wide * r))


def _space_to_depth(c: Composer, a: OnnxCall) -> Operand:
    r, (n, channels, high, wide) = a["blocksize"], a.x.shape
    split = reshape(c, a.x, (n, channels, high // r, r, wide // r, r))
    return reshape(c, permute(c, split, (0, 3, 5, 1, 2, 4)), (n, channels * r**2, high // r, wide // r))


def _fold_map(c: Composer, a: OnnxCall) -> Operand:
    size, kernel = a.integers(1), a.integers(2)
    if size is None or kernel is None or len(size) != 2 or len(kernel) != 2:
        refuse("windows folded into other than maps of a stored size", "maps of height and width")
    pads = a.get("pads", [0] * 4)
    need(
        list(pads[:2]) == list(pads[2:]), f"uneven padding {list(pads)} of folded windows", "even padding, and a slice"
    )
    return folded(c, a.x, size, kernel, a.get("strides", [1, 1]), pads[:2], a.get("dilations", [1, 1]))


RULES: dict[str, OnnxRule] = {
    "Col2Im": _fold_map,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "GatherElements": _gather_elements,
    "ScatterElements": _scatter_elements,
    "Scatter": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Trilu": _triangle,
    "EyeLike": lambda c, a: np.eye(a.x.shape[0], a.x.shape[1], a.get("k", 0), np.float32),
    "Expand": _expand,
    "Tile": lambda c, a: tile(c, a.x, a.integers(1) or []),
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Shape": lambda c, a: np.array(a.x.shape[a.get("start", 0) : a.get("end", None)], np.int64),
    "Size": lambda c, a: np.array(math.prod(a.x.shape), np.int64),
}
