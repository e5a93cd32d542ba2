"""A compiled network as the plan of a chip: values in its memory, and steps between them.

Memory of a value is freed after its last use. Values are placed in the order of the steps, in the opposite order, and
largest first (arXiv 2001.03288); the order with the least memory is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import MacroSpec, SignedInput
from firmware_protocols.plans import instructions as plan
from firmware_protocols.plans.instructions import Instruction, RescaleRule
from firmware_protocols.plans.plan import PIXELS, Plan, PlanStep, PlanValue
from hil.errors import UsageError
from mapping.operators.integer.digital_ops import Codes, type_within
from mapping.operators.integer.requantise import Requantise
from mapping.operators.node import INPUT
from mapping.operators.step import Argument, Shape, Step
from mapping.program.conductance import AgainStep, ConductanceProgram, InputCodes, MatrixStep
from mapping.program.copies import copies_of
from mapping.program.shapes import step_shape, step_shapes
from mapping.tune.fit_limits import place_step

NONE = np.zeros(0, np.int32)
ALIGNED = 4  # bytes: places of values are multiples
OPERATIONS: dict[str, Callable[..., Instruction]] = {kind.__name__: kind for kind in plan.KINDS.values()}
Numbers = Mapping[tuple[str, int], int]
"""Layer and copy -> the chip's number of that layer."""


class NoPlan(UsageError):
    """The network has a step that no chip runs."""


@dataclass(frozen=True, slots=True)
class Carried:
    """The one value that crosses a cut of the network before step ``at``: its name, shape and range of codes."""

    at: int  # number of a step
    name: str
    shape: Shape
    low: int
    high: int


def network_plan(program: ConductanceProgram, numbers: Numbers, since: Carried | None = None) -> Plan:
    """The plan of a program whose layers are loaded under ``numbers``, or of its steps after the cut at ``since``.

    Raises:
        NoPlan: a layer has an adapter, or lies on the chip in rounds.
    """
    steps, layers = program.steps[since.at if since is not None else 0 :], program.layers
    for layer in (layers[s.layer] if isinstance(s, AgainStep) else s for s in steps):
        if isinstance(layer, MatrixStep) and layer.adapter is not None:
            raise NoPlan(f"layer {layer.name} has an adapter, which the host executes")
    if program.rounds > 1:
        raise NoPlan(f"the chip is written in {program.rounds} rounds")
    writing = PlanWriting(program.input)
    if since is not None:
        writing = PlanWriting(flat_codes(since.shape, since.low))
        writing.shaped(since.name, since.shape, since.low, since.high)
    writing.run(steps, layers, numbers, program.spec.macro)
    return writing.plan()


def carried_values(program: ConductanceProgram) -> list[Carried]:
    """Cuts that divide a network into two parts with layers each, crossed by one value whose codes fit in a pixel."""
    steps, layers, found = program.steps, program.layers, list[Carried]()
    shapes, ends = {INPUT: program.input.shape, **step_shapes(program)}, {INPUT: _span(program.input.table)}
    last_use = {name: i for i, step in enumerate(steps) for name in step.inputs}
    for at, step in enumerate(steps):
        if at:
            (name, *others) = [n for n in ends if last_use.get(n, -1) >= at] or [INPUT]
            low, high = ends[name]
            halves = [any(isinstance(s, MatrixStep) for s in half) for half in (steps[:at], steps[at:])]
            if not others and all(halves) and high - low < PIXELS:
                found.append(Carried(at, name, tuple(shapes[name]), low, high))
        own = layers[step.layer] if isinstance(step, AgainStep) else step
        ends[step.name] = own.span([ends[n] for n in step.inputs])
    return found


def flat_codes(shape: Shape, low: int) -> InputCodes:
    """Input codes that pass a value of the network in place of an image: pixel = code − ``low``, in one channel."""
    first, *others = shape
    table = (np.arange(PIXELS) + low).astype(np.int16)[None]
    return InputCodes((1, first, math.prod(others)), 8, low < 0, table)


