"""Vectors of 16 single-precision numbers inside numba kernels, and of 16 integers of 32 bits beside them.

Imports numba: import this module late.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cim.simd.vectors import I32, I64, Emit, Vector, called, integers_of, loader, operation, pointer, splat_of, spread

LANES = 16
floats, ints = Vector(ir.FloatType(), 32, LANES), integers_of(32, LANES)


def llvm_call(name: str) -> Emit:
    """LLVM's function of that name on floats."""
    return lambda builder, *values: called(builder, f"llvm.{name}.v{LANES}f32", floats.llvm, *values)


def _shifted(way: str) -> Emit:
    return lambda builder, value, count: getattr(builder, way)(value, spread(builder, ints.llvm, count))


def _sum(builder: Any, value: Any) -> Any:
    wide = builder.sext(value, ir.VectorType(I64, LANES))
    return called(builder, f"llvm.vector.reduce.add.v{LANES}i64", I64, wide)


def _kept_above(builder: Any, a: Any, b: Any, value: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), value, floats.each(0.0))


def _equal(builder: Any, a: Any, b: Any) -> Any:
    return builder.zext(builder.icmp_signed("==", a, b), ints.llvm)


def _reaches(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">=", a, b), floats.each(1.0), floats.each(0.0))


add = operation(floats, (floats, floats), lambda b, x, y: b.fadd(x, y))
sub = operation(floats, (floats, floats), lambda b, x, y: b.fsub(x, y))
mul = operation(floats, (floats, floats), lambda b, x, y: b.fmul(x, y))
div = operation(floats, (floats, floats), lambda b, x, y: b.fdiv(x, y))
fma = operation(floats, (floats, floats, floats), llvm_call("fma"))  # x · y + z
absolute = operation(floats, (floats,), llvm_call("fabs"))
sqrt = operation(floats, (floats,), llvm_call("sqrt"))
floor = operation(floats, (floats,), llvm_call("floor"))
minimum = operation(floats, (floats, floats), lambda b, x, y: b.select(b.fcmp_ordered("<", x, y), x, y))
maximum = operation(floats, (floats, floats), lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))
reaches = operation(floats, (floats, floats), _reaches)  # 1.0 where x ≥ y, else 0.0
kept_above = operation(floats, (floats, floats, floats), _kept_above)  # z where x > y, else 0.0
splat = splat_of(floats, types.float32)
to_floats = operation(floats, (ints,), lambda b, x: b.sitofp(x, floats.llvm))
to_ints = operation(ints, (floats,), lambda b, x: b.fptosi(x, ints.llvm))
as_floats = operation(floats, (ints,), lambda b, x: b.bitcast(x, floats.llvm))
as_ints = operation(ints, (floats,), lambda b, x: b.bitcast(x, ints.llvm))
add_i = operation(ints, (ints, ints), lambda b, x, y: b.add(x, y))
sub_i = operation(ints, (ints, ints), lambda b, x, y: b.sub(x, y))
mul_i = operation(ints, (ints, ints), lambda b, x, y: b.mul(x, y))
xor_i = operation(ints, (ints, ints), lambda b, x, y: b.xor(x, y))
and_i = operation(ints, (ints, ints), lambda b, x, y: b.and_(x, y))
or_i = operation(ints, (ints, ints), lambda b, x, y: b.or_(x, y))
equal_i = operation(ints, (ints, ints), _equal)  # 1 where x = y, else 0
largest_of = operation(  # of all lanes
    types.int32, (ints,), lambda b, x: called(b, f"llvm.vector.reduce.smax.v{LANES}i32", I32, x)
)
sum_of = operation(types.int64, (ints,), _sum)  # of all lanes
shift_left = operation(ints, (ints, types.int32), _shifted("shl"))
shift_right = operation(ints, (ints, types.int32), _shifted("lshr"))  # zeros move in
splat_i = splat_of(ints, types.int32)
load = loader(floats)  # of a float32 array
load_i = loader(ints)  # of an array of integers of at most 32 bits


@intrinsic
def lanes(typing: Any) -> Any:
    """Numbers of the sixteen lanes: 0, 1, … 15."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return ir.Constant(ints.llvm, list(range(LANES)))

    return ints(), codegen


@intrinsic
def gather(typing: Any, array: Any, index: Any) -> Any:
    """array.flat[index] for sixteen indices of a contiguous int32 array, all of them inside it."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointers, mask = ir.VectorType(I32.as_pointer(), LANES), ir.VectorType(ir.IntType(1), LANES)
        first = pointer(context, builder, I32, signature.args[0], values[0], ir.Constant(I32, 0))
        places = builder.gep(spread(builder, pointers, first), [values[1]], source_etype=I32)
        given = places, ir.Constant(I32, 4), ir.Constant(mask, [1] * LANES), ir.Constant(ints.llvm, ir.Undefined)
        return called(builder, f"llvm.masked.gather.v{LANES}i32.v{LANES}p0i32", ints.llvm, *given)

    return ints(array, ints), codegen
