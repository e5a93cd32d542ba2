"""Turn a torch module into a ``NetworkGraph`` by exporting it in this process.

``torch.export`` gives the ATen operations of one forward pass; each becomes a node or an
alias of an earlier one (dropout, reshapes that change nothing). The graph is then run beside
the module, so a wrong translation raises here and not on the chip.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mapping.errors import NotMappable
from mapping.network.float_run import forward
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.network.graph_records import KINDS
from mapping.network.nodes import (
    INPUT,
    Add,
    Array,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Flatten,
    GlobalAvgPool,
    HardTanh,
    Linear,
    MaxPool,
    Node,
    PadChannels,
    PadMap,
    Relu,
    Relu6,
    Slice,
)

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

BATCH = 2
"""Images in the exported pass: with more than one, mixing of images shows in the shapes."""


class UnsupportedOperation(NotMappable):
    """The network does something that has no node: ``operation``, ``where`` in the module, ``reason``."""

    def __init__(self, operation: str, where: str, reason: str, hint: str = "") -> None:
        place = f" in {where}" if where else ""
        super().__init__(f"{operation}{place}: {reason}" + (f"\n  try     {hint}" if hint else ""))
        self.operation, self.where, self.reason, self.hint = operation, where, reason, hint


def capture(
    module: torch.nn.Module,
    example: torch.Tensor,
    *,
    preprocess: Preprocess,
    classes: Sequence[str],
    provenance: Mapping[str, str] | None = None,
) -> NetworkGraph:
    """Give the graph of ``module``, run in evaluation mode.

    Args:
        module: takes one float tensor (n, channels, height, width), gives logits (n, classes).
        example: one preprocessed image or batch; only its shape counts.
        preprocess: how pixels become that tensor.
        classes: names of the logits.

    Raises ``UnsupportedOperation`` naming the operation and the submodule. The module's mode
    is left as it was.
    """
    import torch

    shape = tuple(example.shape[-3:])
    if example.dim() not in (3, 4):
        raise ValueError(f"example {tuple(example.shape)} is not (n, channels, height, width)")
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            program = torch.export.export(module, (torch.zeros(BATCH, *shape),))
    except Exception as error:  # torch.export has no base class for "this module cannot be traced"
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = "no data-dependent control flow, one tensor in, one tensor out"
        raise UnsupportedOperation("torch.export", type(module).__name__, text[:300], hint) from error
    finally:
        for part, mode in modes.items():
            part.training = mode
    return capture_exported(program, preprocess=preprocess, classes=classes, provenance=provenance)


def capture_exported(
    program: ExportedProgram,
    *,
    preprocess: Preprocess,
    classes: Sequence[str],
    provenance: Mapping[str, str] | None = None,
) -> NetworkGraph:
    """As ``capture``, for a module that was exported before."""
    import torch

    nodes, shape, batch = _Translation(program).run()
    graph = NetworkGraph(shape, nodes, preprocess, tuple(classes), dict(provenance or {}))
    with torch.no_grad():
        x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
        expected, seen = program.module()(x), forward(graph, x)[graph.nodes[-1].name]
        worst, scale = float((expected - seen).abs().max()), float(expected.abs().max())
    if not worst <= 1e-3 * max(scale, 1e-3):
        raise UnsupportedOperation(
            "torch.export", "", f"the captured graph differs from the module by {worst:.3g} at logits up to {scale:.3g}"
        )
    return graph


class _Translation:
    """One pass over the exported operations: fx node -> name of our node."""

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.nodes: dict[str, Node] = {}
        self.names: dict[Any, str] = {}  # fx node -> our node
        signature = program.graph_signature
        self.parameters = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.constants = dict(signature.inputs_to_lifted_tensor_constants)

    def run(self) -> tuple[tuple[Node, ...], tuple[int, int, int], int]:
        """Give the nodes that the logits depend on, the input shape and the batch size."""
        shape: tuple[int, ...] = ()
        for fx in self.program.graph.nodes:
            if fx.op == "placeholder":
                if fx.name in self.program.graph_signature.user_inputs:
                    if shape:
                        raise UnsupportedOperation("input", fx.name, "a network has one input tensor")
                    self.names[fx], shape = INPUT, tuple(fx.meta["val"].shape)
            elif fx.op == "call_function":
                self._translate(fx)
            elif fx.op == "output":
                results = list(fx.args[0])
                if len(results) != 1:
                    raise UnsupportedOperation("output", "", f"a network gives one tensor, not {len(results)}")
                if len(shape) != 4:
                    raise UnsupportedOperation("input", "", f"the input {shape} is not (n, channels, height, width)")
                wanted = self.names[results[0]]
        needed = {wanted}
        for node in reversed(self.nodes.values()):
            if node.name in needed:
                needed.update(node.inputs)
        return tuple(n for n in self.nodes.values() if n.name in needed), (shape[1], shape[2], shape[3]), shape[0]

    def _translate(self, fx: Any) -> None:
        if fx.target is operator.getitem and fx.args[1] == 0:  # first result of pooling or normalisation
            self.names[fx] = self.names[fx.args[0]]
            return
        operation = str(getattr(fx.target, "_opname", fx.target))
        base = operation.rstrip("_")
        rule = _RULES.get(base)
        if rule is None:
            raise self.refusal(fx, "there is no node for it", _HINTS.get(base, ""))
        self.names[fx] = rule(self, fx, _arguments(fx))
        if operation.endswith("_"):  # in place: later readers of the argument see the result
            self.names[fx.args[0]] = self.names[fx]

    def add(self, fx: Any, kind: type[Node], sources: Sequence[Any], *, name: str = "", **fields: Any) -> str:
        """Append a node reading the fx nodes ``sources``; give its unique name."""
        inputs = tuple(self.names[source] for source in sources)
        stem = name or _place(fx, kind)
        unique, count = stem, 1
        while unique in self.nodes or unique == INPUT:
            count += 1
            unique = f"{stem}_{count}"
        self.nodes[unique] = kind(name=unique, inputs=inputs, **fields)
        return unique

    def array(self, fx: Any, argument: Any) -> Array:
        """The values of a parameter, buffer or constant."""
        key = self.parameters.get(getattr(argument, "name", ""))
        if key is not None:
            tensor = self.program.state_dict.get(key, self.program.constants.get(key))
        else:
            tensor = self.program.constants.get(self.constants.get(getattr(argument, "name", ""), ""))
        if tensor is None:
            raise self.refusal(fx, f"{argument} is computed, not a stored weight")
        return np.array(tensor.detach().float().numpy(), dtype=np.float32)

    def owner(self, argument: Any) -> str:
        """``layer1.0.conv1`` for its parameter ``layer1.0.conv1.weight``."""
        key: str = self.parameters.get(getattr(argument, "name", ""), "")
        return key.rpartition(".")[0]

    def refusal(self, fx: Any, reason: str, hint: str = "") -> UnsupportedOperation:
        return UnsupportedOperation(str(fx.target), _module_path(fx) or "the network", reason, hint)

    def need(self, fx: Any, good: bool, reason: str) -> None:
        if not good:
            raise self.refusal(fx, reason)


_KIND_NAMES = {kind: name for name, kind in KINDS.items()}
_Rule = Callable[[_Translation, Any, dict[str, Any]], str]

_HINTS = {
    "log_softmax": "return the logits: the loss, not the network, should apply it",
    "softmax": "return the logits: the loss, not the network, should apply it",
    "hardswish": "retrain with ReLU or ReLU6",
    "silu": "retrain with ReLU or ReLU6",
    "gelu": "retrain with ReLU or ReLU6",
    "sigmoid": "retrain with ReLU, ReLU6 or hard-tanh",
    "tanh": "retrain with hard-tanh",
}


def _arguments(fx: Any) -> dict[str, Any]:
    """Arguments by the names of the operation's schema, defaults filled in."""
    schema = fx.target._schema.arguments if hasattr(fx.target, "_schema") else ()
    values = {a.name: a.default_value for a in schema if a.has_default_value()}
    values |= {a.name: value for a, value in zip(schema, fx.args, strict=False)}
    return values | dict(fx.kwargs)


