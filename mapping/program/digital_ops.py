"""The digital operations between matrix products, in integers only (written spec: docs/digital_ops.md).

Arrays carry the image axis first: maps (n, channels, height, width), vectors (n, features).
Golden vectors for each function are in ``tests/mapping/golden``.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator, Sequence
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from mapping.program.conductance import Requantise

Codes = NDArray[np.signedinteger]
"""Activation codes are int16, logit codes int32."""

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
    return np.int16 if rule.low >= -(1 << 15) and rule.high < 1 << 15 else np.int32


def finish(sums: Codes, bias: NDArray[np.int32] | None, rule: Requantise) -> Codes:
    """End of a matrix product: sums + bias per channel, saturating at the ends of int32, then requantised.

    Args:
        sums: int32 range, (n, channels, …).

    Returns:
        as ``requantise``.
    """
    flat, last = _flat(sums if sums.dtype.itemsize <= 4 else sums.astype(np.int32))
    out, kernels = np.empty(sums.size, code_type(rule)), fused_kernels()
    if kernels is None:
        given, result = (_unflat(v, sums.shape, last) for v in (flat, out))
        for part in _blocks(given):
            wide = given[part].astype(np.int64)
            if bias is not None:
                wide = _int32(wide + bias.astype(np.int64).reshape(_across(wide)))
            result[part] = _requantised(wide, rule)
        return result
    channels, ends = sums.shape[1], (rule.low, rule.high)
    if bias is None and len(rule.multiplier) == 1:
        kernels.finish_first(flat, max(1, sums.size), *_by_channel(rule, None, 1), *ends, out)
        return _unflat(out, sums.shape, last)
    length = max(1, sums.size // max(1, len(sums) * channels))
    parameters = _by_channel(rule, bias, channels)
    if last:
        kernels.finish_last(flat, *parameters, *ends, out)
    elif length < kernels.LANES:  # rows are short: a channel at every place is one of its own
        kernels.finish_last(flat, *(np.repeat(values, length) for values in parameters), *ends, out)
    else:
        kernels.finish_first(flat, length, *parameters, *ends, out)
    return _unflat(out, sums.shape, last)


def add(
    first: Codes, second: Codes, rescale: tuple[Requantise, Requantise], rule: Requantise, *, subtract: bool = False
) -> Codes:
    """Both terms on the output scale with extra fractional bits, added saturating, then requantised.

    Args:
        subtract: the second term is taken off. Axes of size 1 are repeated, missing ones stand behind the first.
    """
    first, second = of_one_rank(first, second)
    most = {-r.low for r in rescale} | {r.high for r in rescale}
    kernels, rules = fused_kernels(), (*rescale, rule)
    plain = len(most) == 1 and all(len(r.multiplier) == 1 for r in rules)
    if kernels is not None and plain and not subtract and first.shape == second.shape:
        flat, last = _flat(first)
        other, same = _flat(second)
        if same != last:  # laid out as the first one
            other = np.ascontiguousarray(second.transpose(0, 2, 3, 1) if last else second).reshape(-1)
        out = np.empty(first.size, code_type(rule))
        multiplier, shift = (np.concatenate([getattr(r, name) for r in rules]) for name in ("multiplier", "shift"))
        kernels.add_maps(flat, other, multiplier, shift, most.pop(), rule.low, rule.high, out)
        return _unflat(out, first.shape, last)
    one, two = requantise(first, rescale[0]), requantise(second, rescale[1])
    total = np.subtract(one, two, dtype=np.int64) if subtract else np.add(one, two, dtype=np.int64)
    return requantise(_int32(total), rule)


def of_one_rank(first: Codes, second: Codes) -> tuple[Codes, Codes]:
    """Both with axes of size 1 behind the images where the other has more."""
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
    flat, last = _flat(codes)
    out = np.empty(shape[0] * shape[1], np.int32)
    kernels.sum_places(flat, shape[2] * shape[3], shape[1] if last else 1, out)
    return out.reshape(*shape[:2], 1, 1)


def pad_channels(codes: Codes, before: int, after: int) -> Codes:
    """Zero channels before and after."""
    return _padded(codes, ((0, 0), (before, after), (0, 0), (0, 0)))


def pad_map(codes: Codes, top: int, left: int, bottom: int, right: int) -> Codes:
    """Rows and columns of zero codes around each map."""
    return _padded(codes, ((0, 0), (0, 0), (top, bottom), (left, right)))


def slice_map(codes: Codes, step: tuple[int, int], start: int, stop: int) -> Codes:
    """Channels ``start`` to ``stop``, every ``step``-th row and column."""
    return codes[:, start:stop, :: step[0], :: step[1]]


def flatten(codes: Codes) -> Codes:
    """(n, channels, height, width) -> (n, features), channel first."""
    return codes.reshape(codes.shape[0], -1)


@functools.cache
def fused_kernels() -> ModuleType | None:
    """The fused kernels where numba is installed; numpy gives the same bits."""
    if importlib.util.find_spec("numba") is None:
        return None
    from mapping.program import digital_kernels

    return digital_kernels


def _flat(values: Codes) -> tuple[Codes, bool]:
    """Numbers in the order of memory, and whether channels lie last there (vectors: they do)."""
    if values.ndim == 4 and (values.shape[2:] == (1, 1) or not values.flags.c_contiguous):
        across = values.transpose(0, 2, 3, 1)
        if across.flags.c_contiguous:
            return across.reshape(-1), True
    return np.ascontiguousarray(values).reshape(-1), values.ndim == 2


def _unflat(flat: Codes, shape: tuple[int, ...], last: bool) -> Codes:
    """Back to (n, channels, …)."""
    if not last or len(shape) != 4:
        return flat.reshape(shape)
    n, channels, height, width = shape
    return flat.reshape(n, height, width, channels).transpose(0, 3, 1, 2)


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
