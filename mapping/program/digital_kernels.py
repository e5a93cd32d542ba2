"""The digital operations of ``mapping.program.digital_ops`` as fused numba kernels, with the same bits.

Sixteen numbers at a time go from 32-bit sums to codes in registers: bias, saturation, 64-bit product, rounding, shift
and clamp. numba would not vectorise such a loop by itself (``cim.simd.floats``). What a rule says of sixteen
channels is loaded once for many places. Imports numba: import this module late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model
from numpy.typing import NDArray

LANES = 16
ROWS = 16  # places that share loaded parameters; their sums stay in the first-level cache
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_WIDE, _SUMS = ir.VectorType(_I64, LANES), ir.VectorType(_I32, LANES)


class _Narrow(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("Narrow16")


class _Wides(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("Wides16")


ints, wides = _Narrow(), _Wides()


@register_model(_Narrow)
class _NarrowModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _SUMS)


@register_model(_Wides)
class _WidesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _WIDE)


def _call(builder: Any, name: str, kind: Any, suffix: str, *values: Any) -> Any:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * len(values)), f"llvm.{name}.v{LANES}{suffix}"
    )
    return builder.call(function, values)


def _at(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _splat(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_WIDE, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, ir.Constant(_WIDE, ir.Undefined), ir.Constant(_SUMS, [0] * LANES))


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """Sixteen neighbours of a flat array of 16 or 32 bits as 32 bits, flat ``index`` on."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        width = signature.args[0].dtype.bitwidth
        vector = ir.VectorType(ir.IntType(width), LANES)
        value = builder.load(
            _at(context, builder, signature.args[0], given[0], given[1], vector), align=width // 8, typ=vector
        )
        return value if width == 32 else builder.sext(value, _SUMS)

    return ints(array, types.int64), codegen


@intrinsic
def spread(typing: Any, value: Any) -> Any:
    """One number of 32 bits sixteen times."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        width = signature.args[0].bitwidth
        one = given[0] if width == 32 else builder.trunc(given[0], _I32)
        first = builder.insert_element(ir.Constant(_SUMS, ir.Undefined), one, ir.Constant(_I32, 0))
        return builder.shuffle_vector(first, ir.Constant(_SUMS, ir.Undefined), ir.Constant(_SUMS, [0] * LANES))

    return ints(value), codegen


@intrinsic
def wide(typing: Any, value: Any) -> Any:
    """Each with 64 bits."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.sext(given[0], _WIDE)

    return wides(ints), codegen


@intrinsic
def half_of(typing: Any, shift: Any) -> Any:
    """2^shift / 2, and 0 for a shift of 0."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        one = ir.Constant(_WIDE, [1] * LANES)
        return builder.lshr(builder.shl(one, given[0]), one)

    return wides(wides), codegen


@intrinsic
def half_below(typing: Any, half: Any) -> Any:
    """What is added instead where a product is below zero: one less, and 0 for 0."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        less = builder.sub(given[0], ir.Constant(_WIDE, [1] * LANES))
        return _call(builder, "smax", _WIDE, "i64", less, ir.Constant(_WIDE, [0] * LANES))

    return wides(wides), codegen


@intrinsic
def plus(typing: Any, first: Any, second: Any) -> Any:
    """Sums that fit 32 bits."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.add(*given)

    return ints(ints, ints), codegen


@intrinsic
def times(typing: Any, first: Any, second: Any) -> Any:
    """Products that fit 32 bits."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.mul(*given)

    return ints(ints, ints), codegen


@intrinsic
def narrowed(typing: Any, value: Any) -> Any:
    """The low 32 bits of each."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.trunc(given[0], _SUMS)

    return ints(wides), codegen


@intrinsic
def add(typing: Any, first: Any, second: Any) -> Any:
    """Saturating at the ends of int32."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return _call(builder, "sadd.sat", _SUMS, "i32", *given)

    return ints(ints, ints), codegen


@intrinsic
def scaled(typing: Any, values: Any, multiplier: Any, half: Any, half_below: Any, shift: Any) -> Any:
    """round(values · multiplier / 2^shift), halves away from zero."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        product = builder.mul(builder.sext(given[0], _WIDE), builder.sext(given[1], _WIDE))
        below = builder.icmp_signed("<", product, ir.Constant(_WIDE, [0] * LANES))
        return builder.ashr(builder.add(product, builder.select(below, given[3], given[2])), given[4])

    return wides(ints, ints, wides, wides, wides), codegen


@intrinsic
def clamped(typing: Any, values: Any, low: Any, high: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        above = _call(builder, "smax", _WIDE, "i64", given[0], _splat(builder, given[1]))
        return _call(builder, "smin", _WIDE, "i64", above, _splat(builder, given[2]))

    return wides(wides, types.int64, types.int64), codegen


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write sixteen numbers that fit to a flat array of 16 or 32 bits."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        width = signature.args[0].dtype.bitwidth
        vector = ir.VectorType(ir.IntType(width), LANES)
        place = _at(context, builder, signature.args[0], given[0], given[1], vector)
        builder.store(builder.trunc(given[2], vector), place, align=width // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, wides), codegen


@njit(cache=True, nogil=True)
def rescaled(value: int, bias: int, multiplier: int, shift: int, low: int, high: int) -> int:
    """One number as the vectors do sixteen."""
    total = min(max(value + bias, -(1 << 31)), (1 << 31) - 1)
    product, half = total * multiplier, (1 << shift) >> 1
    if product < 0 and half > 0:
        half -= 1
    rounded: int = (product + half) >> shift
    return min(max(rounded, low), high)


@njit(cache=True, nogil=True)
def finish_last(
    sums: NDArray[np.int32],
    bias: NDArray[np.int32],
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int32],
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of flat sums whose channels lie side by side; arrays of a rule are (channels,)."""
    length = len(bias)
    rows = len(sums) // length
    if length < LANES:
        for at in range(len(sums)):
            j = at % length
            out[at] = rescaled(sums[at], bias[j], multiplier[j], shift[j], low, high)
        return
    for top in range(0, rows, ROWS):
        for block in range(0, length, LANES):
            j = min(block, length - LANES)  # the last sixteen overlap those before
            b, m, s = load(bias, j), load(multiplier, j), wide(load(shift, j))
            half = half_of(s)
            below = half_below(half)
            for row in range(top, min(top + ROWS, rows)):
                at = row * length + j
                value = scaled(add(load(sums, at), b), m, half, below, s)
                store(out, at, clamped(value, low, high))


