"""The digital operations between matrix products, in integers only (written spec: docs/digital_ops.md).

Arrays carry the image axis first: maps (n, channels, height, width), vectors (n, features).
Golden vectors for each function are in ``tests/mapping/golden``.
"""

from __future__ import annotations

from collections.abc import Iterator

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
        int16 when ``low`` and ``high`` fit, else int32.
    """
    out = np.empty(values.shape, code_type(rule))
    for part in _blocks(values):
        out[part] = _requantised(values[part].astype(np.int64), rule)
    return out


def code_type(rule: Requantise) -> type[np.int16] | type[np.int32]:
    """The integer type that holds every result of a rule."""
    return np.int16 if rule.low >= -(1 << 15) and rule.high < 1 << 15 else np.int32


def finish(sums: NDArray[np.int32], bias: NDArray[np.int32], rule: Requantise) -> Codes:
    """End of a matrix product: sums + bias per channel, saturating at the ends of int32, then requantised."""
    out = np.empty(sums.shape, code_type(rule))
    wide_bias = bias.astype(np.int64).reshape(_across(sums))
    for part in _blocks(sums):
        out[part] = _requantised(_int32(sums[part] + wide_bias), rule)
    return out


def add(first: Codes, second: Codes, rescale: tuple[Requantise, Requantise], rule: Requantise) -> Codes:
    """Both terms on the output scale with extra fractional bits, added saturating, then requantised."""
    out = np.empty(first.shape, code_type(rule))
    for part in _blocks(first):
        total = _requantised(first[part].astype(np.int64), rescale[0])
        total += _requantised(second[part].astype(np.int64), rescale[1])
        out[part] = _requantised(_int32(total), rule)
    return out


def concat(parts: list[Codes], rescale: tuple[Requantise, ...]) -> Codes:
    """Each part requantised to the output scale, joined along channels."""
    return np.concatenate([requantise(p, r) for p, r in zip(parts, rescale, strict=True)], axis=1)


def max_pool(codes: Codes, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Codes:
    """Largest code of each window; padded places never win."""
    lowest = np.iinfo(codes.dtype).min
    first, *places = _window_places(codes, kernel, stride, padding, lowest)
    largest = first.copy()
    for place in places:
        np.maximum(largest, place, out=largest)
    return largest


def avg_pool(
    codes: Codes, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], rule: Requantise
) -> Codes:
    """Integer sum of each window (padded places are zero), then requantised; 1 / size is in the multiplier."""
    first, *places = _window_places(codes, kernel, stride, padding, 0)
    total = first.astype(np.int64)
    for place in places:
        total += place
    return requantise(_int32(total), rule)


def pad_channels(codes: Codes, before: int, after: int) -> Codes:
    """Zero channels before and after."""
    return np.pad(codes, ((0, 0), (before, after), (0, 0), (0, 0)))


def pad_map(codes: Codes, top: int, left: int, bottom: int, right: int) -> Codes:
    """Rows and columns of zero codes around each map."""
    return np.pad(codes, ((0, 0), (0, 0), (top, bottom), (left, right)))


def slice_map(codes: Codes, step: tuple[int, int], start: int, stop: int) -> Codes:
    """Channels ``start`` to ``stop``, every ``step``-th row and column."""
    return codes[:, start:stop, :: step[0], :: step[1]]


def flatten(codes: Codes) -> Codes:
    """(n, channels, height, width) -> (n, features), channel first."""
    return codes.reshape(codes.shape[0], -1)


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


def _window_places(
    codes: Codes, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], fill: int
) -> list[Codes]:
    """One map per kernel place: the code that each window has there."""
    (pad_h, pad_w), (step_h, step_w) = padding, stride
    padded = np.pad(codes, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)), constant_values=fill)
    last_h, last_w = padded.shape[2] - kernel[0] + 1, padded.shape[3] - kernel[1] + 1
    return [padded[:, :, y : y + last_h : step_h, x : x + last_w : step_w] for y, x in np.ndindex(kernel)]
