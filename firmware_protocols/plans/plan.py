"""A plan as words of 32 bits, and back, with every count checked first.

    format 1, arena bytes, channels, height, width, values, steps,
    table of each channel (256 words: the code of each pixel),
    each value:  place, item, rank, lengths
    each step:   kind, output, inputs, input values, argument words, arguments

PlanValue 0 is the image's codes, the output of the last step the answer. ``place`` is the first byte of a value in the
chip's memory, a multiple of 4; ``item`` is 2 or 4 bytes a code. Values that live at the same time do not overlap; what
the chip needs beside its tables is ``arena`` bytes.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.errors import MalformedMessage
from firmware_protocols.plans.instructions import KINDS, Instruction, Ints, RescaleRule, RunLayers, Tensor
from firmware_protocols.plans.messages import LoadPlan

FORMAT = 1
HEAD_WORDS = 7
PIXELS = 256
MOST_AXES = 6
MOST_NUMBERS = 1 << 28  # codes of one value
_NUMBERS = {kind: number for number, kind in KINDS.items()}


@dataclass(frozen=True, slots=True)
class PlanValue:
    """Codes that a step gives: where they lie in the chip's memory (bytes), bytes of each, axes without the images."""

    place: int
    item: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of codes of the value."""
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        """Place of the first byte after the value."""
        return self.place + self.size * self.item


@dataclass(frozen=True, slots=True, eq=False)
class PlanStep:
    """One operation, its input values and its output value, by number."""

    instruction: Instruction
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A whole network: ``table`` int16 (channels, 256), the values and the steps between them.

    Raises:
        MalformedMessage: no steps, values outside the arena, steps that read what is not there.
    """

    arena: int
    table: NDArray[np.int16]
    values: tuple[PlanValue, ...]
    steps: tuple[PlanStep, ...]

    def __post_init__(self) -> None:
        if not self.steps or not self.values or len(self.values[0].shape) != 3:
            raise MalformedMessage("a plan has steps, and a map (channels, height, width) as its first value")
        if self.table.shape != (self.values[0].shape[0], PIXELS):
            raise MalformedMessage(f"the table of the pixels is {self.table.shape}, not (channels, {PIXELS})")
        for number, value in enumerate(self.values):
            if value.place % 4 or value.item not in (2, 4) or not 1 <= len(value.shape) <= MOST_AXES:
                raise MalformedMessage(f"value {number} is {value}")
            if min(value.shape) < 1 or value.size > MOST_NUMBERS or value.place < 0 or value.end > self.arena:
                raise MalformedMessage(f"value {number} is {value}, the plan's memory has {self.arena} bytes")
        there = {0}
        for number, step in enumerate(self.steps):
            if not step.inputs or not there.issuperset(step.inputs) or not 0 <= step.output < len(self.values):
                raise MalformedMessage(f"step {number} reads values {step.inputs} and gives {step.output}")
            there.add(step.output)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of the input image: (height, width, channels)."""
        channels, height, width = self.values[0].shape
        return height, width, channels

    @property
    def products(self) -> tuple[RunLayers, ...]:
        """The operations of the steps that layers execute, in order."""
        return tuple(step.instruction for step in self.steps if isinstance(step.instruction, RunLayers))

    @property
    def answer(self) -> PlanValue:
        return self.values[self.steps[-1].output]

    def words(self) -> NDArray[np.int32]:
        """The plan as 32-bit words for the wire."""
        head = [FORMAT, self.arena, *self.values[0].shape, len(self.values), len(self.steps)]
        parts: list[Any] = [head, self.table.astype(np.int32).ravel()]
        parts += [[value.place, value.item, len(value.shape), *value.shape] for value in self.values]
        for step in self.steps:
            arguments = _joined(list(_arguments(step.instruction)))
            kind = _NUMBERS[type(step.instruction)]
            parts += [[kind, step.output, len(step.inputs), *step.inputs, len(arguments)], arguments]
        return _joined(parts)


class PlanUpload:
    """Collects the words of a plan from its parts."""

    def __init__(self) -> None:
        self._words: list[NDArray[np.int32]] = []

    @property
    def have(self) -> int:
        """Words that have come: the offset of the next part, unless a plan begins anew at 0."""
        return sum(map(len, self._words))

    def take(self, request: LoadPlan) -> Plan | None:
        """The plan, once its last part is there.

        Raises:
            MalformedMessage: a part out of order, or words that are no plan.
        """
        if request.offset == 0:
            self._words = []
        if request.offset != self.have:
            raise MalformedMessage(f"a part of a plan from word {request.offset}, the next one is {self.have}")
        self._words.append(request.words)
        if self.have < request.total:
            return None
        words, self._words = np.concatenate(self._words), []
        return plan_of(words)


def plan_of(words: NDArray[np.int32]) -> Plan:
    """The plan that some words say.

    Raises:
        MalformedMessage: they say none.
    """
    r = _Words(words)
    version, arena, channels, height, width, values, steps = r.take(HEAD_WORDS)
    if version != FORMAT:
        raise MalformedMessage(f"a plan of format {version}, known is {FORMAT}")
    table = r.array(channels * PIXELS)
    if np.abs(table).max(initial=0) >= 1 << 15:
        raise MalformedMessage("codes of pixels have 16 bits")
    found = tuple(_read_value(r) for _ in range(r.count(values)))
    if not found or found[0].shape != (channels, height, width):
        raise MalformedMessage(f"the first value is the image's codes, {(channels, height, width)}")
    made = tuple(_read_step(r) for _ in range(r.count(steps)))
    if r.left:
        raise MalformedMessage(f"{r.left} words are left after the last step")
    return Plan(arena, table.astype(np.int16).reshape(channels, PIXELS), found, made)


def _read_value(r: _Words) -> PlanValue:
    place, item, rank = r.take(3)
    return PlanValue(place, item, tuple(r.take(rank)))


def _read_step(r: _Words) -> PlanStep:
    kind, output, inputs = r.take(3)
    if kind not in KINDS:
        raise MalformedMessage(f"a step of kind {kind}, which is unknown")
    before = tuple(r.take(inputs))
    arguments = _Words(r.array(r.take(1)[0]))
    read = {name: _read(hint, arguments, len(before)) for name, hint in _FIELDS[KINDS[kind]]}
    if arguments.left:
        raise MalformedMessage(f"{arguments.left} arguments too many for a step of kind {kind}")
    return PlanStep(KINDS[kind](**read), before, output)


def _read(hint: Any, r: _Words, inputs: int) -> Any:
    if hint is int:
        return r.take(1)[0]
    if hint == Ints:
        return r.array(r.take(1)[0])
    if hint == Tensor:
        shape = r.take(r.take(1)[0])
        return r.array(math.prod(shape) if shape else 0).reshape(shape or (0,))
    if hint is RescaleRule:
        multiplier, shift = r.array(r.take(1)[0]), r.array(r.take(1)[0])
        return RescaleRule(multiplier, shift, *r.take(2))
    return tuple(_read(RescaleRule, r, 1) for _ in range(inputs))


def _arguments(item: Any) -> Iterator[Any]:
    """The words of an operation's or a rule's fields."""
    for name, hint in _FIELDS[type(item)]:
        value = getattr(item, name)
        if hint is int:
            yield [value]
        elif hint == Ints:
            yield from ([value.size], value)
        elif hint == Tensor:
            yield from ([value.ndim, *value.shape], value.ravel()) if value.size else ([0],)
        else:
            for rule in (value,) if isinstance(value, RescaleRule) else value:
                yield from _arguments(rule)


def _hinted(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    """Name and type of each field."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return tuple((f.name, hints[f.name]) for f in fields(kind))


_FIELDS: dict[type[Any], tuple[tuple[str, Any], ...]] = {kind: _hinted(kind) for kind in (*KINDS.values(), RescaleRule)}


def _joined(parts: list[Any]) -> NDArray[np.int32]:
    if not parts:
        return np.zeros(0, np.int32)
    return np.concatenate([np.asarray(part, np.int64) for part in parts]).astype(np.int32)


class _Words:
    """Takes words from the front; raises ``MalformedMessage`` before it would read behind the last."""

    def __init__(self, words: NDArray[np.int32]) -> None:
        self._words, self._at = words, 0

    @property
    def left(self) -> int:
        return len(self._words) - self._at

    def count(self, count: int) -> int:
        """A number of things of at least one word each that can still follow."""
        if not 0 <= count <= self.left:
            raise MalformedMessage(f"{count} words or entries are announced, {self.left} words are left")
        return count

    def array(self, count: int) -> NDArray[np.int32]:
        self._at += self.count(count)
        return self._words[self._at - count : self._at]

    def take(self, count: int) -> list[int]:
        return [int(word) for word in self.array(count)]
