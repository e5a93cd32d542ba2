"""The digital part of a loaded layer: column corrections, sums of tiles and requantisation, in 64-bit integers.

The rules are those of docs/file-formats.md; halves are rounded away from zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from firmware_protocols.messages import LoadLayer


def layer_codes(layer: LoadLayer, codes: NDArray[np.int16], sums: Iterable[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Activation codes of a loaded layer, int32 (vectors, outputs), from the shift-added sums of each of its tiles.

    q = clamp(round((Σ tiles multiplier · level sum + bias) · multiplier / 2^shift), low, high),
    rounded half away from zero (docs/file-formats.md). Of tiles that are read several times the mean counts.
    """
    total = np.zeros((len(codes), layer.outputs), np.int64)
    most = max(t.reads for t in layer.tiles)
    for t, of_tile in zip(layer.tiles, sums, strict=True):
        inputs, n = (t.first_input, t.first_input + t.address.rows), t.reads
        gain, input_gain = t.gain.astype(np.int64), t.input_gain.astype(np.int64) * n
        offset, weight = t.offset.astype(np.int64) * n, int(t.multiplier) * (most // n)
        add_levels(of_tile, codes, inputs, gain, offset, input_gain, int(t.shift), weight, total, t.first_output)
    if most > 1:
        divide(total, most)
    total += layer.bias
    found = np.empty(total.shape, np.int32)
    multiplier, shift = layer.multiplier.astype(np.int64), layer.shift.astype(np.int64)
    requantise(total, multiplier, shift, int(layer.low), int(layer.high), found)
    return found


_options: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


@njit(forceinline=True, error_model="numpy")
def _shifted(value: Any, half: Any, shift: Any) -> Any:
    """value / 2^shift, rounded half away from zero; ``half`` is 2^shift / 2."""
    magnitude = (abs(value) + half) >> shift
    return -magnitude if value < 0 else magnitude


@njit(**_options)
def add_levels(
    sums: NDArray[np.int32],
    codes: NDArray[np.int16],
    inputs: tuple[int, int],
    gain: NDArray[np.int64],
    offset: NDArray[np.int64],
    input_gain: NDArray[np.int64],
    shift: int,
    multiplier: int,
    total: NDArray[np.int64],
    first_output: int,
) -> None:
    """Add multiplier · round((gain · sum + offset + input_gain · Σ inputs) / 2^shift) of one tile to ``total``.

    Args:
        sums: of the tile, (vectors, tile outputs).
        codes: of the layer, (vectors, layer inputs); ``inputs`` is the tile's first one and the one past its last.
        total: (vectors, layer outputs); the tile's begin at ``first_output``.
    """
    half = np.int64(1) << shift >> 1
    weighed = input_gain.any()
    for v in range(sums.shape[0]):
        ones = np.int64(0)
        if weighed:
            for r in range(inputs[0], inputs[1]):
                ones += codes[v, r]
        for o in range(sums.shape[1]):
            level = np.int32(_shifted(sums[v, o] * gain[o] + offset[o] + input_gain[o] * ones, half, shift))
            total[v, first_output + o] += level * multiplier


@njit(**_options)
def divide(total: NDArray[np.int64], by: int) -> None:
    """Divide ``total`` (vectors, outputs) in place, rounded half away from zero."""
    for v in range(total.shape[0]):
        for o in range(total.shape[1]):
            magnitude = (2 * abs(total[v, o]) + by) // (2 * by)
            total[v, o] = -magnitude if total[v, o] < 0 else magnitude


@njit(**_options)
def requantise(
    total: NDArray[np.int64],
    multiplier: NDArray[np.int64],
    shift: NDArray[np.int64],
    low: int,
    high: int,
    codes: NDArray[np.int32],
) -> None:
    """codes = clamp(round(total · multiplier / 2^shift), low, high); multiplier and shift by output."""
    for v in range(total.shape[0]):
        for o in range(total.shape[1]):
            scaled = _shifted(total[v, o] * multiplier[o], np.int64(1) << shift[o] >> 1, shift[o])
            codes[v, o] = min(max(scaled, low), high)
