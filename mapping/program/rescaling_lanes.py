"""round(sum · multiplier / 2^shift) and its clamp for sixteen numbers at a time, inside numba kernels.

Sums of 32 bits become codes in registers: saturation, 64-bit product, rounding, shift and clamp. Imports numba: import
this module late.
"""

from __future__ import annotations

from typing import Any

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from cim.simd.floats import LANES, ints
from cim.simd.vectors import called, integers_of, operation, spread

wides = integers_of(64, LANES)
RULE = types.Tuple((ints, wides, wides, wides))  # multiplier; half and its equal below zero; shift


def _lanes(builder: Any, kind: Any, value: Any) -> Any:
    """Integers of 32 bits in lanes: as they are, or the low bits of one number sixteen times."""
    if kind == ints:
        return value
    return spread(builder, ints.llvm, value if kind.bitwidth == ints.bits else builder.trunc(value, ints.element))


@intrinsic
def rescaling(typing: Any, multiplier: Any, shift: Any) -> Any:
    """The rule of ``scaled``, for multipliers and shifts in lanes or for one of each.

    Half of 2^shift is added to a product before the shift, one less to a product below zero; nothing for a shift of 0.
    """

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        multipliers, shifts = (_lanes(builder, *each) for each in zip(signature.args, given, strict=True))
        one, down = wides.each(1), builder.sext(shifts, wides.llvm)
        half = builder.lshr(builder.shl(one, down), one)
        below = called(builder, f"llvm.smax.v{LANES}i64", wides.llvm, builder.sub(half, one), wides.each(0))
        return context.make_tuple(builder, signature.return_type, (multipliers, half, below, down))

    return RULE(multiplier, shift), codegen


@intrinsic
def scaled(typing: Any, values: Any, rule: Any) -> Any:
    """round(values · multiplier / 2^shift), halves away from zero, by a rule of ``rescaling``."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        multiplier, half, half_below, shift = cgutils.unpack_tuple(builder, given[1])
        product = builder.mul(builder.sext(given[0], wides.llvm), builder.sext(multiplier, wides.llvm))
        below = builder.icmp_signed("<", product, wides.each(0))
        return builder.ashr(builder.add(product, builder.select(below, half_below, half)), shift)

    return wides(ints, RULE), codegen


def _clamped(builder: Any, values: Any, low: Any, high: Any) -> Any:
    above = called(builder, f"llvm.smax.v{LANES}i64", wides.llvm, values, spread(builder, wides.llvm, low))
    return called(builder, f"llvm.smin.v{LANES}i64", wides.llvm, above, spread(builder, wides.llvm, high))


clamped = operation(wides, (wides, types.int64, types.int64), _clamped)
narrowed = operation(
    ints, (wides,), lambda builder, values: builder.trunc(values, ints.llvm)
)  # the low 32 bits of each


@njit(cache=True, nogil=True)
def rescaled(value: int, bias: int, multiplier: int, shift: int, low: int, high: int) -> int:
    """One number as the vectors do sixteen, a bias added before."""
    total = min(max(value + bias, -(1 << 31)), (1 << 31) - 1)
    product, half = total * multiplier, (1 << shift) >> 1
    if product < 0 and half > 0:
        half -= 1
    rounded: int = (product + half) >> shift
    return min(max(rounded, low), high)
