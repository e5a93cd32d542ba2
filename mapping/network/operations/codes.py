"""Operations of ONNX on codes: QDQ, QOperator and dynamically quantised files.

Codes of activations are kept as the values that they stand for, on the grid that the file chose; codes of weights are
read at theirs. A tensor ``x`` has its scale and zero point as the arguments ``x_scale`` and ``x_zero``; ``scale`` and
``zero`` are those of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapping.network.compose.arithmetic import clamp, function, grid, plus, times
from mapping.network.compose.attention import softmax
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import join
from mapping.network.compose.refusal import BROKEN, need, refuse
from mapping.network.compose.statistics import reduce
from mapping.network.compose.values import Operand, Value, activation
from mapping.network.operations import products, windows
from mapping.network.operations.call import Call, Rule
from mapping.operators.activations import Grid
from mapping.operators.family import NamedOperation


def dequantised(inputs: Sequence[Any], axis: int) -> NDArray[np.float32]:
    """(codes − zero) · scale, one of each for all or for each place of an axis; ONNX's reference lacks older opsets."""
    codes, scale = inputs[:2]
    zero = inputs[2] if len(inputs) > 2 and inputs[2] is not None else np.zeros_like(scale)
    if scale.size == zero.size == 1:  # one of each for all codes, whether written as () or as (1,)
        scale, zero = scale.reshape(()), zero.reshape(())
    if scale.ndim > 1 or scale.shape != zero.shape:
        refuse("scales that are neither one nor one for each place of an axis", "one scale, or one for each channel")
    if scale.ndim == 1 and scale.size > 1:
        axis %= codes.ndim
        if codes.shape[axis] != scale.size:
            refuse(f"{scale.size} scales for axis {axis} of {codes.shape}", BROKEN)
        scale, zero = (v.reshape(-1, *[1] * (codes.ndim - 1 - axis)) for v in (scale, zero))
    found: NDArray[np.float32] = ((codes.astype(np.int64) - zero.astype(np.int64)) * scale).astype(np.float32)
    return found


def _to_codes(c: Composer, a: Call, x: Operand) -> Operand:
    """Codes that the file chose, as their real values."""
    scale, zero = a.stored("scale"), None if a.get("zero") is None else a.stored("zero")
    one = scale.size == 1 and (zero is None or zero.size == 1)
    need(one, "activations with a scale for each channel", "one scale and zero point for a tensor")
    kind = np.dtype(np.uint8) if zero is None else zero.dtype
    need(kind in (np.uint8, np.int8, np.uint16, np.int16), f"codes of {kind}", "uint8 or int8")
    at = 0 if zero is None else int(zero.ravel()[0])
    low, high = int(np.iinfo(kind).min) - at, int(np.iinfo(kind).max) - at
    return grid(c, activation(x), float(scale.ravel()[0]), low, high)


def _real(x: Operand, scale: Any, zero: Any, axis: int) -> Operand:
    """The real values of a tensor's codes: scale · (code − zero)."""
    if isinstance(x, Value):
        return x
    if scale is None or isinstance(scale, Value) or isinstance(zero, Value):
        refuse("codes whose scale is not stored", "a stored scale")
    return dequantised([x, scale, zero], axis)


def _of_codes(rule: Rule, **axes: int | Callable[[Call], int]) -> Rule:
    """An operation on codes, which has one scale and zero point for each place of an axis of each tensor."""

    def found(c: Composer, a: Call) -> Operand:
        need(not a.get("channels_last"), "maps with their channels last", "channels first")
        given = dict(a.arguments)
        for name, axis in axes.items():
            at = axis if isinstance(axis, int) else axis(a)
            given[name] = _real(a.operand(name), a.get(f"{name}_scale"), a.get(f"{name}_zero"), at)
        if a.get("bias") is not None and a.stored("bias").dtype.kind != "f":  # at the scale of the products
            real = a.stored("bias") * a.weight("self_scale").ravel() * a.weight("weight_scale").ravel()
            given["bias"] = np.asarray(real, np.float32)
        x: Operand = rule(c, replace(a, arguments=given))
        return x if a.get("scale") is None else _to_codes(c, a, x)

    return found


