"""Answers of a chip with a fault; only the faulted layer and the layers after it are computed again.

The chip without the fault runs once; the codes of every step and the sums of every layer are kept. With a fault, a
step is computed anew only where its inputs, its cells or its rule changed, and for the images whose inputs did; where
its codes are unchanged, later steps are not computed. Noise is the same: it depends on seed, chip, layer and image
alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.simulator.layer import NoiseKey
from hil.payload.radiation.faults import ChipUnderTest, Injection
from hil.simulation.virtual_chip import COPY_NOISE, CopySimulator, VirtualChip
from mapping.operators.integer import digital_ops
from mapping.operators.integer.digital_ops import Codes
from mapping.operators.node import INPUT
from mapping.operators.step import Step
from mapping.program.adapter import adapted
from mapping.program.conductance import AgainStep, ConductanceProgram, MatrixStep
from mapping.program.copies import by_copy, joined
from mapping.program.execute import TURN, apply, in_places, input_codes, out_of_places

Sums = Mapping[str, NDArray[np.int32]]


@dataclass(frozen=True)
class ChipAnswers:
    """Logits (n, classes), level sums by layer, codes by step. ``hung``: the sequencer never ends."""

    logits: NDArray[np.int32]
    sums: Sums
    codes: Mapping[str, Codes]
    hung: bool = False

    @property
    def classes(self) -> NDArray[np.int64]:
        return np.asarray(self.logits.argmax(axis=1))


@dataclass(frozen=True)
class FaultContext:
    """A chip under test that runs images in batches; image i has sample number ``sample`` + i, for its noise."""

    chip: ChipUnderTest
    virtual: VirtualChip

    @property
    def program(self) -> ConductanceProgram:
        return self.chip.program

    @property
    def products(self) -> tuple[str, ...]:
        """Steps that multiply by cells, including those that reuse a layer."""
        return tuple(step.name for step in self.program.steps if self.program.product_of(step) is not None)

    def healthy(self, images: NDArray[np.uint8], sample: int) -> ChipAnswers:
        """All answers without a fault."""
        codes: dict[str, Codes] = {INPUT: input_codes(images, self.program.input)}
        sums: dict[str, NDArray[np.int32]] = {}
        for step in self.program.steps:
            codes[step.name] = self._step(step, codes, sums, sample, {})
        return ChipAnswers(codes[self.program.steps[-1].name].astype(np.int32), sums, codes)

    def faulted(self, injection: Injection, before: ChipAnswers, images: NDArray[np.uint8], sample: int) -> ChipAnswers:
        """Answers with a fault, ``before`` being those without it to the same images and samples.

        Raises:
            ValueError: the loader refuses the fault, so nothing runs.
        """
        if injection.refused:
            raise ValueError("a refused fault does not run")
        codes, sums = dict(before.codes), dict(before.sums)
        if injection.table is not None:
            codes[INPUT] = input_codes(images, injection.table)
        if INPUT in injection.codes:
            codes[INPUT] = injection.codes[INPUT](codes[INPUT])
        if injection.next_step is not None:
            return self._derailed(injection, before, sample)
        dirty = {INPUT: _differ(codes[INPUT], before.codes[INPUT])}  # images (n,) by step
        struck = {name for name, _ in injection.simulators}
        for step in self.program.steps:
            layer = self.program.product_of(step)
            itself = layer is not None and layer.name in struck
            ruled = step.name in injection.sums or (step.name if layer is None else layer.name) in injection.steps
            new = np.any([dirty[name] for name in step.inputs], axis=0)
            if itself or (ruled and new.any()):
                out = self._step(step, codes, sums, sample, injection.simulators, injection)
            elif ruled:
                out = self._finished(step, codes, sums, injection)
            else:
                out = self._for_some(step, codes, sums, before, sample, new)
            if step.name in injection.codes:
                out = injection.codes[step.name](out)
            dirty[step.name] = _differ(out, before.codes[step.name])
            codes[step.name] = out
        return ChipAnswers(codes[self.program.steps[-1].name].astype(np.int32), sums, codes)

    def _for_some(
        self,
        step: Step,
        codes: Mapping[str, Codes],
        sums: dict[str, NDArray[np.int32]],
        before: ChipAnswers,
        sample: int,
        new: NDArray[np.bool_],
    ) -> Codes:
        """Compute a fault-free step again for the images (n,) whose input codes changed."""
        if not new.any():
            return before.codes[step.name]
        if new.all():
            return self._step(step, codes, sums, sample, {})
        chosen = np.flatnonzero(new)
        own: dict[str, NDArray[np.int32]] = {}
        out = self._step(step, {name: codes[name][chosen] for name in step.inputs}, own, sample, {}, chosen=chosen)
        sums |= {name: _replaced(before.sums[name], chosen, part) for name, part in own.items()}
        return _replaced(before.codes[step.name], chosen, out)

    def _step(
        self,
        step: Step,
        codes: Mapping[str, Codes],
        sums: dict[str, NDArray[np.int32]],
        sample: int,
        simulators: Mapping[tuple[str, int], CopySimulator],
        injection: Injection | None = None,
        chosen: NDArray[np.intp] | None = None,
    ) -> Codes:
        layer = self.program.product_of(step)
        if layer is not None:
            sample += step.turn * TURN if isinstance(step, AgainStep) else 0
            numbers = None if chosen is None else tuple(chosen.tolist())
            seen = in_places(layer, codes[step.inputs[0]].astype(np.int16, copy=False))
            sums[step.name] = self._product(layer, seen, sample, simulators, numbers)
        return self._finished(step, codes, sums, injection)

    def _finished(
        self, step: Step, codes: Mapping[str, Codes], sums: dict[str, NDArray[np.int32]], injection: Injection | None
    ) -> Codes:
        """Finish a step from its known product, with the rule that a fault may have changed."""
        layer = self.program.product_of(step)
        changed: Any = step if layer is None else layer
        if injection is not None:
            changed = injection.steps.get(changed.name, changed)
        if layer is None:
            return apply(changed, codes, self.virtual, layers=self.program.layers)
        if injection is not None and step.name in injection.sums:
            sums[step.name] = injection.sums[step.name](sums[step.name])
        seen = in_places(layer, codes[step.inputs[0]].astype(np.int16, copy=False))
        total = adapted(layer, seen, sums[step.name])
        return out_of_places(changed, digital_ops.finish(total, changed.bias, changed.requantise))

    def _product(
        self,
        step: MatrixStep,
        codes: NDArray[np.int16],
        sample: int,
        simulators: Mapping[tuple[str, int], CopySimulator],
        chosen: tuple[int, ...] | None,
    ) -> NDArray[np.int32]:
        """Level sums as ``VirtualChip.sums``, with changed simulators for some copies; ``chosen``: image numbers."""
        layer = list(self.virtual.layers).index(step.name)
        parts = []
        for copy, seen in by_copy(step.group, codes):
            own = simulators.get((step.name, copy.number), self.virtual.layers[step.name][copy.number])
            key = NoiseKey(self.virtual.seed, self.virtual.number, layer + copy.number * COPY_NOISE, sample, chosen)
            parts.append(own.level_sums(seen, key)[0])
        return joined(step.group, parts)

    def _derailed(self, injection: Injection, before: ChipAnswers, sample: int) -> ChipAnswers:
        """The sequencer goes on at another step: skipped steps leave the codes of the image before, earlier steps are
        done again (with the same result), and a step that does not exist is never left."""
        steps, target = self.program.steps, injection.next_step
        assert target is not None
        here = [s.name for s in steps].index(injection.fault.step)
        if target >= len(steps):
            return ChipAnswers(before.logits, before.sums, before.codes, hung=True)
        if target <= here:
            return before
        codes, sums = dict(before.codes), dict(before.sums)
        for step in itertools.islice(steps, here, target):
            codes[step.name] = np.roll(before.codes[step.name], 1, axis=0)
        for step in itertools.islice(steps, target, None):
            codes[step.name] = self._step(step, codes, sums, sample, {})
        return ChipAnswers(codes[steps[-1].name].astype(np.int32), sums, codes)


def _differ(codes: Codes, before: Codes) -> NDArray[np.bool_]:
    """Flags (n,) of images with a changed code."""
    if codes is before:
        return np.zeros(len(codes), np.bool_)
    found: NDArray[np.bool_] = (codes != before).reshape(len(codes), -1).any(axis=1)
    return found


def _replaced(whole: NDArray[Any], chosen: NDArray[np.intp], part: NDArray[Any]) -> NDArray[Any]:
    out = whole.copy(order="K")
    out[chosen] = part
    return out
