"""Rules of ONNX for files that hold codes: QDQ, QOperator and dynamically quantised ones.

Codes of activations are kept as the values that they stand for, on the grid that the file chose; codes of weights are
read at theirs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mapping.network.compose.arithmetic import clamp, function, grid, plus, times
from mapping.network.compose.attention import softmax
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import join
from mapping.network.compose.refusal import need, refuse
from mapping.network.compose.statistics import reduce
from mapping.network.compose.values import Constant, Operand, Value, activation
from mapping.network.onnx_ops import products, windows
from mapping.network.onnx_ops.call import OnnxCall, OnnxRule
from mapping.network.onnx_ops.folding import dequantised
from mapping.operators.activations import Grid


def to_codes(c: Composer, x: Operand, scale: Constant | None, zero: Constant | None) -> Operand:
    """Codes that the file chose, as the values that they stand for."""
    if scale is None or scale.size != 1 or (zero is not None and zero.size != 1):
        refuse("activations with a scale for each channel", "one scale and zero point for a tensor")
    kind = np.dtype(np.uint8) if zero is None else zero.dtype
    need(kind in (np.uint8, np.int8, np.uint16, np.int16), f"codes of {kind}", "uint8 or int8")
    at = 0 if zero is None else int(zero.ravel()[0])
    low, high = int(np.iinfo(kind).min) - at, int(np.iinfo(kind).max) - at
    return grid(c, activation(x), float(scale.ravel()[0]), low, high)


def _read(a: OnnxCall, at: int, axis: int) -> Operand:
    """The tensor whose codes, scale and zero point are the inputs from ``at`` on."""
    x = a.operand(at)
    if isinstance(x, Value):
        return x
    given = [a.constant(at + 1), a.constant(at + 2)]
    if given[0] is None:
        refuse(f"input {at + 1} is missing", "a stored scale")
    return dequantised([x, *given], axis)


def _float_call(a: OnnxCall, kind: str, inputs: Sequence[Operand | None]) -> OnnxCall:
    return dataclasses.replace(a, kind=kind, inputs=inputs, keys=[a.keys[0], *a.keys[3:4]])


def _bias(a: OnnxCall, at: int, x_scale: int, w_scale: int) -> Constant | None:
    """A bias of int32 at the scale of the products."""
    codes = a.constant(at)
    if codes is None or codes.dtype.kind == "f":
        return codes
    return np.asarray(codes * a.needed(x_scale).ravel() * a.needed(w_scale).ravel(), np.float32)


def _conv(c: Composer, a: OnnxCall) -> Operand:
    """x, scale, zero, w, scale, zero, scale and zero of y, bias."""
    inputs = [_read(a, 0, 1), _read(a, 3, 0), _bias(a, 8, 1, 4)]
    return to_codes(c, products.RULES["Conv"](c, _float_call(a, "Conv", inputs)), a.constant(6), a.constant(7))


def _matmul(c: Composer, a: OnnxCall) -> Operand:
    inputs = [_read(a, 0, -2), _read(a, 3, -1)]
    return to_codes(c, products.RULES["MatMul"](c, _float_call(a, "MatMul", inputs)), a.constant(6), a.constant(7))


def _gemm(c: Composer, a: OnnxCall) -> Operand:
    """A, scale, zero, B, scale, zero, C, scale and zero of y, which a result in floating point has not."""
    inputs = [_read(a, 0, 0), _read(a, 3, 0 if a.get("transB", 0) else 1), _bias(a, 6, 1, 4)]
    found = products.RULES["Gemm"](c, _float_call(a, "Gemm", inputs))
    return found if a.given(7) is None else to_codes(c, found, a.constant(7), a.constant(8))


def _pair(step: Any) -> OnnxRule:
    return lambda c, a: to_codes(c, step(c, _read(a, 0, 1), _read(a, 3, 1)), a.constant(6), a.constant(7))


def _single(rule: OnnxRule) -> OnnxRule:
    """The rule of a quantised operator with one tensor, whose inputs are x, its scale and zero point, and those of
    y."""

    def found(c: Composer, a: OnnxCall) -> Operand:
        need(not a.get("channels_last", 0), "maps with their channels last", "channels first")
        return to_codes(c, rule(c, _float_call(a, a.kind, [_read(a, 0, 1)])), a.constant(3), a.constant(4))

    return found


def _concat(c: Composer, a: OnnxCall) -> Operand:
    """Scale and zero of y, then each part with its own."""
    parts = [_read(a, at, 1) for at in range(2, len(a.inputs), 3)]
    return to_codes(c, join(c, parts, a["axis"]), a.constant(0), a.constant(1))


def _dynamic(c: Composer, a: OnnxCall) -> list[Any]:
    """Codes whose range each image would choose: left as values, whose range calibration chooses."""
    return [a.x, np.float32(1), np.uint8(0)]


def _of_integers(kind: str, axis: int) -> OnnxRule:
    """Products of codes whose scale the file multiplies afterwards."""

    def rule(c: Composer, a: OnnxCall) -> Operand:
        x = a.value
        need(not isinstance(c.node(x.node), Grid), "integer products of codes with a stored scale", "QDQ or QOperator")
        w, zero = a.constant(1), a.constant(3)
        if w is None:
            refuse("input 1 is missing", "stored weights")
        weight = dequantised([w, np.ones(1 if zero is None else zero.shape, np.float32), zero], axis)
        inputs: list[Operand | None] = [x, weight]
        found: Operand = products.RULES[kind](c, dataclasses.replace(a, kind=kind, inputs=inputs, keys=a.keys[:2]))
        return found

    return rule


_MICROSOFT: dict[str, OnnxRule] = {
    "QGemm": _gemm,
    "QLinearAdd": _pair(plus),
    "QLinearMul": _pair(times),
    "QLinearConcat": _concat,
    "QLinearAveragePool": _single(windows.RULES["AveragePool"]),
    "QLinearGlobalAveragePool": _single(lambda c, a: reduce(c, a.x, "mean", range(2, len(a.x.shape)), keep=True)),
    "QLinearSigmoid": _single(lambda c, a: function(c, a.x, "sigmoid")),
    "QLinearLeakyRelu": _single(lambda c, a: function(c, a.x, "leaky_relu", a.get("alpha", 0.01))),
    "QLinearSoftmax": _single(lambda c, a: softmax(c, a.x, a.get("axis", -1))),
    "QLinearRelu": _single(lambda c, a: clamp(c, a.x, 0.0, None)),
}
RULES: dict[str, OnnxRule] = {
    "QuantizeLinear": lambda c, a: to_codes(c, a.x, a.constant(1), a.constant(2)),
    "DequantizeLinear": lambda c, a: a.value,  # codes of activations are values already
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": _of_integers("MatMul", -1),
    "ConvInteger": _of_integers("Conv", 0),
    **{f"com.microsoft:{kind}": rule for kind, rule in _MICROSOFT.items()},
}
