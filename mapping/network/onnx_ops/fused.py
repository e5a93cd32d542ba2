"""Rules for operations that ONNX Runtime makes of several when it writes its optimised network (com.microsoft)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mapping.network.compose.arithmetic import clamp, function, plus, times
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import swap
from mapping.network.compose.products import product
from mapping.network.compose.refusal import need, refuse
from mapping.network.compose.statistics import norm
from mapping.network.compose.values import Operand, Value
from mapping.network.onnx_ops.call import OnnxCall, OnnxRule
from mapping.network.onnx_ops.products import conv, gemm


def _active(c: Composer, x: Operand, kind: str, given: Sequence[float]) -> Operand:
    """An activation by its name in ONNX, with its parameters in the order of their names."""
    match kind, list(given):
        case ("", _):
            return x
        case ("Relu", _):
            return clamp(c, x, 0.0, None)
        case ("Clip", [low, high]):
            return clamp(c, x, low, high)
        case ("LeakyRelu", [slope]):
            return function(c, x, "leaky_relu", slope)
        case ("HardSigmoid", [alpha, beta]):
            return function(c, x, "hard_sigmoid", alpha, beta)
        case ("Sigmoid" | "Tanh", _):
            return function(c, x, kind.lower())
    refuse(f"the activation {kind} {list(given)} in a product", "the activation as an operation of its own")


def _conv_active(c: Composer, a: OnnxCall) -> Operand:
    """A convolution, the sum with a fourth input, then an activation."""
    found: Operand = conv(c, a)
    if (more := a.given(3)) is not None:
        found = plus(c, found, more)
    return _active(c, found, a.text("activation", ""), [float(v) for v in a.get("activation_params") or ()])


def _gemm_active(c: Composer, a: OnnxCall) -> Operand:
    given = [float(a[name]) for name in ("activation_alpha", "activation_beta") if a.get(name) is not None]
    return _active(c, gemm(c, a), a.text("activation", ""), given)


def _scaled_product(c: Composer, a: OnnxCall) -> Operand:
    """alpha · A B, each matrix turned if asked."""
    need(
        not (a.get("transBatchA", 0) or a.get("transBatchB", 0)), "matrices with turned batches", "MatMul and Transpose"
    )
    x, y = (
        swap(c, a.operand(n), -1, -2) if a.get(turned, 0) else a.operand(n)
        for n, turned in enumerate(("transA", "transB"))
    )
    stored = 0 if isinstance(y, Value) else 1
    return times(c, product(c, x, y, a.owner(stored)), np.asarray(a.get("alpha", 1.0)))


def _gelu(kind: str) -> OnnxRule:
    """GELU of the sum of all inputs."""

    def rule(c: Composer, a: OnnxCall) -> Operand:
        bias = a.given(1)
        return function(c, a.x if bias is None else plus(c, a.x, bias), kind)

    return rule


def _norm_of_sum(centre: bool) -> OnnxRule:
    """The norm of input + skip + bias along the last axis; the sum is the fourth output."""

    def rule(c: Composer, a: OnnxCall) -> list[Operand | None]:
        total = plus(c, a.x, a.operand(1))
        shift, bias = (a.weights(3), a.given(4)) if centre else (None, a.given(3))
        total = total if bias is None else plus(c, total, bias)
        axes = range(len(total.shape) - 1, len(total.shape))
        found = norm(c, total, axes, a.needed(2), shift, float(a.get("epsilon", 1e-12)), centre=centre)
        return [found, None, None, total]

    return rule


_MADE: dict[str, OnnxRule] = {
    "FusedConv": _conv_active,
    "FusedGemm": _gemm_active,
    "FusedMatMul": _scaled_product,
    "Gelu": _gelu("gelu"),
    "BiasGelu": _gelu("gelu"),
    "FastGelu": _gelu("gelu_tanh"),
    "SkipLayerNormalization": _norm_of_sum(True),
    "SkipSimplifiedLayerNormalization": _norm_of_sum(False),
}
RULES: dict[str, OnnxRule] = {f"com.microsoft:{kind}": rule for kind, rule in _MADE.items()}
