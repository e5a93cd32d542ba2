"""Rules of ATen for sums, products and functions of single elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from mapping.network.aten.call import Call, Rule
from mapping.network.compose.arithmetic import (
    above,
    affine,
    choose,
    clamp,
    function,
    largest,
    minus,
    over,
    plus,
    power,
    prelu,
    times,
)
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import pieces, reshape
from mapping.network.compose.refusal import need, refuse
from mapping.network.compose.values import Operand


def _named(name: str) -> Rule:
    return lambda c, a: function(c, a.x, name)


def _gelu(c: Composer, a: Call) -> Operand:
    return function(c, a.x, "gelu_tanh" if a["approximate"] == "tanh" else "gelu")


def _elu(c: Composer, a: Call) -> Operand:
    need(a["scale"] == 1 and a["input_scale"] == 1, "an ELU with scales", "torch.nn.ELU or torch.nn.SELU")
    return function(c, a.x, "elu", a["alpha"])


def _celu(c: Composer, a: Call) -> Operand:
    """alpha · elu(x / alpha)."""
    return affine(c, function(c, affine(c, a.x, 1 / a["alpha"], 0.0), "elu", 1.0), a["alpha"], 0.0)


def _clamp(c: Composer, a: Call) -> Operand:
    low, high = (a.get(f"{end}_val", a.get(end)) for end in ("min", "max"))
    return clamp(c, a.x, low, high)


def _threshold(c: Composer, a: Call) -> Operand:
    need(a["threshold"] == 0 and a["value"] == 0, "a threshold that is not zero", "torch.relu")
    return clamp(c, a.x, 0.0, None)


def _plus(c: Composer, a: Call) -> Operand:
    if {"self", "other"} <= a.booleans:  # either of two truths
        return largest(c, a.operand("self"), a.operand("other"))
    return plus(c, a.operand("self"), a.operand("other"), a["alpha"])


def _minus(c: Composer, a: Call) -> Operand:
    return minus(c, a.operand("self"), a.operand("other"), a["alpha"])


def _minus_turned(c: Composer, a: Call) -> Operand:
    return minus(c, a.operand("other"), times(c, a.operand("self"), np.asarray(a["alpha"])))


def _times(c: Composer, a: Call) -> Operand:
    return times(c, a.operand("self"), a.operand("other"))


def _over(c: Composer, a: Call) -> Operand:
    quotient = over(c, a.operand("self"), a.operand("other"))
    mode = a.get("rounding_mode")
    need(mode in (None, "floor"), f"division with rounding mode {mode!r}")
    return quotient if mode is None else function(c, quotient, "floor")


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


def _larger(sign: int) -> Rule:
    return lambda c, a: largest(c, a.operand("self"), a.operand("other"), sign)


def _compared(sign: int, equal: bool) -> Rule:
    """1 where self is above other, or below it, else 0."""

    def rule(c: Composer, a: Call) -> Operand:
        pair = (a.operand("self"), a.operand("other"))
        return above(c, *(pair if sign > 0 else pair[::-1]), equal)

    return rule


def _masked(c: Composer, a: Call) -> Operand:
    return choose(c, a.operand("mask"), a.operand("value"), a.operand("self"))


def _where(c: Composer, a: Call) -> Operand:
    need(bool(a.overload), "places of a mask")
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
    need(not a.get("decimals"), "rounding to decimals")
    return function(c, a.x, "round")


def same(c: Composer, a: Call) -> Operand:
    """What changes nothing in a network that is not trained."""
    need(not a.get("train", False), "dropout is active", "module.eval() before torch.export")
    return a.x


def _converted(c: Composer, a: Call) -> Operand:
    import torch

    kind = a.get("dtype")
    need(
        kind is None or (isinstance(kind, torch.dtype) and kind.is_floating_point),
        f"activations as {kind}",
        "floating point throughout",
    )
    return a.x


def _log_softmax(c: Composer, a: Call) -> Any:
    refuse("a logarithm that keeps the order of the logits", "return the logits: the loss, not the network, applies it")


RULES: dict[str, Rule] = {
    **{name: _named(name) for name in ("sigmoid", "tanh", "silu", "mish", "selu", "exp", "log", "sqrt", "square")},
    **{name: _named(name) for name in ("reciprocal", "erf", "floor")},
    "rsqrt": _named("reciprocal_sqrt"),
    "abs": _named("absolute"),
    "neg": lambda c, a: affine(c, a.x, -1.0, 0.0),
    "sin": _named("sine"),
    "cos": _named("cosine"),
    "hardswish": _named("hard_swish"),
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
    "minimum": _larger(-1),
    "maximum": _larger(1),
    "max.other": _larger(1),
    "min.other": _larger(-1),
    "add": _plus,
    "sub": _minus,
    "subtract": _minus,
    "rsub": _minus_turned,
    "mul": _times,
    "multiply": _times,
    "div": _over,
    "divide": _over,
    "true_divide": _over,
    "addcmul": _product_added,
    "lerp": _between,
    "pow": _power,
    "gt": _compared(1, False),
    "ge": _compared(1, True),
    "lt": _compared(-1, False),
    "le": _compared(-1, True),
    "logical_or": _larger(1),
    "bitwise_or": _larger(1),
    "logical_and": _times,
    "bitwise_and": _times,
    "logical_not": lambda c, a: affine(c, a.x, -1.0, 1.0),
    "bitwise_not": lambda c, a: affine(c, a.x, -1.0, 1.0),
    "masked_fill": _masked,
    "where": _where,
    "log_softmax": _log_softmax,
    "_log_softmax": _log_softmax,
    **{name: same for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")},
    **{name: same for name in ("contiguous", "clone", "detach", "alias", "lift_fresh_copy", "type_as")},
    "to": _converted,
    "_to_copy": _converted,
    "view_as": lambda c, a: reshape(c, a.x, a.shape),
}