def _joined(c: Composer, a: Call) -> Operand:
    """Each part with its own scale and zero point."""
    given = a["tensors"]
    parts = [_real(given[at], given[at + 1], given[at + 2], 1) for at in range(0, len(given), 3)]
    return _to_codes(c, a, join(c, parts, a["dim"]))


def _of_integers(rule: Rule, axis: int, name: str) -> Rule:
    """Products of codes whose scale the file multiplies afterwards."""

    def found(c: Composer, a: Call) -> Operand:
        stored = not isinstance(c.node(a.value.node), Grid)
        need(stored, "integer products of codes with a stored scale", "QDQ or QOperator")
        zero = None if a.get("zero") is None else a.stored("zero")
        ones = np.ones(1 if zero is None else zero.shape, np.float32)
        weight = dequantised([a.stored(name), ones, zero], axis)
        result: Operand = rule(c, replace(a, arguments={**a.arguments, name: weight}))
        return result

    return found


_ONE = "(self, self_scale, self_zero, scale, zero"
_TWO = "(self, self_scale, self_zero, {0}, {0}_scale, {0}_zero"
_CONV = f"{_TWO.format('weight')}, scale, zero, bias; {products.WINDOW})"
_PAIR = f"{_TWO.format('other')}, scale, zero)"
_GEMM = f"{_TWO.format('weight')}, bias, scale, zero; alpha=1.0, beta=1.0, transA, transB)"


def _microsoft(rule: Rule, name: str, attributes: str = "") -> NamedOperation:
    """An operation with one tensor."""
    return NamedOperation(
        _of_codes(rule, self=1), onnx=f"com.microsoft:QLinear{name}{_ONE}; channels_last{attributes})"
    )


OPERATIONS = (
    NamedOperation(lambda c, a: _to_codes(c, a, a.x), onnx="QuantizeLinear(self, scale, zero)"),
    NamedOperation(lambda c, a: a.value, onnx="DequantizeLinear"),  # codes of activations are values already
    NamedOperation(_of_codes(products.conv, self=1, weight=0), onnx=f"QLinearConv{_CONV}"),
    NamedOperation(_of_codes(products.multiplied, self=-2, other=-1), onnx=f"QLinearMatMul{_PAIR}"),
    NamedOperation(
        _of_codes(products.gemm, self=0, weight=lambda a: 0 if a.get("transB") else 1),
        onnx=f"com.microsoft:QGemm{_GEMM}",
    ),
    # codes whose range each image would choose are left as values, whose range calibration chooses
    NamedOperation(lambda c, a: [a.x, np.float32(1), np.uint8(0)], onnx="DynamicQuantizeLinear"),
    NamedOperation(_of_integers(products.multiplied, -1, "other"), onnx="MatMulInteger(self, other, first, zero)"),
    NamedOperation(
        _of_integers(products.conv, 0, "weight"), onnx=f"ConvInteger(self, weight, first, zero; {products.WINDOW})"
    ),
    NamedOperation(
        _of_codes(lambda c, a: plus(c, a.x, a["other"]), self=1, other=1), onnx=f"com.microsoft:QLinearAdd{_PAIR}"
    ),
    NamedOperation(
        _of_codes(lambda c, a: times(c, a.x, a["other"]), self=1, other=1), onnx=f"com.microsoft:QLinearMul{_PAIR}"
    ),
    NamedOperation(_joined, onnx="com.microsoft:QLinearConcat(scale, zero, *tensors; dim:axis)"),
    _microsoft(windows.average, "AveragePool", f", {windows.POOL}, count_include_pad"),
    _microsoft(lambda c, a: reduce(c, a.x, "mean", range(2, len(a.x.shape)), keep=True), "GlobalAveragePool"),
    _microsoft(lambda c, a: function(c, a.x, "sigmoid"), "Sigmoid"),
    _microsoft(lambda c, a: function(c, a.x, "leaky_relu", a["slope"]), "LeakyRelu", ", slope:alpha=0.01"),
    _microsoft(lambda c, a: softmax(c, a.x, a["dim"]), "Softmax", ", dim:axis=-1"),
    _microsoft(lambda c, a: clamp(c, a.x, 0.0, None), "Relu"),
)
