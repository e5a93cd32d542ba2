"""Softmax and attention: products of activations, composed of nodes."""

from __future__ import annotations

import math

import numpy as np

from mapping.network.compose.arithmetic import beside, function, plus, times
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import swap, take
from mapping.network.compose.products import product
from mapping.network.compose.statistics import reduce
from mapping.network.compose.values import Constant, Operand, Value, activation, image_axis
from mapping.operators.affine import Affine
from mapping.operators.moves import Flatten, Permute, Reshape
from mapping.operators.norms import Softmax

FAINT = 64.0  # below the largest constant of a row: less than 2e-28 of the softmax, unless scores are as far apart


def softmax(c: Composer, x: Operand, axis: int) -> Operand:
    """exp(x) / Σ exp(x) along ``axis``, over the places that are not masked."""
    x = beside(c, activation(x), [axis])
    along = image_axis(x, axis, c.batch)
    node, kept = unmasked(c, x.node, along)
    weights = c.value(c.add(Softmax, [node], axis=along), x)
    if kept is None:
        return weights
    none = np.zeros((1,) * kept.ndim, np.float32)
    return shares(c, c.value(c.add(Affine, [weights.node], scale=kept, shift=none), x), axis)


def shares(c: Composer, weights: Operand, axis: int) -> Operand:
    """Weights that add up to 1 along ``axis``."""
    sums = reduce(c, weights, "sum", [axis], keep=True)
    return times(c, weights, function(c, sums, "reciprocal"))


def unmasked(c: Composer, node: str, axis: int) -> tuple[str, Constant | None]:
    """Scores without the constants that keep some of them out of a softmax along ``axis``, and 1 for the others, 0 for
    those; None where there are none.

    Such a constant is ``FAINT`` or more below the largest of its row: minus infinity, -1e9, -100. Added to the scores
    it would take all codes for itself. Rows that are masked as a whole are as if nothing were added to them.
    """
    moves, at = [], node
    while isinstance(before := c.node(at), Reshape | Flatten | Permute):
        moves.append(before)
        at = before.inputs[0]
    if not isinstance(before, Affine):
        return node, None
    scale, shift = (np.broadcast_to(part, c.shape(at)).astype(np.float64) for part in (before.scale, before.shift))
    found = before.inputs[0]
    for move in reversed(moves):
        shape = c.shape(move.name)
        if isinstance(move, Permute):
            found, scale, shift = c.permute(found, move.order), scale.transpose(move.order), shift.transpose(move.order)
        else:
            found, scale, shift = c.reshape(found, shape), scale.reshape(shape), shift.reshape(shape)
    top = shift.max(axis=axis, keepdims=True)
    kept = shift > top - FAINT
    if not np.isfinite(top).all() or (kept.all() and (np.abs(top) <= FAINT).all()):
        return node, None
    shift = np.where(kept, shift - np.where(np.abs(top) > FAINT, top, 0.0), 0.0)
    alike = np.unique(scale[kept])
    scale = np.full_like(scale, alike[0]) if len(alike) == 1 else scale
    if (scale != 1).any() or shift.any():
        found = c.add(Affine, [found], scale=shared(scale), shift=shared(shift))
    return found, None if kept.all() else shared(kept)


def shared(values: Constant) -> Constant:
    """float32, axes along which all places are equal with one of them."""
    for axis in range(values.ndim):
        first = values.take([0], axis)
        values = first if np.array_equal(values, np.broadcast_to(first, values.shape)) else values
    return values.astype(np.float32)


def attention(
    c: Composer,
    query: Operand,
    key: Operand,
    value: Operand,
    mask: Operand | None,
    causal: bool,
    scale: float | None,
    *,
    boolean: bool = False,
) -> Operand:
    """softmax(query · keyᵀ · scale + mask) · value (``scaled_dot_product_attention``); several heads of queries may
    share one of keys and values. A ``boolean`` mask, stored or computed (1 or 0), says which keys are kept."""
    heads = query.shape[-3] if len(query.shape) > 3 else 1
    if heads > 1 and key.shape[-3] not in (1, heads):
        shared_by = np.repeat(np.arange(key.shape[-3]), heads // key.shape[-3]).tolist()
        key, value = (take(c, part, shared_by, -3) for part in (key, value))
    scores = product(c, query, swap(c, key, -1, -2))
    scores = times(c, scores, np.asarray(1 / math.sqrt(query.shape[-1]) if scale is None else scale))
    if causal:
        mask, boolean = np.tril(np.ones(scores.shape[-2:], bool)), True
    if mask is None:
        return product(c, softmax(c, scores, -1), value)
    if boolean:
        if isinstance(mask, Value):
            return product(c, shares(c, times(c, softmax(c, scores, -1), mask), -1), value)
        mask = np.where(mask, 0.0, -np.inf)
    return product(c, softmax(c, plus(c, scores, mask), -1), value)
