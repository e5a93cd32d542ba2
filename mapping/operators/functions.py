"""Functions of one number that a network may apply element by element: on a chip each is a table over codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Function:
    """``apply(x, alpha, beta)`` in torch; ``least`` is a lower bound of all results, −inf where there is no bound."""

    apply: Callable[[Tensor, float, float], Tensor]
    least: float = -math.inf


def _torch(name: str) -> Callable[[Tensor, float, float], Tensor]:
    """The function of one argument of that name in torch, or in its functional interface."""

    def apply(x: Tensor, alpha: float, beta: float) -> Tensor:
        import torch
        from torch.nn import functional

        found: Tensor = (getattr(torch, name, None) or getattr(functional, name))(x)
        return found

    return apply


def _gelu_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    from torch.nn import functional

    return functional.gelu(x, approximate="tanh")


def _leaky_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    from torch.nn import functional

    return functional.leaky_relu(x, alpha)


def _elu(x: Tensor, alpha: float, beta: float) -> Tensor:
    from torch.nn import functional

    return functional.elu(x, alpha)


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (x * alpha + beta).clamp(0, 1)


def _hard_swish(x: Tensor, alpha: float, beta: float) -> Tensor:
    return x * (x + 3).clamp(0, 6) / 6


def _softplus(x: Tensor, alpha: float, beta: float) -> Tensor:
    from torch.nn import functional

    return functional.softplus(x, alpha, beta)


def _power(x: Tensor, alpha: float, beta: float) -> Tensor:
    return x.pow(alpha)


def _threshold(x: Tensor, alpha: float, beta: float) -> Tensor:
    from torch.nn import functional

    return functional.threshold(x, alpha, beta)


def _remainder(x: Tensor, alpha: float, beta: float) -> Tensor:
    return x.remainder(alpha)


def _truncated_remainder(x: Tensor, alpha: float, beta: float) -> Tensor:
    return x.fmod(alpha)


def _is_zero(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (x == 0).to(x.dtype)


FUNCTIONS: Mapping[str, Function] = {
    "sigmoid": Function(_torch("sigmoid"), 0.0),
    "tanh": Function(_torch("tanh")),
    "gelu": Function(_torch("gelu")),
    "gelu_tanh": Function(_gelu_tanh),
    "silu": Function(_torch("silu")),
    "mish": Function(_torch("mish")),
    "hard_sigmoid": Function(_hard_sigmoid, 0.0),  # clamp(alpha x + beta, 0, 1)
    "hard_swish": Function(_hard_swish),
    "leaky_relu": Function(_leaky_relu),  # alpha: slope below zero
    "elu": Function(_elu),  # alpha
    "selu": Function(_torch("selu")),
    "softplus": Function(_softplus, 0.0),  # alpha: beta of torch, beta: threshold of torch
    "softsign": Function(_torch("softsign")),
    "exp": Function(_torch("exp"), 0.0),
    "log": Function(_torch("log")),
    "sqrt": Function(_torch("sqrt"), 0.0),
    "reciprocal": Function(_torch("reciprocal")),
    "reciprocal_sqrt": Function(_torch("rsqrt"), 0.0),
    "absolute": Function(_torch("abs"), 0.0),
    "negative": Function(_torch("neg")),
    "square": Function(_torch("square"), 0.0),
    "power": Function(_power),  # alpha: exponent
    "erf": Function(_torch("erf")),
    "sine": Function(_torch("sin")),
    "cosine": Function(_torch("cos")),
    "floor": Function(_torch("floor")),
    "round": Function(_torch("round")),
    "ceil": Function(_torch("ceil")),
    "truncate": Function(_torch("trunc")),
    "sign": Function(_torch("sign")),
    "is_zero": Function(_is_zero, 0.0),
    "threshold": Function(_threshold),  # alpha: x above it, beta: what is given else
    "remainder": Function(_remainder),  # alpha: divisor, whose sign the result has
    "truncated_remainder": Function(_truncated_remainder),  # alpha: divisor; the result has the sign of x
    "tangent": Function(_torch("tan")),
    "arc_sine": Function(_torch("asin")),
    "arc_tangent": Function(_torch("atan")),
    "hyperbolic_sine": Function(_torch("sinh")),
    "hyperbolic_cosine": Function(_torch("cosh"), 1.0),
    "area_sine": Function(_torch("asinh")),
    "area_cosine": Function(_torch("acosh"), 0.0),
    "area_tangent": Function(_torch("atanh")),
    "sinc": Function(_torch("sinc")),
}
