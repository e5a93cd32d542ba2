"""Execution of a plan step by step in its declared memory; the emulated chip checks a plan when it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.windows import Window
from firmware_protocols.errors import MalformedMessage
from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import ErrorCode, Progress
from firmware_protocols.plans.arithmetic import apply
from firmware_protocols.plans.instructions import PART, TURN, RunLayers
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan
from firmware_protocols.plans.plan import Plan, PlanUpload, PlanValue
from hil.emulator.compute import Drive, Places, Tally
from hil.emulator.windows_kernel import unfolded

PLAN_WORDS = 1 << 24  # of a plan
PLAN_MEMORY = 256 << 20  # bytes of a plan's values
TOGETHER = 8 << 20  # bytes of values of the images that are worked on together
Multiply = Callable[[int, NDArray[np.int16], Drive, Places, Tally], Generator[Progress | None, None, NDArray[np.int32]]]
"""A loaded layer on vectors (vectors, inputs): codes (vectors, outputs), part by part."""


class LoadedPlan:
    """The plan loaded into the chip, or its parts received so far."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self._parts = PlanUpload()

    def load(self, request: LoadPlan, zeros: Multiply) -> None:
        """Receive a part of a plan; after the last part the plan is checked, with products of 0.

        Raises:
            Refusal: parts out of order, too long, not a plan, steps that do not fit.
        """
        if request.offset == 0:
            self.plan = None
        if request.total > PLAN_WORDS:
            raise Refusal(ErrorCode.LIMIT, "words of a plan", request.total, PLAN_WORDS)
        try:
            plan = self._parts.take(request)
        except MalformedMessage as error:
            raise Refusal(ErrorCode.MALFORMED, f"not a plan: {error.text}") from None
        if plan is not None:
            if plan.arena > PLAN_MEMORY:
                raise Refusal(ErrorCode.LIMIT, "bytes of a plan's values", plan.arena, PLAN_MEMORY)
            check(plan, zeros)
            self.plan = plan

    def forget(self) -> None:
        self.plan, self._parts = None, PlanUpload()


def check(plan: Plan, zeros: Multiply) -> None:
    """Run the plan once on a black image, with products of 0, to check that its steps fit.

    Raises:
        Refusal: a step that does not fit the values around it, or a layer that is not loaded.
    """
    height, width, channels = plan.image_shape
    black = np.zeros((1, height, width, channels), np.uint8)
    for _ in run_images(plan, black, 0, zeros, [Tally() for _ in plan.steps]):
        pass


