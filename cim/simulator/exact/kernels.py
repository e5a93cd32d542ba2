"""The simulator's fused numba kernel for any input units: products, wires, noise, converter, shift-add in one pass.

Nothing between input units and shift-added codes is written to memory. Conversions are taken
sixteen at a time (a *block*) in single precision. One-bit units have a faster way
(``cim.simulator.exact.lookup_kernels``) unless their sums need more than 16 bits. Imports numba and compiles
at first use (cached on disk): import this module late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cim.array.wire_segments import SEGMENT_ROWS
from cim.simd.floats import (
    LANES,
    absolute,
    add,
    add_i,
    and_i,
    as_floats,
    as_ints,
    floor,
    fma,
    gather,
    lanes,
    load,
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
    sub,
    sub_i,
    to_floats,
    to_ints,
    xor_i,
)
from cim.simd.vectors import store

# Rows of the per-conversion parameter array.
OFFSET, NOISE2, VARIANCE, PARAMETERS = 0, 1, 2, 3
# Entries of the converter array: lowest and highest code, INL nodes − 1, nodes per code; codes whose
# distance from the middle is the reach are at an end of the scale (for unsigned codes only the upper one).
LOW, HIGH, SEGMENTS, PER_CODE, MIDDLE, REACH = 0, 1, 2, 3, 4, 5
WORD_ZERO = 32768  # INL words: value at a node and rise to the next one, 16 bits each about this

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
_HALF_WORD, _WORD_ZERO = _i(0xFFFF), _f(WORD_ZERO)
_POSITIVE, _SIGN = _i(0x7FFFFFFF), _i(-(1 << 31))


@njit(inline="always", **_options)
def _normals(counter: Any, key0: Any, key1: Any) -> Any:
    """Sixteen standard normals from sixteen counters: hash, 31 bits as probability, inverse distribution, sign bit."""
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
def _codes(y: Any, curve: Any, inl: Any, inl_unit: Any, converter: Any) -> Any:
    """ADC codes of sixteen sums given in codes: INL interpolated between nodes, then ⌊y + ½⌋, clipped."""
    last = splat(converter[SEGMENTS])
    place = mul(sub(y, splat(converter[LOW])), splat(converter[PER_CODE]))
    place = minimum(maximum(place, splat(_ZERO)), last)
    node = floor(minimum(place, sub(last, splat(_ONE))))
    word = gather(inl, add_i(curve, to_ints(node)))
    left = sub(to_floats(and_i(word, splat_i(_HALF_WORD))), splat(_WORD_ZERO))
    rise = sub(to_floats(shift_right(word, _i(16))), splat(_WORD_ZERO))
    y = fma(fma(rise, sub(place, node), left), splat(inl_unit), y)
    return minimum(maximum(floor(add(y, splat(_HALF))), splat(converter[LOW])), splat(converter[HIGH]))


def inl_words(inl_codes: NDArray[np.float64]) -> tuple[NDArray[np.int32], np.float32]:
    """INL curves packed as words (conversions, nodes − 1), one for each segment: its first value and its rise.

    Values are rounded to the returned unit of 1/1024 code, or coarser where a curve or a step exceeds 31 codes.
    """
    largest = max(np.abs(inl_codes).max(initial=0.0), np.abs(np.diff(inl_codes, axis=1)).max(initial=0.0))
    unit = max(1.0 / 1024, float(largest) / 32766)
    fixed = np.rint(inl_codes / unit).astype(np.int64)
    rise = np.diff(fixed, axis=1).clip(-WORD_ZERO, WORD_ZERO - 1)
    words = (fixed[:, :-1] + WORD_ZERO) | (rise + WORD_ZERO) << 16
    return words.astype(np.uint32).view(np.int32), np.float32(unit)


@njit(**_options)
def unfold_rows(maps: Any, starts: Any, steps: Any, rows: Any) -> None:
    """rows[p, r] = maps[starts[p] + steps[r]]; rows beyond the steps stay as they are."""
    for p in range(starts.shape[0]):
        for r in range(steps.shape[0]):
            rows[p, r] = maps[starts[p] + steps[r]]


@njit(**_options)
def convert_units(
    units: Any, cells: Any, cubic: Any, wires: Any, parameters: Any, curves: Any, inl: Any, inl_unit: Any,
    converter: Any, weights: Any, keys: Any, sums: Any,
) -> float:  # fmt: skip
    """Shift-added codes of one tile; the places of all images one after the other.

    Args:
        units: float32 (planes, places, segments · 16), driven units.
        cells: float32 (segments · 16, blocks · 16).
        cubic: what u³ is multiplied with, like ``cells``; None for linear cells.
        wires: (fall, rise, swing, extra, 1 / u_max): of ``cim.array.wire_segments``, float32, extra like ``cells``;
            None for no wires.
        parameters: float32 (PARAMETERS, blocks · 16).
        curves: float32 (blocks · 16,) first word of each conversion's curve in ``inl``, int32 (of ``inl_words``,
            which gives ``inl_unit`` too).
        converter: float32 (6,).
        weights: float32 (planes,).
        keys: int32 (images, 2) noise keys; places divide evenly among images.
        sums: float32 (places, blocks · 16), written: Σ planes weight · code.

    Returns:
        Conversions that ended on the last code, padding lanes included where they do.
    """
    rows, width, planes = units.shape[2], parameters.shape[1], weights.shape[0]
    segments, blocks = rows // SEGMENT_ROWS, width // LANES
    ends = splat(_ZERO)
    per_image = sums.shape[0] // keys.shape[0]
    squares, swings = np.zeros(planes, np.float32), np.zeros(planes, np.float32)
    factors = np.zeros((planes, segments), np.float32)
    for p in range(units.shape[1]):
        key0, key1 = keys[p // per_image, 0], keys[p // per_image, 1]
        for plane in range(planes):
            squares[plane] = _ZERO
            for r in range(rows):
                squares[plane] += units[plane, p, r] * units[plane, p, r]
            if wires is not None:
                swings[plane] = _factors_of(units[plane, p], wires, factors[plane])
        for b in range(blocks):
            offset = load(parameters, OFFSET * width + b * LANES)
            noise2 = load(parameters, NOISE2 * width + b * LANES)
            variance = load(parameters, VARIANCE * width + b * LANES)
            curve = to_ints(load(curves, b * LANES))
            total = splat(_ZERO)
            for plane in range(planes):
                d, loss, extra = splat(_ZERO), splat(_ZERO), splat(_ZERO)
                for s in range(segments):
                    for r in range(s * SEGMENT_ROWS, s * SEGMENT_ROWS + SEGMENT_ROWS):
                        u = units[plane, p, r]
                        g = load(cells, r * width + b * LANES)
                        if cubic is not None:
                            g = fma(load(cubic, r * width + b * LANES), splat(u * u), g)
                        d = fma(g, splat(u), d)
                        if wires is not None:
                            extra = fma(load(wires[3], r * width + b * LANES), splat(abs(u)), extra)
                    if wires is not None:
                        loss = fma(d, splat(factors[plane, s]), loss)
                y = add(d, offset)
                if wires is not None:
                    y = sub(y, mul(fma(extra, splat(swings[plane]), splat(_ONE)), loss))
                counter = _i(((p % per_image * planes + plane) * blocks + b) * LANES)
                z = _normals(add_i(lanes(), splat_i(counter)), key0, key1)
                y = fma(sqrt(fma(variance, splat(squares[plane]), noise2)), z, y)
                code = _codes(y, curve, inl, inl_unit, converter)
                ends = add(ends, reaches(absolute(sub(code, splat(converter[MIDDLE]))), splat(converter[REACH])))
                total = fma(code, splat(weights[plane]), total)
            store(sums, p * width + b * LANES, total)
    return _lane_sum(ends)  # type: ignore[no-any-return]


@njit(inline="always", **_options)
def _factors_of(units: Any, wires: Any, factors: Any) -> Any:
    """Write the loss factors of one read's segments; return the swing of the loss with T′, per unit."""
    fall, rise, swing, per_unit = wires[0], wires[1], wires[2], wires[4]
    count = _ZERO
    for s in range(factors.shape[0]):
        for r in range(s * SEGMENT_ROWS, s * SEGMENT_ROWS + SEGMENT_ROWS):
            count += abs(units[r]) * per_unit
        factors[s] = count
    n = min(int(np.rint(count)), fall.shape[0] - 1)  # a row driver may give more than its full drive
    for s in range(factors.shape[0]):
        factors[s] = fall[n, s] + rise[n, s] * factors[s]
    return swing[n] * per_unit


@njit(inline="always", **_options)
def _lane_sum(value: Any) -> float:
    lane = np.empty(LANES, np.float32)
    store(lane, 0, value)
    total = 0.0
    for j in range(LANES):
        total += lane[j]
    return total


@njit(**_options)
def normals(keys: NDArray[np.int32], count: int) -> Any:
    """The first ``count`` (a multiple of 16) normals of a key: for tests of the generator."""
    out = np.empty(count, np.float32)
    for i in range(0, count, LANES):
        store(out, i, _normals(add_i(lanes(), splat_i(_i(i))), keys[0], keys[1]))
    return out
