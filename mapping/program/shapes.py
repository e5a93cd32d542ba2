"""Shapes of a program's steps: the one rule that checking a file and lowering to a workload share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cim.chip.windows import Window
from mapping.operators.node import INPUT, Shape
from mapping.program.conductance import (
    AddStep,
    AgainStep,
    AvgPoolStep,
    ConcatStep,
    ConductanceProgram,
    FlattenStep,
    MatrixStep,
    MaxPoolStep,
    PadChannelsStep,
    PadMapStep,
    SliceStep,
    Step,
)
from mapping.program.digital_steps import (
    MatMulStep,
    PermuteStep,
    ProductStep,
    ReduceStep,
    ResampleStep,
    ReshapeStep,
    TakeStep,
)


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
    first = inputs[0]
    match step:
        case AgainStep():
            return step_shape(layers[step.layer], inputs, layers)
        case MatrixStep(group=group):
            w = group.window
            return (group.outputs,) if w is None else (group.outputs, w.out_height, w.out_width)
        case MaxPoolStep() | AvgPoolStep():
            w = Window(first[0], first[1], first[2], step.kernel, step.stride, step.padding)
            shape = (first[0], w.out_height, w.out_width)
            return (math.prod(shape),) if isinstance(step, AvgPoolStep) and step.flatten else shape
        case FlattenStep():
            return (math.prod(first),)
        case ConcatStep(axis=axis):
            return (*first[:axis], sum(shape[axis] for shape in inputs), *first[axis + 1 :])
        case AddStep() | ProductStep():
            return tuple(int(size) for size in np.broadcast_shapes(*inputs))
        case MatMulStep():
            leading = np.broadcast_shapes(*(shape[:-2] for shape in inputs))
            return (*(int(size) for size in leading), first[-2], inputs[1][-1])
        case ReduceStep():
            kept = tuple(1 if axis in step.axes else size for axis, size in enumerate(first))
            left = tuple(size for axis, size in enumerate(first) if axis not in step.axes)
            return kept if step.keep else left or (1,)
        case ReshapeStep():
            return step.shape
        case PermuteStep():
            return tuple(first[axis] for axis in step.order)
        case TakeStep(axis=axis):
            return (*first[:axis], len(step.index), *first[axis + 1 :])
        case ResampleStep():
            return (*first[:-2], len(step.rows), len(step.columns))
        case PadChannelsStep():
            return (step.before + first[0] + step.after, *first[1:])
        case PadMapStep():
            return (first[0], step.top + first[1] + step.bottom, step.left + first[2] + step.right)
        case SliceStep():
            return (min(step.stop, first[0]) - step.start, -(-first[1] // step.step[0]), -(-first[2] // step.step[1]))
    return first
