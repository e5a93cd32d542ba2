"""Look-ups inside numba kernels: rows, entries and bytes of tables into the integer vectors of ``cim.simd.integers``.

Imports numba: import this module late.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cim.simd.floats import ints
from cim.simd.integers import WIDTH, half_octets, halves, has_wide_words, octets, shorts
from cim.simd.vectors import I8, I16, I32, I64, Vector, called, indices, picked, pointer, splat_item, spread

_EIGHT = ir.VectorType(I32, 8)


@intrinsic
def item(typing: Any, array: Any, index: Any) -> Any:
    """One int64 of a contiguous array, flat ``index``, which must not be negative."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(pointer(context, builder, I64, signature.args[0], *values))

    return types.int64(array, types.int64), codegen


def _looker(kind: Vector) -> Any:
    """Intrinsic (table, at, word, plane): the row numbered by byte ``plane`` of ``word``, row 0 at flat ``at``.

    A rotation and a mask turn the byte into the row's address.
    """
    row_bits = (kind.lanes * kind.bits // 8).bit_length() - 1

    def typing(context: Any, table: Any, at: Any, word: Any, plane: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            table, at, word, plane = values
            turn = builder.sub(builder.mul(plane, ir.Constant(I64, 8)), ir.Constant(I64, row_bits))
            turned = called(builder, "llvm.fshr.i64", I64, word, word, turn)
            offset = builder.and_(turned, ir.Constant(I64, 255 << row_bits))
            start = pointer(context, builder, I8, signature.args[0], table, at)
            place = builder.bitcast(builder.gep(start, [offset]), kind.llvm.as_pointer())
            return builder.load(place, align=kind.bits // 8, typ=kind.llvm)

        return kind(table, types.int64, types.int64, types.int64), codegen

    return intrinsic(typing)


look_shorts, look_halves = _looker(shorts), _looker(halves)
look_octets, look_half_octets = _looker(octets), _looker(half_octets)
spread_shorts, spread_halves = splat_item(shorts, I32), splat_item(halves, I32)
"""32 bits (two equal shorts) from flat index on in all lanes: one load instruction."""


@intrinsic
def load_two_rows(typing: Any, array: Any, first: Any, second: Any) -> Any:
    """Eight items of an int32 array from flat ``first`` on, and eight from ``second``."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        parts = [
            builder.load(pointer(context, builder, _EIGHT, signature.args[0], values[0], at), align=4, typ=_EIGHT)
            for at in values[1:]
        ]
        return builder.shuffle_vector(*parts, indices(range(16)))

    return ints(array, types.int64, types.int64), codegen


@intrinsic
def store_two_rows(typing: Any, array: Any, first: Any, second: Any, value: Any) -> Any:
    """Store lanes of two rows into ``array`` of any type; indices count its items."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        for begin, at in enumerate(values[1:3]):
            part = picked(builder, values[3], range(8 * begin, 8 * begin + 8))
            builder.store(part, pointer(context, builder, _EIGHT, signature.args[0], values[0], at), align=2)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, ints), codegen


@intrinsic
def shuffled(typing: Any, table: Any, base: Any, index: Any) -> Any:
    """table[base + 16 · (lane // 8) + high byte of index] · 256 in each lane of 32; x86 only (``has_byte_shuffle``).

    ``table`` is an int8 array. Bit 7 of each lane must be set (it clears the low byte), the high byte below 16.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind, name, lanes = signature.args[0], "llvm.x86.avx512.pshuf.b.512", 64
        if not has_wide_words():
            name, lanes = "llvm.x86.avx2.pshuf.b", 32
        part = ir.VectorType(I8, lanes)
        numbers, results = builder.bitcast(values[2], ir.VectorType(I8, 64)), []
        for first in range(0, 64, lanes):
            at = builder.add(values[1], ir.Constant(I64, first))
            entries = builder.load(pointer(context, builder, part, kind, values[0], at), align=1, typ=part)
            results.append(called(builder, name, part, entries, picked(builder, numbers, range(first, first + lanes))))
        if len(results) == 2:
            results = [builder.shuffle_vector(*results, indices(range(64)))]
        return builder.bitcast(results[0], shorts.llvm)

    return shorts(table, types.int64, shorts), codegen


@intrinsic
def gathered(typing: Any, table: Any, index: Any) -> Any:
    """table[index] in each lane of 32, indices unsigned; two entries are read, so the table ends one later."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vector, mask = ir.VectorType(I32, 16), ir.VectorType(ir.IntType(1), 16)
        first_entry = pointer(context, builder, I32, signature.args[0], values[0], ir.Constant(I32, 0))
        base = spread(builder, ir.VectorType(I32.as_pointer(), 16), first_entry)
        results = []
        for first in (0, 16):
            wide = builder.zext(picked(builder, values[1], range(first, first + 16)), vector)
            at = builder.gep(base, [wide], source_etype=I16)
            given = at, ir.Constant(I32, 2), ir.Constant(mask, [1] * 16), ir.Constant(vector, ir.Undefined)
            word = called(builder, "llvm.masked.gather.v16i32.v16p0i32", vector, *given)
            results.append(builder.trunc(word, ir.VectorType(I16, 16)))
        return builder.shuffle_vector(*results, indices(range(WIDTH)))

    return shorts(table, shorts), codegen
