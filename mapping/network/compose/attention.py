"""Softmax and attention: products of activations, composed of nodes."""

from __future__ import annotations

import math

import numpy as np

from mapping.network.compose.arithmetic import HIDES, aligned, beside, plus, times
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import swap, take
from mapping.network.compose.products import product
from mapping.network.compose.values import Constant, Operand, Value, activation, image_axis
from mapping.operators.affine import Affine
from mapping.operators.joins import Add
from mapping.operators.moves import Flatten, Permute, Reshape, Take
from mapping.operators.node import Node
from mapping.operators.norms import MaskedSoftmax, Softmax

FAINT = 64.0  # below the largest constant of a row: less than 2e-28 of the softmax, unless scores are as far apart


def softmax(c: Composer, x: Operand, axis: int, mask: Value | None = None) -> Operand:
    """exp(x) / Σ exp(x) along ``axis``, over the places that are not masked; ``mask``: computed, 1 for those places."""
    x = beside(c, activation(x), [axis])
    if mask is not None:
        x, mask = aligned(c, x, mask)
        rank = len(c.shape(x.node))
        flat = c.reshape(mask.node, (1,) * (rank - len(c.shape(mask.node))) + c.shape(mask.node))
        return c.value(c.add(MaskedSoftmax, [x.node, flat], axis=image_axis(x, axis, c.batch)), x)
    along = image_axis(x, axis, c.batch)
    if found := masked_by_sum(c, x.node):
        return c.value(c.add(MaskedSoftmax, found, axis=along), x)
    node, kept = unmasked(c, x.node, along)
    if kept is None:
        return c.value(c.add(Softmax, [node], axis=along), x)
    return c.value(c.add(MaskedSoftmax, [node], axis=along, kept=kept), x)


def masked_by_sum(c: Composer, node: str) -> list[str]:
    """Scores and the mask (1 or 0) that hides some of them by a sum with a large number; [] without one."""
    if not isinstance(add := c.node(node), Add):
        return []
    for scores, side in (add.inputs, add.inputs[::-1]):
        moves, at = [], c.node(side)
        while isinstance(at, Reshape | Flatten | Permute | Take):
            moves.append(at)
            at = c.node(at.inputs[0])
        if c.shape(scores) != c.shape(node) or not isinstance(at, Affine):
            continue
        scale, mask = float(at.scale.flat[0]), at.inputs[0]
        if abs(scale) < HIDES or (at.scale != scale).any() or (at.shift != min(0.0, -scale)).any():
            continue
        if scale < 0:
            mask = c.add(Affine, [mask], scale=-np.ones_like(at.scale), shift=np.ones_like(at.scale))
        for move in reversed(moves):
            if isinstance(move, Take):
                mask = c.take(mask, move.index, move.axis, move.fill)
            else:
                mask = moved(c, mask, move)
        shape = c.shape(mask)
        return [scores, c.reshape(mask, (1,) * (len(c.shape(scores)) - len(shape)) + shape)]
    return []


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
        found, shape = moved(c, found, move), c.shape(move.name)
        if isinstance(move, Permute):
            scale, shift = scale.transpose(move.order), shift.transpose(move.order)
        else:
            scale, shift = scale.reshape(shape), shift.reshape(shape)
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


def moved(c: Composer, node: str, move: Node) -> str:
    """``node`` under another reshape or permutation."""
    return c.permute(node, move.order) if isinstance(move, Permute) else c.reshape(node, c.shape(move.name))


def shared(values: Constant) -> Constant:
    """The constant as float32, with each axis along which all values are equal reduced to size 1."""
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
            return product(c, softmax(c, scores, -1, mask), value)
        mask = np.where(mask, 0.0, -np.inf)
    return product(c, softmax(c, plus(c, scores, mask), -1), value)
