"""Rules of ATen for convolutions, linear layers, products, attention and recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mapping.network.compose.arithmetic import minus, plus, times
from mapping.network.compose.attention import attention
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import opened, reshape, select, stack, swap
from mapping.network.compose.products import convolution, linear, product, transposed_convolution
from mapping.network.compose.recurrent import Direction, State, Step, gru_step, layers, lstm_step, relu_step, tanh_step
from mapping.network.compose.refusal import need, refuse
from mapping.network.compose.statistics import length, reduce
from mapping.network.compose.values import Operand, Value, activation
from mapping.network.compose.volumes import convolution_of_volumes
from mapping.network.operations.call import Call, Rule


def _conv(c: Composer, a: Call) -> Operand:
    weight = a.weight("weight")
    count = weight.ndim - 2
    gap = a.integers("dilation", count)
    if a.get("transposed"):
        return _transposed(c, a)
    if isinstance(a["padding"], str):
        reach = [g * (k - 1) if a["padding"] == "same" else 0 for g, k in zip(gap, weight.shape[2:], strict=True)]
        pads = [(r // 2, r - r // 2) for r in reach]
    else:
        pads = [(p, p) for p in a.integers("padding", count)]
    return (convolution_of_volumes if count == 3 else convolution)(
        c,
        a.x,
        weight,
        a.optional("bias"),
        stride=a.integers("stride", count),
        pads=pads,
        dilation=gap,
        groups=a["groups"],
        name=a.owner("weight"),
    )


def _transposed(c: Composer, a: Call) -> Operand:
    weight = a.weight("weight")
    count = weight.ndim - 2
    need(count < 3, "a transposed convolution of volumes", "conv_transpose2d of frames")
    return transposed_convolution(
        c,
        a.x,
        weight,
        a.optional("bias"),
        stride=a.integers("stride", count),
        pads=[(p, p) for p in a.integers("padding", count)],
        extra=a.integers("output_padding", count),
        dilation=a.integers("dilation", count),
        groups=a["groups"],
        name=a.owner("weight"),
    )


def _linear(c: Composer, a: Call) -> Operand:
    if isinstance(a["weight"], Value):
        found = product(c, a.x, swap(c, a["weight"], 0, 1))
        return found if a["bias"] is None else plus(c, found, a.operand("bias"))
    return linear(c, a.x, a.weight("weight"), a.optional("bias"), a.owner("weight"))


def _one_hot(c: Composer, x: Operand) -> Value:
    """The one-hot tokens that an input of token ids stands for."""
    found = c.one_hot.get(activation(x).node)
    if found is None:
        refuse(
            "it looks up numbers that are computed, or an input of floats",
            "token ids as the only input: torch.zeros(1, length, dtype=torch.int64); or one-hot and a linear layer",
        )
    return found


def _embedding(c: Composer, a: Call) -> Operand:
    weight, ids = a.weight("weight"), a.operand("indices")
    found = linear(c, _one_hot(c, ids), weight.T, None, a.owner("weight"))
    return reshape(c, found, (*ids.shape, weight.shape[1]))


def _embedding_bag(c: Composer, a: Call) -> list[Operand | None]:
    """Sum, mean or largest of the rows of each image."""
    tokens, offsets, weight = _one_hot(c, a["indices"]), a.operand("offsets"), a.weight("weight")
    whole = not isinstance(offsets, Value) and np.array_equal(offsets, np.arange(c.batch) * tokens.shape[1])
    plain = a.get("per_sample_weights") is None and a.get("padding_idx", -1) in (-1, None)
    need(whole and plain, "bags of weights, padding or sizes of their own", "torch.nn.Embedding, then a masked mean")
    rows = linear(c, tokens, weight.T, None, a.owner("weight"))
    return [reduce(c, rows, ("sum", "mean", "max")[a["mode"]], [1]), None, None, None]


def _bilinear(c: Composer, a: Call) -> Operand:
    """firstᵀ W second + bias for each output: a linear layer of the first, then sums of products with the second."""
    weight, first, second = a.weight("weight"), a.operand("input1"), a.operand("input2")
    outputs, inputs, others = weight.shape
    turned = np.ascontiguousarray(weight.swapaxes(1, 2)).reshape(outputs * others, inputs)
    each = linear(c, first, turned, None, a.owner("weight"))
    each = reshape(c, each, (*first.shape[:-1], outputs, others))
    found = reduce(c, times(c, each, opened(c, second, -2)), "sum", [-1])
    return found if a["bias"] is None else plus(c, found, a.weight("bias"))


def _distance(c: Composer, a: Call) -> Operand:
    """Distances of all pairs of points (…, n, features) and (…, m, features)."""
    apart = minus(c, opened(c, a.operand("x1"), -2), opened(c, a.operand("x2"), -3))
    return length(c, apart, [-1], float(a["p"]), keep=False)


def _product(c: Composer, a: Call) -> Operand:
    other = "other" if "other" in a.arguments else "mat2"
    return product(c, a.operand("self"), a.operand(other), a.owner(other) or a.owner("self"))


def _product_and_sum(c: Composer, a: Call) -> Operand:
    """beta · self + alpha · (first @ second)."""
    first, second = ("mat1", "mat2") if "mat1" in a.arguments else ("batch1", "batch2")
    if a["beta"] == a["alpha"] == 1 and not any(isinstance(a[n], Value) for n in ("self", second)) and a.x.ndim == 1:  # type: ignore[union-attr]
        return linear(c, a.operand(first), a.weight(second).T, a.weight("self"), a.owner(second))
    found = times(c, product(c, a.operand(first), a.operand(second), a.owner(second)), np.asarray(a["alpha"]))
    return plus(c, found, a.operand("self"), a["beta"]) if a["beta"] else found


def _attention(c: Composer, a: Call) -> Operand:
    need(not a["dropout_p"], "dropout in attention", "module.eval() before torch.export")
    mask = a["attn_mask"]
    query, key, value = (a.operand(name) for name in ("query", "key", "value"))
    return attention(c, query, key, value, mask, a["is_causal"], a["scale"], boolean="attn_mask" in a.booleans)


def _directions(a: Call) -> list[list[Direction]]:
    """Weights of a recurrent call (LSTM, GRU) of torch, a list for each layer with one or both directions."""
    params: Sequence[Any] = a["params"]
    both = 2 if a["bidirectional"] else 1
    each = len(params) // (both * a["num_layers"])
    biases = 4 if a["has_biases"] else 2
    rows = [[np.asarray(p, np.float32) for p in params[n : n + each]] for n in range(0, len(params), each)]
    found = [
        Direction(
            row[0],
            row[1],
            row[2] if a["has_biases"] else None,
            row[3] if a["has_biases"] else None,
            backwards=bool(n % both),
            projection=row[biases] if each > biases else None,
        )
        for n, row in enumerate(rows)
    ]
    return [found[n : n + both] for n in range(0, len(found), both)]


def _recurrent(step: Step) -> Rule:
    def rule(c: Composer, a: Call) -> list[Operand]:
        need(not a["train"] or not a["dropout"], "dropout is active", "module.eval() before torch.export")
        hx = a["hx"]
        given = hx if isinstance(hx, list | tuple) else [hx]
        axis = 1 if a["batch_first"] else 0
        deep = _directions(a)
        count = given[0].shape[0]
        states: list[State] = [tuple(select(c, state, 0, n) for state in given) for n in range(count)]
        need(len(a.x.shape) == 3, f"its input {a.x.shape} has no batch", "a batch as first axis: (1, ...) for one")
        name = a.owner("params")
        found, last = layers(c, a.x, step, deep, states, axis, name)
        ends = [stack(c, [state[n] for state in last], 0) for n in range(len(given))]
        return [reshape(c, found, found.shape), *ends]

    return rule


RULES: dict[str, Rule] = {
    **{name: _conv for name in ("conv1d", "conv2d", "conv3d", "convolution")},
    "conv_transpose1d": _transposed,
    "conv_transpose2d": _transposed,
    "linear": _linear,
    "embedding": _embedding,
    "embedding_bag": _embedding_bag,
    "_embedding_bag": _embedding_bag,
    "_embedding_bag_forward_only": _embedding_bag,
    **{name: _product for name in ("matmul", "bmm", "mm", "mv", "dot")},
    "addmm": _product_and_sum,
    "baddbmm": _product_and_sum,
    "bilinear": _bilinear,
    "cdist": _distance,
    "_cdist_forward": _distance,
    "scaled_dot_product_attention": _attention,
    "lstm.input": _recurrent(lstm_step),
    "gru.input": _recurrent(gru_step),
    "rnn_tanh.input": _recurrent(tanh_step),
    "rnn_relu.input": _recurrent(relu_step),
}
