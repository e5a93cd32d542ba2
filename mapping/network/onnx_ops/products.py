"""Rules of ONNX for convolutions, linear layers, products and recurrent layers."""

from __future__ import annotations

import numpy as np

from mapping.network.compose.arithmetic import plus, times
from mapping.network.compose.attention import attention
from mapping.network.compose.composer import Composer
from mapping.network.compose.einsum import einsum
from mapping.network.compose.moves import reshape, select, stack, swap
from mapping.network.compose.products import convolution, linear, product, transposed_convolution
from mapping.network.compose.recurrent import Direction, State, Step, gru_step, lstm_step, relu_step, tanh_step, unroll
from mapping.network.compose.refusal import BROKEN, need
from mapping.network.compose.values import Operand, Value
from mapping.network.compose.volumes import convolution_of_volumes
from mapping.network.onnx_ops.call import OnnxCall, OnnxRule
from mapping.network.onnx_ops.windows import along, window_pads
from mapping.operators.node import Array


def conv(c: Composer, a: OnnxCall) -> Operand:
    weight = a.needed(1)
    kernel = weight.shape[2:]
    stride, gap = along(a, "strides", len(kernel)), along(a, "dilations", len(kernel))
    return (convolution_of_volumes if weight.ndim == 5 else convolution)(
        c,
        a.x,
        weight,
        a.weights(2),
        stride=stride,
        pads=window_pads(a, kernel, stride, gap),
        dilation=gap,
        groups=a.get("group", 1),
        name=a.owner(1),
    )