def as_flat(codes: Codes, low: int) -> NDArray[np.uint8]:
    """Values (n, …) as images of ``flat_codes``."""
    return (codes.reshape(len(codes), codes.shape[1], -1, 1) - low).astype(np.uint8)


class PlanWriting:
    """A plan as it is written, step after step; value 0 are the images' codes."""

    def __init__(self, given: InputCodes) -> None:
        self._given, self._memory, self._steps = given, _Memory(), list[PlanStep]()
        self._shapes: dict[str, Shape] = {INPUT: given.shape}
        self._ends: dict[str, tuple[int, int]] = {INPUT: _span(given.table)}
        self._values = {INPUT: self._memory.take(given.shape, *self._ends[INPUT])}

    def plan(self) -> Plan:
        """The plan of all steps so far; the last step gives the answer."""
        values = self._memory.placed()
        return Plan(memory_of(values), self._given.table, tuple(values), tuple(self._steps))

    def run(self, steps: Sequence[Step], layers: Mapping[str, MatrixStep], numbers: Numbers, macro: MacroSpec) -> None:
        """Steps of a program in their order; memory of values that no later step reads is freed."""
        last_use = {name: i for i, step in enumerate(steps) for name in step.inputs}
        for i, step in enumerate(steps):
            given = [self._shapes[name] for name in step.inputs]
            shape = step_shape(step, given, layers)
            instruction = instruction_of(step, shape, layers, numbers, macro)
            own = layers[step.layer] if isinstance(step, AgainStep) else step
            self.put(step.name, instruction, step.inputs, shape, own.span([self._ends[n] for n in step.inputs]))
            for name in {*step.inputs, step.name}:
                if last_use.get(name, i if name != steps[-1].name else -1) == i:
                    self._memory.give_back(self._values[name])

    def put(
        self,
        name: str,
        instruction: Instruction,
        inputs: Sequence[str],
        shape: Shape,
        ends: tuple[int, int] | None = None,
    ) -> None:
        """Append a step and its output value, whose codes lie in ``ends``; None: in the range of its first input."""
        self._shapes[name], self._ends[name] = shape, ends or self._ends[inputs[0]]
        self._values[name] = self._memory.take(shape, *self._ends[name])
        self._steps.append(PlanStep(instruction, tuple(self._values[n] for n in inputs), self._values[name]))

    def shaped(self, name: str, shape: Shape, low: int, high: int) -> None:
        """Reshape the input of ``flat_codes`` to its own shape; then the memory of the input pixels is free."""
        self.put(name, plan.ReshapeCodes(), [INPUT], shape, (low, high))
        self._memory.give_back(self._values[INPUT])

    def some_places(self, name: str) -> None:
        """Append steps that pick some positions of a layer's map (``mapping.tune.fit_limits``), (outputs, places)."""
        outputs, *lengths = self._shapes[name]
        places = math.prod(lengths)
        take = place_step(places)
        self.put(f"{name}, flat", plan.ReshapeCodes(), [name], (outputs, places))
        if take > 1:
            slicing = plan.SliceCodes(_ints(0, 0), _ints(1, take))
            self.put(f"{name}, some", slicing, [f"{name}, flat"], (outputs, len(range(0, places, take))))


def instruction_of(
    step: Step,
    output: Shape,
    layers: Mapping[str, MatrixStep],
    numbers: Numbers,
    macro: MacroSpec,
) -> Instruction:
    """A step of a program as a chip's operation."""
    if isinstance(step, MatrixStep):
        return _product(step, 0, numbers, macro)
    if isinstance(step, AgainStep):
        return _product(layers[step.layer], step.turn, numbers, macro)
    operation = step.chip_operation(output)
    kind = None if operation is None else OPERATIONS.get(operation.name)
    if operation is None or kind is None:
        raise NoPlan(f"step {step.name} ({type(step).__name__}) has no operation of a chip")
    return kind(**{name: _argument(value) for name, value in operation.arguments.items()})


