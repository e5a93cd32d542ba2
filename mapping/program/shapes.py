"""Shapes of a program's steps: the one rule that checking a file and lowering to a workload share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cim.chip.windows import Window
from mapping.network.nodes import Shape
from mapping.program.conductance import (
    AvgPoolStep,
    ConcatStep,
    FlattenStep,
    MatrixStep,
    MaxPoolStep,
    PadChannelsStep,
    PadMapStep,
    SliceStep,
    Step,
)


def step_shape(step: Step, inputs: Sequence[Shape]) -> Shape:
    """Shape of a step's output, without the batch axis; inputs have the axes that the step needs."""
    first = inputs[0]
    match step:
        case MatrixStep(group=group):
            w = group.window
            return (group.outputs,) if w is None else (group.outputs, w.out_height, w.out_width)
        case MaxPoolStep() | AvgPoolStep():
            w = Window(first[0], first[1], first[2], step.kernel, step.stride, step.padding)
            shape = (first[0], w.out_height, w.out_width)
            return (math.prod(shape),) if isinstance(step, AvgPoolStep) and step.flatten else shape
        case FlattenStep():
            return (math.prod(first),)
        case ConcatStep():
            return (sum(shape[0] for shape in inputs), *first[1:])
        case PadChannelsStep():
            return (step.before + first[0] + step.after, *first[1:])
        case PadMapStep():
            return (first[0], step.top + first[1] + step.bottom, step.left + first[2] + step.right)
        case SliceStep():
            return (min(step.stop, first[0]) - step.start, -(-first[1] // step.step[0]), -(-first[2] // step.step[1]))
    return first
