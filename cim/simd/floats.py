"""Vectors of 16 single-precision lanes inside numba kernels.

numba vectorises a loop only when it can prove that no array overlaps another; a kernel that
reads many arrays falls back to one number at a time. With a vector type of our own the
accumulators stay in registers whatever the loop reads, and LLVM lowers 16 lanes to what the
machine has (AVX-512, AVX2, NEON). ``Floats`` and ``Ints`` values exist only inside kernels.
Imports numba: import this module late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16
_F32, _I32 = ir.FloatType(), ir.IntType(32)
_VF, _VI = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)


class _Floats(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("Floats16")


class _Ints(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("Ints16")


floats, ints = _Floats(), _Ints()


@register_model(_Floats)
class _FloatsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _VF)


@register_model(_Ints)
class _IntsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _VI)


Emit = Callable[..., Any]


def _operation(result: Any, operands: tuple[Any, ...], emit: Emit) -> Any:
    """An intrinsic of 1, 2 or 3 vector operands; ``emit(builder, *values)`` writes its code."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return emit(builder, *values)

    sig = result(*operands)
    if len(operands) == 1:
        return intrinsic(lambda typing, a: (sig, codegen))
    if len(operands) == 2:
        return intrinsic(lambda typing, a, b: (sig, codegen))
    return intrinsic(lambda typing, a, b, c: (sig, codegen))


def _call(name: str, arity: int) -> Emit:
    def emit(builder: Any, *values: Any) -> Any:
        kind = ir.FunctionType(_VF, [_VF] * arity)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32")
        return builder.call(function, values)

    return emit


def _splat(vector: Any) -> Emit:
    def emit(builder: Any, value: Any) -> Any:
        zero = ir.Constant(_I32, 0)
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, zero)
        return builder.shuffle_vector(
            one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
        )

    return emit


def _count_ones(builder: Any, value: Any) -> Any:
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_VI, [_VI]), f"llvm.ctpop.v{LANES}i32")
    return builder.call(function, [value])


def _constant_shift(builder: Any, value: Any, count: Any) -> Any:
    return builder.lshr(value, _splat(_VI)(builder, count))


def _kept_above(builder: Any, a: Any, b: Any, value: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), value, ir.Constant(_VF, [0.0] * LANES))


def _equal(builder: Any, a: Any, b: Any) -> Any:
    return builder.zext(builder.icmp_signed("==", a, b), _VI)


def _reaches(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(
        builder.fcmp_ordered(">=", a, b), ir.Constant(_VF, [1.0] * LANES), ir.Constant(_VF, [0.0] * LANES)
    )


add = _operation(floats, (floats, floats), lambda b, x, y: b.fadd(x, y))
sub = _operation(floats, (floats, floats), lambda b, x, y: b.fsub(x, y))
mul = _operation(floats, (floats, floats), lambda b, x, y: b.fmul(x, y))
div = _operation(floats, (floats, floats), lambda b, x, y: b.fdiv(x, y))
fma = _operation(floats, (floats, floats, floats), _call("fma", 3))  # x · y + z
absolute = _operation(floats, (floats,), _call("fabs", 1))
sqrt = _operation(floats, (floats,), _call("sqrt", 1))
floor = _operation(floats, (floats,), _call("floor", 1))
minimum = _operation(floats, (floats, floats), lambda b, x, y: b.select(b.fcmp_ordered("<", x, y), x, y))
maximum = _operation(floats, (floats, floats), lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))
reaches = _operation(floats, (floats, floats), _reaches)  # 1.0 where x ≥ y, else 0.0
kept_above = _operation(floats, (floats, floats, floats), _kept_above)  # z where x > y, else 0.0
splat = _operation(floats, (types.float32,), _splat(_VF))
to_floats = _operation(floats, (ints,), lambda b, x: b.sitofp(x, _VF))
to_ints = _operation(ints, (floats,), lambda b, x: b.fptosi(x, _VI))
as_floats = _operation(floats, (ints,), lambda b, x: b.bitcast(x, _VF))
as_ints = _operation(ints, (floats,), lambda b, x: b.bitcast(x, _VI))
add_i = _operation(ints, (ints, ints), lambda b, x, y: b.add(x, y))
sub_i = _operation(ints, (ints, ints), lambda b, x, y: b.sub(x, y))
mul_i = _operation(ints, (ints, ints), lambda b, x, y: b.mul(x, y))
xor_i = _operation(ints, (ints, ints), lambda b, x, y: b.xor(x, y))
and_i = _operation(ints, (ints, ints), lambda b, x, y: b.and_(x, y))
or_i = _operation(ints, (ints, ints), lambda b, x, y: b.or_(x, y))
equal_i = _operation(ints, (ints, ints), _equal)  # 1 where x = y, else 0
shift_right = _operation(ints, (ints, types.int32), _constant_shift)
count_ones = _operation(ints, (ints,), _count_ones)
splat_i = _operation(ints, (types.int32,), _splat(_VI))


@intrinsic
def lanes(typing: Any) -> Any:
    """0, 1, … 15."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return ir.Constant(_VI, list(range(LANES)))

    return ints(), codegen


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """Sixteen neighbours of a contiguous float32 array, flat ``index`` on."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], values[0], values[1], _VF)
        return builder.load(place, align=4, typ=_VF)

    return floats(array, types.int64), codegen


@intrinsic
def load_bytes(typing: Any, array: Any, index: Any) -> Any:
    """Sixteen neighbours of a contiguous uint8 array, flat ``index`` on, as ``Ints``."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        narrow = ir.VectorType(ir.IntType(8), LANES)
        place = _pointer(context, builder, signature.args[0], values[0], values[1], narrow)
        return builder.zext(builder.load(place, align=1, typ=narrow), _VI)

    return ints(array, types.int64), codegen


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write sixteen lanes to a contiguous float32 array, flat ``index`` on."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], values[0], values[1], _VF)
        builder.store(values[2], place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, floats), codegen


@intrinsic
def load_i(typing: Any, array: Any, index: Any) -> Any:
    """Sixteen neighbours of a contiguous int32 array, flat ``index`` on."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], values[0], values[1], _VI)
        return builder.load(place, align=4, typ=_VI)

    return ints(array, types.int64), codegen


@intrinsic
def store_i(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write sixteen lanes to a contiguous int32 array, flat ``index`` on."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], values[0], values[1], _VI)
        builder.store(values[2], place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, ints), codegen


@intrinsic
def gather(typing: Any, array: Any, index: Any) -> Any:
    """array.flat[index] for sixteen indices of a contiguous int32 array, all of them inside it."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        pointers = ir.VectorType(_I32.as_pointer(), LANES)
        mask = ir.VectorType(ir.IntType(1), LANES)
        base = builder.insert_element(ir.Constant(pointers, ir.Undefined), data, ir.Constant(_I32, 0))
        zeros = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
        base = builder.shuffle_vector(base, ir.Constant(pointers, ir.Undefined), zeros)
        places = builder.gep(base, [values[1]], source_etype=_I32)
        kind = ir.FunctionType(_VI, [pointers, _I32, mask, _VI])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.gather.v{LANES}i32.v{LANES}p0i32")
        every = ir.Constant(mask, [1] * LANES)
        return builder.call(function, [places, ir.Constant(_I32, 4), every, ir.Constant(_VI, ir.Undefined)])

    return ints(array, ints), codegen