def run(plan: Plan, request: RunPlan, multiply: Multiply) -> Generator[Progress | None, None, PlanResult]:
    """Answers of a RUN_PLAN request, computed for a few images of one pass at a time."""
    if request.pixels.shape[1:] != plan.image_shape:
        text = f"images of {request.pixels.shape[1:]} for a plan of {plan.image_shape}"
        raise Refusal(ErrorCode.MALFORMED, text, request.pixels[0].size, plan.values[0].size)
    tallies = [Tally() for _ in plan.steps]
    together, passes = max(1, TOGETHER // plan.arena), []
    for number in range(request.passes):
        found = []
        for first in range(0, len(request.pixels), together):
            sample = (request.sample + number * request.pass_step + first) % (1 << 64)
            pixels = request.pixels[first : first + together]
            found.append((yield from run_images(plan, pixels, sample, multiply, tallies)))
        passes.append(np.concatenate(found))
    counts = ([t.saturated for t in tallies], [t.conversions for t in tallies])
    saturated, conversions = (np.minimum(c, (1 << 32) - 1).astype(np.uint32) for c in counts)
    return PlanResult(saturated, conversions, np.stack(passes))


def run_images(
    plan: Plan, pixels: NDArray[np.uint8], sample: int, multiply: Multiply, tallies: Sequence[Tally]
) -> Generator[Progress | None, None, NDArray[np.int32]]:
    """Answers for a batch of images, int32 (images, codes); each yield is one step of the plan."""
    memory = np.zeros((len(pixels), plan.arena), np.uint8)
    channels = np.arange(len(plan.table))[None, :, None, None]
    _put(memory, plan.values[0], plan.table[channels, pixels.transpose(0, 3, 1, 2)])
    for number, step in enumerate(plan.steps):
        inputs = [_view(memory, plan.values[i]).astype(np.int64) for i in step.inputs]
        output = plan.values[step.output]
        try:
            if isinstance(step.instruction, RunLayers):
                found = yield from _product(
                    step.instruction, inputs[0], output.shape, sample, multiply, tallies[number]
                )
            else:
                found = apply(step.instruction, inputs, output.shape)
            if found.shape[1:] != output.shape:
                raise ValueError(f"it gives {found.shape[1:]}, the plan says {output.shape}")
        except Refusal as refused:
            text = f"step {number} of the plan: {refused.text}"
            raise Refusal(refused.code, text, refused.value, refused.limit) from None
        except (ValueError, IndexError) as error:
            raise Refusal(ErrorCode.MALFORMED, f"step {number} of the plan: {error}", number) from None
        _put(memory, output, found)
        yield None
    return _view(memory, plan.answer).astype(np.int32).reshape(len(pixels), -1)


def _product(
    rule: RunLayers, codes: NDArray[np.int64], shape: tuple[int, ...], sample: int, multiply: Multiply, tally: Tally
) -> Generator[Progress | None, None, NDArray[np.int64]]:
    """Codes of the layers of one step, each on its block of the output map."""
    if rule.input_order.size:
        codes = codes[:, rule.input_order]
    driven = (codes + rule.raised).astype(np.int16)
    drive = Drive(rule.range_code, rule.input_bits, bool(rule.input_signed))
    at = (sample + rule.turn * TURN) % (1 << 64)
    found = np.zeros((len(codes), *shape), np.int64)
    for layer, top, rows, left, columns in rule.parts.reshape(-1, PART).tolist():
        if rule.window.size:
            part = _block(driven, rule, (top, rows), (left, columns))
            places = Places(at, rows * columns, 0)
            answers = yield from multiply(layer, part, drive, places, tally)
            maps = answers.reshape(len(codes), rows, columns, -1).transpose(0, 3, 1, 2)
            if top < 0 or left < 0 or top + rows > shape[1] or left + columns > shape[2]:
                raise ValueError(f"a part at ({top}, {left}) of {rows} x {columns} places")
            found[:, :, top : top + rows, left : left + columns] = maps
        else:
            found[:] = yield from multiply(layer, np.ascontiguousarray(driven), drive, Places(at, 1, 0), tally)
    if rule.output_order.size:
        ordered = np.empty_like(found)
        ordered[:, rule.output_order] = found
        return ordered
    return found


def _block(
    driven: NDArray[np.int16], rule: RunLayers, down: tuple[int, int], across: tuple[int, int]
) -> NDArray[np.int16]:
    """Unfolded vectors of the windows of a block, (images · places, inputs)."""
    kernel, stride, (pad_y, pad_x), dilation = ((int(y), int(x)) for y, x in rule.window.reshape(4, 2))
    ends = (down, across)
    padded = np.pad(driven, ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)), constant_values=rule.raised)
    cut = [
        slice(first * s, (first + count - 1) * s + d * (k - 1) + 1)
        for (first, count), k, s, d in zip(ends, kernel, stride, dilation, strict=True)
    ]
    seen = np.ascontiguousarray(padded[:, :, cut[0], cut[1]])
    _, channels, height, width = seen.shape
    window = Window(channels, height, width, kernel, stride, (0, 0), dilation)
    if (window.out_height, window.out_width) != (down[1], across[1]):
        raise ValueError(f"a part of {down[1]} x {across[1]} places hangs over the map")
    return unfolded(seen, window, 0)


def _view(memory: NDArray[np.uint8], value: PlanValue) -> NDArray[Any]:
    kind = np.int16 if value.item == 2 else np.int32
    return memory[:, value.place : value.end].view(kind).reshape(len(memory), *value.shape)


def _put(memory: NDArray[np.uint8], value: PlanValue, codes: NDArray[np.integer]) -> None:
    """Write codes, which must fit the value's items."""
    kind = np.iinfo(np.int16 if value.item == 2 else np.int32)
    if codes.size and (int(codes.min()) < kind.min or int(codes.max()) > kind.max):
        raise Refusal(ErrorCode.MALFORMED, f"codes beyond {8 * value.item} bits", float(codes.max()), kind.max)
    _view(memory, value)[...] = codes
