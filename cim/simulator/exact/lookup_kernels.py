"""One-bit reads as table look-ups in 16-bit integers: sums, wires, noise, converter, shift-add in one pass.

With inputs of one bit a product is a look-up: a table holds the sum of a group of rows for
every pattern of their bits. Sums are counted in steps of 2^-k code (``cim.simulator.exact.lookup_engine``
chooses k so that no sum can leave 16 bits); 32 conversions travel together through every
instruction. Nothing between input bits and shift-added codes is written to memory but a
page of scratch. Parts that a chip does not have are passed as None, and numba compiles the
kernel without them.

Tables of one block of columns stay in the first-level cache while places stream. Blocks
have 32 columns (``convert_wide``), or 16 columns and two neighbouring places
(``convert_pairs``). Imports numba and compiles at first use (cached on disk): import late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cim.simd.integers import (
    WIDTH,
    above,
    add_saturated,
    high,
    high_half,
    high_unsigned,
    joined,
    left,
    load_halves,
    load_shorts,
    low_half,
    right,
    right_zero,
    rounded,
    splat_halves,
    splat_shorts,
    sub_saturated,
    vadd,
    vmax,
    vmin,
    vor,
    vsub,
)
from cim.simd.tables import gathered, item, shuffled
from cim.simd.vectors import store
from cim.simulator.exact.lookup_noise import LONGS, PLANES, eight_normals, seed_stream, start
from cim.simulator.exact.lookup_sums import (
    EXTRAS,
    FACTOR_ROW,
    FACTORS,
    HALF,
    LOAD_BITS,
    LOSSES,
    NORMALS,
    SUMS,
    UPPER,
    factors_of,
    look_up,
    look_up_pair,
)

# Entries of the converter array, int16: fractional bits k, highest code counted from the lowest one, what is
# added to the sum of all planes, the first code and the number of codes after it that are not at an end of
# the scale, one if the last plane counts negative; INL: factor from steps to segments, its fractional bits,
# and how far values of the byte table are shifted down; wires: mean loss of a unit of losses.
BITS, SPAN, CENTRE, INNER_FIRST, INNER_COUNT, SIGNED, SEGMENT, FRACTION, SHIFT, BASE, CONVERTER = (
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
)  # fmt: skip

_options: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
_ZERO, _ONE, _BYTE = np.int16(0), np.int16(1), np.int64(255)
_CLEAR = np.int16(128)
_LOAD = np.int16(LOAD_BITS)


@njit(inline="always", **_options)
def _draw(s0: Any, s1: Any, scratch: Any) -> Any:
    """Write eight vectors of normals to ``scratch``; return the generator's next state."""
    a, b, c, d, e, f, g, h, s0, s1 = eight_normals(s0, s1)
    store(scratch, NORMALS + 0 * WIDTH, a)
    store(scratch, NORMALS + 1 * WIDTH, b)
    store(scratch, NORMALS + 2 * WIDTH, c)
    store(scratch, NORMALS + 3 * WIDTH, d)
    store(scratch, NORMALS + 4 * WIDTH, e)
    store(scratch, NORMALS + 5 * WIDTH, f)
    store(scratch, NORMALS + 6 * WIDTH, g)
    store(scratch, NORMALS + 7 * WIDTH, h)
    return s0, s1


@njit(inline="always", **_options)
def _code(y: Any, bits: Any, span: Any, inl: Any, at: Any, base: Any, segment: Any, fraction: Any, shift: Any) -> Any:
    """Codes counted from the lowest one, of sums in steps above the lowest code: INL, floor(y + 1/2), clipped."""
    if inl is not None:
        table, bytewise = inl
        place = vmin(vmax(y, splat_shorts(_ZERO)), left(splat_shorts(span), bits))
        where = high_unsigned(place, splat_shorts(segment))
        within = right_zero(left(where, np.int16(16) - fraction), _ONE)
        if bytewise is not None:
            index = vor(where, splat_shorts(_CLEAR))
            value, rise = right(shuffled(table, at, index), shift), shuffled(table, at + 2 * WIDTH, index)
            rise = right(high(rise, within), shift - _ONE)
        else:
            index = vadd(right_zero(where, fraction), base)
            index = vadd(index, index)
            value, rise = gathered(table, index), gathered(table, vadd(index, splat_shorts(_ONE)))
            rise = high(rise, within)
            rise = vadd(rise, rise)
        y = add_saturated(y, add_saturated(value, rise))
    y = add_saturated(y, left(splat_shorts(_ONE), bits - _ONE))
    return vmin(vmax(right(y, bits), splat_shorts(_ZERO)), splat_shorts(span))


@njit(inline="always", **_options)
def _lane_sum(value: Any, lanes: Any, scratch: Any) -> int:
    store(scratch, 0, value)
    total = 0
    for j in range(lanes):
        total += scratch[j]
    return total


