"""Softmax and attention: products of activations, composed of nodes."""

from __future__ import annotations

import math

import numpy as np

from mapping.network.compose.arithmetic import function, plus, times
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import swap
from mapping.network.compose.products import product
from mapping.network.compose.statistics import reduce
from mapping.network.compose.values import Operand, Value, activation, image_axis
from mapping.network.digital_nodes import Softmax


def softmax(c: Composer, x: Operand, axis: int) -> Value:
    x = activation(x)
    return c.value(c.add(Softmax, [x.node], axis=image_axis(x, axis, c.batch)), x)


def attention(
    c: Composer, query: Operand, key: Operand, value: Operand, mask: Operand | None, causal: bool, scale: float | None
) -> Operand:
    """softmax(query · keyᵀ · scale + mask) · value (``scaled_dot_product_attention``)."""
    scores = product(c, query, swap(c, key, -1, -2))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = times(c, scores, np.asarray(factor))
    kept = None
    if causal:
        kept = np.tril(np.ones(scores.shape[-2:], bool))
    elif mask is not None:
        if isinstance(mask, Value):
            scores = plus(c, scores, mask)
        elif mask.dtype == np.bool_:
            kept = mask
        else:
            kept = np.isfinite(mask)
            scores = plus(c, scores, np.where(kept, mask, 0.0))
    weights: Operand = softmax(c, scores, -1)
    if kept is not None and not kept.all():  # without places that are masked, then to a sum of one again
        weights = times(c, weights, kept.astype(np.float64))
        sums = reduce(c, weights, "sum", [len(weights.shape) - 1], keep=True)
        weights = times(c, weights, function(c, sums, "reciprocal"))
    return product(c, weights, value)
