"""The digital operations of ``mapping.program.digital_ops`` as fused numba kernels, with the same bits.

Sixteen numbers at a time go from 32-bit sums to codes in registers: bias, saturation, 64-bit product, rounding, shift
and clamp. numba would not vectorise such a loop by itself (``cim.simulator.simd.floats``). Parameters of channels
are arrays; a row of the data takes either one channel's after another (channels last) or the same ones throughout
(channels first). Imports numba: import this module late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

LANES = 16
BIAS, MULTIPLIER, HALF, HALF_BELOW, SHIFT = range(5)  # rows of a rule's parameters
_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_WIDE, _SUMS = ir.VectorType(_I64, LANES), ir.VectorType(_I32, LANES)


def _call(builder: Any, name: str, kind: Any, suffix: str, *values: Any) -> Any:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * len(values)), f"llvm.{name}.v{LANES}{suffix}"
    )
    return builder.call(function, values)


def _at(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _splat(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_WIDE, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, ir.Constant(_WIDE, ir.Undefined), ir.Constant(_SUMS, [0] * LANES))


def _loaded(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Sixteen numbers of 16 or 32 bits as 32 bits."""
    element = ir.IntType(kind.dtype.bitwidth)
    vector = ir.VectorType(element, LANES)
    place = _at(context, builder, kind, array, index, vector)
    value = builder.load(place, align=kind.dtype.bitwidth // 8, typ=vector)
    return value if element.width == 32 else builder.sext(value, _SUMS)


def _scaled(context: Any, builder: Any, values: Any, kind: Any, parameters: Any, stride: Any, index: Any) -> Any:
    """round(sat(values + bias) · multiplier / 2^shift), halves away from zero, 64 bits wide."""

    def row(number: int) -> Any:
        at = builder.add(index, builder.mul(stride, ir.Constant(_I64, number)))
        return builder.load(_at(context, builder, kind, parameters, at, _WIDE), align=8, typ=_WIDE)

    bias = builder.trunc(row(BIAS), _SUMS)
    sums = _call(builder, "sadd.sat", _SUMS, "i32", values, bias)
    multiplier = builder.sext(builder.trunc(row(MULTIPLIER), _SUMS), _WIDE)  # a product of 32-bit numbers is cheaper
    product = builder.mul(builder.sext(sums, _WIDE), multiplier)
    below = builder.icmp_signed("<", product, ir.Constant(_WIDE, [0] * LANES))
    return builder.ashr(builder.add(product, builder.select(below, row(HALF_BELOW), row(HALF))), row(SHIFT))


def _stored(context: Any, builder: Any, kind: Any, array: Any, index: Any, value: Any, low: Any, high: Any) -> None:
    value = _call(builder, "smax", _WIDE, "i64", value, _splat(builder, low))
    value = _call(builder, "smin", _WIDE, "i64", value, _splat(builder, high))
    vector = ir.VectorType(ir.IntType(kind.dtype.bitwidth), LANES)
    place = _at(context, builder, kind, array, index, vector)
    builder.store(builder.trunc(value, vector), place, align=kind.dtype.bitwidth // 8)


@intrinsic
def _finish_16(
    typing: Any, sums: Any, at: Any, parameters: Any, stride: Any, place: Any, low: Any, high: Any, out: Any
) -> Any:
    """Sixteen neighbours of ``sums`` to codes, with the parameters that start at ``place``."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kinds = signature.args
        values = _loaded(context, builder, kinds[0], given[0], given[1])
        scaled = _scaled(context, builder, values, kinds[2], given[2], given[3], given[4])
        _stored(context, builder, kinds[7], given[7], given[1], scaled, given[5], given[6])
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(sums, i64, parameters, i64, i64, i64, i64, out), codegen


@intrinsic
def _add_16(
    typing: Any, first: Any, second: Any, at: Any, parameters: Any, most: Any, low: Any, high: Any, out: Any
) -> Any:
    """Sixteen neighbours of two maps, added on the output scale; ``parameters`` of three rules in a row."""

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kinds, stride, total = signature.args, ir.Constant(_I64, LANES), None
        for number in (0, 1):
            values = _loaded(context, builder, kinds[number], given[number], given[2])
            place = ir.Constant(_I64, 5 * LANES * number)
            term = _scaled(context, builder, values, kinds[3], given[3], stride, place)
            term = _call(builder, "smax", _WIDE, "i64", term, _splat(builder, builder.neg(given[4])))
            term = _call(builder, "smin", _WIDE, "i64", term, _splat(builder, given[4]))
            term = builder.trunc(term, _SUMS)
            total = term if total is None else _call(builder, "sadd.sat", _SUMS, "i32", total, term)
        scaled = _scaled(context, builder, total, kinds[3], given[3], stride, ir.Constant(_I64, 10 * LANES))
        _stored(context, builder, kinds[7], given[7], given[2], scaled, given[5], given[6])
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(first, second, i64, parameters, i64, i64, i64, out), codegen


@njit(cache=True, nogil=True)
def _rescaled(value: int, parameters: NDArray[np.int64], place: int, low: int, high: int) -> int:
    """One number as ``_finish_16`` does sixteen; ``parameters`` (5, width)."""
    total = value + parameters[BIAS, place]
    total = min(max(total, -(1 << 31)), (1 << 31) - 1)
    product = total * parameters[MULTIPLIER, place]
    half = parameters[HALF_BELOW, place] if product < 0 else parameters[HALF, place]
    rounded: int = (product + half) >> parameters[SHIFT, place]
    return min(max(rounded, low), high)


@njit(cache=True, nogil=True)
def finish_rows(
    sums: NDArray[np.int32],
    rows: int,
    length: int,
    parameters: NDArray[np.int64],
    starts: NDArray[np.int64],
    step: int,
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of ``rows`` rows of ``length`` neighbours each, flat.

    Args:
        parameters: (5, width): bias, multiplier, half, half − 1 for products below zero (or 0), shift.
        starts: (m,) place of row r's first parameter at r modulo m.
        step: 1 where each number has parameters of its own, 0 where the sixteen at a start serve a whole row.
    """
    flat, stride, kinds = parameters.ravel(), parameters.shape[1], len(starts)
    kind = 0
    for row in range(rows):
        first, place = row * length, starts[kind]
        kind = kind + 1 if kind + 1 < kinds else 0
        whole = length - length % LANES
        for j in range(0, whole, LANES):
            _finish_16(sums, first + j, flat, stride, place + j * step, low, high, out)
        if whole < length and length >= LANES:  # the last sixteen once more
            j = length - LANES
            _finish_16(sums, first + j, flat, stride, place + j * step, low, high, out)
        elif whole < length:
            for j in range(length):
                out[first + j] = _rescaled(sums[first + j], parameters, place + j * step, low, high)


@njit(cache=True, nogil=True)
def add_maps(
    first: NDArray[np.int16],
    second: NDArray[np.int16],
    parameters: NDArray[np.int64],
    most: int,
    low: int,
    high: int,
    out: NDArray[np.int16],
) -> None:
    """Codes of a sum of two flat maps of one scale each: rescaled, clamped at ±``most``, added, requantised.

    Args:
        parameters: (3, 5, 16), of first, second and sum; see ``finish_rows``.
    """
    size, flat = len(first), parameters.ravel()
    whole = size - size % LANES
    for j in range(0, whole, LANES):
        _add_16(first, second, j, flat, most, low, high, out)
    for j in range(whole, size):
        total = _rescaled(first[j], parameters[0], 0, -most, most) + _rescaled(second[j], parameters[1], 0, -most, most)
        out[j] = _rescaled(total, parameters[2], 0, low, high)
