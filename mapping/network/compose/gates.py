"""Functions of one number that networks write as a product of their input: SiLU, hard-swish, mish and GELU."""

from __future__ import annotations

import math

import numpy as np

from mapping.network.compose.composer import Composer
from mapping.network.compose.values import Value
from mapping.operators.activations import Unary
from mapping.operators.affine import Affine
from mapping.operators.node import Node


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
    """What a node is a multiple of, and the factor."""
    made: Node | None = c.node(node)
    if isinstance(made, Affine) and made.scale.size == 1 and not made.shift.any():
        return made.inputs[0], float(made.scale.flat[0])
    return node, 1.0


def _times(c: Composer, node: str, factor: float) -> str:
    if abs(factor - 1) < 1e-6:
        return node
    one = (1,) * len(c.shape(node))
    return c.add(Affine, [node], scale=np.full(one, factor, np.float32), shift=np.zeros(one, np.float32))
