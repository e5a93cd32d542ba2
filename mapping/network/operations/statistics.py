"""Means, sums, extremes, norms and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from mapping.network.compose.arithmetic import affine, function, minus, times
from mapping.network.compose.attention import softmax
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import reshape
from mapping.network.compose.refusal import need, refuse
from mapping.network.compose.statistics import (
    batch_norm,
    group_norm,
    length,
    log_sum_exp,
    norm,
    product_along,
    reduce,
    variance,
)
from mapping.network.compose.values import Operand, Value
from mapping.network.compose.windows import running_sum
from mapping.network.operations.call import Call, Rule
from mapping.network.operations.elementwise import first
from mapping.operators.family import NamedOperation

_OVER = "(self, dim; dim:axes, keepdim:keepdims=1, noop_with_empty_axes)"  # how reductions of ONNX read


def _axes(a: Call) -> list[int]:
    found = a.get("dim")
    need(not isinstance(found, Value), "axes that are computed", "stored axes")
    return [] if found is None else [int(axis) for axis in np.ravel(found)]


def _keep(a: Call) -> bool:
    return bool(a.get("keepdim", False))


def _reduction(operation: str) -> Rule:
    def rule(c: Composer, a: Call) -> Operand:
        axes = _axes(a)
        return a.x if not axes and a.get("noop_with_empty_axes") else reduce(c, a.x, operation, axes, _keep(a))

    return rule


def _over_places(operation: str) -> Rule:
    return lambda c, a: reduce(c, a.x, operation, range(2, len(a.x.shape)), keep=True)


def _squares(c: Composer, a: Call) -> Operand:
    return reduce(c, times(c, a.x, a.x), "sum", _axes(a), _keep(a))


def _normalised(a: Call) -> range:
    rank = len(a.x.shape)
    return range(a["axis"] % rank if "axis" in a.arguments else rank - len(a["normalized_shape"]), rank)


def _layer_norm(c: Composer, a: Call) -> Operand:
    need(a.outputs == 1, "mean and deviation as outputs", "the normalised tensor as its only output")
    return norm(c, a.x, _normalised(a), a.optional("weight"), a.optional("bias"), float(a["eps"]))


def _rms_norm(c: Composer, a: Call) -> Operand:
    eps = float(np.finfo(np.float32).eps) if a["eps"] is None else float(a["eps"])
    return norm(c, a.x, _normalised(a), a.optional("weight"), None, eps, centre=False)


def _group_norm(c: Composer, a: Call) -> Operand:
    groups, channels = a["num_groups"] if "num_groups" in a.arguments else a["group"], a.x.shape[1]
    given = (a.optional("weight"), a.optional("bias"))
    scale, shift = (np.repeat(v, channels // v.size) if v is not None and v.size == groups else v for v in given)
    return group_norm(c, a.x, groups, scale, shift, float(a["eps"]))


def _instance_norm(c: Composer, a: Call) -> Operand:
    if not a.get("use_input_stats", True):
        return _batch_norm(c, a)
    return group_norm(c, a.x, a.x.shape[1], a.optional("weight"), a.optional("bias"), float(a["eps"]))


def _batch_norm(c: Composer, a: Call) -> Operand:
    stored = [a.optional(name) for name in ("weight", "bias", "running_mean", "running_var")]
    if a.get("training") or stored[2] is None:
        refuse(
            "it uses the statistics of the batch",
            "track_running_stats=True, and module.eval() before torch.export; of ONNX an export in evaluation mode",
        )
    return batch_norm(c, a.x, stored, float(a["eps"]), a.owner("running_mean") or a.owner("weight"))


def _variance(c: Composer, a: Call) -> Operand:
    correction: Any = a.get("correction", 1 if a.get("unbiased", True) else 0)
    return variance(c, a.x, _axes(a), 1 if correction is None else correction, _keep(a))


def _length(order: float | None = None) -> Rule:
    def rule(c: Composer, a: Call) -> Operand:
        asked = a.get("ord", a.get("p")) if order is None else order
        need(isinstance(asked, int | float), f"a norm of order {asked}", "order 1, 2 or infinity")
        return length(c, a.x, _axes(a), float(asked), _keep(a))

    return rule


def _product(c: Composer, a: Call) -> Operand:
    axes = _axes(a)
    need(len(axes) == 1, "the product of all elements, or of several axes", "a product along one axis, then the next")
    return product_along(c, a.x, axes[0], _keep(a))


def _log_softmax(c: Composer, x: Operand, axis: int) -> Operand:
    return minus(c, x, log_sum_exp(c, x, [axis], keep=True))


def _sharp_softmax(c: Composer, a: Call) -> Operand:
    return softmax(c, a.x if a["beta"] == 1.0 else affine(c, a.x, a["beta"], 0.0), -1)


def _along(rule: Any) -> Rule:
    """A softmax along one axis; before opset 13 of ONNX along all from the axis on."""

    def found(c: Composer, a: Call) -> Operand:
        if a.opset >= 13:
            return rule(c, a.x, a.get("dim", -1))  # type: ignore[no-any-return]
        lead = a.x.shape[: a.get("dim", 1) % len(a.x.shape)]
        return reshape(c, rule(c, reshape(c, a.x, (*lead, -1)), -1), a.x.shape)

    return found


def _running_sum(c: Composer, a: Call) -> Operand:
    axes = _axes(a)
    need(len(axes) == 1, f"a running sum along the axes {axes}", "a stored axis")
    return running_sum(c, a.x, axes[0], backwards=bool(a.get("reverse")), before=bool(a.get("exclusive")))


OPERATIONS = (
    NamedOperation(_reduction("mean"), "mean", f"ReduceMean{_OVER}"),
    NamedOperation(_reduction("sum"), "sum", f"ReduceSum{_OVER}", "SUM(self, dim; keepdim:KeepDims)"),
    NamedOperation(
        _reduction("max"), "amax max any", f"ReduceMax{_OVER}", "REDUCE_MAX(self, dim; keepdim:KeepDims)"
    ),  # any and all: of masks
    NamedOperation(_reduction("min"), "amin min all", f"ReduceMin{_OVER}", "REDUCE_MIN(self, dim; keepdim:KeepDims)"),
    NamedOperation(first(_reduction("max")), "max.dim"),
    NamedOperation(first(_reduction("min")), "min.dim"),
    NamedOperation(_over_places("mean"), onnx="GlobalAveragePool"),
    NamedOperation(_over_places("max"), onnx="GlobalMaxPool"),
    NamedOperation(_product, "prod", f"ReduceProd{_OVER}"),
    NamedOperation(_squares, onnx=f"ReduceSumSquare{_OVER}"),
    NamedOperation(_length(), "linalg_vector_norm norm"),
    NamedOperation(_length(1.0), onnx=f"ReduceL1{_OVER}"),
    NamedOperation(_length(2.0), onnx=f"ReduceL2{_OVER}"),
    NamedOperation(lambda c, a: log_sum_exp(c, a.x, _axes(a), _keep(a)), "logsumexp", f"ReduceLogSumExp{_OVER}"),
    NamedOperation(_variance, "var"),
    NamedOperation(lambda c, a: function(c, _variance(c, a), "sqrt"), "std"),
    NamedOperation(_running_sum, "cumsum", "CumSum(self, dim; reverse, exclusive)"),
    NamedOperation(_along(softmax), "softmax _softmax", "Softmax(self; dim:axis)"),
    NamedOperation(_sharp_softmax, lite="SOFTMAX(self; beta:Beta)"),
    NamedOperation(_along(_log_softmax), "log_softmax _log_softmax", "LogSoftmax(self; dim:axis)"),
    NamedOperation(
        _batch_norm,
        "batch_norm",
        "BatchNormalization(self, weight, bias, running_mean, running_var; eps:epsilon=1e-5, training:training_mode)",
    ),
    NamedOperation(first(_batch_norm, 2), "_native_batch_norm_legit_no_training"),
    NamedOperation(_instance_norm, "instance_norm", "InstanceNormalization(self, weight, bias; eps:epsilon=1e-5)"),
    NamedOperation(_group_norm, "group_norm", "GroupNormalization(self, weight, bias; eps:epsilon=1e-5, num_groups)"),
    NamedOperation(first(_group_norm, 2), "native_group_norm"),
    NamedOperation(_layer_norm, "layer_norm", "LayerNormalization(self, weight, bias; axis=-1, eps:epsilon=1e-5)"),
    NamedOperation(first(_layer_norm, 2), "native_layer_norm"),
    NamedOperation(_rms_norm, "rms_norm", "RMSNormalization(self, weight; axis=-1, eps:epsilon=1e-5)"),
    NamedOperation(first(_rms_norm), "_fused_rms_norm"),
)
