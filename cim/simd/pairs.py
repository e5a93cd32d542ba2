"""Products of pairs of 16-bit integers and words of counts, for ``cim.simulator.fast.kernels``.

``dot_pairs`` is the one operation that machines offer for 16-bit integers: two products and
their sum into 32 bits (``vpdpwssd``, ``vpmaddwd``; plain multiplications elsewhere). Imports
numba: import this module late.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic, models, register_model

from cim.simd.floats import _I32, _VF, _VI, LANES, _call, _operation, _pointer, _splat, floats, ints

_I16 = ir.IntType(16)
_SHORTS = ir.VectorType(_I16, 2 * LANES)
_WORDS = ir.VectorType(ir.IntType(64), 8)


def _features() -> frozenset[str]:
    """What numba compiles for: the machine's own features, or those it was told."""
    told = config.CPU_FEATURES
    if told is not None:
        return frozenset(word[1:] for word in told.split(",") if word.startswith("+"))
    if config.CPU_NAME not in (None, "", "host"):
        return frozenset()
    return frozenset(name for name, there in binding.get_host_cpu_features().items() if there)


FEATURES = _features()
WIDE = "avx512bw" in FEATURES  # 32 registers of 16 lanes


def _half(builder: Any, value: Any, first: int) -> Any:
    mask = ir.Constant(ir.VectorType(_I32, LANES), list(range(first, first + LANES)))
    return builder.shuffle_vector(value, ir.Constant(_SHORTS, ir.Undefined), mask)


def _pairs(builder: Any, total: Any, a: Any, b: Any) -> Any:
    a, b = builder.bitcast(a, _SHORTS), builder.bitcast(b, _SHORTS)
    if WIDE:
        kind = ir.FunctionType(_VI, [_SHORTS, _SHORTS])
        product = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.pmaddw.d.512")
        return builder.add(total, builder.call(product, [a, b]))
    if "avx2" in FEATURES:
        short, long = ir.VectorType(_I16, LANES), ir.VectorType(_I32, LANES // 2)
        kind = ir.FunctionType(long, [short, short])
        product = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.wd")
        low, high = (builder.call(product, [_half(builder, a, f), _half(builder, b, f)]) for f in (0, LANES))
        both = ir.Constant(ir.VectorType(_I32, LANES), list(range(LANES)))
        return builder.add(total, builder.shuffle_vector(low, high, both))
    wide = ir.VectorType(_I32, 2 * LANES)
    products = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    none = ir.Constant(wide, ir.Undefined)
    even, odd = (
        builder.shuffle_vector(products, none, ir.Constant(_VI, list(range(first, 2 * LANES, 2)))) for first in (0, 1)
    )
    return builder.add(total, builder.add(even, odd))


dot_pairs = _operation(ints, (ints, ints, ints), _pairs)
"""total + a_low · b_low + a_high · b_high of the two 16-bit halves of each lane."""


def _shift_left(builder: Any, value: Any, count: Any) -> Any:
    return builder.shl(value, _splat(_VI)(builder, count))


shift_left = _operation(ints, (ints, types.int32), _shift_left)


def _inverse_root(builder: Any, value: Any) -> Any:
    if "avx512f" in FEATURES:
        mask = ir.IntType(16)
        kind = ir.FunctionType(_VF, [_VF, _VF, mask])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.rsqrt14.ps.512")
        return builder.call(function, [value, ir.Constant(_VF, [0.0] * LANES), ir.Constant(mask, -1)])
    return builder.fdiv(ir.Constant(_VF, [1.0] * LANES), _call("sqrt", 1)(builder, value))


def _inverse(builder: Any, value: Any) -> Any:
    one = ir.Constant(_VF, [1.0] * LANES)
    if "avx512f" not in FEATURES:
        return builder.fdiv(one, value)
    mask = ir.IntType(16)
    kind = ir.FunctionType(_VF, [_VF, _VF, mask])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.rcp14.ps.512")
    guess = builder.call(function, [value, ir.Constant(_VF, [0.0] * LANES), ir.Constant(mask, -1)])
    two = ir.Constant(_VF, [2.0] * LANES)
    return builder.fmul(guess, builder.fsub(two, builder.fmul(value, guess)))  # one Newton step


def _nearest_int(builder: Any, value: Any) -> Any:
    kind = ir.FunctionType(_VI, [_VF])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.lrint.v{LANES}i32.v{LANES}f32")
    return builder.call(function, [value])


def _count_reaching(builder: Any, a: Any, b: Any, unit: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">=", a, b), unit, ir.Constant(_VF, [0.0] * LANES))


inverse = _operation(floats, (floats,), _inverse)  # 1 / x for x > 0, relative error ≤ 2^-22
inverse_root = _operation(floats, (floats,), _inverse_root)  # 1 / √x for x > 0, relative error ≤ 2^-14
nearest = _operation(floats, (floats,), _call("nearbyint", 1))  # halves to even
nearest_int = _operation(ints, (floats,), _nearest_int)
where_reaching = _operation(floats, (floats, floats, floats), _count_reaching)  # the third where a ≥ b, else 0