def _attention(c: Composer, a: OnnxCall) -> list[Operand]:
    """softmax(Q Kᵀ · scale + mask) V of heads, which stand in an axis of their own or side by side in the last."""
    need(not a.get("softcap", 0.0), "scores with a soft cap", "scores, tanh and softmax as operations of their own")
    need(a.given(4) is None and a.outputs == 1, "keys and values of earlier calls", "one call for the whole sequence")
    parts, flat = [a.operand(n) for n in range(3)], len(a.x.shape) == 3
    if flat:
        heads = [a["q_num_heads"], a["kv_num_heads"], a["kv_num_heads"]]
        parts = [
            swap(c, reshape(c, x, (*x.shape[:2], n, x.shape[2] // n)), 1, 2) for x, n in zip(parts, heads, strict=True)
        ]
    query, key, value = parts
    mask, causal = a.given(3), bool(a.get("is_causal", 0))
    need(not isinstance(mask, Value), "a mask that is computed", "scores, mask and softmax as operations of their own")
    boolean = mask is not None and np.asarray(mask).dtype == np.bool_
    found = attention(c, query, key, value, mask, causal, a.get("scale"), boolean=boolean)
    return [reshape(c, swap(c, found, 1, 2), (*a.x.shape[:2], -1)) if flat else found]


def _transposed(c: Composer, a: OnnxCall) -> Operand:
    weight = a.needed(1)
    kernel = weight.shape[2:]
    count = len(kernel)
    need(
        a.text("auto_pad", "NOTSET") in ("NOTSET", "VALID") and not a.get("output_shape"),
        "padding by output shape",
        "pads and output_padding as numbers",
    )
    stride, gap = along(a, "strides", count), along(a, "dilations", count)
    return transposed_convolution(
        c,
        a.x,
        weight,
        a.weights(2),
        stride=stride,
        pads=window_pads(a, kernel, stride, gap),
        extra=list(a.get("output_padding") or [0] * count),
        dilation=gap,
        groups=a.get("group", 1),
        name=a.owner(1),
    )


def gemm(c: Composer, a: OnnxCall) -> Operand:
    """alpha · A B + beta · C, each matrix turned if asked."""
    alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
    x, w, bias = a.operand(0), a.operand(1), a.given(2)
    x = swap(c, x, 0, 1) if a.get("transA", 0) else x
    turned = bool(a.get("transB", 0))
    if (
        isinstance(w, Value)
        or not isinstance(x, Value)
        or isinstance(bias, Value)
        or (bias is not None and bias.ndim > 1 and bias.shape[0] > 1)
    ):
        found = times(c, product(c, x, swap(c, w, 0, 1) if turned else w), np.asarray(alpha))
        return found if bias is None else plus(c, found, bias, beta)
    need(w.ndim == 2, f"weight {w.shape} is not a matrix", BROKEN)
    weight = alpha * (w if turned else w.T)
    if bias is None:
        return linear(c, x, weight, None, a.owner(1))
    need(bias.size in (1, len(weight)), f"bias {bias.shape} does not fit {len(weight)} outputs", BROKEN)
    return linear(c, x, weight, beta * np.broadcast_to(bias.ravel(), weight.shape[:1]), a.owner(1))


def _matmul(c: Composer, a: OnnxCall) -> Operand:
    stored = 0 if isinstance(a.operand(1), Value) else 1
    return product(c, a.operand(0), a.operand(1), a.owner(stored))


def _einsum(c: Composer, a: OnnxCall) -> Operand:
    return einsum(c, a.text("equation", ""), [a.operand(n) for n in range(len(a.inputs))])


def _by_gates(weights: Array, order: tuple[int, ...]) -> Array:
    """Rows of the gates in another order."""
    parts = np.split(weights, len(order))
    return np.concatenate([parts[n] for n in order])


def _recurrent(order: tuple[int, ...], kinds: tuple[str, ...]) -> OnnxRule:
    """``order``: places in ONNX of the gates in our order; ``kinds``: activations that the layer must have."""

    def rule(c: Composer, a: OnnxCall) -> list[Operand]:
        inputs, states, bias = a.needed(1), a.needed(2), a.weights(3)
        both, hidden = inputs.shape[0], states.shape[2]
        way = a.text("direction", "forward")
        given = [s.decode() if isinstance(s, bytes) else str(s) for s in a.get("activations") or ()]
        step, kept = _step(a.kind, given, kinds * both)
        need(
            a.given(4) is None or bool((np.asarray(a.constant(4)) == a.x.shape[0]).all()),
            "sequences of unequal length",
            "sequences padded to one length, without sequence_lens",
        )
        need(
            not a.get("layout", 0) and not a.get("clip") and a.given(7) is None,
            "layout, clip or peepholes",
            "layout 0, no clip, no peepholes",
        )
        need(not a.get("input_forget", 0) and kept, f"activations {given}", "the usual activations of the layer")
        halves = len(order) * hidden
        directions = []
        for n in range(both):
            first, second = (None, None) if bias is None else (bias[n, :halves], bias[n, halves:])
            directions.append(
                Direction(
                    _by_gates(inputs[n], order),
                    _by_gates(states[n], order),
                    None if first is None else _by_gates(first, order),
                    None if second is None else _by_gates(second, order),
                    backwards=way == "reverse" or n == 1,
                    reset_first=a.kind == "GRU" and not a.get("linear_before_reset", 0),
                )
            )
        zeros = np.zeros((both, a.x.shape[1], hidden), np.float32)
        begun = [zeros if a.given(n) is None else a.operand(n) for n in ((5, 6) if a.kind == "LSTM" else (5,))]
        first_states: list[State] = [tuple(select(c, state, 0, n) for state in begun) for n in range(both)]
        seen, last = unroll(c, a.x, step, directions, first_states, 0, a.owner(1))
        whole = stack(c, [stack(c, steps, 0) for steps in seen], 1)
        return [whole, *(stack(c, [state[n] for state in last], 0) for n in range(len(begun)))]

    return rule


def _step(kind: str, given: list[str], usual: tuple[str, ...]) -> tuple[Step, bool]:
    """The step of a layer, and whether its activations are those that it knows."""
    if kind == "RNN":
        asked = set(given or ["Tanh"])
        return (relu_step if asked == {"Relu"} else tanh_step), asked in ({"Relu"}, {"Tanh"})
    return (lstm_step if kind == "LSTM" else gru_step), not given or tuple(given) == usual


RULES: dict[str, OnnxRule] = {
    "Attention": _attention,
    "Conv": conv,
    "ConvTranspose": _transposed,
    "Gemm": gemm,
    "MatMul": _matmul,
    "Einsum": _einsum,
    "LSTM": _recurrent((0, 2, 3, 1), ("Sigmoid", "Tanh", "Tanh")),
    "GRU": _recurrent((1, 0, 2), ("Sigmoid", "Tanh")),
    "RNN": _recurrent((0,), ()),
}
