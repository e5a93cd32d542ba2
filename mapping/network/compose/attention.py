"""Softmax and attention: products of activations, composed of nodes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from mapping.network.compose.arithmetic import beside, function, plus, times
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import swap
from mapping.network.compose.products import product
from mapping.network.compose.statistics import reduce
from mapping.network.compose.values import Operand, Value, activation, image_axis
from mapping.network.digital_nodes import Softmax


def softmax(c: Composer, x: Operand, axis: int) -> Operand:
    """exp(x) / Σ exp(x) along ``axis``, over the places that are not masked."""
    x = activation(x)
    if x.masked is None:
        x = beside(c, x, [axis])
        return c.value(c.add(Softmax, [x.node], axis=image_axis(x, axis, c.batch)), x)
    kept = c.masks[x.masked]
    weights = times(c, softmax(c, replace(x, masked=None), axis), kept.astype(np.float64))
    sums = reduce(c, weights, "sum", [axis], keep=True)
    return times(c, weights, function(c, sums, "reciprocal"))


def attention(
    c: Composer, query: Operand, key: Operand, value: Operand, mask: Operand | None, causal: bool, scale: float | None
) -> Operand:
    """softmax(query · keyᵀ · scale + mask) · value (``scaled_dot_product_attention``)."""
    scores = product(c, query, swap(c, key, -1, -2))
    scores = times(c, scores, np.asarray(1 / math.sqrt(query.shape[-1]) if scale is None else scale))
    if causal:
        mask = np.tril(np.ones(scores.shape[-2:], bool))
    if mask is not None:
        if not isinstance(mask, Value) and mask.dtype == np.bool_:
            mask = np.where(mask, 0.0, -np.inf)
        scores = plus(c, scores, mask)
    return product(c, softmax(c, scores, -1), value)
