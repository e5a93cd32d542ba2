"""Vector types inside numba kernels, with one way to load, store, spread and calculate for all of them.

numba vectorises a loop only when it can prove that no array overlaps another; a kernel that reads many arrays falls
back to one number at a time. Values of a ``Vector`` stay in registers whatever the loop reads, and LLVM lowers them to
what the machine has (AVX-512, AVX2, NEON). They exist only inside kernels. Which vectors there are and what is done
with them: ``cim.simd.floats``, ``integers``, ``pairs`` and ``tables``. Imports numba: import this module late.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.core.errors import TypingError
from numba.extending import intrinsic, models, register_model

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
Emit = Callable[..., Any]


class Vector(types.Type):  # type: ignore[misc]
    """``lanes`` numbers of one LLVM type of ``bits`` bits."""

    def __init__(self, element: Any, bits: int, lanes: int) -> None:
        super().__init__(f"Vector{lanes}x{element}")
        self.element, self.bits, self.lanes = element, bits, lanes
        self.llvm = ir.VectorType(element, lanes)

    def each(self, value: float) -> Any:
        """The constant ``value`` in every lane."""
        return ir.Constant(self.llvm, [value] * self.lanes)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, fe_type.llvm)


def integers_of(bits: int, lanes: int) -> Vector:
    """The LLVM vector type of ``lanes`` integers of ``bits`` bits."""
    return Vector(ir.IntType(bits), bits, lanes)


def has(feature: str) -> bool:
    """Whether numba compiles for an instruction set of that name, as "avx512bw"."""
    return feature in _features()


@functools.cache
def _features() -> frozenset[str]:
    """Instruction sets that kernels may use: of this machine, or as numba was configured."""
    told = config.CPU_FEATURES
    if told is not None:
        return frozenset(word[1:] for word in told.split(",") if word.startswith("+"))
    if config.CPU_NAME not in (None, "", "host"):
        return frozenset()
    return frozenset(name for name, there in binding.get_host_cpu_features().items() if there)


def called(builder: Any, name: str, result: Any, *values: Any) -> Any:
    """A call of an LLVM function by its name."""
    kind = ir.FunctionType(result, [v.type for v in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)


def indices(places: Any) -> Any:
    """Numbers of lanes as the constant that LLVM's ``shuffle_vector`` takes."""
    numbers = list(places)
    return ir.Constant(ir.VectorType(I32, len(numbers)), numbers)


def picked(builder: Any, value: Any, places: Any) -> Any:
    """Some lanes of a vector, by their numbers."""
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), indices(places))


def spread(builder: Any, vector: Any, value: Any) -> Any:
    """One number in every lane of an LLVM vector type."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(I32, 0))
    return picked(builder, one, [0] * vector.count)


def pointer(context: Any, builder: Any, target: Any, kind: Any, array: Any, index: Any) -> Any:
    """Address of the item at flat ``index`` of a contiguous array, as one of an LLVM type ``target``."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), target.as_pointer())


def operation(result: Any, operands: tuple[Any, ...], emit: Emit) -> Any:
    """An intrinsic of 1, 2 or 3 operands of given types; ``emit(builder, *values)`` writes its code."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return emit(builder, *values)

    sig = result(*operands)
    if len(operands) == 1:
        return intrinsic(lambda typing, a: (sig, codegen))
    if len(operands) == 2:
        return intrinsic(lambda typing, a, b: (sig, codegen))
    return intrinsic(lambda typing, a, b, c: (sig, codegen))


def splat_of(kind: Vector, scalar: Any) -> Any:
    """An intrinsic that gives one number in every lane of ``kind``."""
    return operation(kind, (scalar,), lambda builder, value: spread(builder, kind.llvm, value))


def splat_item(result: Vector, unit: Any = None) -> Any:
    """An intrinsic (array, index): the item at flat ``index`` of a contiguous array, repeated in all lanes.

    ``unit``: LLVM type of the item, at least as wide as a lane; None: the type of a lane.
    """
    unit = unit or result.element
    vector = result.llvm if unit is result.element else ir.VectorType(unit, result.lanes * result.bits // unit.width)

    def typing(context: Any, array: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            place = pointer(context, builder, unit, signature.args[0], *values)
            one = builder.load(place, align=array.dtype.bitwidth // 8, typ=unit)
            return builder.bitcast(spread(builder, vector, one), result.llvm)

        return result(array, types.int64), codegen

    return intrinsic(typing)


def loader(result: Vector, *, as_they_lie: bool = False) -> Any:
    """An intrinsic (array, index): vector of neighbouring items of a contiguous array from flat ``index`` on.

    Narrower integers are widened to the lanes, by their sign where their dtype has one; ``as_they_lie`` copies the bits
    without conversion.
    """

    def typing(context: Any, array: Any, index: Any) -> Any:
        item, narrow = array.dtype, result.llvm
        widen = item.bitwidth != result.bits and not as_they_lie
        if widen:
            _check_narrower(item, result)
            narrow = ir.VectorType(ir.IntType(item.bitwidth), result.lanes)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            place = pointer(context, builder, narrow, signature.args[0], *values)
            value = builder.load(place, align=item.bitwidth // 8, typ=narrow)
            if not widen:
                return value
            return (builder.sext if item.signed else builder.zext)(value, result.llvm)

        return result(array, types.int64), codegen

    return intrinsic(typing)


@intrinsic
def prefetch(typing: Any, array: Any, index: Any) -> Any:
    """Prefetch the cache line of flat ``index`` of a contiguous array, which may be past its end."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = pointer(context, builder, I8, signature.args[0], *values)
        hints = [ir.Constant(I32, hint) for hint in (0, 3, 1)]  # to read, keep near, data
        kind = ir.FunctionType(ir.VoidType(), [place.type, I32, I32, I32])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0"), [place, *hints])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


@intrinsic
def store(context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write the lanes of any vector to a contiguous array from flat ``index`` on, cut to its integers."""
    item, narrow = array.dtype, value.llvm
    if item.bitwidth != value.bits:
        _check_narrower(item, value)
        narrow = ir.VectorType(ir.IntType(item.bitwidth), value.lanes)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = pointer(context, builder, narrow, signature.args[0], *values[:2])
        lanes = values[2] if narrow is value.llvm else builder.trunc(values[2], narrow)
        builder.store(lanes, place, align=item.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, value), codegen


def _check_narrower(item: Any, vector: Vector) -> None:
    if not isinstance(item, types.Integer) or item.bitwidth > vector.bits or vector.element == ir.FloatType():
        raise TypingError(f"{vector}: an array of {item} is neither of its lanes nor of narrower integers")