def _module_path(fx: Any) -> str:
    stack = list((fx.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def _place(fx: Any, kind: type[Node]) -> str:
    """A name for a node without weights: the path of its own module, or of the one around it and its kind."""
    stack = list((fx.meta.get("nn_module_stack") or {}).values())
    path, cls = (str(stack[-1][0]), str(stack[-1][1])) if stack else ("", "")
    own = cls.startswith("torch.nn.modules.") and not cls.startswith("torch.nn.modules.container")
    return path if own and path else ".".join(filter(None, (path, _KIND_NAMES[kind])))


def _shape(fx: Any) -> tuple[int, ...]:
    return tuple(fx.meta["val"].shape)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, *rest = value
    return int(first), int(rest[0] if rest else first)


def _conv(t: _Translation, fx: Any, a: dict[str, Any]) -> str:
    weight, gap, padding = t.array(fx, a["weight"]), _pair(a["dilation"]), a["padding"]
    t.need(fx, weight.ndim == 4, f"only two-dimensional convolutions, not weight {weight.shape}")
    t.need(fx, not a.get("transposed", False), "transposed convolutions are not supported")
    if isinstance(padding, str):
        reach = [g * (k - 1) if padding == "same" else 0 for g, k in zip(gap, weight.shape[2:], strict=True)]
        t.need(fx, not any(r % 2 for r in reach), "'same' padding of an even kernel is not symmetric")
        padding = [r // 2 for r in reach]
    return t.add(
        fx,
        Conv,
        [a["input"]],
        name=t.owner(a["weight"]),
        weight=weight,
        bias=None if a["bias"] is None else t.array(fx, a["bias"]),
        stride=_pair(a["stride"]),
        padding=_pair(padding),
        dilation=gap,
        groups=a["groups"],
    )


def _linear(t: _Translation, fx: Any, a: dict[str, Any]) -> str:
    t.need(fx, len(_shape(a["input"])) == 2, f"its input {_shape(a['input'])} is not (n, features): flatten first")
    bias = None if a["bias"] is None else t.array(fx, a["bias"])
    return t.add(fx, Linear, [a["input"]], name=t.owner(a["weight"]), weight=t.array(fx, a["weight"]), bias=bias)


def _batch_norm(t: _Translation, fx: Any, a: dict[str, Any]) -> str:
    t.need(fx, not a.get("training", False) and a["running_mean"] is not None, "it uses the statistics of the batch")
    mean, variance = t.array(fx, a["running_mean"]), t.array(fx, a["running_var"])
    return t.add(
        fx,
        BatchNorm,
        [a["input"]],
        name=t.owner(a["running_mean"]),
        scale=np.ones_like(mean) if a["weight"] is None else t.array(fx, a["weight"]),
        shift=np.zeros_like(mean) if a["bias"] is None else t.array(fx, a["bias"]),
        mean=mean,
        variance=variance,
        eps=float(a["eps"]),
    )


def _clamp(t: _Translation, fx: Any, a: dict[str, Any]) -> str:
    low, high = a.get("min_val", a.get("min")), a.get("max_val", a.get("max"))
    source = a.get("self", a.get("input"))
    if low == 0 and high is None:
        return t.add(fx, Relu, [source])
    if low == 0 and high == 6:
        return t.add(fx, Relu6, [source])
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        raise t.refusal(fx, "needs two numbers, or 0 and none")
    return t.add(fx, HardTanh, [source], low=float(low), high=float(high))


def _max_pool(t: _Translation, fx: Any, a: dict[str, Any]) -> str:
    kernel = _pair(a["kernel_size"])
    t.need(fx, _pair(a["dilation"]) == (1, 1), "dilated pooling is not supported")
    return _pool(t, fx, a, MaxPool, kernel)


def _avg_pool(t: _Translation, fx: Any, a: dict[str, Any]) -> str:
    kernel = _pair(a["kernel_size"])
    t.need(fx, a["divisor_override"] is None, "a divisor of its own is not supported")
    t.need(fx, a["count_include_pad"] or not any(_pair(a["padding"])), "padding must count (count_include_pad)")
    if kernel == _shape(a["self"])[2:] and not any(_pair(a["padding"])):
        return _whole_map(t, fx, a["self"])
    return _pool(t, fx, a, AvgPool, kernel)


def _pool(t: _Translation, fx: Any, a: dict[str, Any], kind: type[Node], kernel: tuple[int, int]) -> str:
    stride, padding = _pair(a["stride"] or kernel), _pair(a["padding"])
    if a["ceil_mode"]:
        sizes = [s + 2 * p - k for s, p, k in zip(_shape(a["self"])[2:], padding, kernel, strict=True)]
        t.need(fx, not any(s % step for s, step in zip(sizes, stride, strict=True)), "ceil_mode is not supported")
    return t.add(fx, kind, [a["self"]], kernel=kernel, stride=stride, padding=padding)


def _adaptive(t: _Translation, fx: Any, a: dict[str, Any]) -> str:
    size, out = _shape(a["self"])[2:], _shape(fx)[2:]
    if out == (1, 1):
        return _whole_map(t, fx, a["self"])
    t.need(fx, not (size[0] % out[0] or size[1] % out[1]), f"{size} to {out} has windows of different size")
    kernel = (size[0] // out[0], size[1] // out[1])
    return t.add(fx, AvgPool, [a["self"]], kernel=kernel, stride=kernel)


def _mean(t: _Translation, fx: Any, a: dict[str, Any]) -> str:
    source = a["self"]
    axes = sorted(axis % len(_shape(source)) for axis in a["dim"] or range(len(_shape(source))))
    t.need(fx, len(_shape(source)) == 4 and axes == [2, 3], "only the mean over height and width")
    return _whole_map(t, fx, source) if a["keepdim"] else t.add(fx, GlobalAvgPool, [source])


def _whole_map(t: _Translation, fx: Any, source: Any) -> str:
    """Mean to (n, channels, 1, 1): a vector if all that follows flattens it, else a 1 x 1 map."""
    if fx.users and all(_flattens(user) for user in fx.users):
        return t.add(fx, GlobalAvgPool, [source])
    size = _shape(source)[2:]
    return t.add(fx, AvgPool, [source], kernel=size, stride=size)


def _flattens(fx: Any) -> bool:
    if getattr(fx.target, "_opname", "") == "dropout":
        return bool(fx.users) and all(_flattens(user) for user in fx.users)
    return _RULES.get(getattr(fx.target, "_opname", "")) is _reshape and len(_shape(fx)) == 2


def _reshape(t: _Translation, fx: Any, a: dict[str, Any]) -> str:
    source = a["self"]
    before, after = _shape(source), _shape(fx)
    if before == after or isinstance(t.nodes.get(t.names[source]), GlobalAvgPool):
        return t.names[source]
    flat = after[0] == before[0] and len(after) == 2
    t.need(fx, flat, f"only flattening of (channels, height, width), not {before} to {after}")
    return t.add(fx, Flatten, [source])


def _add(t: _Translation, fx: Any, a: dict[str, Any]) -> str:
    left, right = a["self"], a["other"]
    known = left in t.names and right in t.names if hasattr(right, "meta") else False
    t.need(fx, known and a["alpha"] == 1, "only the sum of two feature maps")
    t.need(fx, _shape(left) == _shape(right), f"shapes {_shape(left)} and {_shape(right)} differ")
    return t.add(fx, Add, [left, right])


def _concat(t: _Translation, fx: Any, a: dict[str, Any]) -> str:
    t.need(fx, a["dim"] % len(_shape(fx)) == 1, "only along channels")
    return t.names[a["tensors"][0]] if len(a["tensors"]) == 1 else t.add(fx, Concat, a["tensors"])


def _pad(t: _Translation, fx: Any, a: dict[str, Any]) -> str:
    pads = [*a["pad"], *[0] * 8][: 2 * len(_shape(fx))]
    zero = a.get("mode", "constant") == "constant" and not a["value"]
    t.need(fx, zero and len(_shape(fx)) == 4, "only zeros on feature maps")
    t.need(fx, not any(pads[6:]), "images of a batch cannot be padded")
    if any(pads[:4]):
        t.need(fx, not any(pads[4:6]), "either channels or rows and columns in one padding")
        left, right, top, bottom = pads[:4]
        return t.add(fx, PadMap, [a["self"]], top=top, left=left, bottom=bottom, right=right)
    return t.add(fx, PadChannels, [a["self"]], before=pads[4], after=pads[5])


def _slice(t: _Translation, fx: Any, a: dict[str, Any]) -> str:
    source, axis, step = a["self"], a["dim"] % len(_shape(fx)), a["step"]
    size = _shape(source)[axis]
    start, stop, _ = slice(a["start"], a["end"], step).indices(size)
    if (start, stop, step) == (0, size, 1):
        return t.names[source]
    t.need(fx, len(_shape(fx)) == 4 and axis > 0, "only slices of feature maps")
    if axis == 1:
        t.need(fx, step == 1, "channels only without a step")
        return t.add(fx, Slice, [source], start=start, stop=stop)
    t.need(fx, start == 0 and stop == size, "rows and columns only from the first to the last")
    before = t.nodes.get(t.names[source])
    if axis == 3 and isinstance(before, Slice) and before.step[1] == 1 and len(source.users) == 1:
        merged = Slice(
            name=before.name, inputs=before.inputs, step=(before.step[0], step), start=before.start, stop=before.stop
        )
        t.nodes[before.name] = merged
        return before.name
    return t.add(fx, Slice, [source], step=(step, 1) if axis == 2 else (1, step))


def _same(t: _Translation, fx: Any, a: dict[str, Any]) -> str:
    t.need(fx, not a.get("train", False), "dropout is active")
    return t.names[a["self"] if "self" in a else a["input"]]


_RULES: dict[str, _Rule] = {
    "conv2d": _conv,
    "convolution": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "relu": lambda t, fx, a: t.add(fx, Relu, [a["self"]]),
    "relu6": lambda t, fx, a: t.add(fx, Relu6, [a["self"]]),
    "hardtanh": _clamp,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "max_pool2d": _max_pool,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": _adaptive,
    "_adaptive_avg_pool2d": _adaptive,
    "mean": _mean,
    "flatten": _reshape,
    "view": _reshape,
    "reshape": _reshape,
    "_unsafe_view": _reshape,
    "squeeze": _reshape,
    "add": _add,
    "cat": _concat,
    "concat": _concat,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "slice": _slice,
    "dropout": _same,
    "feature_dropout": _same,
    "contiguous": _same,
    "clone": _same,
    "detach": _same,
    "alias": _same,
    "detach_": _same,
}
