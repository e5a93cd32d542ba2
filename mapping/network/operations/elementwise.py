"""Sums, products and functions of single elements."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from mapping.network.compose.arithmetic import (
    above,
    affine,
    choose,
    clamp,
    differ,
    function,
    grid,
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
from mapping.network.compose.moves import expand, pieces
from mapping.network.compose.refusal import need, refuse
from mapping.network.compose.values import Operand, Value
from mapping.network.operations.call import Call, Rule
from mapping.operators.family import NamedOperation

_SELU = (1.6732631921768188, 1.0507010221481323)


def _named(name: str) -> Rule:
    return lambda c, a: function(c, a.x, name)


def _line(scale: float, shift: float, before: str = "", inner: tuple[float, float] = (1.0, 0.0)) -> Rule:
    """scale · f(a · x + b) + shift, (a, b) being ``inner``."""

    def rule(c: Composer, a: Call) -> Operand:
        x = affine(c, a.x, *inner)
        return affine(c, function(c, x, before) if before else x, scale, shift)

    return rule


def _gelu(c: Composer, a: Call) -> Operand:
    return function(c, a.x, "gelu_tanh" if a.get("approximate") in ("tanh", True) else "gelu")


def _elu(c: Composer, a: Call) -> Operand:
    need(a.get("input_scale", 1) == 1, "an ELU that scales its input", "torch.nn.ELU after a product")
    return affine(c, function(c, a.x, "elu", a.get("alpha", 1.0)), a.get("scale", 1.0), 0.0)


def _celu(c: Composer, a: Call) -> Operand:
    """alpha · elu(x / alpha)."""
    return affine(c, function(c, affine(c, a.x, 1 / a["alpha"], 0.0), "elu", 1.0), a["alpha"], 0.0)


def _selu(c: Composer, a: Call) -> Operand:
    alpha, gamma = a.get("alpha", _SELU[0]), a.get("gamma", _SELU[1])
    need(
        abs(alpha - _SELU[0]) + abs(gamma - _SELU[1]) < 1e-4,
        f"a SELU with alpha {alpha} and gamma {gamma}",
        "the usual constants, or Elu after a product",
    )
    return function(c, a.x, "selu")


def _swish(c: Composer, a: Call) -> Operand:
    """x · sigmoid(alpha · x)."""
    alpha = a.get("alpha", 1.0)
    return affine(c, function(c, affine(c, a.x, alpha, 0.0), "silu"), 1 / alpha, 0.0)


def _clamp(c: Composer, a: Call) -> Operand:
    low, high = (a.get(f"{end}_val", a.get(end)) for end in ("min", "max"))
    return clamp(c, a.x, low, high)


def _between_numbers(low: float, high: float | None) -> Rule:
    return lambda c, a: clamp(c, a.x, low, high)


def _threshold(c: Composer, a: Call) -> Operand:
    value = a.get("value", 0.0)
    if a["threshold"] == value:
        return clamp(c, a.x, value, None)
    return function(c, a.x, "threshold", a["threshold"], value)


def _pair(step: Any, *more: Any) -> Rule:
    return lambda c, a: step(c, a.operand("self"), a.operand("other"), *more)


def _turned(step: Any, *more: Any) -> Rule:
    return lambda c, a: step(c, a.operand("other"), a.operand("self"), *more)


def _folded(step: Any) -> Rule:
    """An operation of any number of inputs, two at a time."""
    return lambda c, a: functools.reduce(lambda x, y: step(c, x, y), a["tensors"])


def _mean(c: Composer, a: Call) -> Operand:
    return times(c, _folded(plus)(c, a), np.asarray(1 / len(a["tensors"])))


def _plus(c: Composer, a: Call) -> Operand:
    if {"self", "other"} <= a.booleans:  # either of two truths
        return largest(c, a.operand("self"), a.operand("other"))
    return plus(c, a.operand("self"), a.operand("other"), a.get("alpha", 1.0))


def _minus(c: Composer, a: Call) -> Operand:
    return minus(c, a.operand("self"), a.operand("other"), a.get("alpha", 1.0))


def _squared_difference(c: Composer, a: Call) -> Operand:
    difference = minus(c, a.operand("self"), a.operand("other"))
    return function(c, difference, "square") if isinstance(difference, Value) else np.square(difference)


def _minus_turned(c: Composer, a: Call) -> Operand:
    return minus(c, a.operand("other"), times(c, a.operand("self"), np.asarray(a["alpha"])))


def _over(c: Composer, a: Call) -> Operand:
    quotient = over(c, a.operand("self"), a.operand("other"))
    mode = a.get("rounding_mode")
    return quotient if mode is None else function(c, quotient, {"floor": "floor", "trunc": "truncate"}[mode])


def _remainder(name: str) -> Rule:
    def rule(c: Composer, a: Call) -> Operand:
        divisor = a.operand("other")
        if isinstance(divisor, Value) or divisor.size != 1:
            refuse("a divisor that is not one stored number", "x - floor(x / y) * y")
        return function(c, a.x, "truncated_remainder" if a.get("fmod") else name, float(divisor.ravel()[0]))

    return rule


def _added(step: Any) -> Rule:
    """self + value · (tensor1 · or / tensor2)."""
    return lambda c, a: plus(c, a.operand("self"), step(c, a.operand("tensor1"), a.operand("tensor2")), a["value"])


def _between(c: Composer, a: Call) -> Operand:
    """self + weight · (end − self)."""
    distance = minus(c, a.operand("end"), a.operand("self"))
    return plus(c, a.operand("self"), times(c, a.operand("weight"), distance))


def _power(c: Composer, a: Call) -> Operand:
    return power(c, a.operand("self"), a.operand("exponent"))


def _slopes(c: Composer, a: Call) -> Operand:
    return prelu(c, a.value, a.weight("weight"))


def _channel_slopes(c: Composer, a: Call) -> Operand:
    slope = a.weight("weight")
    return prelu(c, a.value, slope.reshape(-1, *[1] * (len(a.x.shape) - 2)) if slope.size > 1 else slope)


def _step(c: Composer, a: Call) -> Operand:
    """1 above zero, ``values`` at zero, else 0."""
    return plus(c, above(c, a.x, np.zeros(1)), times(c, same_as(c, a.x, np.zeros(1)), a.operand("values")))


def _masked(c: Composer, a: Call) -> Operand:
    return choose(c, a.operand("mask"), a.operand("value"), a.operand("self"))


def _where(c: Composer, a: Call) -> Operand:
    need("other" in a.arguments, "places of a mask", "torch.where(mask, x, y), whose result has one size")
    return choose(c, a.operand("condition"), a.operand("self"), a.operand("other"))


def _gated(c: Composer, a: Call) -> Operand:
    half = a.x.shape[a["dim"]] // 2
    first, second = pieces(c, a.x, a["dim"], [half, half])
    return times(c, first, function(c, second, "sigmoid"))


def _log_sigmoid(c: Composer, a: Call) -> Operand:
    """−softplus(−x)."""
    return affine(c, function(c, affine(c, a.x, -1.0, 0.0), "softplus", 1.0, 20.0), -1.0, 0.0)


def _soft_shrink(c: Composer, a: Call) -> Operand:
    return minus(c, a.x, clamp(c, a.x, -a["lambd"], a["lambd"]))


def _shrink(c: Composer, a: Call) -> Operand:
    """x ± bias beyond ± lambd, else 0."""
    bias, bound = a["bias"], a["lambd"]
    upper = function(c, affine(c, a.x, 1.0, -bias), "threshold", bound - bias, 0.0)
    lower = function(c, affine(c, a.x, -1.0, -bias), "threshold", bound - bias, 0.0)
    return minus(c, upper, lower)


def _round(c: Composer, a: Call) -> Operand:
    unit = 10.0 ** -(a.get("decimals") or 0)
    return affine(c, function(c, affine(c, a.x, 1 / unit, 0.0), "round"), unit, 0.0)


def _slope_of_no_training(c: Composer, a: Call) -> Operand:
    need(not a["training"], "a slope drawn at random", "module.eval() before torch.export")
    return function(c, a.x, "leaky_relu", (a["lower"] + a["upper"]) / 2)


def _filled(values: Any) -> Rule:
    """A constant of the shape of the result, whatever the input holds."""
    return lambda c, a: np.full(a.shape, a["fill_value"] if values is None else values, np.float32)


def _untrue(c: Composer, a: Call) -> Operand:
    return np.zeros(a.x.shape, bool)  # activations are finite


def same(c: Composer, a: Call) -> Operand:
    """The input unchanged: operations that act in training only."""
    need(
        not a.get("train", False),
        "dropout is active, which F.dropout(x, p) always is",
        "F.dropout(x, p, self.training) or torch.nn.Dropout; of an exported program, module.eval() before torch.export",
    )
    return a.x


def _whole_or_true(c: Composer, x: Operand, true: bool) -> Operand:
    return opposite(c, same_as(c, x, np.zeros(1))) if true else function(c, x, "truncate")


def _converted(c: Composer, a: Call) -> Operand:
    import torch

    kind = a.get("dtype")
    if not isinstance(kind, torch.dtype) or kind.is_floating_point:
        return a.x
    need(not kind.is_complex, f"activations as {kind}", "real and imaginary parts as two tensors")
    return _whole_or_true(c, a.x, kind == torch.bool)


def _cast(c: Composer, a: Call) -> Operand:
    from onnx import TensorProto

    to = a.get("to", TensorProto.FLOAT)
    if to in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return a.x
    whole = (TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8)
    known = to in (*whole, TensorProto.BOOL)
    need(known, f"activations as {TensorProto.DataType.Name(to)}", "floating point throughout")
    return _whole_or_true(c, a.x, to == TensorProto.BOOL)


def _to_grid(c: Composer, a: Call) -> Operand:
    """Values as the codes that a training chose."""
    need(
        "quant_min" in a.arguments, "tensors of codes", "prepare_qat_pt2e or fake_quantize modules before torch.export"
    )
    scale, zero = a.operand("scale"), a.operand("zero_point")
    if isinstance(scale, Value) or isinstance(zero, Value) or scale.size * zero.size != 1:
        refuse("a grid of codes that is computed or differs by channel", "one stored scale and zero point")
    enabled = a.get("fake_quant_enabled")
    if enabled is not None and not np.asarray(enabled).any():
        return a.x
    at = int(zero.ravel()[0])
    return grid(c, a.value, float(scale.ravel()[0]), a["quant_min"] - at, a["quant_max"] - at)


def first(rule: Rule, more: int = 1) -> Rule:
    """The rule of an operation of torch with further results, which no network may read."""
    return lambda c, a: [rule(c, a), *[None] * more]


OPERATIONS = (
    *(NamedOperation(_named(name), name, name.capitalize()) for name in ("erf", "reciprocal", "ceil", "sign", "mish")),
    *(NamedOperation(_named(name), name, name.capitalize(), name.upper()) for name in ("tanh", "exp", "log", "sqrt")),
    NamedOperation(_named("sigmoid"), "sigmoid", "Sigmoid", "LOGISTIC"),
    NamedOperation(_named("floor"), "floor", "Floor", "FLOOR"),
    NamedOperation(_named("absolute"), "abs", "Abs", "ABS"),
    NamedOperation(_named("sine"), "sin", "Sin", "SIN"),
    NamedOperation(_named("cosine"), "cos", "Cos", "COS"),
    NamedOperation(_named("tangent"), "tan", "Tan"),
    NamedOperation(_named("arc_sine"), "asin", "Asin"),
    NamedOperation(_named("arc_tangent"), "atan", "Atan"),
    NamedOperation(_named("hyperbolic_sine"), "sinh", "Sinh"),
    NamedOperation(_named("hyperbolic_cosine"), "cosh", "Cosh"),
    NamedOperation(_named("area_sine"), "asinh", "Asinh"),
    NamedOperation(_named("area_cosine"), "acosh", "Acosh"),
    NamedOperation(_named("area_tangent"), "atanh", "Atanh"),
    NamedOperation(_named("hard_swish"), "hardswish", "HardSwish", "HARD_SWISH"),
    NamedOperation(_named("square"), "square", lite="SQUARE"),
    NamedOperation(_named("reciprocal_sqrt"), "rsqrt", lite="RSQRT"),
    NamedOperation(_named("negative"), lite="NEG"),
    NamedOperation(_named("softsign"), onnx="Softsign"),
    NamedOperation(_named("sinc"), "sinc"),
    NamedOperation(_named("truncate"), "trunc fix"),
    NamedOperation(_named("sign"), "sgn"),
    NamedOperation(_line(-1.0, math.pi / 2, "arc_sine"), "acos", "Acos"),
    NamedOperation(_line(-1.0, 1.0, "erf"), "erfc"),
    NamedOperation(_line(1.0, 0.0, "exp", (math.log(2), 0.0)), "exp2"),
    NamedOperation(_line(1.0, -1.0, "exp"), "expm1"),
    NamedOperation(_line(1.0, 0.0, "log", (1.0, 1.0)), "log1p"),
    NamedOperation(_line(1 / math.log(2), 0.0, "log"), "log2"),
    NamedOperation(_line(1 / math.log(10), 0.0, "log"), "log10"),
    NamedOperation(_line(-1.0, 0.0), "neg", "Neg"),
    NamedOperation(
        _gelu, "gelu", "Gelu(self; approximate='none') com.microsoft:Gelu", "GELU(self; approximate:Approximate)"
    ),
    NamedOperation(_elu, "elu", "Elu(self; alpha=1.0)", "ELU"),
    NamedOperation(_celu, "celu", "Celu(self; alpha=1.0)"),
    NamedOperation(_selu, "selu", "Selu(self; alpha, gamma)"),
    NamedOperation(_swish, "silu", "Swish(self; alpha=1.0) com.microsoft:QuickGelu(self; alpha=1.702)"),
    NamedOperation(
        lambda c, a: function(c, a.x, "hard_sigmoid", a.get("alpha", 1 / 6), a.get("beta", 0.5)),
        "hardsigmoid",
        "HardSigmoid(self; alpha=0.2, beta=0.5)",
    ),
    NamedOperation(
        lambda c, a: function(c, a.x, "leaky_relu", a["negative_slope"]),
        "leaky_relu",
        "LeakyRelu(self; negative_slope:alpha=0.01)",
        "LEAKY_RELU(self; negative_slope:Alpha)",
    ),
    NamedOperation(
        lambda c, a: function(c, a.x, "softplus", a.get("beta", 1.0), a.get("threshold", 20.0)), "softplus", "Softplus"
    ),
    NamedOperation(_threshold, "threshold", "ThresholdedRelu(self; threshold:alpha=1.0)"),
    NamedOperation(_channel_slopes, "prelu _prelu_kernel"),
    NamedOperation(_slopes, onnx="PRelu(self, weight)", lite="PRELU(self, weight)"),
    NamedOperation(_log_sigmoid, "log_sigmoid"),
    NamedOperation(_soft_shrink, "softshrink"),
    NamedOperation(_shrink, onnx="Shrink(self; bias=0.0, lambd=0.5)"),
    NamedOperation(_round, "round", "Round"),
    NamedOperation(_gated, "glu"),
    NamedOperation(_slope_of_no_training, "rrelu rrelu_with_noise"),
    NamedOperation(first(_slope_of_no_training), "rrelu_with_noise_functional"),
    NamedOperation(_between_numbers(0.0, None), "relu", "Relu", "RELU"),
    NamedOperation(_between_numbers(0.0, 6.0), "relu6", lite="RELU6"),
    NamedOperation(_between_numbers(-1.0, 1.0), lite="RELU_N1_TO_1"),
    NamedOperation(_between_numbers(0.0, 1.0), lite="RELU_0_TO_1"),
    NamedOperation(_clamp, "clamp clip clamp_min clamp_max hardtanh", "Clip(self, min, max)"),
    NamedOperation(_plus, "add", "Add(self, other)", "ADD(self, other)"),
    NamedOperation(_minus, "sub subtract", "Sub(self, other)", "SUB(self, other)"),
    NamedOperation(_squared_difference, lite="SQUARED_DIFFERENCE(self, other)"),
    NamedOperation(_minus_turned, "rsub"),
    NamedOperation(
        _pair(times), "mul multiply logical_and bitwise_and", "Mul(self, other) And(self, other)", "MUL(self, other)"
    ),
    NamedOperation(_over, "div divide true_divide", "Div(self, other)", "DIV(self, other)"),
    NamedOperation(lambda c, a: function(c, over(c, a.x, a.operand("other")), "floor"), "floor_divide"),
    NamedOperation(_remainder("remainder"), "remainder", "Mod(self, other; fmod=0)"),
    NamedOperation(_remainder("truncated_remainder"), "fmod"),
    NamedOperation(lambda c, a: function(c, a.x, "truncated_remainder", 1.0), "frac"),
    NamedOperation(_added(times), "addcmul"),
    NamedOperation(_added(over), "addcdiv"),
    NamedOperation(_between, "lerp"),
    NamedOperation(_power, "pow", "Pow(self, exponent)", "POW(self, exponent)"),
    NamedOperation(_folded(plus), onnx="Sum(*tensors)"),
    NamedOperation(_mean, onnx="Mean(*tensors)"),
    NamedOperation(_folded(largest), onnx="Max(*tensors)"),
    NamedOperation(_folded(lambda c, x, y: largest(c, x, y, -1)), onnx="Min(*tensors)"),
    NamedOperation(
        _pair(largest), "maximum max.other logical_or bitwise_or", "Or(self, other)", "MAXIMUM(self, other)"
    ),
    NamedOperation(_pair(largest, -1), "minimum min.other", lite="MINIMUM(self, other)"),
    NamedOperation(_pair(above), "gt", "Greater(self, other)"),
    NamedOperation(_pair(above, True), "ge", "GreaterOrEqual(self, other)"),
    NamedOperation(_turned(above), "lt", "Less(self, other)"),
    NamedOperation(_turned(above, True), "le", "LessOrEqual(self, other)"),
    NamedOperation(_pair(same_as), "eq", "Equal(self, other)"),
    NamedOperation(lambda c, a: opposite(c, _pair(same_as)(c, a)), "ne"),
    NamedOperation(_pair(differ), "logical_xor bitwise_xor", "Xor(self, other)"),
    NamedOperation(lambda c, a: opposite(c, a.x), "logical_not bitwise_not", "Not"),
    NamedOperation(_step, "heaviside"),
    NamedOperation(_masked, "masked_fill"),
    NamedOperation(_where, "where", "Where(condition, self, other)"),
    NamedOperation(_untrue, "isnan isinf", "IsNaN IsInf"),
    NamedOperation(_filled(0.0), "zeros_like new_zeros empty_like new_empty zero"),
    NamedOperation(_filled(1.0), "ones_like new_ones"),
    NamedOperation(_filled(None), "full_like new_full"),
    NamedOperation(lambda c, a: expand(c, a.operand("value"), a.shape), "fill"),
    NamedOperation(_to_grid, "fake_quantize_per_tensor_affine quantize_per_tensor"),
    NamedOperation(
        first(_to_grid),
        "fake_quantize_per_tensor_affine_cachemask _fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
    ),
    NamedOperation(
        same,
        "dropout feature_dropout alpha_dropout feature_alpha_dropout nan_to_num contiguous clone detach alias "
        "lift_fresh_copy type_as dequantize_per_tensor",
        "Identity Dropout",
        "QUANTIZE DEQUANTIZE",
    ),
    NamedOperation(_converted, "to _to_copy"),
    NamedOperation(_cast, onnx="Cast(self; to) CastLike"),
)
