"""The simulator's fused numba kernels: products, wires, noise, converter, shift-add in one pass.

Nothing between input bits and shift-added codes is written to memory. Imports numba and
compiles at first use (cached on disk): import this module late.

Conversions are taken sixteen at a time (a *block*). One-bit units use tables: for every
group of eight rows and every pattern of eight bits the sum of those rows, so one lookup
replaces eight multiplications. Wider or signed units are multiplied row by row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cim.simd import (
    LANES,
    absolute,
    add,
    add_i,
    and_i,
    as_floats,
    as_ints,
    count_ones,
    floor,
    fma,
    gather,
    lanes,
    load,
    load_bytes,
    maximum,
    minimum,
    mul,
    mul_i,
    or_i,
    reaches,
    shift_right,
    splat,
    splat_i,
    sqrt,
    store,
    sub,
    sub_i,
    to_floats,
    to_ints,
    xor_i,
)
from cim.wire_law import GROUP

PATTERNS = 1 << GROUP
# Rows of the per-conversion parameter array.
OFFSET, NOISE2, WIRE, PARAMETERS = 0, 1, 2, 3
# Entries of the converter array: lowest and highest code, INL nodes − 1, nodes per code; codes whose
# distance from the middle is the reach are at an end of the scale (for unsigned codes only the upper one).
LOW, HIGH, SEGMENTS, PER_CODE, MIDDLE, REACH = 0, 1, 2, 3, 4, 5
# INL words: value at a node and rise to the next one, 16 bits each, in 1/1024 of a code about 32768.
WORD_ZERO, WORD_PER_CODE = 32768, 1024

_options: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
_f, _i = np.float32, np.int32


def _signed(word: int) -> int:
    return word - (1 << 32) if word >= 1 << 31 else word


# Finaliser of a 32-bit hash (C. Wellons, "triple32", public domain) with the key's words mixed in.
_M1, _M2, _M3 = _i(_signed(0xED5AD4BB)), _i(_signed(0xAC4C1B51)), _i(_signed(0x31848BAB))
# ln m on 1..2 and z(√−ln p) on p = ½..2⁻³³, least-squares in Chebyshev points; |Δz| ≤ 1.4e-4.
_L0, _L1, _L2 = _f(2.2117031e-05), _f(0.99901045), _f(-0.48915685)
_L3, _L4, _L5 = _f(0.28330432), _f(-0.13011942), _f(0.030102625)
_Z0, _Z1, _Z2, _Z3, _Z4 = _f(-2.357806946), _f(4.151607599), _f(-2.606012426), _f(1.756185479), _f(-0.819828334)
_Z5, _Z6, _Z7, _Z8, _Z9 = _f(0.262642614), _f(-0.05655562777), _f(0.00781201004), _f(-0.00062471768), _f(2.19743e-05)
_LN2, _TOP = _f(0.6931471805599453), _f(32 * 0.6931471805599453)
_HALF, _ONE, _ZERO = _f(0.5), _f(1.0), _f(0.0)
_MANTISSA, _EXPONENT_ONE, _BIAS = _i(0x007FFFFF), _i(0x3F800000), _i(127)
_HALF_WORD, _WORD_ZERO, _WORD_UNIT = _i(0xFFFF), _f(WORD_ZERO), _f(1.0 / WORD_PER_CODE)
_POSITIVE, _SIGN = _i(0x7FFFFFFF), _i(-(1 << 31))


@njit(inline="always", **_options)
def _normals(counter: Any, key0: Any, key1: Any) -> Any:
    """Sixteen standard normals of sixteen counters: hash, 31 bits to p, inverse distribution, one sign bit."""
    h = add_i(counter, splat_i(key0))
    h = mul_i(xor_i(h, shift_right(h, _i(17))), splat_i(_M1))
    h = xor_i(xor_i(h, shift_right(h, _i(11))), splat_i(key1))
    h = mul_i(h, splat_i(_M2))
    h = mul_i(xor_i(h, shift_right(h, _i(15))), splat_i(_M3))
    h = xor_i(h, shift_right(h, _i(14)))
    bits = as_ints(add(to_floats(and_i(h, splat_i(_POSITIVE))), splat(_HALF)))
    exponent = to_floats(sub_i(shift_right(bits, _i(23)), splat_i(_BIAS)))
    m = sub(as_floats(or_i(and_i(bits, splat_i(_MANTISSA)), splat_i(_EXPONENT_ONE))), splat(_ONE))
    ln = fma(fma(fma(fma(fma(splat(_L5), m, splat(_L4)), m, splat(_L3)), m, splat(_L2)), m, splat(_L1)), m, splat(_L0))
    w = sqrt(sub(splat(_TOP), fma(exponent, splat(_LN2), ln)))
    z = fma(fma(fma(fma(splat(_Z9), w, splat(_Z8)), w, splat(_Z7)), w, splat(_Z6)), w, splat(_Z5))
    z = fma(fma(fma(fma(fma(z, w, splat(_Z4)), w, splat(_Z3)), w, splat(_Z2)), w, splat(_Z1)), w, splat(_Z0))
    return as_floats(xor_i(as_ints(z), and_i(h, splat_i(_SIGN))))


@njit(inline="always", **_options)
def _codes(y: Any, curve: Any, inl: Any, converter: Any) -> Any:
    """ADC codes of sixteen sums in codes: INL between its nodes, ⌊y + ½⌋, clipped."""
    last = splat(converter[SEGMENTS])
    place = mul(sub(y, splat(converter[LOW])), splat(converter[PER_CODE]))
    place = minimum(maximum(place, splat(_ZERO)), last)
    node = floor(minimum(place, sub(last, splat(_ONE))))
    word = gather(inl, add_i(curve, to_ints(node)))
    left = sub(to_floats(and_i(word, splat_i(_HALF_WORD))), splat(_WORD_ZERO))
    rise = sub(to_floats(shift_right(word, _i(16))), splat(_WORD_ZERO))
    y = fma(fma(rise, sub(place, node), left), splat(_WORD_UNIT), y)
    return minimum(maximum(floor(add(y, splat(_HALF))), splat(converter[LOW])), splat(converter[HIGH]))


def inl_words(inl_codes: NDArray[np.float64]) -> NDArray[np.int32]:
    """INL curves (conversions, nodes) as words (conversions, nodes − 1): one lookup gives a segment.

    Values are rounded to 1/1024 code.

    Raises:
        ValueError: a curve leaves ±15 codes, which the words do not hold.
    """
    largest = float(np.abs(inl_codes).max(initial=0.0))
    if largest > 15.0:
        raise ValueError(f"INL of {largest:.1f} codes; this engine holds 15: use engine='torch'")
    fixed = np.rint(inl_codes * WORD_PER_CODE).astype(np.int64) + WORD_ZERO
    words = (fixed[:, :-1] & 0xFFFF) | (np.diff(fixed, axis=1) + WORD_ZERO) << 16
    return words.astype(np.uint32).view(np.int32)


@njit(**_options)
def fill_tables(cells: Any, variance: Any, tables: Any) -> None:
    """Sums of every bit pattern of every group.

    ``cells``, ``variance`` float32 (groups · 8, blocks · 16); ``tables`` float32 (blocks,
    groups, 256, 32): sixteen sums of cells, then sixteen of variances.
    """
    blocks, groups = tables.shape[0], tables.shape[1]
    for b in range(blocks):
        for g in range(groups):
            for j in range(2 * LANES):
                tables[b, g, 0, j] = 0.0
            for bit in range(GROUP):
                row = g * GROUP + bit
                for pattern in range(1 << bit):
                    for j in range(LANES):
                        column = b * LANES + j
                        tables[b, g, pattern + (1 << bit), j] = tables[b, g, pattern, j] + cells[row, column]
                        total = tables[b, g, pattern, LANES + j] + variance[row, column]
                        tables[b, g, pattern + (1 << bit), LANES + j] = total


@njit(**_options)
def unfold_rows(maps: Any, starts: Any, steps: Any, rows: Any) -> None:
    """rows[p, r] = maps[starts[p] + steps[r]]; rows beyond the steps stay as they are."""
    for p in range(starts.shape[0]):
        for r in range(steps.shape[0]):
            rows[p, r] = maps[starts[p] + steps[r]]


@njit(inline="always", **_options)
def _transpose_bits(x: Any) -> Any:
    """Eight bytes of eight bits transposed: byte b of the result holds the bits b (Hacker's Delight, 7-3)."""
    t = (x ^ (x >> np.uint64(7))) & np.uint64(0x00AA00AA00AA00AA)
    x = x ^ t ^ (t << np.uint64(7))
    t = (x ^ (x >> np.uint64(14))) & np.uint64(0x0000CCCC0000CCCC)
    x = x ^ t ^ (t << np.uint64(14))
    t = (x ^ (x >> np.uint64(28))) & np.uint64(0x00000000F0F0F0F0)
    return x ^ t ^ (t << np.uint64(28))


@njit(**_options)
def unfold_bits(maps: Any, starts: Any, steps: Any, words: Any) -> None:
    """The same for one-bit units: words (positions, groups) uint64, byte b holds bit b of eight uint8 codes."""
    rows = steps.shape[0]
    whole = rows // GROUP
    for p in range(starts.shape[0]):
        start = starts[p]
        for g in range(whole):
            x = np.uint64(0)
            for r in range(GROUP):
                x |= np.uint64(maps[start + steps[g * GROUP + r]]) << np.uint64(8 * r)
            words[p, g] = _transpose_bits(x)
        if whole * GROUP < rows:
            x = np.uint64(0)
            for r in range(whole * GROUP, rows):
                x |= np.uint64(maps[start + steps[r]]) << np.uint64(8 * (r - whole * GROUP))
            words[p, whole] = _transpose_bits(x)


@njit(**_options)
def convert_bits(
    patterns: Any, tables: Any, lengths: Any, parameters: Any, curves: Any, inl: Any, converter: Any,
    weights: Any, keys: Any, loads: Any, sums: Any,
) -> float:  # fmt: skip
    """Shift-added codes of one tile for one-bit units; the places of all images one after the other.

    Args:
        patterns: uint8 (places · groups · 8 + 8,), the eight bits of a group for each plane.
        tables: of ``fill_tables``.
        lengths: float32 (groups,), see ``cim.wire_law.far_first``.
        parameters: float32 (PARAMETERS, blocks · 16).
        curves: float32 (blocks · 16,) first word of each conversion's curve in ``inl``, int32 (of ``inl_words``).
        converter: float32 (6,).
        weights: float32 (planes,).
        keys: int32 (images, 2) noise keys; places divide evenly among images.
        loads: float32 scratch (groups · 16,).
        sums: float32 (places, blocks · 16), written: Σ planes weight · code.

    Returns:
        Conversions that ended on the last code, padding lanes included where they do.
    """
    blocks, groups = tables.shape[0], tables.shape[1]
    width = parameters.shape[1]
    row = PATTERNS * 2 * LANES
    per_image = sums.shape[0] // keys.shape[0]
    ends = splat(_ZERO)
    for b in range(blocks):  # outermost: one block's tables stay in the cache
        offset = load(parameters, OFFSET * width + b * LANES)
        noise2 = load(parameters, NOISE2 * width + b * LANES)
        wire = load(parameters, WIRE * width + b * LANES)
        curve = to_ints(load(curves, b * LANES))
        for p in range(sums.shape[0]):
            key0, key1 = keys[p // per_image, 0], keys[p // per_image, 1]
            driven = splat(_ZERO)
            for g in range(groups):
                ones = count_ones(load_bytes(patterns, (p * groups + g) * GROUP))
                driven = add(driven, to_floats(ones))  # lanes 0..7 are the planes, the rest is not used
                store(loads, g * LANES, mul(driven, splat(lengths[g])))
            total = splat(_ZERO)
            for plane in range(weights.shape[0]):
                d, v, loss = splat(_ZERO), splat(_ZERO), splat(_ZERO)
                at = b * groups * row
                for g in range(groups):
                    here = at + np.int64(patterns[(p * groups + g) * GROUP + plane]) * (2 * LANES)
                    d = add(d, load(tables, here))
                    v = add(v, load(tables, here + LANES))
                    loss = fma(d, splat(loads[g * LANES + plane]), loss)
                    at += row
                y = sub(add(d, offset), mul(loss, wire))
                counter = _i(((p % per_image * weights.shape[0] + plane) * blocks + b) * LANES)
                z = _normals(add_i(lanes(), splat_i(counter)), key0, key1)
                code = _codes(fma(sqrt(add(v, noise2)), z, y), curve, inl, converter)
                ends = add(ends, reaches(absolute(sub(code, splat(converter[MIDDLE]))), splat(converter[REACH])))
                total = fma(code, splat(weights[plane]), total)
            store(sums, p * width + b * LANES, total)
    return _lane_sum(ends)  # type: ignore[no-any-return]


@njit(**_options)
def convert_units(
    units: Any, cells: Any, variance: Any, lengths: Any, parameters: Any, curves: Any, inl: Any, converter: Any,
    weights: Any, keys: Any, sums: Any,
) -> float:  # fmt: skip
    """The same for wider or signed units: float32 (planes, places, groups · 8); cells as in ``fill_tables``."""
    groups = lengths.shape[0]
    width = parameters.shape[1]
    blocks = width // LANES
    ends = splat(_ZERO)
    per_image = sums.shape[0] // keys.shape[0]
    for p in range(units.shape[1]):
        key0, key1 = keys[p // per_image, 0], keys[p // per_image, 1]
        for b in range(blocks):
            offset = load(parameters, OFFSET * width + b * LANES)
            noise2 = load(parameters, NOISE2 * width + b * LANES)
            wire = load(parameters, WIRE * width + b * LANES)
            curve = to_ints(load(curves, b * LANES))
            total = splat(_ZERO)
            for plane in range(weights.shape[0]):
                d, v, loss = splat(_ZERO), splat(_ZERO), splat(_ZERO)
                count = _ZERO
                for g in range(groups):
                    for r in range(g * GROUP, g * GROUP + GROUP):
                        u = units[plane, p, r]
                        d = fma(load(cells, r * width + b * LANES), splat(u), d)
                        v = fma(load(variance, r * width + b * LANES), splat(u * u), v)
                        count += abs(u)
                    loss = fma(d, splat(count * lengths[g]), loss)
                y = sub(add(d, offset), mul(loss, wire))
                counter = _i(((p % per_image * weights.shape[0] + plane) * blocks + b) * LANES)
                z = _normals(add_i(lanes(), splat_i(counter)), key0, key1)
                code = _codes(fma(sqrt(add(v, noise2)), z, y), curve, inl, converter)
                ends = add(ends, reaches(absolute(sub(code, splat(converter[MIDDLE]))), splat(converter[REACH])))
                total = fma(code, splat(weights[plane]), total)
            store(sums, p * width + b * LANES, total)
    return _lane_sum(ends)  # type: ignore[no-any-return]


@njit(inline="always", **_options)
def _lane_sum(value: Any) -> float:
    lane = np.empty(LANES, np.float32)
    store(lane, 0, value)
    total = 0.0
    for j in range(LANES):
        total += lane[j]
    return total


@njit(**_options)
def add_levels(
    sums: Any, minus: Any, input_sums: Any, gain: Any, offset: Any, input_gain: Any, shift: Any, multiplier: Any,
    out: Any,
) -> None:  # fmt: skip
    """out[p, j] += multiplier · corrected level sum, in 64-bit integers (``cim.correction``).

    ``minus`` int64 (outputs,) is the conversion subtracted from each output, −1 for none.
    """
    half = (np.int64(1) << shift) >> np.int64(1)
    for p in range(sums.shape[0]):
        driven = input_sums[p]
        for j in range(gain.shape[0]):
            total = np.int64(sums[p, j])
            if minus[j] >= 0:
                total -= np.int64(sums[p, minus[j]])
            total = total * gain[j] + offset[j] + driven * input_gain[j]
            sign = total >> np.int64(63)  # −1 below zero
            level = (((total ^ sign) - sign + half) >> shift) * multiplier
            out[p, j] += _i((level ^ sign) - sign)


@njit(**_options)
def normals(keys: NDArray[np.int32], count: int) -> Any:
    """The first ``count`` (a multiple of 16) normals of a key: for tests of the generator."""
    out = np.empty(count, np.float32)
    for i in range(0, count, LANES):
        store(out, i, _normals(add_i(lanes(), splat_i(_i(i))), keys[0], keys[1]))
    return out


__all__ = ["add_levels", "convert_bits", "convert_units", "fill_tables", "normals", "unfold_bits", "unfold_rows"]