@njit(**_options)
def convert_wide(
    words: Any, counts: Any, tables: Any, ends: Any, wires: Any, upper: Any, offsets: Any, noise: Any, inl: Any,
    curves: Any, converter: Any, planes: Any, keys: Any, stream: Any, column0: Any, scratch: Any, out: Any,
) -> int:  # fmt: skip
    """Shift-added codes of one tile's columns in blocks of 32.

    Args:
        words, counts: bit patterns from ``unfold_words``, numbers of driven rows from ``count_words``.
        tables: sums of every bit pattern from ``fill_tables``, int16 (blocks, groups, patterns, 32).
        ends: int64 (segments,), words up to the end of each segment of the line.
        wires: (fall, rise, extra, table, even): of ``lookup_wires``, flat int8 tables like ``tables`` of its extra
            loads, and int16 (rows + 1, width) of ``fill_wires``; None for no wires.
        upper: None for at most UPPER planes, any other value for more.
        offsets: int16 (width,), column offset above the lowest code, steps.
        noise: σ from ``fill_noise``, int16 (rows + 1, width), in steps times 2^16 / NORMAL_UNIT; None: no noise.
        inl: (table, bytewise) from ``lookup_engine``; None: no INL. ``curves`` int16 (width,): first entry of each
            column's curve.
        keys: uint64 (images,); places divide evenly among images. ``stream``: number of the first block's noise stream.
        scratch: int16 (SCRATCH,). It and all tables should start on cache lines (64 bytes).
        out: int16 (places, width), written: sum over planes of weight * code + converter[CENTRE], modulo 2^16.

    Returns:
        number of conversions on the first or last code of the scale.
    """
    blocks, groups, patterns = tables.shape[0], tables.shape[1], tables.shape[2]
    flat, sums = tables.reshape(-1), out.reshape(-1)
    places, width = out.shape
    per_image = places // keys.shape[0]
    stride, last = counts.shape[0] // (places + LONGS), ends.shape[0] - 1
    bits, span, centre, signed = converter[BITS], converter[SPAN], converter[CENTRE], converter[SIGNED]
    inner_first, inner = converter[INNER_FIRST], converter[INNER_COUNT]
    segment, fraction, shift, mean_loss = converter[SEGMENT], converter[FRACTION], converter[SHIFT], converter[BASE]
    skip, lowest = (0, 0) if upper is None else (UPPER, PLANES - planes)
    planes, lift = planes + lowest, np.int64(8 * lowest)
    state = np.empty(2 * LONGS, np.uint64)
    hits = 0
    for b in range(blocks):
        column = column0 + b * WIDTH
        offset, base = load_shorts(offsets, column), load_shorts(curves, column)
        for image in range(keys.shape[0]):
            at_end = splat_shorts(_ZERO)
            seed_stream(keys[image], stream + b, state)
            s0, s1 = start(state)
            for p in range(image * per_image, (image + 1) * per_image):
                n = item(counts, p * stride + last) << lift
                if wires is not None:
                    factors_of(counts, p * stride, n, lift, wires[0], wires[1], upper, scratch, FACTORS)
                begin = b * groups * patterns * WIDTH
                look_up(words, p, places, flat, wires, begin, patterns, ends, upper, lift, FACTORS, scratch)
                if noise is not None:
                    s0, s1 = _draw(s0, s1, scratch)
                total = splat_shorts(_ZERO)
                unit = splat_shorts(mean_loss)
                for plane in range(planes - 1, lowest - 1, -1):
                    y = load_shorts(scratch, SUMS + plane * WIDTH)
                    near = ((n >> (8 * plane)) & _BYTE) * width + column
                    if wires is not None:
                        if plane >= skip:
                            loss = load_shorts(scratch, LOSSES + (plane - skip) * WIDTH)
                            extra = load_shorts(scratch, EXTRAS + (plane - skip) * WIDTH)
                            extra = left(rounded(extra, load_shorts(wires[3], near)), _LOAD)
                            unit = add_saturated(extra, splat_shorts(mean_loss))
                        else:
                            loss = left(rounded(y, splat_shorts(wires[4][(n >> (8 * plane)) & _BYTE])), _ONE)
                        y = sub_saturated(y, rounded(loss, unit))
                    y = add_saturated(y, offset)
                    if noise is not None:  # rounded down, as the converter wants its last summand
                        z = load_shorts(scratch, NORMALS + plane * WIDTH)
                        y = add_saturated(y, high(z, load_shorts(noise, near)))
                    code = _code(y, bits, span, inl, b * 4 * WIDTH, base, segment, fraction, shift)
                    at_end = vsub(at_end, above(vsub(code, splat_shorts(inner_first)), splat_shorts(inner)))
                    total = vadd(vadd(total, total), code)
                    if signed and plane == planes - 1:
                        total = vsub(splat_shorts(_ZERO), code)
                total = vadd(total, splat_shorts(centre))
                store(sums, p * width + column, total)
                if (p & 2047) == 2047:  # before the counters fill up
                    hits += _lane_sum(at_end, WIDTH, scratch)
                    at_end = splat_shorts(_ZERO)
            hits += _lane_sum(at_end, WIDTH, scratch)
    return hits


