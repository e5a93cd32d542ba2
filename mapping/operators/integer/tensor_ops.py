"""Integer rules on tensors of any rank (written spec: docs/file-formats.md).

Arrays carry the image axis first; axes of arguments count without it. Results lie in memory as their inputs do, where
that costs nothing. Golden vectors for each function are in ``tests/mapping/golden``.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from mapping.operators.integer.digital_ops import (
    INT32_HIGH,
    INT32_LOW,
    Codes,
    code_type,
    finish,
    flat,
    flat_in,
    fused_kernels,
    inverse,
    is_plain,
    memory_order,
    neighbours,
    of_one_rank,
    one_scale,
    requantise,
    type_within,
    unflat,
)
from mapping.operators.integer.limits import CODE_HIGH, NORM_BITS, ROOT_BITS, ROOT_HIGH, SHARE_BITS
from mapping.operators.integer.requantise import Ints, Requantise

RECIPROCAL_BITS = 46  # of the sum of a softmax
SHARED = 1 << 10  # codes that one row of equal weights serves
BYTE_BLOCK = 1 << 22  # numbers of a product in floating point at a time


def table(codes: Codes, first: int, entries: Ints) -> Codes:
    """entries[clamp(x, first, last) − first]; int16 where all entries fit."""
    kernels = _kernels()
    if kernels is None:
        found = entries[np.clip(codes.astype(np.int64) - first, 0, len(entries) - 1)]
        return found.astype(type_within(entries.min(), entries.max()))
    numbers, order = flat(codes)
    out = np.empty(numbers.size, type_within(*kernels.ends(entries)))
    kernels.look_up(numbers, first, entries, out)
    return unflat(out, order, codes.shape)


def affine(codes: Codes, weight: Ints, offset: Ints, below: Ints | None, rule: Requantise) -> Codes:
    """requantise(x · weight + offset), ``below`` instead of ``weight`` where x < 0; codes of 16 bits."""
    kernels = fused_kernels()
    if kernels is not None and is_plain(rule):
        numbers, order = flat(codes)
        parts = (weight, weight if below is None else below, offset)
        if all(values.size == 1 for values in parts):
            rows = (np.full(SHARED, values.item(0), np.int32) for values in parts)
        else:
            shape = (1, *codes.shape[1:])
            rows = (flat_in(np.broadcast_to(values[None], shape), order) for values in parts)
        out = np.empty(numbers.size, code_type(rule))
        kernels.affine_rows(numbers, *rows, *one_scale(rule), out)
        return unflat(out, order, codes.shape)
    total = np.multiply(codes, weight[None], dtype=np.int32)
    if below is not None:
        np.multiply(codes, below[None], out=total, where=codes < 0, dtype=np.int32)
    total += offset[None]
    return requantise(total, rule)


def product(first: Codes, second: Codes, rule: Requantise) -> Codes:
    """requantise(x · y) of codes of 16 bits, axes of size 1 repeated."""
    one, two = of_one_rank(first, second)
    few, many = (one, two) if one.size <= two.size else (two, one)
    kernels, rest = fused_kernels(), (1,) * (many.ndim - 2)
    if kernels is not None and few.size and many.ndim > 1 and few.shape == (*many.shape[:2], *rest) and is_plain(rule):
        numbers, order = flat(many)
        out, places = np.empty(numbers.size, code_type(rule)), neighbours(many.shape, order)
        kernels.product_maps(few.ravel(), numbers, many.shape[1], places, *one_scale(rule), out)
        return unflat(out, order, many.shape)
    return requantise(np.multiply(one, two, dtype=np.int32), rule)


def matmul(first: Codes, second: Codes, shift: int, rule: Requantise) -> Codes:
    """Sums of products of codes of 16 bits, / 2^shift, requantised.

    Done in floating point where every partial sum is exact: below 2^24 in single precision, to 2^23 products in double.
    """
    one, two = of_one_rank(first, second)
    kernels, lead = _kernels(), np.broadcast_shapes(one.shape[:-2], two.shape[:-2])
    if kernels is not None and not shift and one.dtype == two.dtype == np.int16:
        out = np.empty((*lead, one.shape[-2], two.shape[-1]), code_type(rule))
        given = (np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (one, two))
        left, right, found = (x.reshape(len(x), -1, *x.shape[-2:]) for x in (*given, out))
        if kernels.products(_even(left), right, *one_scale(rule), found):
            return out
    most = one.shape[-1] * math.prod(max(-int(x.min()), int(x.max())) for x in (one, two))
    kind = np.float32 if most < 1 << 24 else np.float64
    return requantise(narrowed(np.matmul(*(np.ascontiguousarray(x, kind) for x in (one, two))), shift), rule)


def _even(values: Codes) -> Codes:
    """Rows of neighbours, as many in each that they come in pairs: one more of 0 where they do not."""
    if values.shape[-1] % 2:
        values = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, 1)])
    return values if values.strides[-1] == values.itemsize else np.ascontiguousarray(values)


def pixel_codes(images: NDArray[np.uint8], entries: NDArray[np.int16]) -> NDArray[np.int16]:
    """entries[channel, pixel] of images (n, height, width, channels), as (n, channels, height, width)."""
    kernels = _kernels()
    if kernels is None:
        codes: NDArray[np.int16] = entries[np.arange(len(entries))[None, :, None, None], images.transpose(0, 3, 1, 2)]
        return codes
    out = np.empty(images.shape, np.int16)
    kernels.pixel_codes(np.ascontiguousarray(images).reshape(-1), entries, out.reshape(-1))
    return out.transpose(0, 3, 1, 2)


def total(codes: Codes, axes: Sequence[int], keep: bool, shift: int, rule: Requantise) -> Codes:
    """Sum over ``axes``, / 2^shift, requantised."""
    sums = codes.sum(_with_images(axes), dtype=np.int64, keepdims=True)
    return _reduced(requantise(narrowed(sums, shift), rule), axes, keep)


def extreme(codes: Codes, axes: Sequence[int], keep: bool, least: bool) -> Codes:
    """The largest or the least code over ``axes``."""
    reduce = np.amin if least else np.amax
    return _reduced(reduce(codes, axis=_with_images(axes), keepdims=True), axes, keep)


def take(codes: Codes, index: Ints, axis: int, fill: int) -> Codes:
    """x[…, index[i], …] along ``axis``, ``fill`` where the index is −1."""
    at = 1 + axis
    step = int(index[1] - index[0]) if len(index) > 1 else 1
    if index[0] >= 0 and step > 0 and np.array_equal(index, index[0] + step * np.arange(len(index))):
        return codes[(*(slice(None),) * at, slice(int(index[0]), int(index[-1]) + 1, step))]
    order = memory_order(codes) or list(range(codes.ndim))
    place = order.index(at)
    taken = codes.transpose(order).take(np.maximum(index, 0), axis=place)
    if index.min() < 0:
        np.moveaxis(taken, place, 0)[index < 0] = fill
    return taken.transpose(inverse(order))


def resample(codes: Codes, rows: Ints, columns: Ints, shift: int, rule: Requantise) -> Codes:
    """rows · x · columnsᵀ of each map, / 2^shift, requantised; exact in double precision (sums below 2^53)."""
    across, down = columns.T.astype(np.float64), rows.astype(np.float64)
    out = np.empty((*codes.shape[:-2], len(rows), len(columns)), code_type(rule))
    images = max(1, BYTE_BLOCK // max(1, out[:1].size + codes[:1].size))
    for i in range(0, len(codes), images):
        sums = down @ (codes[i : i + images].astype(np.float64) @ across)
        out[i : i + images] = requantise(narrowed(sums, shift), rule)
    return out


def norm(
    codes: Codes, axes: Sequence[int], fraction: int, eps: int, weight: Ints, offset: Ints, rule: Requantise,
    *, centre: bool = True,
) -> Codes:  # fmt: skip
    """requantise(z · weight + offset), z = round(2^10 · d / √(Σ d² / n + eps)) of each image over ``axes``."""
    order = [*(a for a in range(codes.ndim) if a - 1 not in axes), *_with_images(axes)]
    moved = codes.transpose(order)
    n = math.prod(moved.shape[codes.ndim - len(axes) :])
    rows, back, kernels = np.ascontiguousarray(moved).reshape(-1, n), inverse(order), _kernels()
    if kernels is not None:
        weights, offsets = (_rows_of(values, order, moved.shape, n) for values in (weight, offset))
        out = np.empty(rows.shape, code_type(rule))
        kernels.norm_rows(rows, centre, fraction, eps, weights, offsets, *one_scale(rule), out)
        return out.reshape(moved.shape).transpose(back)
    wide = rows.astype(np.int64)
    sums, squares = wide.sum(1), (wide * wide).sum(1)
    mean = _rounded_quotient(sums << fraction, n) if centre else np.zeros(len(rows), np.int64)
    total = (squares << 2 * fraction) - ((mean * sums) << (fraction + 1)) + n * mean * mean  # Σ d², modulo 2^64
    root, half = inverse_root(np.maximum(total // n + eps, 1))
    ends = Requantise(root, (ROOT_BITS - NORM_BITS - half).astype(np.int32), -CODE_HIGH, CODE_HIGH)
    z = finish(np.left_shift(rows, fraction, dtype=np.int32)[None], (-mean).astype(np.int32), ends)
    return affine(z.reshape(moved.shape).transpose(back), weight, offset, None, rule)


def _rows_of(values: Ints, order: Sequence[int], shape: tuple[int, ...], n: int) -> Ints:
    """Weights of a norm in rows as the codes of an image, (rows, n); one row where all are the same."""
    moved = values[None].transpose(order)
    axes, size = len(shape), 1  # the last axes hold a row
    while size < n or (axes > 1 and shape[axes - 1] == 1):
        axes -= 1
        size *= shape[axes]
    rows = shape[1:axes] if max(moved.shape[1:axes], default=1) > 1 else (1,) * (axes - 1)
    return np.ascontiguousarray(np.broadcast_to(moved[0], (*rows, *shape[axes:]))).reshape(-1, n)


def inverse_root(values: NDArray[np.int64]) -> tuple[Ints, NDArray[np.int64]]:
    """R and h of values v > 0 with 1 / √v ≈ R · 2^(h − 31) … R = ⌊√⌊2^62 / w⌋⌋, w = ⌊v · 4^h⌋ in 2^22 … 2^24 − 1."""
    size = np.zeros(values.shape, np.int64)  # bits of v
    rest = values.copy()
    for step in (32, 16, 8, 4, 2, 1):
        above = rest >= np.int64(1) << step
        size += np.where(above, step, 0)
        rest = np.where(above, rest >> step, rest)
    half = (ROOT_HIGH - 1 - size) >> 1  # ⌊ ⌋ also below zero
    w = np.where(half >= 0, values << np.maximum(2 * half, 0), values >> np.maximum(-2 * half, 0))
    return np.floor(np.sqrt(((np.int64(1) << 2 * ROOT_BITS) // w).astype(np.float64))).astype(np.int32), half


def softmax(codes: Codes, axis: int, entries: Ints, rule: Requantise) -> Codes:
    """requantise(round(e · ⌊2^46 / Σ e⌋ / 2^16)) along ``axis``, e = entries[largest − x] and 0 beyond the table."""
    moved = np.moveaxis(codes, 1 + axis, -1)
    rows = np.ascontiguousarray(moved).reshape(-1, moved.shape[-1])
    kernels = _kernels()
    if kernels is None:
        distance = rows.max(1, keepdims=True).astype(np.int64) - rows
        e = np.where(distance < len(entries), entries[np.minimum(distance, len(entries) - 1)], 0).astype(np.int32)
        reciprocal = ((np.int64(1) << RECIPROCAL_BITS) // e.sum(1, dtype=np.int64)).astype(np.int32)
        shift = np.full(len(rows), RECIPROCAL_BITS - SHARE_BITS, np.int32)
        out = requantise(finish(e[None], None, Requantise(reciprocal, shift, 0, 1 << SHARE_BITS))[0], rule)
    else:
        out = np.empty(rows.shape, code_type(rule))
        kernels.softmax_rows(rows, entries, RECIPROCAL_BITS, SHARE_BITS, *one_scale(rule), out)
    return np.moveaxis(out.reshape(moved.shape), -1, 1 + axis)


def narrowed(sums: NDArray[np.int64] | NDArray[np.floating], shift: int) -> Ints:
    """sat(round(v / 2^shift)), halves away from zero."""
    if sums.dtype == np.float32 and not shift:  # below 2^24
        return sums.astype(np.int32)
    wide = sums.astype(np.int64)
    if shift:
        wide += wide >> 63
        wide += np.int64(1) << (shift - 1)
        wide >>= shift
    return np.clip(wide, INT32_LOW, INT32_HIGH).astype(np.int32)


def _rounded_quotient(values: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """round(v / n), halves away from zero."""
    size = (2 * np.abs(values) + n) // (2 * n)
    return np.where(values < 0, -size, size)


def _with_images(axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(1 + axis for axis in axes)


def _reduced(kept: Codes, axes: Sequence[int], keep: bool) -> Codes:
    """The result of a reduction without the axes that it went over (unless ``keep``); at least one axis is left."""
    if keep:
        return kept
    left = [size for axis, size in enumerate(kept.shape) if axis - 1 not in axes]
    return kept.reshape(left if len(left) > 1 else [*left, 1])


@functools.cache
def _kernels() -> ModuleType | None:
    """The loops where numba is installed; numpy gives the same bits."""
    if importlib.util.find_spec("numba") is None:
        return None
    from mapping.operators.integer import tensor_kernels

    return tensor_kernels
