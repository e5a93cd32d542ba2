"""Products of pairs of 16-bit integers, and words of byte counts, for ``cim.simulator.fast.kernels``.

``dot_pairs`` is the one operation that machines offer for 16-bit integers: two products and
their sum into 32 bits (``vpdpwssd``, ``vpmaddwd``; plain multiplications elsewhere). Imports
numba: import this module late.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cim.simd.floats import LANES, floats, ints, llvm_call
from cim.simd.vectors import I8, I16, I32, I64, called, has, indices, loader, operation, picked, pointer, splat_item

_SHORTS = ir.VectorType(I16, 2 * LANES)
WIDE = has("avx512bw")  # 32 registers of 16 lanes


def _pairs(builder: Any, total: Any, a: Any, b: Any) -> Any:
    a, b = builder.bitcast(a, _SHORTS), builder.bitcast(b, _SHORTS)
    if WIDE:
        return builder.add(total, called(builder, "llvm.x86.avx512.pmaddw.d.512", ints.llvm, a, b))
    if has("avx2"):
        long, halves = ir.VectorType(I32, LANES // 2), (range(LANES), range(LANES, 2 * LANES))
        low, high = (
            called(builder, "llvm.x86.avx2.pmadd.wd", long, picked(builder, a, half), picked(builder, b, half))
            for half in halves
        )
        return builder.add(total, builder.shuffle_vector(low, high, indices(range(LANES))))
    wide = ir.VectorType(I32, 2 * LANES)
    products = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    even, odd = (picked(builder, products, range(first, 2 * LANES, 2)) for first in (0, 1))
    return builder.add(total, builder.add(even, odd))


dot_pairs = operation(ints, (ints, ints, ints), _pairs)
"""total + a_low · b_low + a_high · b_high of the two 16-bit halves of each lane."""


def _guessed(builder: Any, name: str, value: Any) -> Any:
    """AVX-512 approximation instruction ``name`` (14 bits of precision), applied to every lane."""
    mask = ir.Constant(I16, -1)
    return called(builder, f"llvm.x86.avx512.{name}14.ps.512", floats.llvm, value, floats.each(0.0), mask)


def _inverse_root(builder: Any, value: Any) -> Any:
    if has("avx512f"):
        return _guessed(builder, "rsqrt", value)
    return builder.fdiv(floats.each(1.0), llvm_call("sqrt")(builder, value))


def _inverse(builder: Any, value: Any) -> Any:
    if not has("avx512f"):
        return builder.fdiv(floats.each(1.0), value)
    guess = _guessed(builder, "rcp", value)
    return builder.fmul(guess, builder.fsub(floats.each(2.0), builder.fmul(value, guess)))  # one Newton step


def _nearest_int(builder: Any, value: Any) -> Any:
    return called(builder, f"llvm.lrint.v{LANES}i32.v{LANES}f32", ints.llvm, value)


def _count_reaching(builder: Any, a: Any, b: Any, unit: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">=", a, b), unit, floats.each(0.0))


inverse = operation(floats, (floats,), _inverse)  # 1 / x for x > 0, relative error ≤ 2^-22
inverse_root = operation(floats, (floats,), _inverse_root)  # 1 / √x for x > 0, relative error ≤ 2^-14
nearest = operation(floats, (floats,), llvm_call("nearbyint"))  # halves to even
nearest_int = operation(ints, (floats,), _nearest_int)
where_reaching = operation(floats, (floats, floats, floats), _count_reaching)  # the third where a ≥ b, else 0


def _ones(count: int) -> Any:
    @intrinsic
    def ones(typing: Any, codes: Any, index: Any, masks: Any, at: Any) -> Any:
        return types.uint64(codes, types.int64, masks, types.int64), _ones_code(count)

    return ones


def _ones_code(count: int) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        shorts, narrow, bytes64 = ir.VectorType(I16, count), ir.VectorType(I8, count), ir.VectorType(I8, 64)
        place = pointer(context, builder, shorts, signature.args[0], *values[:2])
        codes = builder.trunc(builder.load(place, align=2, typ=shorts), narrow)
        total = ir.Constant(bytes64, [0] * 64)
        for half in range(0, count, 8):
            repeated = picked(builder, codes, [half + lane // 8 for lane in range(64)])
            at = builder.add(values[3], ir.Constant(I64, 8 * half))
            there = pointer(context, builder, bytes64, signature.args[2], values[2], at)
            bits = builder.load(there, align=1, typ=bytes64)
            ones = builder.icmp_unsigned("!=", builder.and_(repeated, bits), ir.Constant(bytes64, [0] * 64))
            total = builder.add(total, builder.zext(ones, bytes64))
        words = builder.bitcast(total, ir.VectorType(I64, 8))
        return called(builder, "llvm.vector.reduce.add.v8i64", I64, words)

    return codegen


ones_of_8, ones_of_16 = _ones(8), _ones(16)
"""(codes, index, masks, at): byte p is how many of so many int16 codes, flat ``index`` on, have bit p set.

``masks`` uint8, flat ``at`` on: for each code the values 1, 2, 4 … 128, or zeros to leave it out.
"""


load_pairs = loader(ints, as_they_lie=True)
"""Sixteen pairs of neighbours of a contiguous int16 array, flat index on."""
splat_pair = splat_item(ints)
"""The pair of neighbours at flat index of a contiguous int16 array, in every lane."""
splat_at = splat_item(floats)
"""The value at flat index of a contiguous float32 array, in every lane."""


def _halves_of_words(first: int) -> Any:
    def typing(context: Any, array: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            both = ir.VectorType(I32, 2 * LANES)
            place = pointer(context, builder, both, signature.args[0], *values)
            return picked(builder, builder.load(place, align=8, typ=both), range(first, 2 * LANES, 2))

        return ints(array, types.int64), codegen

    return intrinsic(typing)


low_words, high_words = _halves_of_words(0), _halves_of_words(1)
"""The 32-bit halves of sixteen neighbours of a contiguous uint64 array, flat index on."""