def _argument(value: Argument) -> RescaleRule | tuple[RescaleRule, ...] | NDArray[np.int32] | int:
    """An attribute of an operation (shape, axis, number) as its instruction encodes it."""
    match value:
        case Requantise():
            return _rule(value)
        case (Requantise(), *_):
            return tuple(_rule(rule) for rule in value if isinstance(rule, Requantise))
        case tuple():
            return np.array(value, np.int32)
        case np.ndarray():
            return value
    return int(value)


def _product(step: MatrixStep, turn: int, numbers: Numbers, macro: MacroSpec) -> plan.RunLayers:
    group, parts = step.group, []
    for copy in copies_of(group):
        down, across = copy.block if copy.block is not None else _whole(step)
        parts += [numbers[step.name, copy.number], down.start, len(down), across.start, len(across)]
    w, offset = group.window, group.input_signed and macro.inputs.signed is SignedInput.OFFSET
    window = NONE if w is None else _ints(*w.kernel, *w.stride, *w.padding, *w.dilation)
    return plan.RunLayers(
        range_code=group.range_code,
        input_bits=group.input_bits,
        input_signed=int(group.input_signed),
        raised=1 << (group.input_bits - 1) if offset else 0,
        turn=turn,
        window=window,
        input_order=NONE if step.input_order is None else step.input_order,
        output_order=NONE if step.output_order is None else step.output_order,
        parts=_ints(*parts),
    )


def _whole(step: MatrixStep) -> tuple[range, range]:
    """Ranges over all rows and columns of a layer's output map; one position for a vector."""
    w = step.group.window
    return (range(1), range(1)) if w is None else (range(w.out_height), range(w.out_width))


def _rule(rule: Requantise) -> RescaleRule:
    return RescaleRule(rule.multiplier, rule.shift, rule.low, rule.high)


def _ints(*numbers: int) -> NDArray[np.int32]:
    return np.array(numbers, np.int32)


def _span(values: NDArray[np.integer]) -> tuple[int, int]:
    return int(values.min()), int(values.max())


@dataclass
class _Memory:
    """Memory of a plan: its values and, once all are known, their places."""

    _values: list[PlanValue] = field(default_factory=list)
    _until: dict[int, int] = field(default_factory=dict)  # first later value that may take its memory

    def take(self, shape: Shape, low: int, high: int) -> int:
        """The number of a new value that holds codes between two ends."""
        self._values.append(PlanValue(0, np.dtype(type_within(low, high)).itemsize, tuple(shape)))
        return len(self._values) - 1

    def give_back(self, number: int) -> None:
        self._until[number] = len(self._values)

    def placed(self) -> list[PlanValue]:
        """The values with their places, by the order of three that needs the least memory."""
        numbers = range(len(self._values))
        largest = sorted(numbers, key=lambda number: -self._values[number].end)
        return min((self._at_first_gaps(order) for order in (numbers, numbers[::-1], largest)), key=memory_of)

    def _at_first_gaps(self, order: Sequence[int]) -> list[PlanValue]:
        """Every value, in an order, in the first gap between those alive at the same time."""
        until = [self._until.get(number, len(order)) for number in range(len(order))]
        found: dict[int, PlanValue] = {}
        for number in order:
            value, place = self._values[number], 0
            beside = [other for n, other in found.items() if n < until[number] and number < until[n]]
            for other in sorted(beside, key=lambda other: other.place):
                if place + value.end <= other.place:
                    break
                place = max(place, -(-other.end // ALIGNED) * ALIGNED)
            found[number] = replace(value, place=place)
        return [found[number] for number in range(len(found))]


def memory_of(values: Sequence[PlanValue]) -> int:
    """Bytes that hold all of some values."""
    return -(-max(value.end for value in values) // ALIGNED) * ALIGNED
