"""clamp(round((value + start) · multiplier / 2^shift)) for sixteen integers at a time, inside numba kernels.

Codes of 16 bits go through doubles: fma(value, multiplier / 2^shift, 1.5 · 2^52) rounds the exact product once, to the
nearest integer, which then stands in the low bits. Only halves are left, which it rounds to even. An integer of 32 bits
can hit one only if shift − (zeros at the end of the multiplier) is at most 32; such a factor is taken larger by an ulp,
which takes halves away from zero and moves nothing else: a product is at least 2^(zeros − shift) off every other half,
an ulp less than 2^-51 of it, and results below 2^16. The same holds of any result where values have 16 bits, whose
products stay below 2^47. Numbers of 32 bits beyond that are worked out in integers of 64 bits. A saturated sum rounds
to the ends of 32 bits rounded, so saturation is in the ends of the clamp. Imports numba: import this module late.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from cim.simd.floats import LANES, ints
from cim.simd.vectors import I64, Vector, called, integers_of, operation, pointer, splat_of, spread

doubles, wides = Vector(ir.DoubleType(), 64, LANES), integers_of(64, LANES)
ENDS = -(1 << 31), (1 << 31) - 1
RULE = types.UniTuple(doubles, 3)  # factor; ends of the clamp, as they come out of the rounding
WIDE_RULE = types.UniTuple(wides, 6)  # multiplier, half, half below zero, shift, ends
RULE_WORDS = 6 * LANES  # words of 64 bits that hold either
ROUNDING = 1.5 * (1 << 52)
NUDGE = 1 + 2.0**-52  # a factor that is larger by this takes halves away from zero
TIES_TO = 32  # halves may come up while shift − zeros of the multiplier is no more


def _lanes(builder: Any, kind: Any, value: Any) -> Any:
    """32-bit integers in lanes: a vector unchanged, a scalar's low bits repeated sixteen times."""
    if kind == ints:
        return value
    return spread(builder, ints.llvm, value if kind.bitwidth == ints.bits else builder.trunc(value, ints.element))


def _rounded(builder: Any, values: Any, factor: Any) -> Any:
    return called(builder, f"llvm.fma.v{LANES}f64", doubles.llvm, values, factor, doubles.each(ROUNDING))


