"""Integer vectors of 512 bits inside numba kernels: 32 shorts or 8 longs, with vectors of half the size and of bytes.

``Shorts`` are 32 lanes of int16, ``halves`` 16 of them, ``longs`` eight of 64 bits, ``octets`` 32 bytes: one register
of 512 bits or less on AVX-512, two on AVX2, four on NEON. Shift counts are constants of the kernel or scalars. Imports
numba: import this module late.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cim.simd.floats import ints
from cim.simd.vectors import I32, Vector, called, has, indices, integers_of, loader, operation, picked, splat_of, spread

WIDTH = 32  # lanes of a Shorts vector
shorts, halves, longs = integers_of(16, WIDTH), integers_of(16, WIDTH // 2), integers_of(64, WIDTH // 4)
octets, half_octets = integers_of(8, WIDTH), integers_of(8, WIDTH // 2)
_BYTES = ir.VectorType(ir.IntType(8), 2 * WIDTH)

load_shorts, load_halves, load_longs = loader(shorts), loader(halves), loader(longs)


def has_wide_words() -> bool:
    """Whether 32 shorts (512 bits) fit one register of this machine."""
    return has("avx512bw")


def has_byte_shuffle() -> bool:
    """Whether ``cim.simd.tables.shuffled`` can be compiled."""
    return has("avx2")


def _same(emit: Any) -> Any:
    """Numba intrinsic of two vectors of one type, whose code ``emit`` writes."""

    def typing(context: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return emit(builder, signature.args[0], *values)

        return a(a, b), codegen

    return intrinsic(typing)


def _shift(emit: Any) -> Any:
    """Numba intrinsic of a vector and a scalar shift count, whose code ``emit`` writes."""

    def typing(context: Any, a: Any, count: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kind, scalar = signature.args[0], values[1]
            if scalar.type.width > kind.bits:
                scalar = builder.trunc(scalar, kind.element)
            elif scalar.type.width < kind.bits:
                scalar = builder.zext(scalar, kind.element)
            return emit(builder, values[0], spread(builder, kind.llvm, scalar))

        return a(a, count), codegen

    return intrinsic(typing)


def _named(name: str) -> Any:
    def emit(builder: Any, kind: Vector, a: Any, b: Any) -> Any:
        return called(builder, f"llvm.{name}.v{kind.lanes}i{kind.bits}", kind.llvm, a, b)

    return emit


def _high_product(signed: bool) -> Any:
    def emit(builder: Any, kind: Vector, a: Any, b: Any) -> Any:
        wide = ir.VectorType(ir.IntType(2 * kind.bits), kind.lanes)
        extend = builder.sext if signed else builder.zext
        product = builder.mul(extend(a, wide), extend(b, wide))
        down = builder.lshr(product, ir.Constant(wide, [kind.bits] * kind.lanes))
        return builder.trunc(down, kind.llvm)

    return emit


def _rounded_product(builder: Any, kind: Vector, a: Any, b: Any) -> Any:
    """Rounded high halves of lane products by the dedicated x86 instruction, which LLVM does not choose by itself."""
    if not has_byte_shuffle():
        wide = ir.VectorType(ir.IntType(2 * kind.bits), kind.lanes)
        half, down = (ir.Constant(wide, [n] * kind.lanes) for n in (1 << (kind.bits - 2), kind.bits - 1))
        product = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
        return builder.trunc(builder.ashr(builder.add(product, half), down), kind.llvm)
    if kind.lanes == WIDTH and has_wide_words():
        return called(builder, "llvm.x86.avx512.pmul.hr.sw.512", kind.llvm, a, b)
    part = ir.VectorType(kind.element, WIDTH // 2)
    parts = []
    for first in range(0, kind.lanes, WIDTH // 2):
        taken = [picked(builder, v, range(first, first + WIDTH // 2)) for v in (a, b)]
        parts.append(called(builder, "llvm.x86.avx2.pmul.hr.sw", part, *taken))
    return parts[0] if len(parts) == 1 else builder.shuffle_vector(*parts, indices(range(kind.lanes)))


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
        b.sext(b.trunc(x, ir.VectorType(I32, k.lanes)), k.llvm),
        b.sext(b.trunc(y, ir.VectorType(I32, k.lanes)), k.llvm),
    )
)
high = _same(_high_product(True))  # ⌊x · y / 2^bits⌋
rounded = _same(_rounded_product)  # ⌊x · y / 2^(bits − 1) + ½⌋, of shorts and halves
high_unsigned = _same(_high_product(False))
left = _shift(lambda b, x, n: b.shl(x, n))
right = _shift(lambda b, x, n: b.ashr(x, n))  # the sign moves in
right_zero = _shift(lambda b, x, n: b.lshr(x, n))  # zeros move in
# −1 in lanes where x > y as unsigned numbers, else 0
above = _same(lambda b, k, x, y: b.sext(b.icmp_unsigned(">", x, y), k.llvm))


def _raised(builder: Any, value: Any, kind: Vector) -> Any:
    return builder.shl(builder.zext(value, kind.llvm), kind.each(8))


as_shorts = operation(shorts, (longs,), lambda b, x: b.bitcast(x, shorts.llvm))
raised_shorts = operation(shorts, (octets,), lambda b, x: _raised(b, x, shorts))  # each byte times 2^8
raised_halves = operation(halves, (half_octets,), lambda b, x: _raised(b, x, halves))
low_half = operation(halves, (shorts,), lambda b, x: picked(b, x, range(WIDTH // 2)))
high_half = operation(halves, (shorts,), lambda b, x: picked(b, x, range(WIDTH // 2, WIDTH)))
joined = operation(shorts, (halves, halves), lambda b, x, y: b.shuffle_vector(x, y, indices(range(WIDTH))))


def _rotated(builder: Any, value: Any, count: Any) -> Any:
    return called(builder, "llvm.fshl.v8i64", longs.llvm, value, value, spread(builder, longs.llvm, count))


rotated = operation(longs, (longs, types.int64), _rotated)  # left by a scalar count of 1..63

splat_shorts, splat_halves = splat_of(shorts, types.int16), splat_of(halves, types.int16)
splat_longs = splat_of(longs, types.int64)
splat_octets, splat_half_octets = splat_of(octets, types.int8), splat_of(half_octets, types.int8)


def _transposed(builder: Any, value: Any) -> Any:
    return builder.bitcast(picked(builder, builder.bitcast(value, _BYTES), _TURNED), longs.llvm)


_TURNED = [8 * (k % 8) + k // 8 for k in range(64)]
transposed = operation(longs, (longs,), _transposed)
"""Bytes of eight longs as a matrix turned round: byte j of lane i becomes byte i of lane j."""


def _bytes_of_two(first: int) -> Any:
    """Intrinsic that splits 64-bit lanes ``first`` and ``first + 1`` into sixteen bytes, one in each 32-bit lane."""
    places = range(8 * first, 8 * first + 16)
    return operation(ints, (longs,), lambda b, x: b.zext(picked(b, b.bitcast(x, _BYTES), places), ints.llvm))


bytes_01, bytes_23, bytes_45, bytes_67 = (_bytes_of_two(first) for first in (0, 2, 4, 6))


def _ones_of_bytes(builder: Any, value: Any) -> Any:
    return builder.bitcast(called(builder, "llvm.ctpop.v64i8", _BYTES, builder.bitcast(value, _BYTES)), longs.llvm)


ones_of_bytes = operation(longs, (longs,), _ones_of_bytes)  # each byte replaced by its number of ones
