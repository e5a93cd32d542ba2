"""Recurrent layers, unrolled: the inputs of all steps in one product, then one product of the state each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mapping.network.compose.arithmetic import function, minus, plus, relu, times
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import join, pieces, select, stack
from mapping.network.compose.products import linear
from mapping.network.compose.refusal import refuse
from mapping.network.compose.values import Operand, Value, activation, alike
from mapping.operators.node import Array


@dataclass(frozen=True, slots=True)
class Direction:
    """Weights of one direction of one layer.

    ``inputs`` (gates · hidden, features), ``states`` (gates · hidden, hidden), biases (gates · hidden,) or None; gates
    in the order of torch: input, forget, cell, output (LSTM); reset, update, new (GRU).
    """

    inputs: Array
    states: Array
    input_bias: Array | None = None
    state_bias: Array | None = None
    backwards: bool = False
    projection: Array | None = None
    """LSTM: (outputs, hidden) for what is given and kept of each step."""
    reset_first: bool = False
    """GRU: the reset gate meets the state before its product, not after."""


State = tuple[Operand, ...]
Step = Callable[[Composer, Direction, Operand, State, str], State]


def lstm_step(c: Composer, w: Direction, given: Operand, state: State, name: str) -> State:
    h, cell = state
    gates = plus(c, given, _of_state(c, w, h, name))
    i, f, g, o = _split(c, gates, 4)
    cell = plus(
        c,
        times(c, function(c, f, "sigmoid"), cell),
        times(c, function(c, i, "sigmoid"), function(c, g, "tanh")),
    )
    h = times(c, function(c, o, "sigmoid"), function(c, cell, "tanh"))
    return (h if w.projection is None else linear(c, h, w.projection, None, name)), cell


def gru_step(c: Composer, w: Direction, given: Operand, state: State, name: str) -> State:
    """h = n + z · (h − n)."""
    (h,) = state
    hidden = w.states.shape[1]
    i_r, i_z, i_n = _split(c, given, 3)
    if w.reset_first:
        both = Direction(w.inputs, w.states[: 2 * hidden], None, _head(w.state_bias, 2 * hidden))
        h_r, h_z = _split(c, _of_state(c, both, h, name), 2)
        r = function(c, plus(c, i_r, h_r), "sigmoid")
        last = None if w.state_bias is None else w.state_bias[2 * hidden :]
        turned = linear(c, times(c, r, h), w.states[2 * hidden :], last, name)
        n = function(c, plus(c, i_n, turned), "tanh")
    else:
        h_r, h_z, h_n = _split(c, _of_state(c, w, h, name), 3)
        r = function(c, plus(c, i_r, h_r), "sigmoid")
        n = function(c, plus(c, i_n, times(c, r, h_n)), "tanh")
    z = function(c, plus(c, i_z, h_z), "sigmoid")
    return (plus(c, n, times(c, z, minus(c, h, n))),)


def tanh_step(c: Composer, w: Direction, given: Operand, state: State, name: str) -> State:
    return (function(c, plus(c, given, _of_state(c, w, state[0], name)), "tanh"),)


def relu_step(c: Composer, w: Direction, given: Operand, state: State, name: str) -> State:
    return (relu(c, activation(plus(c, given, _of_state(c, w, state[0], name)))),)


def unroll(
    c: Composer, x: Operand, step: Step, directions: Sequence[Direction], states: Sequence[State], axis: int, name: str
) -> tuple[list[list[Operand]], list[State]]:
    """Outputs of every step in the order of time, and last states, for each direction of one layer.

    ``x`` has its steps along ``axis`` (0 or 1) and features last; each state is (batch, hidden).
    """
    outputs, last = [], []
    for weights, first in zip(directions, states, strict=True):
        given = linear(c, x, weights.inputs, weights.input_bias, name)
        state = first
        seen: list[Operand] = []
        order: Any = range(x.shape[axis])
        for place in reversed(order) if weights.backwards else order:
            state = step(c, weights, select(c, given, axis, place), state, name)
            seen.append(state[0])
        outputs.append(seen[::-1] if weights.backwards else seen)
        last.append(state)
    return outputs, last


def layers(
    c: Composer,
    x: Operand,
    step: Step,
    deep: Sequence[Sequence[Direction]],
    states: Sequence[State],
    axis: int,
    name: str,
) -> tuple[Operand, list[State]]:
    """Layers one behind the other; ``states`` (layer, direction) in one row. Outputs have the axes of ``x``."""
    ends: list[State] = []
    for directions in deep:
        first = states[len(ends) : len(ends) + len(directions)]
        outputs, last = unroll(c, x, step, directions, first, axis, name)
        x = join(c, [stack(c, seen, axis) for seen in outputs], 2) if len(outputs) > 1 else stack(c, outputs[0], axis)
        ends += last
    return x, ends


def _of_state(c: Composer, w: Direction, h: Operand, name: str) -> Operand:
    if not isinstance(h, Value) and len(h) and alike(h, h[:1]):
        return linear(c, np.asarray(h[:1], np.float32), w.states, w.state_bias, name)
    if not isinstance(h, Value):
        refuse("a first state that differs between the images of a batch", "one first state for every image")
    return linear(c, h, w.states, w.state_bias, name)


def _split(c: Composer, gates: Operand, count: int) -> list[Operand]:
    return pieces(c, gates, 1, [gates.shape[1] // count] * count)


def _head(values: Array | None, count: int) -> Array | None:
    return None if values is None else values[:count]
