"""Rules of ONNX for sums, products and functions of single elements."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from mapping.network.compose.arithmetic import (
    UNARY,
    above,
    affine,
    choose,
    clamp,
    differ,
    function,
    largest,
    minus,
    opposite,
    over,
    plus,
    power,
    prelu,
    same_as,
    times,
)
from mapping.network.compose.composer import Composer
from mapping.network.compose.refusal import need, refuse
from mapping.network.compose.values import Operand
from mapping.network.onnx_ops.call import OnnxCall, OnnxRule

_SELU = (1.6732631921768188, 1.0507010221481323)


def _named(name: str) -> OnnxRule:
    return lambda c, a: function(c, a.x, name)


def _folded(step: Callable[[Composer, Operand, Operand], Operand]) -> OnnxRule:
    """An operation of any number of inputs, two at a time."""

    def rule(c: Composer, a: OnnxCall) -> Operand:
        given = [a.operand(index) for index in range(len(a.inputs))]
        return functools.reduce(lambda x, y: step(c, x, y), given)

    return rule


def _mean(c: Composer, a: OnnxCall) -> Operand:
    return times(c, _folded(plus)(c, a), np.asarray(1 / len(a.inputs)))


def _selu(c: Composer, a: OnnxCall) -> Operand:
    alpha, gamma = a.get("alpha", _SELU[0]), a.get("gamma", _SELU[1])
    need(
        abs(alpha - _SELU[0]) + abs(gamma - _SELU[1]) < 1e-4,
        f"a SELU with alpha {alpha} and gamma {gamma}",
        "the usual constants, or Elu after a product",
    )
    return function(c, a.x, "selu")


def _celu(c: Composer, a: OnnxCall) -> Operand:
    alpha = a.get("alpha", 1.0)
    return affine(c, function(c, affine(c, a.x, 1 / alpha, 0.0), "elu", 1.0), alpha, 0.0)


def _clip(c: Composer, a: OnnxCall) -> Operand:
    return clamp(c, a.x, a.number(1, a.get("min")), a.number(2, a.get("max")))


def _gelu(c: Composer, a: OnnxCall) -> Operand:
    return function(c, a.x, "gelu_tanh" if a.text("approximate", "none") == "tanh" else "gelu")


def _swish(c: Composer, a: OnnxCall) -> Operand:
    """x · sigmoid(alpha · x)."""
    alpha = a.get("alpha", 1.0)
    return affine(c, function(c, affine(c, a.x, alpha, 0.0), "silu"), 1 / alpha, 0.0)


def _cast(c: Composer, a: OnnxCall) -> Operand:
    from onnx import TensorProto

    to = a.get("to", TensorProto.FLOAT)
    if to in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return a.x
    if to == TensorProto.BOOL:
        return opposite(c, same_as(c, a.x, np.zeros(1)))
    whole = (TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8)
    need(to in whole, f"activations as {TensorProto.DataType.Name(to)}", "floating point throughout")
    return function(c, a.x, "truncate")


def _remainder(c: Composer, a: OnnxCall) -> Operand:
    divisor = a.constant(1)
    if divisor is None or divisor.size != 1:
        refuse("a divisor that is not one stored number", "x - Floor(x / y) * y")
    return function(c, a.x, "truncated_remainder" if a.get("fmod", 0) else "remainder", float(divisor.ravel()[0]))


def _thresholded(c: Composer, a: OnnxCall) -> Operand:
    return function(c, a.x, "threshold", a.get("alpha", 1.0), 0.0)


def _shrink(c: Composer, a: OnnxCall) -> Operand:
    """x ± bias beyond ± lambd, else 0."""
    bias, bound = a.get("bias", 0.0), a.get("lambd", 0.5)
    upper = function(c, affine(c, a.x, 1.0, -bias), "threshold", bound - bias, 0.0)
    lower = function(c, affine(c, a.x, -1.0, -bias), "threshold", bound - bias, 0.0)
    return minus(c, upper, lower)


def same(c: Composer, a: OnnxCall) -> Operand:
    return a.x


RULES: dict[str, OnnxRule] = {
    **{onnx: _named(name) for name, (_, onnx) in UNARY.items()},
    "Round": _named("round"),
    "Acos": lambda c, a: affine(c, function(c, a.x, "arc_sine"), -1.0, math.pi / 2),
    "Mod": _remainder,
    "ThresholdedRelu": _thresholded,
    "Shrink": _shrink,
    "Softsign": _named("softsign"),
    "Neg": lambda c, a: affine(c, a.x, -1.0, 0.0),
    "Softplus": lambda c, a: function(c, a.x, "softplus", 1.0, 20.0),
    "Elu": lambda c, a: function(c, a.x, "elu", a.get("alpha", 1.0)),
    "LeakyRelu": lambda c, a: function(c, a.x, "leaky_relu", a.get("alpha", 0.01)),
    "HardSigmoid": lambda c, a: function(c, a.x, "hard_sigmoid", a.get("alpha", 0.2), a.get("beta", 0.5)),
    "PRelu": lambda c, a: prelu(c, a.value, a.needed(1)),
    "Selu": _selu,
    "Celu": _celu,
    "Gelu": _gelu,
    "Swish": _swish,
    "Relu": lambda c, a: clamp(c, a.x, 0.0, None),
    "Clip": _clip,
    "Add": lambda c, a: plus(c, a.operand(0), a.operand(1)),
    "Sub": lambda c, a: minus(c, a.operand(0), a.operand(1)),
    "Mul": lambda c, a: times(c, a.operand(0), a.operand(1)),
    "Div": lambda c, a: over(c, a.operand(0), a.operand(1)),
    "Pow": lambda c, a: power(c, a.operand(0), a.operand(1)),
    "Sum": _folded(plus),
    "Mean": _mean,
    "Max": _folded(largest),
    "Min": _folded(lambda c, x, y: largest(c, x, y, -1)),
    "Greater": lambda c, a: above(c, a.operand(0), a.operand(1)),
    "GreaterOrEqual": lambda c, a: above(c, a.operand(0), a.operand(1), True),
    "Less": lambda c, a: above(c, a.operand(1), a.operand(0)),
    "LessOrEqual": lambda c, a: above(c, a.operand(1), a.operand(0), True),
    "And": lambda c, a: times(c, a.operand(0), a.operand(1)),
    "Or": _folded(largest),
    "Xor": lambda c, a: differ(c, a.operand(0), a.operand(1)),
    "Not": lambda c, a: opposite(c, a.x),
    "Equal": lambda c, a: same_as(c, a.operand(0), a.operand(1)),
    "Where": lambda c, a: choose(c, a.operand(0), a.operand(1), a.operand(2)),
    "Cast": _cast,
    "CastLike": _cast,
    "IsNaN": lambda c, a: np.zeros(a.x.shape, bool),  # activations are finite
    "IsInf": lambda c, a: np.zeros(a.x.shape, bool),
    "Identity": same,
    "Dropout": same,
}
