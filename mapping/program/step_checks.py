"""Checks of single digital steps of a program of unknown origin; matrix products in ``mapping.program.checks``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mapping.network.graph import LARGEST_MAP
from mapping.operators.node import MOST_AXES, Shape
from mapping.program.conductance import (
    AddStep,
    AvgPoolStep,
    ConcatStep,
    FlattenStep,
    Ints,
    MaxPoolStep,
    PadChannelsStep,
    PadMapStep,
    Requantise,
    RescaleStep,
    SliceStep,
    Step,
)
from mapping.program.digital_ops import MAX_SHIFT, code_type
from mapping.program.digital_steps import (
    AFFINE_BITS,
    EXP_BITS,
    OFFSET_BITS,
    AffineStep,
    MatMulStep,
    NormStep,
    PermuteStep,
    ProductStep,
    ReduceStep,
    ResampleStep,
    ReshapeStep,
    SoftmaxStep,
    TableStep,
    TakeStep,
)
from mapping.program.records import ProgramRecordError

LARGEST_TABLE = 1 << 16
SQUARE_BITS = 30  # of a code of 16 bits
EXACT_BITS = 53  # of a double
_PASS_WIDE = (
    RescaleStep, AddStep, ConcatStep, MaxPoolStep, AvgPoolStep, FlattenStep, PadChannelsStep, PadMapStep, SliceStep,
    ReshapeStep, PermuteStep, TakeStep,
)  # fmt: skip
"""Steps whose rules hold for codes of 32 bits too; the others take 16."""


def need(good: bool, step: Step, text: str) -> None:
    if not good:
        raise ProgramRecordError(f"step {step.name!r:.80} {text}")


def gives_wide(step: Step, wide: bool) -> bool:
    """Whether a step gives codes beyond 16 bits, its inputs being so or not."""
    if isinstance(step, TableStep):
        return not -(1 << 15) <= int(step.table.min()) <= int(step.table.max()) < 1 << 15
    rules = step.rescale if isinstance(step, ConcatStep) else (getattr(step, "requantise", None),)
    return any(wide if rule is None else code_type(rule) is np.int32 for rule in rules)


def check_digital(step: Step, inputs: Sequence[Shape], *, wide: bool) -> None:
    """Raise ``ProgramRecordError`` unless a step fits its inputs; ``wide``: one of them has codes of 32 bits."""
    first = inputs[0]
    pair = isinstance(step, AddStep | ProductStep | MatMulStep)
    need(isinstance(step, ConcatStep) or len(inputs) == 1 + pair, step, f"takes {len(inputs)} inputs")
    need(not wide or isinstance(step, _PASS_WIDE), step, "takes codes of more than 16 bits")
    match step:
        case RescaleStep():
            check_rule(step, step.requantise, first)
        case AddStep():
            _together(step, inputs)
            one = inputs[0] == inputs[1]
            for rule in (*step.rescale, step.requantise):
                check_rule(step, rule, first if one else (0,))
        case ConcatStep(axis=axis):
            need(0 <= axis < len(first), step, f"joins axis {axis} of {first}")
            rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in inputs}
            need(len(inputs) == len(step.rescale) and len(rest) == 1, step, f"joins {inputs}")
            for rule, shape in zip(step.rescale, inputs, strict=True):
                check_rule(step, rule, shape)
        case MaxPoolStep() | AvgPoolStep():
            need(len(first) == 3, step, f"pools {first}")
            need(min(step.kernel + step.stride) >= 1 and min(step.padding) >= 0, step, "has a window below one")
            sizes = zip(step.kernel, step.padding, first[1:], strict=True)
            fits = all(2 * p <= k <= size + 2 * p for k, p, size in sizes)
            need(fits, step, f"has a window {step.kernel} that does not fit {first}")
            if isinstance(step, AvgPoolStep):
                check_rule(step, step.requantise, first)
        case FlattenStep():
            pass
        case PadChannelsStep():
            need(len(first) == 3 and 0 <= min(step.before, step.after) <= 1 << 20, step, f"pads {first}")
        case PadMapStep():
            sides = (step.top, step.left, step.bottom, step.right)
            need(len(first) == 3 and 0 <= min(sides) <= max(sides) <= 1 << 10, step, f"pads {first} by {sides}")
        case SliceStep():
            stop = min(step.stop, first[0]) if first else 0
            need(len(first) == 3 and 0 <= step.start < stop and min(step.step) >= 1, step, f"slices {first}")
        case _:
            _check_tensor(step, inputs)


def check_rule(step: Step, rule: Requantise, shape: Shape) -> None:
    channels = rule.multiplier.shape
    need(channels == rule.shift.shape and channels in ((1,), shape[:1]), step, f"has {channels} factors for {shape}")
    shifts = 0 <= int(rule.shift.min()) <= int(rule.shift.max()) <= MAX_SHIFT
    need(shifts, step, "shifts by less than 0 or more than 62")
    need(int(rule.multiplier.min()) >= 0 and rule.low <= rule.high, step, "has an impossible rescaling")


def _check_tensor(step: Step, inputs: Sequence[Shape]) -> None:
    """Steps of ``mapping.program.digital_steps``."""
    first = inputs[0]
    rule = getattr(step, "requantise", None)
    if rule is not None:
        check_rule(step, rule, (0,))  # one factor
    match step:
        case TableStep():
            _check_table(step)
            need(abs(step.first) <= 1 << 15, step, f"has a table from code {step.first}")
        case AffineStep():
            for weight in (step.weight, *(() if step.below is None else (step.below,))):
                _weights(step, weight, first, 1 << AFFINE_BITS)
            _weights(step, step.offset, first, 1 << OFFSET_BITS)
        case ProductStep():
            _together(step, inputs)
        case MatMulStep():
            fits = all(len(shape) >= 2 for shape in inputs) and first[-1] == inputs[1][-2]
            need(fits and first[-1] <= 1 << (EXACT_BITS - SQUARE_BITS), step, f"multiplies {inputs}")
            need(0 <= step.shift <= MAX_SHIFT, step, f"shifts by {step.shift}")
            _together(step, [shape[:-2] for shape in inputs])
        case ReduceStep():
            _axes(step, step.axes, first)
            need(0 <= step.shift <= MAX_SHIFT, step, f"shifts by {step.shift}")
        case ReshapeStep():
            good = 1 <= len(step.shape) <= MOST_AXES and min(step.shape) >= 1
            need(good and math.prod(step.shape) == math.prod(first), step, f"reshapes {first} to {step.shape!r:.80}")
        case PermuteStep():
            need(sorted(step.order) == list(range(len(first))), step, f"has the order {step.order!r:.80} of {first}")
        case TakeStep():
            _axes(step, (step.axis,), first)
            good = step.index.ndim == 1 and 1 <= step.index.size <= LARGEST_MAP
            need(good, step, f"takes {step.index.shape} places")
            inside = int(step.index.min()) >= -1 and int(step.index.max()) < first[step.axis]
            need(inside and -(1 << 15) <= step.fill < 1 << 15, step, f"takes places that {first} has not")
        case ResampleStep():
            _check_resample(step, first)
        case NormStep():
            _check_norm(step, first)
        case SoftmaxStep():
            _axes(step, (step.axis,), first)
            _check_table(step)
            good = int(step.table.min()) >= 0 and int(step.table[0]) == int(step.table.max()) == 1 << EXP_BITS
            need(good, step, "has a table that does not fall from 2^16")
        case _:
            raise ProgramRecordError(f"{step.name}: unknown step")


def _check_table(step: TableStep | SoftmaxStep) -> None:
    size = step.table.shape
    need(len(size) == 1 and 1 <= size[0] <= LARGEST_TABLE, step, f"has a table of {size}")


def _check_norm(step: NormStep, first: Shape) -> None:
    _axes(step, step.axes, first)
    _weights(step, step.weight, first, 1 << AFFINE_BITS)
    _weights(step, step.offset, first, 1 << OFFSET_BITS)
    n = math.prod(first[axis] for axis in step.axes)
    room = 2 * step.fraction + SQUARE_BITS + (n - 1).bit_length() <= 62 and 0 <= step.fraction <= 8
    need(room and step.eps >= 0 and 0 <= step.eps_shift <= 31, step, f"norms {n} codes beyond 64 bits")


def _check_resample(step: ResampleStep, first: Shape) -> None:
    sizes = (step.rows.shape, step.columns.shape)
    good = len(first) >= 2 and all(len(s) == 2 and s[0] >= 1 for s in sizes)
    need(good and tuple(s[1] for s in sizes) == first[-2:], step, f"resamples {first} by {sizes}")
    need(0 <= step.shift <= MAX_SHIFT, step, f"shifts by {step.shift}")
    most = math.prod(int(np.abs(a.astype(np.int64)).sum(1).max()) for a in (step.rows, step.columns))
    need(most << (SQUARE_BITS // 2) < 1 << EXACT_BITS, step, "has sums beyond 53 bits")


def _weights(step: Step, values: Ints, shape: Shape, most: int) -> None:
    fits = values.ndim == len(shape) and all(a in (1, b) for a, b in zip(values.shape, shape, strict=True))
    need(fits, step, f"has weights {values.shape} for {shape}")
    need(-most <= int(values.min()) <= int(values.max()) <= most, step, f"has weights beyond ±{most}")


def _axes(step: Step, axes: Sequence[int], shape: Shape) -> None:
    good = len(axes) >= 1 and len(set(axes)) == len(axes) and all(0 <= axis < len(shape) for axis in axes)
    need(good, step, f"has axes {tuple(axes)!r:.40} of {shape}")


def _together(step: Step, shapes: Sequence[Shape]) -> None:
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise ProgramRecordError(f"step {step.name!r:.80} takes {shapes[0]} and {shapes[1]}") from None
