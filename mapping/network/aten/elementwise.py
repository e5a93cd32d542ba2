"""Rules of ATen for sums, products and functions of single elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mapping.network.aten.call import Call, Rule
from mapping.network.compose.arithmetic import (
    UNARY,
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
from mapping.network.compose.moves import expand, pieces, reshape
from mapping.network.compose.refusal import need, refuse
from mapping.network.compose.values import Operand, Value


def _named(name: str) -> Rule:
    return lambda c, a: function(c, a.x, name)


def _gelu(c: Composer, a: Call) -> Operand:
    return function(c, a.x, "gelu_tanh" if a["approximate"] == "tanh" else "gelu")


def _elu(c: Composer, a: Call) -> Operand:
    need(a["input_scale"] == 1, "an ELU that scales its input", "torch.nn.ELU after a product")
    return affine(c, function(c, a.x, "elu", a["alpha"]), a["scale"], 0.0)


def _celu(c: Composer, a: Call) -> Operand:
    """alpha · elu(x / alpha)."""
    return affine(c, function(c, affine(c, a.x, 1 / a["alpha"], 0.0), "elu", 1.0), a["alpha"], 0.0)


def _clamp(c: Composer, a: Call) -> Operand:
    low, high = (a.get(f"{end}_val", a.get(end)) for end in ("min", "max"))
    return clamp(c, a.x, low, high)


def _threshold(c: Composer, a: Call) -> Operand:
    if a["threshold"] == a["value"]:
        return clamp(c, a.x, a["threshold"], None)
    return function(c, a.x, "threshold", a["threshold"], a["value"])


def _pair(step: Any, *more: Any) -> Rule:
    return lambda c, a: step(c, a.operand("self"), a.operand("other"), *more)


def _plus(c: Composer, a: Call) -> Operand:
    if {"self", "other"} <= a.booleans:  # either of two truths
        return largest(c, a.operand("self"), a.operand("other"))
    return plus(c, a.operand("self"), a.operand("other"), a["alpha"])


def _minus(c: Composer, a: Call) -> Operand:
    return minus(c, a.operand("self"), a.operand("other"), a["alpha"])


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
            refuse("a divisor that is not one stored number", "x - torch.floor(x / y) * y")
        return function(c, a.x, name, float(divisor.ravel()[0]))

    return rule


def _product_added(c: Composer, a: Call) -> Operand:
    product = times(c, a.operand("tensor1"), a.operand("tensor2"))
    return plus(c, a.operand("self"), product, a["value"])


def _between(c: Composer, a: Call) -> Operand:
    """self + weight · (end − self)."""
    distance = minus(c, a.operand("end"), a.operand("self"))
    return plus(c, a.operand("self"), times(c, a.operand("weight"), distance))


def _power(c: Composer, a: Call) -> Operand:
    return power(c, a.operand("self"), a.operand("exponent"))


def _prelu(c: Composer, a: Call) -> Operand:
    slope = a.weight("weight")
    rank = len(a.x.shape)
    return prelu(c, a.value, slope.reshape(-1, *[1] * (rank - 2)) if slope.size > 1 else slope)


def _compared(sign: int, equal: bool) -> Rule:
    """1 where self is above other, or below it, else 0."""

    def rule(c: Composer, a: Call) -> Operand:
        pair = (a.operand("self"), a.operand("other"))
        return above(c, *(pair if sign > 0 else pair[::-1]), equal)

    return rule


def _step(c: Composer, a: Call) -> Operand:
    """1 above zero, ``values`` at zero, else 0."""
    return plus(c, above(c, a.x, np.zeros(1)), times(c, same_as(c, a.x, np.zeros(1)), a.operand("values")))


def _quotient_added(c: Composer, a: Call) -> Operand:
    quotient = over(c, a.operand("tensor1"), a.operand("tensor2"))
    return plus(c, a.operand("self"), quotient, a["value"])


def _masked(c: Composer, a: Call) -> Operand:
    return choose(c, a.operand("mask"), a.operand("value"), a.operand("self"))


def _where(c: Composer, a: Call) -> Operand:
    need(bool(a.overload), "places of a mask", "torch.where(mask, x, y), whose result has one size")
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


def _round(c: Composer, a: Call) -> Operand:
    unit = 10.0 ** -(a.get("decimals") or 0)
    return affine(c, function(c, affine(c, a.x, 1 / unit, 0.0), "round"), unit, 0.0)


def _slope_of_no_training(c: Composer, a: Call) -> Operand:
    need(not a["training"], "a slope drawn at random", "module.eval() before torch.export")
    return function(c, a.x, "leaky_relu", (a["lower"] + a["upper"]) / 2)


def _filled(values: Any) -> Rule:
    """A constant of the shape of the result, whatever the input holds."""
    return lambda c, a: np.full(a.shape, a["fill_value"] if values is None else values, np.float32)


def _overwritten(c: Composer, a: Call) -> Operand:
    return expand(c, a.operand("value"), a.shape)


def same(c: Composer, a: Call) -> Operand:
    """What changes nothing in a network that is not trained."""
    need(
        not a.get("train", False),
        "dropout is active, which F.dropout(x, p) always is",
        "F.dropout(x, p, self.training) or torch.nn.Dropout; of an exported program, module.eval() before torch.export",
    )
    return a.x


def _converted(c: Composer, a: Call) -> Operand:
    import torch

    kind = a.get("dtype")
    if not isinstance(kind, torch.dtype) or kind.is_floating_point:
        return a.x
    need(not kind.is_complex, f"activations as {kind}", "real and imaginary parts as two tensors")
    if kind == torch.bool:
        return opposite(c, same_as(c, a.x, np.zeros(1)))
    return function(c, a.x, "truncate")


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


RULES: dict[str, Rule] = {
    **{aten: _named(name) for name, (aten, _) in UNARY.items()},
    **{name: _named(name) for name in ("silu", "selu", "square", "sinc")},
    "trunc": _named("truncate"),
    "fix": _named("truncate"),
    "sgn": _named("sign"),
    "acos": lambda c, a: affine(c, function(c, a.x, "arc_sine"), -1.0, math.pi / 2),
    "erfc": lambda c, a: affine(c, function(c, a.x, "erf"), -1.0, 1.0),
    "exp2": lambda c, a: function(c, affine(c, a.x, math.log(2), 0.0), "exp"),
    "log2": lambda c, a: affine(c, function(c, a.x, "log"), 1 / math.log(2), 0.0),
    "log10": lambda c, a: affine(c, function(c, a.x, "log"), 1 / math.log(10), 0.0),
    "frac": lambda c, a: function(c, a.x, "truncated_remainder", 1.0),
    "remainder": _remainder("remainder"),
    "fmod": _remainder("truncated_remainder"),
    "floor_divide": lambda c, a: function(c, over(c, a.x, a.operand("other")), "floor"),
    "heaviside": _step,
    "rrelu": _slope_of_no_training,
    "rrelu_with_noise": _slope_of_no_training,
    "rrelu_with_noise_functional": lambda c, a: [_slope_of_no_training(c, a), None],
    "nan_to_num": same,
    "isnan": lambda c, a: np.zeros(a.shape, bool),  # activations are finite
    "isinf": lambda c, a: np.zeros(a.shape, bool),
    **{name: _filled(0.0) for name in ("zeros_like", "new_zeros", "empty_like", "new_empty", "zero")},
    **{name: _filled(1.0) for name in ("ones_like", "new_ones")},
    **{name: _filled(None) for name in ("full_like", "new_full")},
    "fill": _overwritten,
    "rsqrt": _named("reciprocal_sqrt"),
    "neg": lambda c, a: affine(c, a.x, -1.0, 0.0),
    "hardsigmoid": lambda c, a: function(c, a.x, "hard_sigmoid", 1 / 6, 0.5),
    "leaky_relu": lambda c, a: function(c, a.x, "leaky_relu", a["negative_slope"]),
    "softplus": lambda c, a: function(c, a.x, "softplus", a["beta"], a["threshold"]),
    "log1p": lambda c, a: function(c, affine(c, a.x, 1.0, 1.0), "log"),
    "expm1": lambda c, a: affine(c, function(c, a.x, "exp"), 1.0, -1.0),
    "gelu": _gelu,
    "elu": _elu,
    "celu": _celu,
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "log_sigmoid": _log_sigmoid,
    "softshrink": _soft_shrink,
    "round": _round,
    "glu": _gated,
    "relu": lambda c, a: clamp(c, a.x, 0.0, None),
    "relu6": lambda c, a: clamp(c, a.x, 0.0, 6.0),
    "hardtanh": _clamp,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    "threshold": _threshold,
    "minimum": _pair(largest, -1),
    "maximum": _pair(largest),
    "max.other": _pair(largest),
    "min.other": _pair(largest, -1),
    "add": _plus,
    "sub": _minus,
    "subtract": _minus,
    "rsub": _minus_turned,
    "mul": _pair(times),
    "multiply": _pair(times),
    "div": _over,
    "divide": _over,
    "true_divide": _over,
    "addcmul": _product_added,
    "addcdiv": _quotient_added,
    "lerp": _between,
    "pow": _power,
    "gt": _compared(1, False),
    "ge": _compared(1, True),
    "lt": _compared(-1, False),
    "le": _compared(-1, True),
    "logical_and": _pair(times),
    "bitwise_and": _pair(times),
    "logical_not": lambda c, a: opposite(c, a.x),
    "bitwise_not": lambda c, a: opposite(c, a.x),
    "logical_or": _pair(largest),
    "bitwise_or": _pair(largest),
    "logical_xor": _pair(differ),
    "bitwise_xor": _pair(differ),
    "eq": _pair(same_as),
    "ne": lambda c, a: opposite(c, _pair(same_as)(c, a)),
    "masked_fill": _masked,
    "where": _where,
    "fake_quantize_per_tensor_affine": _to_grid,
    "fake_quantize_per_tensor_affine_cachemask": lambda c, a: [_to_grid(c, a), None],
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams": lambda c, a: [_to_grid(c, a), None],
    "quantize_per_tensor": _to_grid,
    "dequantize_per_tensor": same,
    **{name: same for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")},
    **{name: same for name in ("contiguous", "clone", "detach", "alias", "lift_fresh_copy", "type_as")},
    "to": _converted,
    "_to_copy": _converted,
    "view_as": lambda c, a: reshape(c, a.x, a.shape),
}