def _least(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


def _largest(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _whole(builder: Any, value: Any, name: str, other: Any) -> Any:
    return called(builder, f"llvm.{name}.v{LANES}i64", wides.llvm, value, other)


def _rule(builder: Any, multiplier: Any, shift: Any, low: Any, high: Any) -> list[Any]:
    zeros = called(
        builder, f"llvm.cttz.v{LANES}i32", ints.llvm, multiplier, ir.Constant(ir.IntType(1), 0)
    )  # 32 of none, whose products are 0
    exponent = builder.zext(builder.sub(ints.each(1023), shift), wides.llvm)
    power = builder.bitcast(builder.shl(exponent, wides.each(52)), doubles.llvm)
    factor = builder.fmul(builder.sitofp(multiplier, doubles.llvm), power)
    ties = builder.icmp_signed("<=", builder.sub(shift, zeros), ints.each(TIES_TO))
    factor = builder.select(ties, builder.fmul(factor, doubles.each(NUDGE)), factor)
    ends = []
    for end, sum_end, nearer in zip((low, high), ENDS, (_largest, _least), strict=True):
        number = spread(builder, doubles.llvm, builder.sitofp(end, doubles.element))
        given = builder.fadd(number, doubles.each(ROUNDING))
        ends.append(nearer(builder, given, _rounded(builder, doubles.each(float(sum_end)), factor)))
    return [factor, *ends]


def _wide_rule(builder: Any, multiplier: Any, shift: Any, low: Any, high: Any) -> list[Any]:
    """Half of 2^shift is added to a product before the shift, one less to a product below zero; 0 for a shift of 0."""
    one, down = wides.each(1), builder.sext(shift, wides.llvm)
    half = builder.lshr(builder.shl(one, down), one)
    below = _whole(builder, builder.sub(half, one), "smax", wides.each(0))
    ends = [spread(builder, wides.llvm, end) for end in (low, high)]
    return [builder.sext(multiplier, wides.llvm), half, below, down, *ends]


@intrinsic
def rescaling(typing: Any, multiplier: Any, shift: Any, low: Any, high: Any, narrow: Any) -> Any:
    """The rule of ``rescaled``, for multipliers and shifts in lanes or for one of each.

    ``narrow``: an array of the type of its results or of its values; 16 bits of either are enough for doubles.
    """
    kind = _kind(narrow)
    write = _rule if kind == RULE else _wide_rule

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        both = (_lanes(builder, *each) for each in zip(signature.args[:2], given[:2], strict=True))
        return context.make_tuple(builder, signature.return_type, write(builder, *both, *given[2:4]))

    return kind(multiplier, shift, types.int64, types.int64, narrow), codegen


def _kind(narrow: Any) -> Any:
    return RULE if narrow.dtype.bitwidth <= 16 else WIDE_RULE


@intrinsic
def keep_rule(typing: Any, array: Any, index: Any, rule: Any) -> Any:
    """Write a rule to a contiguous array of words of 64 bits from flat ``index`` on."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        part = rule.dtype
        start = pointer(context, builder, part.llvm, signature.args[0], *given[:2])
        for number, value in enumerate(cgutils.unpack_tuple(builder, given[2])):
            builder.store(value, builder.gep(start, [ir.Constant(I64, number)]), align=8)
        return context.get_dummy_value()

    return types.void(array, types.int64, rule), codegen


@intrinsic
def kept_rule(typing: Any, array: Any, index: Any, narrow: Any) -> Any:
    """The rule that ``keep_rule`` wrote there; ``narrow`` as in ``rescaling``."""
    rule = _kind(narrow)

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        part = rule.dtype
        start = pointer(context, builder, part.llvm, signature.args[0], *given[:2])
        places = (builder.gep(start, [ir.Constant(I64, number)]) for number in range(rule.count))
        parts = [builder.load(place, align=8, typ=part.llvm) for place in places]
        return context.make_tuple(builder, rule, parts)

    return rule(array, types.int64, narrow), codegen


@intrinsic
def with_factor(typing: Any, rule: Any, factor: Any) -> Any:
    """A rule with the ends of another one and a factor of its own, a double that ``NUDGE`` has made larger."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, low, high = cgutils.unpack_tuple(builder, given[0])
        return context.make_tuple(builder, RULE, (spread(builder, doubles.llvm, given[1]), low, high))

    return RULE(RULE, types.float64), codegen


def _ended(builder: Any, kinds: Any, given: Any) -> Any:
    """Rounded and clamped: doubles with ``ROUNDING`` added, or integers of 64 bits."""
    if kinds[2] == RULE:
        factor, low, high = cgutils.unpack_tuple(builder, given[2])
        both = (
            value if kind == doubles else builder.sitofp(value, doubles.llvm)
            for kind, value in zip(kinds[:2], given[:2], strict=True)
        )  # fmt: skip
        return _least(builder, _largest(builder, _rounded(builder, builder.fadd(*both), factor), low), high)
    multiplier, half, half_below, shift, low, high = cgutils.unpack_tuple(builder, given[2])
    both = (
        builder.fptosi(value, ints.llvm) if kind == doubles else value
        for kind, value in zip(kinds[:2], given[:2], strict=True)
    )  # fmt: skip
    total = called(builder, f"llvm.sadd.sat.v{LANES}i32", ints.llvm, *both)
    product = builder.mul(builder.sext(total, wides.llvm), multiplier)
    below = builder.icmp_signed("<", product, wides.each(0))
    found = builder.ashr(builder.add(product, builder.select(below, half_below, half)), shift)
    return _whole(builder, _whole(builder, found, "smax", low), "smin", high)


@intrinsic
def rescaled(typing: Any, values: Any, start: Any, rule: Any) -> Any:
    """clamp(round(sat(values + start) · multiplier / 2^shift)), halves away from zero, by a rule of ``rescaling``."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        ended = _ended(builder, signature.args, given)
        return builder.trunc(builder.bitcast(ended, wides.llvm), ints.llvm)

    return ints(values, start, rule), codegen


@intrinsic
def carried(typing: Any, values: Any, start: Any, rule: Any) -> Any:
    """The result of ``rescaled`` as the input of another ``rescaled``: doubles where the rule has them."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        ended = _ended(builder, signature.args, given)
        return builder.fsub(ended, doubles.each(ROUNDING)) if rule == RULE else builder.trunc(ended, ints.llvm)

    return (doubles if rule == RULE else ints)(values, start, rule), codegen


times = operation(  # of what was carried and integers of 32 bits, without loss below 2^53
    doubles, (doubles, ints), lambda builder, a, b: builder.fmul(a, builder.sitofp(b, doubles.llvm))
)


@intrinsic
def add_squares(typing: Any, total: Any, values: Any) -> Any:
    """total + values², in lanes."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        value = builder.sitofp(given[1], doubles.llvm)
        return called(builder, f"llvm.fma.v{LANES}f64", doubles.llvm, value, value, given[0])

    return doubles(doubles, ints), codegen


no_doubles = splat_of(doubles, types.float64)
sum_of_doubles = operation(  # of whole numbers in all lanes
    types.int64,
    (doubles,),
    lambda b, x: called(b, f"llvm.vector.reduce.add.v{LANES}i64", I64, b.fptosi(x, wides.llvm)),
)


@njit(cache=True, nogil=True)
def rescaled_one(value: int, start: int, multiplier: int, shift: int, low: int, high: int) -> int:
    """One number as the vectors do sixteen."""
    total = min(max(value + start, -(1 << 31)), (1 << 31) - 1)
    product, half = total * multiplier, (1 << shift) >> 1
    if product < 0 and half > 0:
        half -= 1
    rounded: int = (product + half) >> shift
    return min(max(rounded, low), high)
