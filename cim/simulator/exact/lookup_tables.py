"""Tables of the look-up kernels: bits of every place, counts of driven rows, tables of sums and of σ.

A *place* is one position of one image. Imports numba and compiles at first use (cached on disk).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cim.simd.integers import (
    left,
    load_longs,
    ones_of_bytes,
    product,
    right,
    right_zero,
    splat_longs,
    vadd,
    vand,
    vor,
    vsub,
    vxor,
)
from cim.simd.vectors import store
from cim.simulator.exact.lookup_noise import LONGS
from cim.simulator.exact.lookup_sums import GROUP, LOAD_BITS

PATTERNS = 1 << GROUP

_options: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


@njit(inline="always", **_options)
def _transposed_bits(x: Any) -> Any:
    """In each long eight bytes of eight bits transposed: byte b then holds the bits b (Hacker's Delight, 7-3)."""
    t = vand(vxor(x, right_zero(x, np.int64(7))), splat_longs(np.int64(0x00AA00AA00AA00AA)))
    x = vxor(vxor(x, t), left(t, np.int64(7)))
    t = vand(vxor(x, right_zero(x, np.int64(14))), splat_longs(np.int64(0x0000CCCC0000CCCC)))
    x = vxor(vxor(x, t), left(t, np.int64(14)))
    t = vand(vxor(x, right_zero(x, np.int64(28))), splat_longs(np.int64(0x00000000F0F0F0F0)))
    return vxor(vxor(x, t), left(t, np.int64(28)))


@njit(**_options)
def unfold_words(maps: Any, starts: Any, run: Any, steps: Any, words: Any) -> None:
    """Bits of every place: byte b of words[g · places + place] is the pattern of group g's rows in plane b.

    Args:
        maps: uint8, driven codes of all images with their padding, and 8 spare bytes.
        starts: int64 (runs,), where the window of the first place of each run of ``run`` neighbours starts.
        steps: int64 (rows,), offset of each row from that start.
        words: int64 (groups · places + 8,), written.
    """
    rows = steps.shape[0]
    places = starts.shape[0] * run
    for g in range((rows + GROUP - 1) // GROUP):
        first, last = g * GROUP, min(rows, (g + 1) * GROUP)
        for r in range(starts.shape[0]):
            at = starts[r]
            for x in range(0, run, LONGS):  # the last eight may run over: the next run writes there again
                word = load_longs(maps, at + x + steps[first])
                for row in range(first + 1, last):
                    word = vor(word, left(load_longs(maps, at + x + steps[row]), np.int64(8 * (row - first))))
                store(words, g * places + r * run + x, _transposed_bits(word))


@njit(**_options)
def count_words(words: Any, places: Any, ends: Any, stride: Any, counts: Any) -> None:
    """Driven rows up to each segment's end: byte b of counts[place · stride + s] counts plane b.

    Args:
        ends: int64 (segments,), groups up to each segment's end; ``stride`` at least as many.
        counts: int64 ((places + 8) · stride,), written.
    """
    eight = np.zeros(LONGS, np.int64)
    for p in range(0, places, LONGS):
        total = splat_longs(np.int64(0))
        g = 0
        for s in range(ends.shape[0]):
            while g < ends[s]:
                total = vadd(total, ones_of_bytes(load_longs(words, g * places + p)))
                g += 1
            if stride == 1:
                store(counts, p, total)
            else:
                store(eight, 0, total)
                for i in range(LONGS):
                    counts[(p + i) * stride + s] = eight[i]


@njit(**_options)
def fill_tables(cells: Any, unit: Any, lanes: Any, first: Any, tables: Any) -> None:
    """Sums of every bit pattern of every group of rows, rounded to steps.

    Args:
        cells: (rows, conversions) in codes; ``unit``: steps per code.
        lanes: int64 (conversions,), lane of each conversion; lanes from ``first`` on belong to these tables.
        tables: of any integer type, (blocks, groups, PATTERNS, width), written.
    """
    blocks, width = tables.shape[0], tables.shape[3]
    sums = np.zeros((PATTERNS, blocks * width), np.float32)
    row = np.zeros(blocks * width, np.float32)
    for g in range(tables.shape[1]):
        for bit in range(GROUP):
            i = g * GROUP + bit
            row[:] = 0.0
            if i < cells.shape[0]:
                for j in range(lanes.shape[0]):
                    lane = lanes[j] - first
                    if 0 <= lane < blocks * width:
                        row[lane] = cells[i, j] * unit
            for pattern in range(1 << bit):
                for j in range(blocks * width):
                    sums[(1 << bit) + pattern, j] = sums[pattern, j] + row[j]
        for b in range(blocks):
            for pattern in range(PATTERNS):
                for j in range(width):
                    tables[b, g, pattern, j] = np.int32(np.rint(sums[pattern, b * width + j]))


@njit(**_options)
def fill_noise(variance: Any, conversion: Any, table: Any) -> None:
    """table[n, j] = √(n · variance[j] + conversion[j]): σ of column j when n rows are driven."""
    for n in range(table.shape[0]):
        for j in range(table.shape[1]):
            table[n, j] = np.int16(np.rint(np.sqrt(np.float32(n) * variance[j] + conversion[j])))


@njit(**_options)
def fill_wires(step: Any, swing: Any, largest: Any, table: Any) -> None:
    """table[n, j] = step[j] · swing[n] / 2^LOAD_BITS, limited so that the change by n driven rows fits 16 bits.

    ``largest``: largest contribution of a row to T′, in the steps of ``cim.simulator.exact.lookup_wires``.
    """
    for n in range(table.shape[0]):
        for j in range(table.shape[1]):
            most = min(n * largest[j], np.float32(127.0)) * np.float32(1 << LOAD_BITS) / np.float32(128.0)
            reach = np.float32(32767.0) / max(most, np.float32(1.0))
            table[n, j] = np.int16(min(np.rint(step[j] * swing[n] / (1 << LOAD_BITS)), np.floor(reach)))


@njit(**_options)
def add_levels(
    flat: Any, width: Any, centre: Any, minus: Any, minus_step: Any, driven: Any, gain: Any, offset: Any,
    input_gain: Any, shift: Any, multiplier: Any, out: Any, places: Any, columns: Any, first: Any,
) -> None:  # fmt: skip
    """out[p · columns + first + j] += multiplier · corrected level sum, in 64-bit integers (``cim.chip.correction``).

    Args:
        flat: (places · width + 64,), int16 of the look-up kernels or int32; ``centre`` is added to every sum.
        minus: index of the first conversion subtracted digitally, −1: none; ``minus_step`` 1 when each output has its
            own, 0 when all outputs share one.
        driven: int64 (places,), sum of the input codes; None when no correction uses it.
        shift: at least 1.
        gain, offset, input_gain: int64, padded with zeros to eights.
        out: int32 (places · columns + 8,).
    """
    # ⌊|t| / 2^shift + ½⌋ with the sign of t = ⌊(t + 2^(shift − 1) − [t < 0]) / 2^shift⌋ for shift ≥ 1.
    half = splat_longs((np.int64(1) << shift) >> np.int64(1))
    middle, several = splat_longs(centre), splat_longs(multiplier)
    for j in range(0, gain.shape[0], LONGS):
        slope, start, per_input = load_longs(gain, j), load_longs(offset, j), load_longs(input_gain, j)
        for p in range(places):
            total = vadd(load_longs(flat, p * width + j), middle)
            if minus >= 0:
                if minus_step == 1:
                    other = load_longs(flat, p * width + minus + j)
                else:
                    other = splat_longs(np.int64(flat[p * width + minus]))
                total = vsub(total, vadd(other, middle))
            total = vadd(product(total, slope), start)
            if driven is not None:
                total = vadd(total, product(splat_longs(driven[p]), per_input))
            level = right(vadd(vadd(total, half), right(total, np.int64(63))), shift)
            if multiplier != 1:
                level = product(level, several)
            at = p * columns + first + j
            store(out, at, vadd(load_longs(out, at), level))
