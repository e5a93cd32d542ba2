"""Copies of a layer that are averaged: the same weights on other cells, read with the same inputs, sums added.

n copies give n W x, so the bias counts n times and the requantisation factor is divided by n; nothing
else in a program changes. Errors of cells, converters and reads are independent from copy to copy and fall by √n in the
result, for n times the cells, reads and conversions. (Copies that answer other blocks of the output map,
``mapping.program.copies``, are for speed and average nothing.)

Where copies help most is decided by an estimate e_l of what layer l adds to the mean square error of the
logits: with n_l copies Σ e_l / n_l is left, and the copy that takes most of it away for each macro comes first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from mapping.errors import CannotMap
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.digital_ops import INT32_HIGH
from mapping.program.exact_product import largest_sum
from mapping.quantise.scales import requantise_by
from mapping.tune.aims import aimed

MOST = 8  # copies of a layer: beyond, its rounding and the others are what is left


def free_macros(program: ConductanceProgram, among: Collection[int] | None = None) -> tuple[int, ...]:
    """Macros of the chip (or ``among`` them) that hold nothing of the program."""
    used = set(program.macros)
    return tuple(m for m in range(program.spec.macros) if m not in used and (among is None or m in among))


def layer_macros(step: MatrixStep) -> tuple[int, ...]:
    """Macros that a layer's tiles lie on: what one more copy of it takes."""
    return tuple(sorted({t.macro for t in step.group.tiles}))


def choose_averages(
    program: ConductanceProgram,
    errors: Mapping[str, float],
    macros: int | None = None,
    among: Collection[int] | None = None,
) -> dict[str, int]:
    """How many copies of each layer to average, of the free macros (at most ``macros`` in all, used ones included).

    Args:
        errors: by layer, what it adds to the mean square error of the logits with one copy.
        among: macros that copies may lie on; None: all of the chip.
    """
    free = len(free_macros(program, among))
    if macros is not None:
        free = max(0, min(free, macros - len(program.macros)))
    sizes = {step.name: len(layer_macros(step)) for step in program.matrices}
    counts = dict.fromkeys(sizes, 1)
    while True:
        gains = {
            name: errors.get(name, 0.0) / (n * (n + 1)) / sizes[name]
            for name, n in counts.items()
            if sizes[name] <= free and n < MOST
        }
        best = max(gains, key=lambda name: gains[name], default=None)
        if best is None or gains[best] <= 0.0:
            return counts
        counts[best] += 1
        free -= sizes[best]


def averaged(
    program: ConductanceProgram, counts: Mapping[str, int], among: Collection[int] | None = None
) -> ConductanceProgram:
    """The program with ``counts`` copies of its layers, averaged; copies lie on free macros, in the same places.

    Raises:
        CannotMap: too few free macros, several rounds, or copies for speed in that layer.
    """
    free = list(free_macros(program, among))
    if program.rounds > 1 and any(n > 1 for n in counts.values()):
        raise CannotMap("averaged copies need a network that fits the chip in one round", chip=program.spec.name)
    steps = []
    for step in program.steps:
        count = counts.get(step.name, 1)
        if not isinstance(step, MatrixStep) or count < 2:
            steps.append(step)
            continue
        steps.append(_averaged(step, count, free, program))
    return aimed(replace(program, steps=tuple(steps)), program.aims)


def _averaged(step: MatrixStep, count: int, free: list[int], program: ConductanceProgram) -> MatrixStep:
    chip, own = program.spec.name, layer_macros(step)
    if step.group.copies > 1:
        raise CannotMap(f"{step.name} has copies for speed: average it in a program without them", chip=chip)
    if len(free) < (count - 1) * len(own):
        raise CannotMap(
            f"{count} copies of {step.name} take {(count - 1) * len(own)} macros more, {len(free)} are free",
            chip=chip,
            would_fit=("--macros with a larger chip", "fewer copies"),
        )
    tiles = list(step.group.tiles)
    for _ in range(count - 1):
        there = dict(zip(own, free, strict=False))
        del free[: len(own)]
        tiles += [replace(t, macro=there[t.macro]) for t in step.group.tiles]
    group = replace(step.group, tiles=tuple(tiles))
    bias = step.bias.astype(np.int64) * count
    if largest_sum(group) + int(np.abs(bias).max(initial=0)) > INT32_HIGH:
        raise CannotMap(f"{step.name}: sums of {count} copies could leave 32 bits", chip=chip)
    rule = step.requantise
    factor = rule.multiplier / np.exp2(rule.shift) / count
    return replace(step, group=group, bias=bias.astype(np.int32), requantise=requantise_by(factor, rule.low, rule.high))
