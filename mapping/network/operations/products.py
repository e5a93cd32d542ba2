"""Convolutions, linear layers, products, attention and recurrent layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mapping.network.compose.arithmetic import clamp, function, minus, plus, times
from mapping.network.compose.attention import attention
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import opened, permute, reshape, select, stack, swap
from mapping.network.compose.places import numbered, picked
from mapping.network.compose.products import convolution, floats, linear, product, transposed_convolution
from mapping.network.compose.recurrent import (
    Direction,
    State,
    Step,
    gru_step,
    layers,
    lstm_step,
    relu_step,
    tanh_step,
    unroll,
)
from mapping.network.compose.refusal import BROKEN, need, refuse
from mapping.network.compose.statistics import length, norm, reduce
from mapping.network.compose.values import Operand, Value, activation
from mapping.network.compose.windows import convolution_of_volumes
from mapping.network.operations.call import Call, Rule
from mapping.network.operations.windows import along, around, last_channels
from mapping.operators.family import NamedOperation
from mapping.operators.node import Array

_DOTS = "αβγδεζηθ"


def einsum(c: Composer, equation: str, operands: Sequence[Operand]) -> Operand:
    """``"bhid,bhjd->bhij"`` of any number of operands, two at a time; dots stand for the same axes in each."""
    given, arrow, result = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    need(bool(arrow) and len(terms) == len(operands), f"einsum {equation!r}", "matrix products and permutations")
    dots = max(len(x.shape) - len(t.replace("...", "")) for t, x in zip(terms, operands, strict=True))
    for n in range(len(terms)):
        missing = len(operands[n].shape) - len(terms[n].replace("...", "")) if "..." in terms[n] else 0
        terms[n] = terms[n].replace("...", _DOTS[dots - missing : dots] if dots else "")
    result = result.replace("...", _DOTS[:dots])
    good = all(len(t) == len(x.shape) for t, x in zip(terms, operands, strict=True)) and len(set(result)) == len(result)
    need(good and dots <= len(_DOTS), f"einsum {equation!r}", "matrix products and permutations")
    parts = [_once(c, t, x) for t, x in zip(terms, operands, strict=True)]
    while len(parts) > 2:
        kept = set(result).union(*(term for term, _ in parts[2:]))
        both = dict.fromkeys(parts[0][0] + parts[1][0])
        middle = "".join(letter for letter in both if letter in kept)
        parts[:2] = [(middle, _contracted(c, parts[:2], middle))]
    return _contracted(c, parts, result)


def _once(c: Composer, term: str, x: Operand) -> tuple[str, Operand]:
    """An operand with each letter once: the diagonal of those that it has twice."""
    numbers = numbered(x) if len(set(term)) < len(term) else None
    while (twice := next((letter for letter in term if term.count(letter) > 1), "")) and numbers is not None:
        first, second = [axis for axis, letter in enumerate(term) if letter == twice][:2]
        numbers = numbers.diagonal(0, first, second)
        term = term[:first] + term[first + 1 : second] + term[second + 1 :] + twice
    return term, x if numbers is None else picked(c, x, numbers)


def _contracted(c: Composer, parts: Sequence[tuple[str, Operand]], result: str) -> Operand:
    """The sum of products of one or two operands, each letter once in each."""
    terms, operands = [term for term, _ in parts], [x for _, x in parts]
    for n, (term, x) in enumerate(zip(terms, operands, strict=True)):
        others = result + "".join(terms[:n] + terms[n + 1 :])
        gone = [axis for axis, letter in enumerate(term) if letter not in others]
        if gone:
            operands = [reduce(c, x, "sum", gone) if m == n else other for m, other in enumerate(operands)]
            terms[n] = "".join(letter for letter in term if letter in others)
    if len(terms) == 1:
        return permute(c, operands[0], [terms[0].index(letter) for letter in result])
    left, right = terms
    sizes = {
        letter: size
        for term, x in zip(terms, operands, strict=True)
        for letter, size in zip(term, x.shape, strict=True)
    }
    batch = [letter for letter in left if letter in right and letter in result]
    summed = [letter for letter in left if letter in right and letter not in result]
    rows = [letter for letter in left if letter not in right]
    columns = [letter for letter in right if letter not in left]
    lead = [sizes[letter] for letter in batch]
    count = [math.prod(sizes[letter] for letter in part) for part in (rows, summed, columns)]
    first = permute(c, operands[0], [left.index(letter) for letter in batch + rows + summed])
    second = permute(c, operands[1], [right.index(letter) for letter in batch + summed + columns])
    first = reshape(c, first, (*lead, count[0], count[1]))
    second = reshape(c, second, (*lead, count[1], count[2]))
    found = reshape(c, product(c, first, second), (*lead, *(sizes[letter] for letter in rows + columns)))
    order = batch + rows + columns
    return permute(c, found, [order.index(letter) for letter in result])


def conv(c: Composer, a: Call) -> Operand:
    if a.get("transposed"):
        return _transposed(c, a)
    weight = a.weight("weight")
    kernel = weight.shape[2:]
    stride, gap = along(a, "stride", len(kernel)), along(a, "dilation", len(kernel))
    return (convolution_of_volumes if len(kernel) == 3 else convolution)(
        c,
        a.x,
        weight,
        a.optional("bias"),
        stride=stride,
        pads=around(a, a.x.shape[2:], kernel, stride, gap),
        dilation=gap,
        groups=a["groups"],
        name=a.owner("weight"),
    )


def _transposed(c: Composer, a: Call) -> Operand:
    weight = a.weight("weight")
    kernel = weight.shape[2:]
    count = len(kernel)
    need(count < 3, "a transposed convolution of volumes", "conv_transpose2d of frames")
    fixed = a.get("auto_pad", "NOTSET") in ("NOTSET", "VALID") and not a.get("output_shape")
    need(fixed, "padding by output shape", "pads and output_padding as numbers")
    stride, gap = along(a, "stride", count), along(a, "dilation", count)
    return transposed_convolution(
        c,
        a.x,
        weight,
        a.optional("bias"),
        stride=stride,
        pads=around(a, a.x.shape[2:], kernel, stride, gap),
        extra=a.integers("output_padding", count) if a.get("output_padding") else [0] * count,
        dilation=gap,
        groups=a["groups"],
        name=a.owner("weight"),
    )


def _with(c: Composer, a: Call, rule: Rule, **arguments: Any) -> Operand:
    """A rule with some arguments in the shape that it knows."""
    found: Operand = rule(c, replace(a, arguments={**a.arguments, **arguments}))
    return found


def _last_conv(c: Composer, a: Call) -> Operand:
    """A weight (out, height, width, in / groups)."""
    weight, channels = a.stored("weight"), a.x.shape[1]
    good = weight.ndim == 4 and weight.shape[3] >= 1 and channels % weight.shape[3] == 0
    need(good, f"weight {weight.shape} for {a.x.shape}", BROKEN)
    return _with(c, a, conv, weight=weight.transpose(0, 3, 1, 2), groups=channels // weight.shape[3])


def _last_depthwise(c: Composer, a: Call) -> Operand:
    """A weight (1, height, width, out)."""
    weight, channels = a.stored("weight"), a.x.shape[1]
    good = weight.ndim == 4 and weight.shape[0] == 1 and weight.shape[3] % channels == 0
    need(good, f"weight {weight.shape} for {a.x.shape}", BROKEN)
    return _with(c, a, conv, weight=weight.transpose(3, 0, 1, 2), groups=channels)


def _last_transposed(c: Composer, a: Call) -> Operand:
    """A weight (out, height, width, in); the size of the output is given."""
    size, weight = a.whole("size") or [], a.stored("weight")
    need(weight.ndim == 4 and len(size) == 4, f"weight {weight.shape} for an output {size}", BROKEN)
    stride, kernel = along(a, "stride", 2), weight.shape[1:3]
    pads = around(a, size[1:3], kernel, stride, (1, 1))
    places = zip(size[1:3], a.x.shape[2:], stride, kernel, pads, strict=True)
    extra = [n - ((m - 1) * s + k - sum(p)) for n, m, s, k, p in places]
    more = {"pads": [*next(iter(zip(*pads, strict=True))), *(after for _, after in pads)], "auto_pad": "NOTSET"}
    return _with(
        c, a, _transposed, weight=weight.transpose(3, 0, 1, 2), output_padding=extra, groups=1, padding=0, **more
    )


def _times_weight(c: Composer, a: Call, x: Operand, turned: bool, alpha: float = 1.0, beta: float = 1.0) -> Operand:
    """alpha · x W + beta · bias; ``turned``: the weight is Wᵀ, (out, in)."""
    w, bias = a.operand("weight"), None if a.get("bias") is None else a.operand("bias")
    wide = not isinstance(bias, Value | None) and bias.ndim > 1 and bias.shape[0] > 1
    if isinstance(w, Value) or not isinstance(x, Value) or isinstance(bias, Value) or wide:
        found = times(c, product(c, x, swap(c, w, 0, 1) if turned else w), np.asarray(alpha))
        return found if bias is None else plus(c, found, bias, beta)
    need(w.ndim == 2, f"weight {w.shape} is not a matrix", BROKEN)
    weight = np.asarray(w if turned else w.T, np.float32)
    if bias is not None:
        need(bias.size in (1, len(weight)), f"bias {bias.shape} does not fit {len(weight)} outputs", BROKEN)
        bias = floats(beta * np.broadcast_to(bias.ravel(), weight.shape[:1]))
    return linear(c, x, weight if alpha == 1 else alpha * weight, bias, a.owner("weight"))


def _linear(c: Composer, a: Call) -> Operand:
    return _times_weight(c, a, a.x, True)


def gemm(c: Composer, a: Call) -> Operand:
    x = swap(c, a.x, 0, 1) if a.get("transA") else a.x
    return _times_weight(c, a, x, bool(a.get("transB")), a["alpha"], a["beta"])


def _last_linear(c: Composer, a: Call) -> Operand:
    need(a["order"] == 0, "weights in a shuffled order", "a conversion without shuffled weights")
    weight = a.stored("weight")
    need(weight.ndim == 2, f"weight {weight.shape} is not a matrix", BROKEN)
    return _times_weight(c, a, a.x if a["keep"] else reshape(c, a.value, (-1, weight.shape[1])), True)


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


def multiplied(c: Composer, a: Call) -> Operand:
    """alpha · A B, each matrix turned if asked."""
    flat = not (a.get("transBatchA") or a.get("transBatchB"))
    need(flat, "matrices with turned batches", "MatMul and Transpose")
    other = "other" if "other" in a.arguments else "mat2"
    x, y = a.operand("self"), a.operand(other)
    x, y = (swap(c, v, -1, -2) if a.get(turned) else v for v, turned in ((x, "transA"), (y, "transB")))
    found = product(c, x, y, a.owner(other) or a.owner("self"))
    return times(c, found, np.asarray(a["alpha"])) if "alpha" in a.arguments else found


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


def _attention_of_heads(c: Composer, a: Call) -> list[Operand]:
    """softmax(Q Kᵀ · scale + mask) V of heads, which stand in an axis of their own or side by side in the last."""
    need(not a.get("softcap"), "scores with a soft cap", "scores, tanh and softmax as operations of their own")
    whole = a.get("past_key") is None and a.outputs == 1
    need(whole, "keys and values of earlier calls", "one call for the whole sequence")
    parts, mask = [a.operand(name) for name in ("query", "key", "value")], a.get("attn_mask")
    shape = parts[0].shape
    if len(shape) == 3:
        heads = [a["q_num_heads"], a["kv_num_heads"], a["kv_num_heads"]]
        parts = [
            swap(c, reshape(c, x, (*x.shape[:2], n, x.shape[2] // n)), 1, 2) for x, n in zip(parts, heads, strict=True)
        ]
    need(not isinstance(mask, Value), "a mask that is computed", "scores, mask and softmax as operations of their own")
    boolean = mask is not None and np.asarray(mask).dtype == np.bool_
    query, key, value = parts
    found = attention(c, query, key, value, mask, bool(a.get("is_causal")), a.get("scale"), boolean=boolean)
    return [reshape(c, swap(c, found, 1, 2), (*shape[:2], -1)) if len(shape) == 3 else found]


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
        states: list[State] = [tuple(select(c, state, 0, n) for state in given) for n in range(given[0].shape[0])]
        need(len(a.x.shape) == 3, f"its input {a.x.shape} has no batch", "a batch as first axis: (1, ...) for one")
        found, last = layers(c, a.x, step, _directions(a), states, axis, a.owner("params"))
        ends = [stack(c, [state[n] for state in last], 0) for n in range(len(given))]
        return [reshape(c, found, found.shape), *ends]

    return rule


def _by_gates(weights: Array, order: tuple[int, ...]) -> Array:
    """Rows of the gates in another order."""
    parts = np.split(weights, len(order))
    return np.concatenate([parts[n] for n in order])


def _layer(steps: Sequence[Step], order: tuple[int, ...], kinds: tuple[str, ...]) -> Rule:
    """A recurrent layer of ONNX.

    Args:
        steps: the usual one, and one where all activations are ReLU.
        order: places in ONNX of the gates in our order.
        kinds: activations that the layer must have.
    """

    def rule(c: Composer, a: Call) -> list[Operand]:
        inputs, states, bias = a.weight("inputs"), a.weight("states"), a.optional("bias")
        both, hidden = inputs.shape[0], states.shape[2]
        given = [s.decode() if isinstance(s, bytes) else str(s) for s in a.get("activations") or ()]
        relu = len(steps) > 1 and set(given) == {"Relu"}
        kept = relu or not given or tuple(given) == kinds * both
        even = a.get("lengths") is None or bool((a.stored("lengths") == a.x.shape[0]).all())
        need(even, "sequences of unequal length", "sequences padded to one length, without sequence_lens")
        plain = not a.get("layout") and not a.get("clip") and a.get("peepholes") is None
        need(plain, "layout, clip or peepholes", "layout 0, no clip, no peepholes")
        need(not a.get("input_forget") and kept, f"activations {given}", "the usual activations of the layer")
        ends = slice(len(order) * hidden), slice(len(order) * hidden, None)
        directions = []
        for n in range(both):
            own, other = (None if bias is None else _by_gates(bias[n, at], order) for at in ends)
            directions.append(
                Direction(
                    _by_gates(inputs[n], order),
                    _by_gates(states[n], order),
                    own,
                    other,
                    backwards=a["direction"] == "reverse" or n == 1,
                    reset_first="linear_before_reset" in a.arguments and not a["linear_before_reset"],
                )
            )
        zeros = np.zeros((both, a.x.shape[1], hidden), np.float32)
        names = ("state", "cell") if steps[0] is lstm_step else ("state",)
        begun = [zeros if a.get(name) is None else a.operand(name) for name in names]
        first: list[State] = [tuple(select(c, state, 0, n) for state in begun) for n in range(both)]
        seen, last = unroll(c, a.x, steps[relu], directions, first, 0, a.owner("inputs"))
        whole = stack(c, [stack(c, each, 0) for each in seen], 1)
        return [whole, *(stack(c, [state[n] for state in last], 0) for n in range(len(begun)))]

    return rule


def _active(rule: Rule, *parameters: str) -> Rule:
    """A product with the activation that ONNX Runtime put behind it: parameters in one list, or by their names."""

    def found(c: Composer, a: Call) -> Operand:
        x: Operand = rule(c, a)
        if a.get("more") is not None:
            x = plus(c, x, a.operand("more"))
        given = [float(v) for v in a.get("parameters") or [a[name] for name in parameters if name in a.arguments]]
        match a.get("activation", ""), given:
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
            case (("Sigmoid" | "Tanh") as kind, _):
                return function(c, x, kind.lower())
        refuse(f"the activation {a['activation']} {given} in a product", "the activation as an operation of its own")

    return found


def _gelu_of_sum(kind: str) -> Rule:
    return lambda c, a: function(c, a.x if a.get("bias") is None else plus(c, a.x, a.operand("bias")), kind)


def _norm_of_sum(centre: bool) -> Rule:
    """The norm of input + skip + bias along the last axis; the sum is the fourth output."""

    def rule(c: Composer, a: Call) -> list[Operand | None]:
        total = plus(c, a.x, a.operand("skip"))
        total = total if a.get("bias") is None else plus(c, total, a.operand("bias"))
        axes = range(len(total.shape) - 1, len(total.shape))
        found = norm(c, total, axes, a.weight("weight"), a.optional("shift"), float(a["eps"]), centre=centre)
        return [found, None, None, total]

    return rule


WINDOW = "stride:strides, dilation:dilations, pads, auto_pad='NOTSET', groups:group=1"
_LITE = "stride:Stride, padding:Padding"
_GEMM = "(self, weight, bias; alpha=1.0, beta=1.0, transA, transB"
_LAYER = "(self, inputs, states, bias, lengths, state{}; direction='forward', activations, layout, clip, input_forget"
OPERATIONS = (
    NamedOperation(conv, "conv1d conv2d conv3d convolution", f"Conv(self, weight, bias; {WINDOW})"),
    NamedOperation(last_channels(_last_conv), lite=f"CONV_2D(self, weight, bias; {_LITE}, dilation:Dilation)"),
    NamedOperation(
        last_channels(_last_depthwise), lite=f"DEPTHWISE_CONV_2D(self, weight, bias; {_LITE}, dilation:Dilation)"
    ),
    NamedOperation(
        _transposed,
        "conv_transpose1d conv_transpose2d",
        f"ConvTranspose(self, weight, bias; {WINDOW}, output_padding, output_shape)",
    ),
    NamedOperation(last_channels(_last_transposed), lite=f"TRANSPOSE_CONV(size, weight, self, bias; {_LITE})"),
    NamedOperation(_linear, "linear"),
    NamedOperation(gemm, onnx=f"Gemm{_GEMM})"),
    NamedOperation(_last_linear, lite="FULLY_CONNECTED(self, weight, bias; order:WeightsFormat, keep:KeepNumDims)"),
    NamedOperation(_embedding, "embedding"),
    NamedOperation(_embedding_bag, "embedding_bag _embedding_bag _embedding_bag_forward_only"),
    NamedOperation(
        multiplied,
        "matmul bmm mm mv dot",
        "MatMul(self, other) "
        "com.microsoft:FusedMatMul(self, other; transA, transB, transBatchA, transBatchB, alpha=1.0)",
        "BATCH_MATMUL(self, other; transA:AdjX, transB:AdjY)",
    ),
    NamedOperation(_product_and_sum, "addmm baddbmm"),
    NamedOperation(_bilinear, "bilinear"),
    NamedOperation(_distance, "cdist _cdist_forward"),
    NamedOperation(lambda c, a: einsum(c, a["equation"], a["tensors"]), onnx="Einsum(*tensors; equation='')"),
    NamedOperation(_attention, "scaled_dot_product_attention"),
    NamedOperation(
        _attention_of_heads,
        onnx="Attention(query, key, value, attn_mask, past_key; is_causal, scale, softcap, q_num_heads, kv_num_heads)",
    ),
    NamedOperation(_recurrent(lstm_step), "lstm.input"),
    NamedOperation(_recurrent(gru_step), "gru.input"),
    NamedOperation(_recurrent(tanh_step), "rnn_tanh.input"),
    NamedOperation(_recurrent(relu_step), "rnn_relu.input"),
    NamedOperation(
        _layer([lstm_step], (0, 2, 3, 1), ("Sigmoid", "Tanh", "Tanh")),
        onnx=f"LSTM{_LAYER.format(', cell, peepholes')})",
    ),
    NamedOperation(
        _layer([gru_step], (1, 0, 2), ("Sigmoid", "Tanh")),
        onnx=f"GRU{_LAYER.format('')}, linear_before_reset=0)",
    ),
    NamedOperation(_layer([tanh_step, relu_step], (0,), ("Tanh",)), onnx=f"RNN{_LAYER.format('')})"),
    NamedOperation(
        _active(conv),
        onnx=f"com.microsoft:FusedConv(self, weight, bias, more; {WINDOW}, activation, parameters:activation_params)",
    ),
    NamedOperation(
        _active(gemm, "alpha_", "beta_"),
        onnx=f"com.microsoft:FusedGemm{_GEMM}, activation, alpha_:activation_alpha, beta_:activation_beta)",
    ),
    NamedOperation(_gelu_of_sum("gelu"), onnx="com.microsoft:BiasGelu(self, bias)"),
    NamedOperation(_gelu_of_sum("gelu_tanh"), onnx="com.microsoft:FastGelu(self, bias)"),
    NamedOperation(
        _norm_of_sum(True),
        onnx="com.microsoft:SkipLayerNormalization(self, skip, weight, shift, bias; eps:epsilon=1e-12)",
    ),
    NamedOperation(
        _norm_of_sum(False),
        onnx="com.microsoft:SkipSimplifiedLayerNormalization(self, skip, weight, bias; eps:epsilon=1e-12)",
    ),
)
