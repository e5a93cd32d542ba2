"""Integer vectors of 512 bits inside numba kernels: 32 shorts, 16 halves of a pair, 8 longs.

The integer side of ``cim.simd.floats``, with the same promise: values live in registers and LLVM
lowers them to what the machine has (one register on AVX-512, two on AVX2, four on NEON).
``Shorts`` are 32 lanes of int16, ``Pair`` halves 16 of them, ``Longs`` eight of 64 bits.
Shift counts are constants of the kernel or scalars. Imports numba: import this module late.
"""

from __future__ import annotations

import functools
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic, models, register_model


class Vector(types.Type):  # type: ignore[misc]
    """``lanes`` integers of ``bits`` bits."""

    def __init__(self, bits: int, lanes: int) -> None:
        super().__init__(f"Vector{lanes}x{bits}")
        self.bits, self.lanes = bits, lanes
        self.element = ir.IntType(bits)
        self.vector = ir.VectorType(self.element, lanes)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, fe_type.vector)


WIDTH = 32  # lanes of a Shorts vector
shorts, halves, longs = Vector(16, WIDTH), Vector(16, WIDTH // 2), Vector(64, WIDTH // 4)
octets, half_octets = Vector(8, WIDTH), Vector(8, WIDTH // 2)
ints = Vector(32, WIDTH // 2)


def _has(feature: str) -> bool:
    if config.CPU_FEATURES is not None:  # NUMBA_CPU_FEATURES caps the machine
        return f"+{feature}" in config.CPU_FEATURES
    return feature in _of_this_machine()


@functools.cache
def _of_this_machine() -> frozenset[str]:
    return frozenset(name for name, there in llvmlite.binding.get_host_cpu_features().items() if there)


def has_wide_words() -> bool:
    """Whether 32 shorts fit one register (numba compiles for this machine)."""
    return _has("avx512bw")


def has_byte_shuffle() -> bool:
    """Whether ``shuffled`` can be compiled."""
    return _has("avx2")


def _called(builder: Any, name: str, result: Any, values: Any) -> Any:
    kind = ir.FunctionType(result, [v.type for v in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)


def _places(first: int, count: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(first, first + count)))


def _lanes(builder: Any, value: Any, first: int, count: int) -> Any:
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), _places(first, count))


def _spread(builder: Any, kind: Vector, value: Any) -> Any:
    undefined, zero = ir.Constant(kind.vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(undefined, value, zero)
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(ir.IntType(32), kind.lanes), None))


