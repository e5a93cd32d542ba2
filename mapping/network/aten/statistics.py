"""Rules of ATen for means, sums, extremes and norms."""

from __future__ import annotations

from typing import Any

import numpy as np

from mapping.network.aten.call import Call, Rule
from mapping.network.compose.arithmetic import function, minus
from mapping.network.compose.composer import Composer
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
from mapping.network.compose.values import Operand
from mapping.network.compose.windows import running_sum


def _axes(a: Call) -> list[int]:
    found = a.get("dim")
    return [] if found is None else [int(axis) for axis in (found if isinstance(found, list | tuple) else [found])]


def _reduction(operation: str) -> Rule:
    return lambda c, a: reduce(c, a.x, operation, _axes(a), bool(a.get("keepdim", False)))


def _extreme(operation: str) -> Rule:
    """Values of max or min along an axis; their places are not to be had."""
    return lambda c, a: [reduce(c, a.x, operation, _axes(a), bool(a["keepdim"])), None]


def _layer_norm(c: Composer, a: Call) -> Operand:
    axes = range(len(a.x.shape) - len(a["normalized_shape"]), len(a.x.shape))
    return norm(c, a.x, axes, a.optional("weight"), a.optional("bias"), a["eps"])


def _rms_norm(c: Composer, a: Call) -> Operand:
    axes = range(len(a.x.shape) - len(a["normalized_shape"]), len(a.x.shape))
    eps = float(np.finfo(np.float32).eps) if a["eps"] is None else a["eps"]
    return norm(c, a.x, axes, a.optional("weight"), None, eps, centre=False)


def _group_norm(c: Composer, a: Call) -> Operand:
    groups = a["num_groups"] if "num_groups" in a.arguments else a["group"]
    return group_norm(c, a.x, groups, a.optional("weight"), a.optional("bias"), a["eps"])


def _instance_norm(c: Composer, a: Call) -> Operand:
    if not a["use_input_stats"]:
        stored = [a.optional(name) for name in ("weight", "bias", "running_mean", "running_var")]
        return batch_norm(c, a.x, stored, a["eps"])
    return group_norm(c, a.x, a.x.shape[1], a.optional("weight"), a.optional("bias"), a["eps"])


def _batch_norm(c: Composer, a: Call) -> Operand:
    stored = [a.optional(name) for name in ("weight", "bias", "running_mean", "running_var")]
    if a.get("training") or stored[2] is None:
        refuse("it uses the statistics of the batch", "track_running_stats=True, and module.eval() before torch.export")
    return batch_norm(c, a.x, stored, a["eps"], a.owner("running_mean"))


def _variance(c: Composer, a: Call) -> Operand:
    correction: Any = a.get("correction", 1 if a.get("unbiased", True) else 0)
    return variance(c, a.x, _axes(a), 1 if correction is None else correction, bool(a.get("keepdim", False)))


def _deviation(c: Composer, a: Call) -> Operand:
    return function(c, _variance(c, a), "sqrt")


def _length(c: Composer, a: Call) -> Operand:
    order = a.get("ord", a.get("p"))
    need(isinstance(order, int | float), f"a norm of order {order}", "order 1, 2 or infinity")
    return length(c, a.x, _axes(a), float(order), bool(a.get("keepdim", False)))


def _log_sum_exp(c: Composer, a: Call) -> Operand:
    return log_sum_exp(c, a.x, _axes(a), bool(a.get("keepdim", False)))


def _log_softmax(c: Composer, a: Call) -> Operand:
    return minus(c, a.x, log_sum_exp(c, a.x, _axes(a), keep=True))


def _product(c: Composer, a: Call) -> Operand:
    need("dim" in a.arguments, "the product of all elements", "a product along one axis")
    return product_along(c, a.x, int(a["dim"]), bool(a["keepdim"]))


RULES: dict[str, Rule] = {
    "cumsum": lambda c, a: running_sum(c, a.x, a["dim"]),
    "log_softmax": _log_softmax,
    "_log_softmax": _log_softmax,
    "prod": _product,
    "any": _reduction("max"),  # of masks
    "all": _reduction("min"),
    "logsumexp": _log_sum_exp,
    "mean": _reduction("mean"),
    "sum": _reduction("sum"),
    "amax": _reduction("max"),
    "amin": _reduction("min"),
    "max": _reduction("max"),
    "min": _reduction("min"),
    "max.dim": _extreme("max"),
    "min.dim": _extreme("min"),
    "layer_norm": _layer_norm,
    "native_layer_norm": lambda c, a: [_layer_norm(c, a), None, None],
    "rms_norm": _rms_norm,
    "_fused_rms_norm": lambda c, a: [_rms_norm(c, a), None],
    "group_norm": _group_norm,
    "native_group_norm": lambda c, a: [_group_norm(c, a), None, None],
    "instance_norm": _instance_norm,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": lambda c, a: [_batch_norm(c, a), None, None],
    "var": _variance,
    "std": _deviation,
    "linalg_vector_norm": _length,
    "norm": _length,
}