@njit(**_options)
def convert_pairs(
    words: Any, counts: Any, tables: Any, ends: Any, wires: Any, upper: Any, offsets: Any, noise: Any, inl: Any,
    curves: Any, converter: Any, planes: Any, keys: Any, stream: Any, column0: Any, scratch: Any, out: Any,
) -> int:  # fmt: skip
    """``convert_wide`` in blocks of 16 columns, two places of an image at a time."""
    blocks, groups, patterns = tables.shape[0], tables.shape[1], tables.shape[2]
    flat, sums = tables.reshape(-1), out.reshape(-1)
    places, width = out.shape
    per_image = places // keys.shape[0]
    stride, last = counts.shape[0] // (places + LONGS), ends.shape[0] - 1
    bits, span, centre, signed = converter[BITS], converter[SPAN], converter[CENTRE], converter[SIGNED]
    inner_first, inner = converter[INNER_FIRST], converter[INNER_COUNT]
    segment, fraction, shift, mean_loss = converter[SEGMENT], converter[FRACTION], converter[SHIFT], converter[BASE]
    skip, lowest = (0, 0) if upper is None else (UPPER, PLANES - planes)
    planes, lift = planes + lowest, np.int64(8 * lowest)
    state = np.empty(2 * LONGS, np.uint64)
    hits = 0
    for b in range(blocks):
        column = column0 + b * HALF
        offset = joined(load_halves(offsets, column), load_halves(offsets, column))
        base = joined(load_halves(curves, column), load_halves(curves, column))
        for image in range(keys.shape[0]):
            at_end = splat_shorts(_ZERO)
            seed_stream(keys[image], stream + b, state)
            s0, s1 = start(state)
            lanes = WIDTH
            for p in range(image * per_image, (image + 1) * per_image, 2):
                q = p + 1
                if q == (image + 1) * per_image:  # the last place has no partner
                    hits += _lane_sum(at_end, lanes, scratch)
                    at_end, lanes, q = splat_shorts(_ZERO), HALF, p
                n, m = item(counts, p * stride + last) << lift, item(counts, q * stride + last) << lift
                if wires is not None:
                    factors_of(counts, p * stride, n, lift, wires[0], wires[1], upper, scratch, FACTORS)
                    factors_of(
                        counts, q * stride, m, lift, wires[0], wires[1], upper, scratch, FACTORS + UPPER * FACTOR_ROW
                    )
                begin = b * groups * patterns * HALF
                look_up_pair(words, p, q, places, flat, wires, begin, patterns, ends, upper, lift, FACTORS, scratch)
                if noise is not None:
                    s0, s1 = _draw(s0, s1, scratch)
                total = splat_shorts(_ZERO)
                unit = splat_shorts(mean_loss)
                for plane in range(planes - 1, lowest - 1, -1):
                    y = load_shorts(scratch, SUMS + plane * WIDTH)
                    near = ((n >> (8 * plane)) & _BYTE) * width + column
                    far = ((m >> (8 * plane)) & _BYTE) * width + column
                    if wires is not None:
                        if plane >= skip:
                            loss = load_shorts(scratch, LOSSES + (plane - skip) * WIDTH)
                            extra = load_shorts(scratch, EXTRAS + (plane - skip) * WIDTH)
                            factor = joined(load_halves(wires[3], near), load_halves(wires[3], far))
                            unit = add_saturated(left(rounded(extra, factor), _LOAD), splat_shorts(mean_loss))
                        else:
                            even, odd = wires[4][(n >> (8 * plane)) & _BYTE], wires[4][(m >> (8 * plane)) & _BYTE]
                            loss = left(rounded(y, joined(splat_halves(even), splat_halves(odd))), _ONE)
                        y = sub_saturated(y, rounded(loss, unit))
                    y = add_saturated(y, offset)
                    if noise is not None:
                        z = load_shorts(scratch, NORMALS + plane * WIDTH)
                        y = add_saturated(y, high(z, joined(load_halves(noise, near), load_halves(noise, far))))
                    code = _code(y, bits, span, inl, b * 4 * WIDTH, base, segment, fraction, shift)
                    at_end = vsub(at_end, above(vsub(code, splat_shorts(inner_first)), splat_shorts(inner)))
                    total = vadd(vadd(total, total), code)
                    if signed and plane == planes - 1:
                        total = vsub(splat_shorts(_ZERO), code)
                total = vadd(total, splat_shorts(centre))
                store(sums, p * width + column, low_half(total))
                if q > p:
                    store(sums, q * width + column, high_half(total))
                if (p & 4094) == 4094:  # before the counters fill up
                    hits += _lane_sum(at_end, lanes, scratch)
                    at_end = splat_shorts(_ZERO)
            hits += _lane_sum(at_end, lanes, scratch)
    return hits