def _ones(count: int) -> Any:
    @intrinsic
    def ones(typing: Any, codes: Any, index: Any, masks: Any, at: Any) -> Any:
        return types.uint64(codes, types.int64, masks, types.int64), _ones_code(count)

    return ones


def _ones_code(count: int) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        byte, word = ir.IntType(8), ir.IntType(64)
        shorts, narrow, bytes64 = ir.VectorType(_I16, count), ir.VectorType(byte, count), ir.VectorType(byte, 64)
        place = _pointer(context, builder, signature.args[0], values[0], values[1], shorts)
        codes = builder.trunc(builder.load(place, align=2, typ=shorts), narrow)
        masks = context.make_array(signature.args[2])(context, builder, values[2]).data
        total = ir.Constant(bytes64, [0] * 64)
        for half in range(0, count, 8):
            mask = ir.Constant(ir.VectorType(_I32, 64), [half + lane // 8 for lane in range(64)])
            spread = builder.shuffle_vector(codes, ir.Constant(narrow, ir.Undefined), mask)
            there = builder.gep(masks, [builder.add(values[3], ir.Constant(word, 8 * half))])
            bits = builder.load(builder.bitcast(there, bytes64.as_pointer()), align=1, typ=bytes64)
            ones = builder.icmp_unsigned("!=", builder.and_(spread, bits), ir.Constant(bytes64, [0] * 64))
            total = builder.add(total, builder.zext(ones, bytes64))
        kind = ir.FunctionType(word, [_WORDS])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.add.v8i64")
        return builder.call(function, [builder.bitcast(total, _WORDS)])

    return codegen


ones_of_8, ones_of_16 = _ones(8), _ones(16)
"""(codes, index, masks, at): byte p is how many of so many int16 codes, flat ``index`` on, have bit p set.

``masks`` uint8, flat ``at`` on: for each code the values 1, 2, 4 … 128, or zeros to leave it out.
"""


@intrinsic
def load_pairs(typing: Any, array: Any, index: Any) -> Any:
    """Sixteen pairs of neighbours of a contiguous int16 array, flat ``index`` on."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], values[0], values[1], _VI)
        return builder.load(place, align=2, typ=_VI)

    return ints(array, types.int64), codegen


@intrinsic
def splat_pair(typing: Any, array: Any, index: Any) -> Any:
    """The pair of neighbours at flat ``index`` of a contiguous int16 array, in every lane."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        place = builder.bitcast(builder.gep(data, [values[1]]), _I32.as_pointer())
        return _splat(_VI)(builder, builder.load(place, align=2, typ=_I32))

    return ints(array, types.int64), codegen


@intrinsic
def splat_at(typing: Any, array: Any, index: Any) -> Any:
    """The value at flat ``index`` of a contiguous float32 array, in every lane."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        return _splat(_VF)(builder, builder.load(builder.gep(data, [values[1]])))

    return floats(array, types.int64), codegen


@intrinsic
def load_ints(typing: Any, array: Any, index: Any) -> Any:
    """Sixteen neighbours of a contiguous int32 array, flat ``index`` on."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], values[0], values[1], _VI)
        return builder.load(place, align=4, typ=_VI)

    return ints(array, types.int64), codegen


@intrinsic
def store_ints(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write sixteen lanes to a contiguous int32 array, flat ``index`` on."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], values[0], values[1], _VI)
        builder.store(values[2], place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, ints), codegen


class _Words(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("Words8")


words = _Words()


@register_model(_Words)
class _WordsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _WORDS)


add_words = _operation(words, (words, words), lambda b, x, y: b.add(x, y))


@intrinsic
def load_words(typing: Any, array: Any, index: Any) -> Any:
    """Eight neighbours of a contiguous uint64 array, flat ``index`` on."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], values[0], values[1], _WORDS)
        return builder.load(place, align=8, typ=_WORDS)

    return words(array, types.int64), codegen


@intrinsic
def store_words(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write eight words to a contiguous uint64 array, flat ``index`` on."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], values[0], values[1], _WORDS)
        builder.store(values[2], place, align=8)
        return context.get_dummy_value()

    return types.void(array, types.int64, words), codegen


def _words(first: int) -> Any:
    @intrinsic
    def words(typing: Any, array: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            both = ir.VectorType(_I32, 2 * LANES)
            place = _pointer(context, builder, signature.args[0], values[0], values[1], both)
            loaded = builder.load(place, align=8, typ=both)
            mask = ir.Constant(_VI, list(range(first, 2 * LANES, 2)))
            return builder.shuffle_vector(loaded, ir.Constant(both, ir.Undefined), mask)

        return ints(array, types.int64), codegen

    return words


low_words, high_words = _words(0), _words(1)
"""The 32-bit halves of sixteen neighbours of a contiguous uint64 array, flat index on."""
