"""Rules of ONNX for means, sums, extremes and norms."""

from __future__ import annotations

import numpy as np

from mapping.network.compose.arithmetic import minus, times
from mapping.network.compose.attention import softmax
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import reshape
from mapping.network.compose.refusal import need, refuse
from mapping.network.compose.statistics import batch_norm, group_norm, length, log_sum_exp, norm, product_along, reduce
from mapping.network.compose.values import Operand
from mapping.network.compose.windows import running_sum
from mapping.network.onnx_ops.call import OnnxCall, OnnxRule


def _axes(a: OnnxCall) -> list[int]:
    return a.integers(1, a.get("axes")) or []


def _reduction(operation: str) -> OnnxRule:
    def rule(c: Composer, a: OnnxCall) -> Operand:
        if not _axes(a) and a.get("noop_with_empty_axes", 0):
            return a.x
        return reduce(c, a.x, operation, _axes(a), bool(a.get("keepdims", 1)))

    return rule


def _product(c: Composer, a: OnnxCall) -> Operand:
    axes = _axes(a)
    need(len(axes) == 1, f"a product along the axes {axes}", "a product along one axis, then along the next")
    return product_along(c, a.x, axes[0], bool(a.get("keepdims", 1)))


def _squares(c: Composer, a: OnnxCall) -> Operand:
    return reduce(c, times(c, a.x, a.x), "sum", _axes(a), bool(a.get("keepdims", 1)))


def _length(order: float) -> OnnxRule:
    return lambda c, a: length(c, a.x, _axes(a), order, bool(a.get("keepdims", 1)))


def _batch_norm(c: Composer, a: OnnxCall) -> Operand:
    need(not a.get("training_mode", 0), "it uses the statistics of the batch", "an export in evaluation mode")
    return batch_norm(c, a.x, [a.needed(n) for n in (1, 2, 3, 4)], float(a.get("epsilon", 1e-5)), a.owner(1))


def _layer_norm(c: Composer, a: OnnxCall) -> Operand:
    rank = len(a.x.shape)
    axes = range(a.get("axis", -1) % rank, rank)
    need(a.outputs == 1, "mean and deviation as outputs", "the normalised tensor as its only output")
    return norm(c, a.x, axes, a.needed(1), a.weights(2), float(a.get("epsilon", 1e-5)))


def _rms_norm(c: Composer, a: OnnxCall) -> Operand:
    rank = len(a.x.shape)
    axes = range(a.get("axis", -1) % rank, rank)
    return norm(c, a.x, axes, a.needed(1), None, float(a.get("epsilon", 1e-5)), centre=False)


def _instance_norm(c: Composer, a: OnnxCall) -> Operand:
    return group_norm(c, a.x, a.x.shape[1], a.needed(1), a.needed(2), float(a.get("epsilon", 1e-5)))


def _group_norm(c: Composer, a: OnnxCall) -> Operand:
    groups, channels = a["num_groups"], a.x.shape[1]
    scale, shift = (np.repeat(v, channels // v.size) if v.size == groups else v for v in (a.needed(1), a.needed(2)))
    return group_norm(c, a.x, groups, scale, shift, float(a.get("epsilon", 1e-5)))


def _softmax(c: Composer, a: OnnxCall) -> Operand:
    rank = len(a.x.shape)
    rule = _log_of_softmax if a.kind == "LogSoftmax" else softmax
    if a.opset >= 13:
        return rule(c, a.x, a.get("axis", -1))
    axis = a.get("axis", 1) % rank  # all axes from here on are one
    lead = a.x.shape[:axis]
    return reshape(c, rule(c, reshape(c, a.x, (*lead, -1)), -1), a.x.shape)


def _log_of_softmax(c: Composer, x: Operand, axis: int) -> Operand:
    return minus(c, x, log_sum_exp(c, x, [axis], keep=True))


def _running_sum(c: Composer, a: OnnxCall) -> Operand:
    axis = a.integers(1, None)
    if axis is None or len(axis) != 1:
        refuse("a running sum along a computed axis", "a stored axis")
    backwards, before = bool(a.get("reverse", 0)), bool(a.get("exclusive", 0))
    return running_sum(c, a.x, axis[0], backwards=backwards, before=before)


RULES: dict[str, OnnxRule] = {
    "CumSum": _running_sum,
    "ReduceLogSumExp": lambda c, a: log_sum_exp(c, a.x, _axes(a), bool(a.get("keepdims", 1))),
    "ReduceMean": _reduction("mean"),
    "ReduceProd": _product,
    "ReduceSum": _reduction("sum"),
    "ReduceMax": _reduction("max"),
    "ReduceMin": _reduction("min"),
    "ReduceSumSquare": _squares,
    "ReduceL1": _length(1.0),
    "ReduceL2": _length(2.0),
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "GroupNormalization": _group_norm,
    "RMSNormalization": _rms_norm,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
}
