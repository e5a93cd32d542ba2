"""The digital operations between matrix products, in integers only (written spec: docs/file-formats.md).

Arrays carry the image axis first: maps (n, channels, height, width), vectors (n, features).
Golden vectors for each function are in ``tests/mapping/golden``.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Iterator, Sequence
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from mapping.operators.integer.requantise import Requantise

Codes = NDArray[np.signedinteger]
"""Activation codes are int16, logit codes int32."""
Order = Sequence[int] | None
"""Axes from the widest apart in memory to neighbours, the image axis first; None: in their own order."""

ADD_FRACTION_BITS = 12  # extra bits of the terms of an addition, so that only the sum is rounded to codes
INT32_LOW, INT32_HIGH = -(1 << 31), (1 << 31) - 1
MAX_SHIFT = 62  # |value · multiplier| < 2^62, and half of 2^62 on top still fits 64 bits
BLOCK = 1 << 16  # elements worked on at a time; 64-bit intermediates stay in the cache


def requantise(values: Codes, rule: Requantise) -> Codes:
    """q = clamp(round(value · multiplier / 2^shift), low, high), halves away from zero.

    Args:
        values: int32 range, (n, channels, …); a rule of one channel serves all.

    Returns:
        int16 when ``low`` and ``high`` fit, else int32; laid out in memory as ``values``.
    """
    return finish(values, None, rule)


def code_type(rule: Requantise) -> type[np.int16] | type[np.int32]:
    """The integer type that holds every result of a rule."""
    return type_within(rule.low, rule.high)


def type_within(low: int, high: int) -> type[np.int16] | type[np.int32]:
    """The integer type that holds two ends."""
    return np.int16 if low >= -(1 << 15) and high < 1 << 15 else np.int32


def finish(sums: Codes, bias: NDArray[np.int32] | None, rule: Requantise) -> Codes:
    """End of a matrix product: sums + bias per channel, saturating at the ends of int32, then requantised.

    Args:
        sums: int32 range, (n, channels, …).

    Returns:
        as ``requantise``.
    """
    numbers, order = flat(sums if sums.dtype.itemsize <= 4 else sums.astype(np.int32))
    out, kernels = np.empty(numbers.size, code_type(rule)), fused_kernels()
    if kernels is None:
        given, result = (unflat(v, order, sums.shape) for v in (numbers, out))
        for part in _blocks(given):
            wide = given[part].astype(np.int64)
            if bias is not None:
                wide = _int32(wide + bias.astype(np.int64).reshape(_across(wide)))
            result[part] = _requantised(wide, rule)
        return result
    ends = (rule.low, rule.high)
    if bias is None and len(rule.multiplier) == 1:
        kernels.finish_first(numbers, max(1, sums.size), *_by_channel(rule, None, 1), *ends, out)
    else:
        places = max(1, neighbours(sums.shape, order))
        kernel = kernels.finish_last if places < kernels.LANES else kernels.finish_first
        kernel(numbers, places, *_by_channel(rule, bias, sums.shape[1]), *ends, out)
    return unflat(out, order, sums.shape)


def add(
    first: Codes, second: Codes, rescale: tuple[Requantise, Requantise], rule: Requantise, *, subtract: bool = False
) -> Codes:
    """Both terms on the output scale with extra fractional bits, added saturating, then requantised.

    Args:
        subtract: the second term is taken off. Axes of size 1 are repeated, missing ones stand behind the first.
    """
    first, second = of_one_rank(first, second)
    kernels, rules = fused_kernels(), (*rescale, rule)
    if kernels is not None and not subtract and first.shape == second.shape and is_plain(*rules):
        numbers, order = flat(first)
        out = np.empty(first.size, code_type(rule))
        kernels.add_maps(numbers, flat_in(second, order), *(one_scale(r) for r in rules), out)
        return unflat(out, order, first.shape)
    one, two = requantise(first, rescale[0]), requantise(second, rescale[1])
    total = np.subtract(one, two, dtype=np.int64) if subtract else np.add(one, two, dtype=np.int64)
    return requantise(_int32(total), rule)


def is_plain(*rules: Requantise) -> bool:
    """Whether each rule has one scale for all channels."""
    return all(rule.multiplier.size == 1 for rule in rules)


def one_scale(rule: Requantise) -> tuple[int, int, int, int]:
    """Multiplier, shift and ends of a rule that serves all channels."""
    return rule.multiplier.item(0), rule.shift.item(0), rule.low, rule.high


def of_one_rank(first: Codes, second: Codes) -> tuple[Codes, Codes]:
    """Both with axes of size 1 behind the images where the other has more."""
    if first.ndim == second.ndim:
        return first, second
    rank = max(first.ndim, second.ndim)
    one, two = (x.reshape(len(x), *[1] * (rank - x.ndim), *x.shape[1:]) for x in (first, second))
    return one, two


def concat(parts: Sequence[Codes], rescale: tuple[Requantise, ...], axis: int = 0) -> Codes:
    """Each part requantised to the output scale, joined along ``axis``, counted without the images."""
    return np.concatenate([requantise(p, r) for p, r in zip(parts, rescale, strict=True)], axis=1 + axis)


def max_pool(codes: Codes, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Codes:
    """Largest code of each window; padded places never win."""
    lowest = np.iinfo(codes.dtype).min
    first, *places = _window_places(codes, kernel, stride, padding, lowest)
    largest = first.copy(order="K")
    for place in places:
        np.maximum(largest, place, out=largest)
    return largest


def avg_pool(
    codes: Codes, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], rule: Requantise
) -> Codes:
    """Integer sum of each window (padded places are zero), then requantised; 1 / size is in the multiplier."""
    fits = codes.dtype == np.int16 and kernel[0] * kernel[1] <= 1 << 16
    kind: type[np.signedinteger] = np.int32 if fits else np.int64
    if kernel == codes.shape[2:] and not any(padding):
        if fits:
            return requantise(_whole_sums(codes), rule)
        return requantise(_int32(codes.sum((2, 3), dtype=np.int64, keepdims=True)), rule)
    first, *places = _window_places(codes, kernel, stride, padding, 0)
    total = first.astype(kind)
    for place in places:
        total += place
    return requantise(total if fits else _int32(total), rule)


def _whole_sums(codes: Codes) -> NDArray[np.int32]:
    """Sum of each map, (n, channels, 1, 1); it fits 32 bits."""
    kernels, shape = fused_kernels(), codes.shape
    if kernels is None:
        return np.asarray(codes.sum((2, 3), dtype=np.int32, keepdims=True))
    numbers, order = flat(codes)
    out, places = np.empty(shape[0] * shape[1], np.int32), math.prod(shape[2:])
    if neighbours(shape, order) == 1:
        kernels.sum_places(numbers, places, shape[1], out)
    else:
        kernels.sum_places(flat_in(codes, None), places, 1, out)
    return out.reshape(*shape[:2], 1, 1)


def pad_channels(codes: Codes, before: int, after: int) -> Codes:
    """Zero channels before and after."""
    return _padded(codes, ((0, 0), (before, after), (0, 0), (0, 0)))


def pad_map(codes: Codes, top: int, left: int, bottom: int, right: int) -> Codes:
    """Rows and columns of zero codes around each map."""
    return _padded(codes, ((0, 0), (0, 0), (top, bottom), (left, right)))


def slice_map(codes: Codes, step: tuple[int, int], start: int, stop: int | None) -> Codes:
    """Channels ``start`` to ``stop``, every ``step``-th row and column."""
    return codes[:, start:stop, :: step[0], :: step[1]]


def flatten(codes: Codes) -> Codes:
    """Maps as vectors: (n, channels, height, width) -> (n, features), channel first."""
    return codes.reshape(codes.shape[0], -1)


@functools.cache
def fused_kernels() -> ModuleType | None:
    """The fused kernels where numba is installed; numpy gives the same bits."""
    if importlib.util.find_spec("numba") is None:
        return None
    from mapping.operators.integer import digital_kernels

    return digital_kernels


def memory_order(values: Codes) -> Order:
    if values.flags.c_contiguous:
        return None
    strides = values.strides
    return [0, *sorted(range(1, values.ndim), key=lambda axis: -abs(strides[axis]))]


def flat(values: Codes) -> tuple[Codes, Order]:
    """Numbers in the order of memory, and the axes in that order."""
    order = memory_order(values)
    return flat_in(values, order), order


def flat_in(values: Codes, order: Order) -> Codes:
    """The codes in one row, with their axes in the order ``order``; None: as they are."""
    return (values if order is None else values.transpose(order)).ravel()


def unflat(numbers: Codes, order: Order, shape: tuple[int, ...]) -> Codes:
    """Back to an array of a shape, from numbers in an order of its axes."""
    if order is None:
        return numbers.reshape(shape)
    return numbers.reshape([shape[axis] for axis in order]).transpose(inverse(order))


def inverse(order: Sequence[int]) -> list[int]:
    """The order that undoes another."""
    back = [0] * len(order)
    for place, axis in enumerate(order):
        back[axis] = place
    return back


def neighbours(shape: tuple[int, ...], order: Order) -> int:
    """Numbers of one channel (axis 1) that lie side by side."""
    if order is None:
        return math.prod(shape[2:])
    return math.prod(shape[axis] for axis in order[list(order).index(1) + 1 :])


def _by_channel(rule: Requantise, bias: NDArray[np.int32] | None, channels: int) -> tuple[NDArray[np.int32], ...]:
    """Bias, multiplier and shift, int32 (channels,) each, as ``digital_kernels`` takes them."""
    given = np.zeros(channels, np.int32) if bias is None else bias
    rest = (rule.multiplier, rule.shift) if len(rule.multiplier) == channels else (
        np.repeat(rule.multiplier, channels), np.repeat(rule.shift, channels)
    )  # fmt: skip
    return given, *rest


def _blocks(values: Codes) -> Iterator[slice]:
    """Runs of whole images of about ``BLOCK`` elements."""
    images = max(1, BLOCK // max(1, values[:1].size))
    return (slice(i, i + images) for i in range(0, len(values), images))


def _across(values: Codes) -> tuple[int, ...]:
    """Shape that lays one number a channel along (n, channels, …)."""
    return (1, -1) + (1,) * (values.ndim - 2)


def _requantised(values: NDArray[np.int64], rule: Requantise) -> NDArray[np.int64]:
    """``requantise`` in place."""
    shift = rule.shift.astype(np.int64).reshape(_across(values))
    values *= rule.multiplier.astype(np.int64).reshape(_across(values))
    # For v < 0, −⌊(−v + half) / 2^shift⌋ = ⌊(v + half − 1) / 2^shift⌋, and v >> 63 is that −1.
    below = values >> 63
    below &= np.where(shift > 0, np.int64(-1), np.int64(0))
    values += (np.int64(1) << shift) >> 1
    values += below
    values >>= shift
    return np.clip(values, rule.low, rule.high, out=values)


def _int32(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Saturated, in place."""
    return np.clip(values, INT32_LOW, INT32_HIGH, out=values)


def _padded(codes: Codes, widths: tuple[tuple[int, int], ...], fill: int = 0) -> Codes:
    """``np.pad`` with a constant, laid out in memory as the codes are."""
    if not any(map(any, widths)):
        return codes
    if codes.flags.c_contiguous:
        return np.pad(codes, widths, constant_values=fill)
    across = np.pad(codes.transpose(0, 2, 3, 1), (widths[0], *widths[2:], widths[1]), constant_values=fill)
    return across.transpose(0, 3, 1, 2)


def _window_places(
    codes: Codes, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], fill: int
) -> list[Codes]:
    """One map per kernel place: the code that each window has there."""
    (pad_h, pad_w), (step_h, step_w) = padding, stride
    padded = _padded(codes, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)), fill)
    last_h, last_w = padded.shape[2] - kernel[0] + 1, padded.shape[3] - kernel[1] + 1
    return [padded[:, :, y : y + last_h : step_h, x : x + last_w : step_w] for y, x in np.ndindex(kernel)]