def _same(emit: Any) -> Any:
    """An intrinsic of two vectors of one type."""

    def typing(context: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return emit(builder, signature.args[0], *values)

        return a(a, b), codegen

    return intrinsic(typing)


def _shift(emit: Any) -> Any:
    """An intrinsic of a vector and a scalar count."""

    def typing(context: Any, a: Any, count: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kind, scalar = signature.args[0], values[1]
            if scalar.type.width > kind.bits:
                scalar = builder.trunc(scalar, kind.element)
            elif scalar.type.width < kind.bits:
                scalar = builder.zext(scalar, kind.element)
            return emit(builder, values[0], _spread(builder, kind, scalar))

        return a(a, count), codegen

    return intrinsic(typing)


def _named(name: str) -> Any:
    def emit(builder: Any, kind: Vector, a: Any, b: Any) -> Any:
        return _called(builder, f"llvm.{name}.v{kind.lanes}i{kind.bits}", kind.vector, (a, b))

    return emit


def _high_product(signed: bool) -> Any:
    def emit(builder: Any, kind: Vector, a: Any, b: Any) -> Any:
        wide = ir.VectorType(ir.IntType(2 * kind.bits), kind.lanes)
        extend = builder.sext if signed else builder.zext
        product = builder.mul(extend(a, wide), extend(b, wide))
        down = builder.lshr(product, ir.Constant(wide, [kind.bits] * kind.lanes))
        return builder.trunc(down, kind.vector)

    return emit


def _rounded_product(builder: Any, kind: Vector, a: Any, b: Any) -> Any:
    """By the instruction that x86 has for it and LLVM does not find."""
    if not _has("avx2"):
        wide = ir.VectorType(ir.IntType(2 * kind.bits), kind.lanes)
        half, down = (ir.Constant(wide, [n] * kind.lanes) for n in (1 << (kind.bits - 2), kind.bits - 1))
        product = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
        return builder.trunc(builder.ashr(builder.add(product, half), down), kind.vector)
    if kind.lanes == WIDTH and has_wide_words():
        return _called(builder, "llvm.x86.avx512.pmul.hr.sw.512", kind.vector, [a, b])
    part = ir.VectorType(kind.element, WIDTH // 2)
    parts = [
        _called(builder, "llvm.x86.avx2.pmul.hr.sw", part, [_lanes(builder, v, first, WIDTH // 2) for v in (a, b)])
        for first in range(0, kind.lanes, WIDTH // 2)
    ]
    return parts[0] if len(parts) == 1 else builder.shuffle_vector(*parts, _places(0, kind.lanes))


vadd = _same(lambda b, k, x, y: b.add(x, y))
vsub = _same(lambda b, k, x, y: b.sub(x, y))
vmul = _same(lambda b, k, x, y: b.mul(x, y))
vxor = _same(lambda b, k, x, y: b.xor(x, y))
vor = _same(lambda b, k, x, y: b.or_(x, y))
vand = _same(lambda b, k, x, y: b.and_(x, y))
add_saturated = _same(_named("sadd.sat"))
sub_saturated = _same(_named("ssub.sat"))
vmin = _same(_named("smin"))
vmax = _same(_named("smax"))
product = _same(  # of the low 32 bits of longs, signed
    lambda b, k, x, y: b.mul(
        b.sext(b.trunc(x, ir.VectorType(ir.IntType(32), k.lanes)), k.vector),
        b.sext(b.trunc(y, ir.VectorType(ir.IntType(32), k.lanes)), k.vector),
    )
)
high = _same(_high_product(True))  # ⌊x · y / 2^bits⌋
rounded = _same(_rounded_product)  # ⌊x · y / 2^(bits − 1) + ½⌋, of shorts and halves
high_unsigned = _same(_high_product(False))
left = _shift(lambda b, x, n: b.shl(x, n))
right = _shift(lambda b, x, n: b.ashr(x, n))  # the sign moves in
right_zero = _shift(lambda b, x, n: b.lshr(x, n))  # zeros move in
# −1 in lanes where x > y as unsigned numbers, else 0
above = _same(lambda b, k, x, y: b.sext(b.icmp_unsigned(">", x, y), k.vector))


def _convert(source: Vector, result: Vector, emit: Any) -> Any:
    def typing(context: Any, a: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return emit(builder, values[0])

        return result(source), codegen

    return intrinsic(typing)


as_shorts = _convert(longs, shorts, lambda b, x: b.bitcast(x, shorts.vector))
raised_shorts = _convert(  # each byte times 2^8
    octets, shorts, lambda b, x: b.shl(b.zext(x, shorts.vector), ir.Constant(shorts.vector, [8] * WIDTH))
)
raised_halves = _convert(
    half_octets, halves, lambda b, x: b.shl(b.zext(x, halves.vector), ir.Constant(halves.vector, [8] * (WIDTH // 2)))
)
as_longs = _convert(shorts, longs, lambda b, x: b.bitcast(x, longs.vector))
low_half = _convert(shorts, halves, lambda b, x: _lanes(b, x, 0, WIDTH // 2))
high_half = _convert(shorts, halves, lambda b, x: _lanes(b, x, WIDTH // 2, WIDTH // 2))


@intrinsic
def joined(typing: Any, a: Any, b: Any) -> Any:
    """Two halves as one vector."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.shuffle_vector(values[0], values[1], _places(0, WIDTH))

    return shorts(halves, halves), codegen


@intrinsic
def rotated(typing: Any, a: Any, count: Any) -> Any:
    """Longs rotated left by a scalar count of 1..63."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        n = _spread(builder, longs, values[1])
        return _called(builder, "llvm.fshl.v8i64", longs.vector, (values[0], values[0], n))

    return longs(longs, types.int64), codegen


def _splat(kind: Vector, scalar: Any) -> Any:
    def typing(context: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return _spread(builder, kind, values[0])

        return kind(scalar), codegen

    return intrinsic(typing)


splat_shorts = _splat(shorts, types.int16)
splat_halves = _splat(halves, types.int16)
splat_longs = _splat(longs, types.int64)
splat_ints = _splat(ints, types.int32)
splat_octets = _splat(octets, types.int8)
splat_half_octets = _splat(half_octets, types.int8)


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _loader(result: Vector, item_bits: int | None, signed: bool) -> Any:
    """Neighbours of a contiguous array from flat ``index`` on, widened to the lanes; None: items as the array has."""

    def typing(context: Any, array: Any, index: Any) -> Any:
        bits = item_bits or array.dtype.bitwidth
        narrow = ir.VectorType(ir.IntType(bits), result.lanes)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            place = _place(context, builder, signature.args[0], values[0], values[1], narrow)
            value = builder.load(place, align=bits // 8, typ=narrow)
            if bits == result.bits:
                return value
            return builder.sext(value, result.vector) if signed else builder.zext(value, result.vector)

        return result(array, types.int64), codegen

    return intrinsic(typing)


def _storer(kind: Vector, item_bits: int) -> Any:
    """Write the lanes to a contiguous array, cut to its items."""
    narrow = ir.VectorType(ir.IntType(item_bits), kind.lanes)

    def typing(context: Any, array: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            place = _place(context, builder, signature.args[0], values[0], values[1], narrow)
            value = values[2] if item_bits == kind.bits else builder.trunc(values[2], narrow)
            builder.store(value, place, align=item_bits // 8)
            return context.get_dummy_value()

        return types.void(array, types.int64, kind), codegen

    return intrinsic(typing)


load_shorts = _loader(shorts, 16, True)  # int16 array
load_halves = _loader(halves, 16, True)
load_longs = _loader(longs, 64, True)  # 64-bit array
load_bytes = _loader(longs, 8, False)  # uint8 array
load_wide_longs = _loader(longs, None, True)  # signed array
load_integer_longs = _loader(longs, 32, True)  # int32 array
store_shorts = _storer(shorts, 16)
store_halves = _storer(halves, 16)
store_longs = _storer(longs, 64)
store_integer_longs = _storer(longs, 32)  # int32 array


@intrinsic
def item(typing: Any, array: Any, index: Any) -> Any:
    """One int64 of a contiguous array, flat ``index``, which must not be negative."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        return builder.load(builder.gep(data, [values[1]]))

    return types.int64(array, types.int64), codegen


def _row(builder: Any, data: Any, word: Any, plane: Any, row_bits: int) -> Any:
    """Address of row number byte ``plane`` of ``word`` in rows of 2^row_bits bytes: a rotation and a mask."""
    i64 = ir.IntType(64)
    turn = builder.sub(builder.mul(plane, ir.Constant(i64, 8)), ir.Constant(i64, row_bits))
    turned = _called(builder, "llvm.fshr.i64", i64, (word, word, turn))
    offset = builder.and_(turned, ir.Constant(i64, 255 << row_bits))
    return builder.gep(data, [offset])


def _looker(kind: Vector) -> Any:
    """The row of a table of rows of lanes, from flat ``at`` on, that byte ``plane`` of ``word`` numbers."""
    row_bits = (kind.lanes * kind.bits // 8).bit_length() - 1

    def typing(context: Any, table: Any, at: Any, word: Any, plane: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            start = _place(context, builder, signature.args[0], values[0], values[1], ir.IntType(8))
            place = builder.bitcast(_row(builder, start, values[2], values[3], row_bits), kind.vector.as_pointer())
            return builder.load(place, align=kind.bits // 8, typ=kind.vector)

        return kind(table, types.int64, types.int64, types.int64), codegen

    return intrinsic(typing)


def _spreader(kind: Vector) -> Any:
    """32 bits (two equal shorts) from flat ``index`` on in all lanes of a vector: one load instruction."""

    def typing(context: Any, array: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            i32 = ir.IntType(32)
            place = _place(context, builder, signature.args[0], values[0], values[1], i32)
            vector = ir.VectorType(i32, kind.lanes // 2)
            undefined = ir.Constant(vector, ir.Undefined)
            one = builder.insert_element(undefined, builder.load(place, align=4, typ=i32), ir.Constant(i32, 0))
            return builder.bitcast(builder.shuffle_vector(one, undefined, ir.Constant(vector, None)), kind.vector)

        return kind(array, types.int64), codegen

    return intrinsic(typing)


look_shorts, look_halves = _looker(shorts), _looker(halves)
look_octets, look_half_octets = _looker(octets), _looker(half_octets)
spread_shorts, spread_halves = _spreader(shorts), _spreader(halves)


@intrinsic
def transposed(typing: Any, value: Any) -> Any:
    """Bytes of eight longs as a matrix turned round: byte j of lane i becomes byte i of lane j."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), 64)
        places = ir.Constant(ir.VectorType(ir.IntType(32), 64), [8 * (k % 8) + k // 8 for k in range(64)])
        turned = builder.shuffle_vector(builder.bitcast(values[0], vector), ir.Constant(vector, ir.Undefined), places)
        return builder.bitcast(turned, longs.vector)

    return longs(longs), codegen


def _bytes_of_two(first: int) -> Any:
    """The bytes of longs ``first`` and its neighbour, each in an integer of its own."""

    def emit(builder: Any, value: Any) -> Any:
        part = _lanes(builder, builder.bitcast(value, ir.VectorType(ir.IntType(8), 64)), 8 * first, 16)
        return builder.zext(part, ints.vector)

    return _convert(longs, ints, emit)


bytes_01, bytes_23, bytes_45, bytes_67 = (_bytes_of_two(first) for first in (0, 2, 4, 6))


@intrinsic
def load_two_rows(typing: Any, array: Any, first: Any, second: Any) -> Any:
    """Eight items of an int32 array from flat ``first`` on, and eight from ``second``."""
    half = ir.VectorType(ir.IntType(32), 8)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        parts = [
            builder.load(_place(context, builder, signature.args[0], values[0], at, half), align=4, typ=half)
            for at in values[1:]
        ]
        return builder.shuffle_vector(*parts, _places(0, 16))

    return ints(array, types.int64, types.int64), codegen


@intrinsic
def store_two_rows(typing: Any, array: Any, first: Any, second: Any, value: Any) -> Any:
    """The same the other way; ``array`` may be of any type, indices count its items."""
    half = ir.VectorType(ir.IntType(32), 8)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        for begin, at in enumerate(values[1:3]):
            part = _lanes(builder, values[3], 8 * begin, 8)
            builder.store(part, _place(context, builder, signature.args[0], values[0], at, half), align=2)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, ints), codegen


@intrinsic
def ones_of_bytes(typing: Any, value: Any) -> Any:
    """Each byte replaced by its number of ones."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), 64)
        ones = _called(builder, "llvm.ctpop.v64i8", vector, [builder.bitcast(values[0], vector)])
        return builder.bitcast(ones, longs.vector)

    return longs(longs), codegen


@intrinsic
def shuffled(typing: Any, table: Any, base: Any, index: Any) -> Any:
    """table[base + 16 · (lane // 8) + high byte of index] · 256 in each lane of 32; x86 only (``has_byte_shuffle``).

    ``table`` is an int8 array. Bit 7 of each lane must be set (it clears the low byte), the high byte below 16.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind, name, lanes = signature.args[0], "llvm.x86.avx512.pshuf.b.512", 64
        if not has_wide_words():
            name, lanes = "llvm.x86.avx2.pshuf.b", 32
        part = ir.VectorType(ir.IntType(8), lanes)
        bytes_, results = builder.bitcast(values[2], ir.VectorType(ir.IntType(8), 64)), []
        for first in range(0, 64, lanes):
            at = builder.add(values[1], ir.Constant(ir.IntType(64), first))
            entries = builder.load(_place(context, builder, kind, values[0], at, part), align=1, typ=part)
            results.append(_called(builder, name, part, (entries, _lanes(builder, bytes_, first, lanes))))
        if len(results) == 2:
            results = [builder.shuffle_vector(*results, _places(0, 64))]
        return builder.bitcast(results[0], shorts.vector)

    return shorts(table, types.int64, shorts), codegen


@intrinsic
def gathered(typing: Any, table: Any, index: Any) -> Any:
    """table[index] in each lane of 32, indices unsigned; two entries are read, so the table ends one later."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        i32 = ir.IntType(32)
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        results = []
        for first in (0, 16):
            wide = builder.zext(_lanes(builder, values[1], first, 16), ir.VectorType(i32, 16))
            pointers, mask = ir.VectorType(i32.as_pointer(), 16), ir.VectorType(ir.IntType(1), 16)
            vector = ir.VectorType(i32, 16)
            undefined = ir.Constant(pointers, ir.Undefined)
            first_pointer = builder.bitcast(data, i32.as_pointer())
            base = builder.insert_element(undefined, first_pointer, ir.Constant(i32, 0))
            base = builder.shuffle_vector(base, undefined, ir.Constant(vector, None))
            at = builder.gep(base, [wide], source_etype=ir.IntType(16))
            given = at, ir.Constant(i32, 2), ir.Constant(mask, [1] * 16), ir.Constant(vector, ir.Undefined)
            word = _called(builder, "llvm.masked.gather.v16i32.v16p0i32", vector, given)
            results.append(builder.trunc(word, ir.VectorType(ir.IntType(16), 16)))
        return builder.shuffle_vector(*results, _places(0, WIDTH))

    return shorts(table, shorts), codegen
