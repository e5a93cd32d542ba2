"""The interface of an operator as an integer step of a program; integer rules in docs/file-formats.md.

Axes count without the batch. Arrays are int32 unless a docstring says otherwise. ``shift`` of a step takes 64-bit sums
into the range of 32 bits before they are requantised. The first line of a step's docstring is its row in the table
of docs/file-formats.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mapping.errors import MappingFileError
from mapping.operators.integer.digital_ops import MAX_SHIFT, Codes, type_within
from mapping.operators.integer.requantise import Ints, Requantise
from mapping.operators.work import WorkForm

Shape = tuple[int, ...]
"""Without the batch axis."""
Span = tuple[int, int]
"""The least and the largest code that a step can give."""


class ProgramRecordError(MappingFileError, ValueError):
    """Plain data that is not a program."""


Argument = Requantise | tuple[Requantise, ...] | Ints | tuple[int, ...] | int


class ChipOperation:
    """An operation of a chip's plan (docs/file-formats.md, *Plans*) that does what a step does.

    Attributes:
        name: of its instruction (``firmware_protocols.plans.instructions``).
        arguments: the instruction's arguments, by name; an empty tuple is an array that is not there.
    """

    __slots__ = ("arguments", "name")

    def __init__(self, name: str, **arguments: Argument) -> None:
        self.name, self.arguments = name, arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One operation of a graph or a program: ``name`` is unique, ``inputs`` name earlier ones (or ``"input"``).

    ``kind`` is its name in files. ``later``: fields that 1.0 of the files did not have, and what they were then: left
    out where they are still that, so that digests of older files stand. ``takes``: the least and the largest number of
    inputs.
    """

    kind: ClassVar[str]
    later: ClassVar[Mapping[str, Any]] = {}
    takes: ClassVar[tuple[int, float]] = (1, 1)

    name: str
    inputs: tuple[str, ...]

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """Shape of the output, without the batch axis."""
        return inputs[0]

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        """Its work as the cost models count it, from the shapes of its inputs and its output."""
        raise NotImplementedError(self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Part):
    """One integer operation. ``takes_wide``: its rule holds for codes of 32 bits too, others take 16."""

    takes_wide: ClassVar[bool] = False

    def check(self, inputs: Sequence[Shape]) -> None:
        """Raise ``ProgramRecordError`` unless the fields, of unknown origin, fit each other and the inputs."""
        raise NotImplementedError(self.kind)

    def run(self, codes: Sequence[Codes]) -> Codes:
        """Output codes, from those of the inputs; the first axis of every array is the batch."""
        raise NotImplementedError(self.kind)

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        """The operation of a chip that does the same; ``output`` is the step's shape. None: the host runs it."""
        return None

    def span(self, inputs: Sequence[Span]) -> Span:
        """Ends of its output codes: those of its requantisation; without one, those of its inputs."""
        rule: Requantise | None = getattr(self, "requantise", None)
        return span_together(inputs) if rule is None else (rule.low, rule.high)


def span_together(spans: Sequence[Span]) -> Span:
    """The smallest range that holds all of the ranges."""
    return min(low for low, _ in spans), max(high for _, high in spans)


def is_wide(span: Span) -> bool:
    """Whether codes need more than 16 bits."""
    return type_within(*span) is np.int32


def check_step(step: Step, inputs: Sequence[Shape], *, wide: bool) -> None:
    """Raise ``ProgramRecordError`` unless a step fits its inputs; ``wide``: one of them has codes of 32 bits."""
    least, most = step.takes
    need(least <= len(inputs) <= most, step, f"takes {len(inputs)} inputs")
    need(not wide or step.takes_wide, step, "takes codes of more than 16 bits")
    step.check(inputs)


def need(good: bool, step: Step, text: str) -> None:
    if not good:
        raise ProgramRecordError(f"step {step.name!r:.80} {text}")


def check_rule(step: Step, rule: Requantise, shape: Shape) -> None:
    """Raise ``ProgramRecordError`` unless a rescaling has one factor, or one for each channel of ``shape``."""
    channels = rule.multiplier.shape
    need(channels == rule.shift.shape and channels in ((1,), shape[:1]), step, f"has {channels} factors for {shape}")
    shifts = 0 <= int(rule.shift.min()) <= int(rule.shift.max()) <= MAX_SHIFT
    need(shifts, step, "shifts by less than 0 or more than 62")
    need(int(rule.multiplier.min()) >= 0 and rule.low <= rule.high, step, "has an impossible rescaling")


def check_one_factor(step: Step, rule: Requantise) -> None:
    check_rule(step, rule, (0,))


def check_shift(step: Step, shift: int) -> None:
    need(0 <= shift <= MAX_SHIFT, step, f"shifts by {shift}")


def check_weights(step: Step, values: Ints, shape: Shape, most: int) -> None:
    """Raise ``ProgramRecordError`` unless weights have the rank of ``shape``, sizes equal to it or 1, and magnitudes
    of at most ``most``."""
    fits = values.ndim == len(shape) and all(a in (1, b) for a, b in zip(values.shape, shape, strict=True))
    need(fits, step, f"has weights {values.shape} for {shape}")
    need(-most <= int(values.min()) <= int(values.max()) <= most, step, f"has weights beyond ±{most}")


def check_axes(step: Step, axes: Sequence[int], shape: Shape) -> None:
    good = len(axes) >= 1 and len(set(axes)) == len(axes) and all(0 <= axis < len(shape) for axis in axes)
    need(good, step, f"has axes {tuple(axes)!r:.40} of {shape}")


def check_together(step: Step, shapes: Sequence[Shape]) -> None:
    """Raise ``ProgramRecordError`` unless the two shapes are equal but for axes of size 1, which are repeated."""
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise ProgramRecordError(f"step {step.name!r:.80} takes {shapes[0]} and {shapes[1]}") from None


def repeated_shape(shapes: Sequence[Shape]) -> Shape:
    """Shape of arrays of these shapes broadcast together."""
    return tuple(int(size) for size in np.broadcast_shapes(*shapes))
