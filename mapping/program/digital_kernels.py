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
BIAS, MULTIPLIER, HALF, HALF_BELOW, SHIFT = range(5)  # rows of a rule's parameters
ROWS = 256  # places that share loaded parameters; their sums stay in the first-level cache
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
def _load(typing: Any, array: Any, index: Any) -> Any:
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
def _load_wide(typing: Any, array: Any, index: Any) -> Any:
    """Sixteen neighbours of a flat int64 array."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.load(_at(context, builder, signature.args[0], given[0], given[1], _WIDE), align=8, typ=_WIDE)

    return wides(array, types.int64), codegen


@intrinsic
def _narrowed(typing: Any, value: Any) -> Any:
    """The low 32 bits of each."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.trunc(given[0], _SUMS)

    return ints(wides), codegen


@intrinsic
def _sum(typing: Any, first: Any, second: Any) -> Any:
    """Saturating at the ends of int32."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return _call(builder, "sadd.sat", _SUMS, "i32", *given)

    return ints(ints, ints), codegen


@intrinsic
def _scaled(typing: Any, values: Any, multiplier: Any, half: Any, half_below: Any, shift: Any) -> Any:
    """round(values · multiplier / 2^shift), halves away from zero."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        product = builder.mul(builder.sext(given[0], _WIDE), builder.sext(given[1], _WIDE))
        below = builder.icmp_signed("<", product, ir.Constant(_WIDE, [0] * LANES))
        return builder.ashr(builder.add(product, builder.select(below, given[3], given[2])), given[4])

    return wides(ints, ints, wides, wides, wides), codegen


@intrinsic
def _clamped(typing: Any, values: Any, low: Any, high: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        above = _call(builder, "smax", _WIDE, "i64", given[0], _splat(builder, given[1]))
        return _call(builder, "smin", _WIDE, "i64", above, _splat(builder, given[2]))

    return wides(wides, types.int64, types.int64), codegen


@intrinsic
def _store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write sixteen numbers that fit to a flat array of 16 or 32 bits."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        width = signature.args[0].dtype.bitwidth
        vector = ir.VectorType(ir.IntType(width), LANES)
        place = _at(context, builder, signature.args[0], given[0], given[1], vector)
        builder.store(builder.trunc(given[2], vector), place, align=width // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, wides), codegen


@njit(cache=True, nogil=True)
def _rescaled(value: int, rule: NDArray[np.int64], at: int, low: int, high: int) -> int:
    """One number as the vectors do sixteen; ``rule`` (5, width)."""
    total = min(max(value + rule[BIAS, at], -(1 << 31)), (1 << 31) - 1)
    product = total * rule[MULTIPLIER, at]
    half = rule[HALF_BELOW, at] if product < 0 else rule[HALF, at]
    rounded: int = (product + half) >> rule[SHIFT, at]
    return min(max(rounded, low), high)


@njit(cache=True, nogil=True)
def finish_last(
    sums: NDArray[np.int32], length: int, rule: NDArray[np.int64], low: int, high: int, out: NDArray[np.int16]
) -> None:
    """Codes of flat sums whose ``length`` channels lie side by side.

    Args:
        rule: (5, length): bias, multiplier, half, half − 1 for products below zero (or 0), shift.
    """
    rows, flat = len(sums) // length, rule.ravel()
    if length < LANES:
        for at in range(len(sums)):
            out[at] = _rescaled(sums[at], rule, at % length, low, high)
        return
    for top in range(0, rows, ROWS):
        for block in range(0, length, LANES):
            j = min(block, length - LANES)  # the last sixteen overlap those before
            bias, multiplier = _narrowed(_load_wide(flat, j)), _narrowed(_load_wide(flat, MULTIPLIER * length + j))
            half, below = _load_wide(flat, HALF * length + j), _load_wide(flat, HALF_BELOW * length + j)
            shift = _load_wide(flat, SHIFT * length + j)
            for row in range(top, min(top + ROWS, rows)):
                at = row * length + j
                value = _scaled(_sum(_load(sums, at), bias), multiplier, half, below, shift)
                _store(out, at, _clamped(value, low, high))


@njit(cache=True, nogil=True)
def finish_first(
    sums: NDArray[np.int32], length: int, rule: NDArray[np.int64], low: int, high: int, out: NDArray[np.int16]
) -> None:
    """Codes of flat sums in rows of ``length`` of one channel each, channel after channel.

    Args:
        rule: (5, 16 · channels): as in ``finish_last``, each channel's sixteen times.
    """
    rows, width, flat = len(sums) // length, rule.shape[1], rule.ravel()
    for row in range(rows):
        p, first = row * LANES % width, row * length
        if length < LANES:
            for at in range(first, first + length):
                out[at] = _rescaled(sums[at], rule, p, low, high)
            continue
        bias, multiplier = _narrowed(_load_wide(flat, p)), _narrowed(_load_wide(flat, MULTIPLIER * width + p))
        half, below = _load_wide(flat, HALF * width + p), _load_wide(flat, HALF_BELOW * width + p)
        shift = _load_wide(flat, SHIFT * width + p)
        for block in range(0, length, LANES):
            at = first + min(block, length - LANES)
            value = _scaled(_sum(_load(sums, at), bias), multiplier, half, below, shift)
            _store(out, at, _clamped(value, low, high))


@njit(cache=True, nogil=True)
def add_maps(
    first: NDArray[np.int16],
    second: NDArray[np.int16],
    rules: NDArray[np.int64],
    most: int,
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of a sum of two flat maps of one scale each: rescaled, clamped at ±``most``, added, requantised.

    Args:
        rules: (3, 5, 16), of first, second and sum; as in ``finish_first``, without bias.
    """
    size, flat = len(first), rules.ravel()
    row, one, two = LANES, 5 * LANES, 10 * LANES
    m0, m1 = _narrowed(_load_wide(flat, MULTIPLIER * row)), _narrowed(_load_wide(flat, one + MULTIPLIER * row))
    h0, h1 = _load_wide(flat, HALF * row), _load_wide(flat, one + HALF * row)
    b0, b1 = _load_wide(flat, HALF_BELOW * row), _load_wide(flat, one + HALF_BELOW * row)
    s0, s1 = _load_wide(flat, SHIFT * row), _load_wide(flat, one + SHIFT * row)
    m2, h2 = _narrowed(_load_wide(flat, two + MULTIPLIER * row)), _load_wide(flat, two + HALF * row)
    b2, s2 = _load_wide(flat, two + HALF_BELOW * row), _load_wide(flat, two + SHIFT * row)
    whole = size - size % LANES
    for at in range(0, whole, LANES):
        a = _clamped(_scaled(_load(first, at), m0, h0, b0, s0), -most, most)
        b = _clamped(_scaled(_load(second, at), m1, h1, b1, s1), -most, most)
        _store(out, at, _clamped(_scaled(_sum(_narrowed(a), _narrowed(b)), m2, h2, b2, s2), low, high))
    for at in range(whole, size):
        total = _rescaled(first[at], rules[0], 0, -most, most) + _rescaled(second[at], rules[1], 0, -most, most)
        out[at] = _rescaled(total, rules[2], 0, low, high)
