"""Shapes of a program's steps: the one rule that checking a file and lowering to a workload share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mapping.operators.node import INPUT
from mapping.operators.step import Shape, Step
from mapping.program.conductance import AgainStep, ConductanceProgram, MatrixStep


def step_shapes(program: ConductanceProgram) -> dict[str, Shape]:
    """Shapes of the input and of every step's output, by name, without the batch axis."""
    shapes: dict[str, Shape] = {INPUT: program.input.shape}
    layers = program.layers
    for step in program.steps:
        shapes[step.name] = step_shape(step, [shapes[name] for name in step.inputs], layers)
    return shapes


def step_shape(step: Step, inputs: Sequence[Shape], layers: Mapping[str, MatrixStep]) -> Shape:
    """Shape of a step's output, without the batch axis; inputs have the axes that the step needs.

    ``layers`` are those of the program.
    """
    return (layers[step.layer] if isinstance(step, AgainStep) else step).output_shape(inputs)
