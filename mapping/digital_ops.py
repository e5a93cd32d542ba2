"""The digital operations between matrix products, in integers only (written spec: docs/digital_ops.md).

Arrays carry the image axis first: maps (n, channels, height, width), vectors (n, features).
Golden vectors for each function are in ``tests/mapping/golden``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cim.correction import round_shift
from mapping.program import Requantise

Codes = NDArray[np.int16] | NDArray[np.int32]

ADD_FRACTION_BITS = 12  # extra bits of the terms of an addition, so that only the sum is rounded to codes
INT32_LOW, INT32_HIGH = -(1 << 31), (1 << 31) - 1
MAX_SHIFT = 62  # (2^31 · 2^31 + 2^61) still fits 64 bits


def requantise(values: NDArray[np.integer], rule: Requantise) -> Codes:
    """q = clamp(round(value · multiplier / 2^shift), low, high).

    Args:
        values: int32 range, (n, channels, …); a rule of one channel serves all.

    Returns:
        int16 when ``low`` and ``high`` fit, else int32.
    """
    across = (1, -1) + (1,) * (values.ndim - 2)
    product = values.astype(np.int64) * rule.multiplier.astype(np.int64).reshape(across)
    rounded = round_shift(product, rule.shift.astype(np.int64).reshape(across))
    np.clip(rounded, rule.low, rule.high, out=rounded)
    return rounded.astype(code_type(rule))


def code_type(rule: Requantise) -> type[np.int16] | type[np.int32]:
    """The integer type that holds every result of a rule."""
    return np.int16 if rule.low >= -(1 << 15) and rule.high < 1 << 15 else np.int32


def accumulate(sums: NDArray[np.int32], bias: NDArray[np.int32]) -> NDArray[np.int32]:
    """sums + bias per channel, saturating at the ends of int32."""
    wide = sums.astype(np.int64) + bias.astype(np.int64).reshape((1, -1) + (1,) * (sums.ndim - 2))
    return np.clip(wide, INT32_LOW, INT32_HIGH).astype(np.int32)


def add(first: Codes, second: Codes, rescale: tuple[Requantise, Requantise], rule: Requantise) -> Codes:
    """Both terms on the output scale with extra fractional bits, added saturating, then requantised."""
    total = requantise(first, rescale[0]).astype(np.int64) + requantise(second, rescale[1])
    return requantise(np.clip(total, INT32_LOW, INT32_HIGH), rule)


def concat(parts: list[Codes], rescale: tuple[Requantise, ...]) -> Codes:
    """Each part requantised to the output scale, joined along channels."""
    return np.concatenate([requantise(p, r) for p, r in zip(parts, rescale, strict=True)], axis=1)


def max_pool(codes: Codes, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Codes:
    """Largest code of each window; padded places never win."""
    lowest = np.iinfo(codes.dtype).min
    return np.maximum.reduce(_window_places(codes, kernel, stride, padding, lowest))


def avg_pool(
    codes: Codes, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], rule: Requantise
) -> Codes:
    """Integer sum of each window (padded places are zero), then requantised; 1 / size is in the multiplier."""
    total = np.zeros((), np.int64)
    for place in _window_places(codes, kernel, stride, padding, 0):
        total = total + place
    return requantise(np.clip(total, INT32_LOW, INT32_HIGH), rule)


def pad_channels(codes: Codes, before: int, after: int) -> Codes:
    """Zero channels before and after."""
    return np.pad(codes, ((0, 0), (before, after), (0, 0), (0, 0)))


def slice_map(codes: Codes, step: tuple[int, int], start: int, stop: int) -> Codes:
    """Channels ``start`` to ``stop``, every ``step``-th row and column."""
    return codes[:, start:stop, :: step[0], :: step[1]]


def flatten(codes: Codes) -> Codes:
    """(n, channels, height, width) -> (n, features), channel first."""
    return codes.reshape(codes.shape[0], -1)


def _window_places(
    codes: Codes, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], fill: int
) -> list[Codes]:
    """One map per kernel place: the code that each window has there."""
    (pad_h, pad_w), (step_h, step_w) = padding, stride
    padded = np.pad(codes, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)), constant_values=fill)
    last_h, last_w = padded.shape[2] - kernel[0] + 1, padded.shape[3] - kernel[1] + 1
    return [padded[:, :, y : y + last_h : step_h, x : x + last_w : step_w] for y, x in np.ndindex(kernel)]