@njit(cache=True, nogil=True)
def finish_first(
    sums: NDArray[np.int32],
    length: int,
    bias: NDArray[np.int32],
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int32],
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of flat sums in rows of ``length`` of one channel each, channel after channel."""
    channels = len(bias)
    for row in range(len(sums) // length):
        p, first = row % channels, row * length
        whole = length - length % LANES
        if whole:
            b, m, s = spread(bias[p]), spread(multiplier[p]), wide(spread(shift[p]))
            half = half_of(s)
            below = half_below(half)
            for at in range(first, first + whole, LANES):
                value = scaled(add(load(sums, at), b), m, half, below, s)
                store(out, at, clamped(value, low, high))
        for at in range(first + whole, first + length):
            out[at] = rescaled(sums[at], bias[p], multiplier[p], shift[p], low, high)


@njit(cache=True, nogil=True)
def add_maps(
    first: NDArray[np.int16],
    second: NDArray[np.int16],
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int32],
    most: int,
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of a sum of two flat maps of one scale each: rescaled, clamped at ±``most``, added, requantised.

    Args:
        multiplier, shift: (3,), of first, second and sum.
    """
    size = len(first)
    m0, m1, m2 = spread(multiplier[0]), spread(multiplier[1]), spread(multiplier[2])
    s0, s1, s2 = wide(spread(shift[0])), wide(spread(shift[1])), wide(spread(shift[2]))
    h0, h1, h2 = half_of(s0), half_of(s1), half_of(s2)
    b0, b1, b2 = half_below(h0), half_below(h1), half_below(h2)
    whole = size - size % LANES
    for at in range(0, whole, LANES):
        a = clamped(scaled(load(first, at), m0, h0, b0, s0), -most, most)
        b = clamped(scaled(load(second, at), m1, h1, b1, s1), -most, most)
        store(out, at, clamped(scaled(add(narrowed(a), narrowed(b)), m2, h2, b2, s2), low, high))
    for at in range(whole, size):
        total = rescaled(first[at], 0, multiplier[0], shift[0], -most, most)
        total += rescaled(second[at], 0, multiplier[1], shift[1], -most, most)
        out[at] = rescaled(total, 0, multiplier[2], shift[2], low, high)


@njit(cache=True, nogil=True)
def product_last(
    few: NDArray[np.int16],
    many: NDArray[np.int16],
    channels: int,
    places: int,
    multiplier: int,
    shift: int,
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of flat maps (images, places, channels) times one number a channel of each image (images, channels)."""
    m, s = spread(multiplier), wide(spread(shift))
    half = half_of(s)
    below = half_below(half)
    for row in range(len(many) // max(channels, 1)):
        of, at = row // places * channels, row * channels
        whole = channels - channels % LANES
        for j in range(0, whole, LANES):
            total = times(load(few, of + j), load(many, at + j))
            store(out, at + j, clamped(scaled(total, m, half, below, s), low, high))
        for j in range(whole, channels):
            out[at + j] = rescaled(few[of + j] * many[at + j], 0, multiplier, shift, low, high)


@njit(cache=True, nogil=True)
def affine_all(
    codes: NDArray[np.int16], weight: int, offset: int, multiplier: int, shift: int, low: int, high: int,
    out: NDArray[np.int16],
) -> None:  # fmt: skip
    """Codes of x · weight + offset, all flat; the sum fits 32 bits."""
    w, o, m, s = spread(weight), spread(offset), spread(multiplier), wide(spread(shift))
    half = half_of(s)
    below = half_below(half)
    whole = len(codes) - len(codes) % LANES
    for at in range(0, whole, LANES):
        value = scaled(add(times(load(codes, at), w), o), m, half, below, s)
        store(out, at, clamped(value, low, high))
    for at in range(whole, len(codes)):
        out[at] = rescaled(codes[at] * weight + offset, 0, multiplier, shift, low, high)


@njit(cache=True, nogil=True)
def sum_places(codes: NDArray[np.int16], places: int, channels: int, out: NDArray[np.int32]) -> None:
    """Sums over the places of flat maps (images, places, channels); of (images · channels, places) with one channel."""
    whole = channels - channels % LANES
    for image in range(len(out) // channels):
        first, at = image * channels, image * places * channels
        for j in range(0, whole, LANES):
            total = load(codes, at + j)
            for place in range(1, places):
                total = plus(total, load(codes, at + place * channels + j))
            store(out, first + j, wide(total))
        for j in range(whole, channels):
            last = 0
            for place in range(places):
                last += codes[at + place * channels + j]
            out[first + j] = last
