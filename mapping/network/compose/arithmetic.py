"""Sums, products and functions of activations and constants, composed of nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mapping.network.compose.composer import ENDLESS, Composer
from mapping.network.compose.refusal import BROKEN, need, refuse, within
from mapping.network.compose.values import Constant, Operand, Value, activation, image_part, image_shape
from mapping.operators.activations import Grid, HardTanh, Relu, Relu6, Unary
from mapping.operators.affine import Affine, PRelu
from mapping.operators.joins import Add, Product, Subtract
from mapping.operators.node import Node
from mapping.operators.step import Shape

STEEP = float(1 << 20)  # slope of a step
HIDES = 1e4  # subtracted from scores by a computed mask, it leaves nothing of a softmax


def function(c: Composer, x: Operand, name: str, alpha: float = 0.0, beta: float = 0.0) -> Operand:
    """A function of one number (``mapping.operators.functions``) for every element."""
    if not isinstance(x, Value):
        refuse(f"{name} of a constant", "the result as a stored tensor (register_buffer)")
    return c.value(c.add(Unary, [x.node], function=name, alpha=float(alpha), beta=float(beta)), x)


def relu(c: Composer, x: Value) -> Value:
    return c.value(c.add(Relu, [x.node]), x)


def grid(c: Composer, x: Value, scale: float, low: int, high: int) -> Value:
    """Values as codes ``low`` to ``high`` of a scale, chosen by whoever quantised the network."""
    need(low <= 0 <= high, f"codes {low} to {high}, which have none for zero", "a zero point within the codes")
    return c.value(c.add(Grid, [x.node], scale=scale, low=low, high=high), x)


def clamp(c: Composer, x: Operand, low: Any, high: Any) -> Operand:
    """Each element at least ``low`` and at most ``high``; None: no bound."""
    for bound, sign in ((low, 1), (high, -1)):
        if isinstance(bound, Value) or np.size(bound) > 1:  # bounds of single places
            x, low, high = largest(c, x, bound, sign), None if sign > 0 else low, None if sign < 0 else high
    low, high = (_number(bound) for bound in (low, high))
    if not isinstance(x, Value):
        return np.clip(x, low, high) if (low, high) != (None, None) else x
    if low == 0 and high is None:
        return relu(c, x)
    if low == 0 and high == 6:
        return c.value(c.add(Relu6, [x.node]), x)
    if low is not None and high is not None:
        need(low < high, f"bounds {low} and {high}", "a lower bound below the upper one")
        return c.value(c.add(HardTanh, [x.node], low=low, high=high), x)
    found: Operand = x
    if low is not None:
        found = affine(c, relu(c, activation(affine(c, x, 1.0, -low))), 1.0, low)
    if high is not None:
        found = affine(c, relu(c, activation(affine(c, x, -1.0, high))), -1.0, high)
    return found


def _number(bound: Any) -> float | None:
    if bound is None:
        return None
    number = float(np.asarray(bound).ravel()[0])
    return number if np.isfinite(number) and abs(number) < 3e38 else None


def affine(c: Composer, x: Value | Operand, scale: Any, shift: Any) -> Operand:
    """scale · x + shift with constants, which may have more places than x.

    Minus infinity in the shift is for a softmax to leave out (``attention.softmax``); nothing else takes it.
    """
    scale, shift = np.asarray(scale, np.float64), np.asarray(shift, np.float64)
    if not isinstance(x, Value):
        return np.asarray(scale * x + shift)
    need(bool(np.isfinite(scale).all()), "a factor that is not finite", "a large finite number")
    need(
        bool((np.isfinite(shift) | np.isneginf(shift)).all()),
        "a constant that is not finite",
        "a finite number such as -100 in a mask",
    )
    x = spread(c, x, together(x.shape, scale.shape, shift.shape))
    if not scale.any():
        refuse("a product with zero", "leave the branch out")
    if (scale == 1).all() and not shift.any():
        return x
    rank = len(c.shape(x.node))
    a, b = (_ranked(image_part(part, x, c.batch), rank) for part in (scale, shift))
    node, before = x.node, c.node(x.node)
    if isinstance(before, Affine):
        moved = a * np.where(a == 0, 0.0, before.shift)  # what is multiplied by zero may be infinite
        need(not np.isposinf(moved).any(), "a constant that is not finite", "a finite number such as -100 in a mask")
        node, a, b = before.inputs[0], a * before.scale, moved + b
        if (a == 1).all() and not b.any():
            return c.value(node, x)
    return c.value(c.add(Affine, [node], scale=a.astype(np.float32), shift=b.astype(np.float32)), x)


def plus(c: Composer, x: Operand, y: Operand, alpha: float = 1.0) -> Operand:
    """x + alpha · y."""
    if not isinstance(y, Value):
        return x + alpha * y if not isinstance(x, Value) else affine(c, x, 1.0, alpha * np.asarray(y, np.float64))
    if not isinstance(x, Value):
        return affine(c, y, alpha, x)
    if alpha == -1:
        return _pair(c, Subtract, x, y)
    return _pair(c, Add, x, activation(affine(c, y, alpha, 0.0)))


def minus(c: Composer, x: Operand, y: Operand, alpha: float = 1.0) -> Operand:
    return plus(c, x, y, -alpha)


def times(c: Composer, x: Operand, y: Operand) -> Operand:
    if isinstance(x, Value) and isinstance(y, Value):
        if x == y:
            return function(c, x, "square")
        return gated(c, x, y) or gated(c, y, x) or _pair(c, Product, x, y)
    constant, other = (y, x) if isinstance(x, Value) else (x, y)
    if not isinstance(other, Value):
        return np.asarray(constant * other)
    if not np.any(np.asarray(constant)):
        return np.zeros(together(x.shape, y.shape), np.float32)
    return affine(c, other, constant, 0.0)


def over(c: Composer, x: Operand, y: Operand) -> Operand:
    if isinstance(y, Value):
        return times(c, x, function(c, y, "reciprocal"))
    if not np.all(y):
        refuse("a division by zero", "a divisor that has no zeros: add a small number")
    return times(c, x, 1.0 / np.asarray(y, np.float64))


def power(c: Composer, x: Operand, exponent: Operand) -> Operand:
    if not isinstance(x, Value) and isinstance(exponent, Value):
        need(bool(np.all(np.asarray(x) > 0)), "a power of a number that is not above zero", "a base above zero")
        return function(c, times(c, exponent, np.log(np.asarray(x, np.float64))), "exp")
    if isinstance(exponent, Value) or np.size(exponent) != 1:
        refuse("an exponent that is not one stored number", "exp(y * log(x)) where x is above zero")
    if not isinstance(x, Value):
        return np.power(x, exponent)
    number = float(np.asarray(exponent).ravel()[0])
    names = {2.0: "square", 0.5: "sqrt", -1.0: "reciprocal", -0.5: "reciprocal_sqrt"}
    if number == 1:
        return x
    return function(c, x, names[number]) if number in names else function(c, x, "power", number)


def largest(c: Composer, x: Operand, y: Operand, sign: int = 1) -> Operand:
    """The larger of two; the smaller with ``sign`` −1: y ± relu(± (x − y))."""
    if not isinstance(x, Value) and not isinstance(y, Value):
        return np.maximum(x, y) if sign > 0 else np.minimum(x, y)
    if not isinstance(x, Value):
        x, y = y, x
    if not isinstance(y, Value) and np.size(y) == 1:
        return clamp(c, x, y if sign > 0 else None, y if sign < 0 else None)
    above = relu(c, activation(minus(c, x, y) if sign > 0 else minus(c, y, x)))
    return plus(c, above, y) if sign > 0 else minus(c, y, above)


def above(c: Composer, x: Operand, y: Operand, equal: bool = False) -> Operand:
    """1 where x > y (``equal``: or x = y), else 0: a table over the codes of the difference.

    In floating point a difference below 2^−20 lies between 0 and 1.
    """
    if not isinstance(x, Value) and not isinstance(y, Value):
        return np.asarray(x >= y if equal else x > y)
    return function(c, minus(c, x, y), "hard_sigmoid", STEEP, float(equal))


def same_as(c: Composer, x: Operand, y: Operand) -> Operand:
    """1 where x = y, else 0: a table over the codes of the difference."""
    if not isinstance(x, Value) and not isinstance(y, Value):
        return np.asarray(x == y)
    for ids, number in ((x, y), (y, x)):
        one_hot = c.one_hot.get(ids.node) if isinstance(ids, Value) else None
        if one_hot is None or isinstance(number, Value) or number.size != 1 or ids.shape != one_hot.shape[:-1]:
            continue
        token, tokens = float(number.ravel()[0]), one_hot.shape[-1]
        if token in range(tokens):  # read from the one-hot input itself
            node = c.take(one_hot.node, [int(token)], len(c.shape(one_hot.node)) - 1)
            return c.value(c.reshape(node, c.shape(activation(ids).node)), activation(ids))
    return function(c, minus(c, x, y), "is_zero")


def opposite(c: Composer, mask: Operand) -> Operand:
    """A mask turned round: 1 for 0 and 0 for 1."""
    return affine(c, mask, -1.0, 1.0)


def differ(c: Composer, x: Operand, y: Operand) -> Operand:
    """1 where one of two masks is 1 but not both."""
    return function(c, minus(c, x, y), "absolute")


def choose(c: Composer, mask: Operand, x: Operand, y: Operand) -> Operand:
    """x where a mask is true, else y; a computed one (``above``) is 1 or 0."""
    if isinstance(mask, Value):
        x, y = (v if isinstance(v, Value) else np.maximum(np.asarray(v, np.float64), -ENDLESS) for v in (x, y))
        finite = all(isinstance(part, Value) or bool(np.isfinite(part).all()) for part in (x, y))
        need(finite, "a choice between infinite constants by computed values", "a finite number, such as 100")
        if not isinstance(x, Value) and not isinstance(y, Value):
            return affine(c, mask, np.subtract(x, y, dtype=np.float64), y)
        if not isinstance(x, Value) and (x <= -HIDES).all():  # for a softmax, which looks for such a sum
            return plus(c, y, affine(c, mask, x, 0.0))
        if not isinstance(y, Value) and (y <= -HIDES).all():
            return plus(c, x, affine(c, mask, -y, y))
        return plus(c, times(c, mask, minus(c, x, y)), y)
    kept = np.asarray(mask, np.float64)
    if not isinstance(x, Value) and not isinstance(y, Value):
        return np.where(mask, x, y)
    if not isinstance(x, Value):
        return affine(c, y, 1 - kept, np.where(mask, x, 0.0)) if not kept.all() else x
    if not isinstance(y, Value):
        return affine(c, x, kept, np.where(mask, 0.0, y)) if kept.any() else y
    return plus(c, times(c, x, kept), times(c, y, 1 - kept))


def prelu(c: Composer, x: Value, slope: Constant) -> Value:
    """x above zero, slope · x below; ``slope`` combines with x as a sum would."""
    part = _ranked(image_part(np.asarray(slope), x, c.batch), len(c.shape(x.node)))
    return c.value(c.add(PRelu, [x.node], slope=part.astype(np.float32)), x)


def spread(c: Composer, x: Value, shape: Shape) -> Value:
    """Axes of size 1 repeated to ``shape``, missing ones put before the first."""
    if x.shape == tuple(shape):
        return x
    old = (1,) * (len(shape) - len(x.shape)) + x.shape
    axis = x.axis + len(old) - len(x.shape)
    need(
        shape[axis] == old[axis],
        f"{x.shape} repeated to {tuple(shape)} would repeat images of a batch",
        "the batch in the same axis of both, repeated along others only",
    )
    within(*shape)
    node = c.reshape(x.node, image_shape(old, axis, c.batch))
    found = c.value(node, x, old, axis)
    for place, (have, want) in enumerate(zip(old, shape, strict=True)):
        if have != want:
            inner = place - (found.shape[axis] == c.batch and place > axis)
            need(have == 1, f"{x.shape} cannot become {tuple(shape)}", BROKEN)
            node = c.take(found.node, (0,) * want, inner)
            found = c.value(node, found, (*found.shape[:place], want, *found.shape[place + 1 :]))
    return found


def together(*shapes: Shape) -> Shape:
    """The shape of tensors whose axes of size 1 are repeated."""
    try:
        return tuple(int(size) for size in np.broadcast_shapes(*shapes))
    except ValueError:
        refuse(f"shapes {' and '.join(map(str, shapes))} do not fit each other", BROKEN)


def aligned(c: Composer, x: Value, y: Value) -> tuple[Value, Value]:
    """Two values with their batch axes at the same place, counted from the last axis."""
    if _from_the_end(x) != _from_the_end(y) and c.batch == 1:
        ends = range(1, min(len(x.shape), len(y.shape)) + 1)
        alike = [end for end in ends if x.shape[-end] == y.shape[-end]]
        if alike:
            end = max(alike, key=lambda end: (x.shape[-end] == 1, end))
            x, y = (placed(c, value, len(value.shape) - end) for value in (x, y))
    need(
        _from_the_end(x) == _from_the_end(y),
        f"images of a batch stand at other places in {x.shape} and {y.shape}",
        "permute one of the two: the batch in the same axis of both",
    )
    return x, y


def placed(c: Composer, x: Value, axis: int) -> Value:
    """``x`` with its one image on another axis: any can hold a batch of one."""
    node = c.reshape(x.node, image_shape(x.shape, axis, 1))
    return c.value(node, replace(x, outer=1), axis=axis)


def beside(c: Composer, x: Value, axes: Sequence[int]) -> Value:
    """``x`` with its batch axis moved off ``axes`` if it has a single image; else unchanged."""
    at = {axis % len(x.shape) for axis in axes}
    free = [axis for axis in range(len(x.shape)) if axis not in at]
    if c.batch > 1 or x.axis not in at or not free:
        return x
    return placed(c, x, next((axis for axis in free if x.shape[axis] == 1), free[0]))


def _from_the_end(x: Value) -> tuple[int, int]:
    return x.axis - len(x.shape), x.outer


def _pair(c: Composer, kind: type[Node], x: Value, y: Value) -> Value:
    x, y = aligned(c, x, y)
    larger = x if len(x.shape) >= len(y.shape) else y
    return c.value(c.add(kind, [x.node, y.node]), larger, together(x.shape, y.shape))


def _ranked(values: Constant, rank: int) -> Constant:
    return values.reshape((1,) * (rank - values.ndim) + values.shape)


def gated(c: Composer, x: Value, gate: Value) -> Value | None:
    """``x`` times a gate of its own, as one function; None if the gate is another.

    x · sigmoid(x), x · clamp(x / 6 + 1/2, 0, 1), x · tanh(softplus(x)) and x · (1 + erf(x / √2)) · s, each also with a
    factor on x.
    """
    if (x.shape, x.axis, x.outer) != (gate.shape, gate.axis, gate.outer):
        return None
    source, factor = _scaled(c, x.node)
    found = _function(c, gate.node, source)
    if found is None:
        return None
    name, more = found
    node = c.add(Unary, [source], function=name)
    return c.value(_times(c, node, factor * more), x)


def _function(c: Composer, gate: str, source: str) -> tuple[str, float] | None:
    """The function that a gate of ``source`` makes of it, and the factor that is left."""
    made = c.node(gate)
    if isinstance(made, Unary) and made.inputs == (source,):
        if made.function == "sigmoid":
            return "silu", 1.0
        if made.function == "hard_sigmoid" and abs(made.alpha - 1 / 6) < 1e-6 and made.beta == 0.5:
            return "hard_swish", 1.0
    if isinstance(made, Unary) and made.function == "tanh":
        soft = c.node(made.inputs[0])
        plain = isinstance(soft, Unary) and soft.function == "softplus" and soft.alpha == 1 and soft.beta >= 20
        return ("mish", 1.0) if plain and soft is not None and soft.inputs == (source,) else None
    if (
        isinstance(made, Affine)
        and made.scale.size == made.shift.size == 1
        and made.scale.flat[0] == made.shift.flat[0]
    ):
        error = c.node(made.inputs[0])
        if isinstance(error, Unary) and error.function == "erf":
            inside, factor = _scaled(c, error.inputs[0])
            if inside == source and abs(factor - math.sqrt(0.5)) < 1e-6:
                return "gelu", 2.0 * float(made.scale.flat[0])
    return None


def _scaled(c: Composer, node: str) -> tuple[str, float]:
    """The node that this one is a constant multiple of, and the factor."""
    made: Node | None = c.node(node)
    if isinstance(made, Affine) and made.scale.size == 1 and not made.shift.any():
        return made.inputs[0], float(made.scale.flat[0])
    return node, 1.0


def _times(c: Composer, node: str, factor: float) -> str:
    if abs(factor - 1) < 1e-6:
        return node
    one = (1,) * len(c.shape(node))
    return c.add(Affine, [node], scale=np.full(one, factor, np.float32), shift=np.zeros(one, np.float32))
