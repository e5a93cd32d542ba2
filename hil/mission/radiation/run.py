"""Answers of a chip with a fault, recomputed from the faulted layer on only.

The chip without the fault runs once; the codes of every step and the sums of every layer are kept. With a fault, a
step is computed anew only where its inputs, its cells or its rule changed; where the same codes come out, nothing after
it changes. Noise is the same: it depends on seed, chip, layer and image alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.simulator.layer import NoiseKey
from cim.simulator.simulator import LayerSimulator
from hil.errors import UsageError
from hil.mission.radiation.inject import ChipUnderTest, Injection
from hil.simulation.virtual_chips import COPY_NOISE, VirtualChip
from mapping.network.nodes import INPUT
from mapping.program import digital_ops
from mapping.program.conductance import AgainStep, ConductanceProgram, MatrixStep, Step
from mapping.program.copies import by_copy, joined
from mapping.program.digital_ops import Codes
from mapping.program.execute import apply, in_places, input_codes, out_of_places

Sums = Mapping[str, NDArray[np.int32]]


@dataclass(frozen=True)
class ChipAnswers:
    """Logits (n, classes), level sums by layer and check, codes by step. ``hung``: the sequencer never ends."""

    logits: NDArray[np.int32]
    sums: Sums
    codes: Mapping[str, Codes]
    hung: bool = False

    @property
    def classes(self) -> NDArray[np.int64]:
        return np.asarray(self.logits.argmax(axis=1))


@dataclass(frozen=True)
class FaultBench:
    """A chip under test, ready to answer: images go in batches of their own, number ``sample`` on for their noise."""

    chip: ChipUnderTest
    virtual: VirtualChip
    checks: Mapping[str, MatrixStep]

    @property
    def program(self) -> ConductanceProgram:
        return self.chip.base

    def healthy(self, images: NDArray[np.uint8], sample: int) -> ChipAnswers:
        """All answers without a fault."""
        codes: dict[str, Codes] = {INPUT: input_codes(images, self.program.input)}
        sums: dict[str, NDArray[np.int32]] = {}
        again = next((step for step in self.program.steps if isinstance(step, AgainStep)), None)
        if again is not None:
            raise UsageError(
                f"{again.name} reads the cells of {again.layer} again: no faults are put into such networks"
            )
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
        dirty: set[str] = set()
        if injection.table is not None:
            codes[INPUT] = input_codes(images, injection.table)
        if INPUT in injection.codes:
            codes[INPUT] = injection.codes[INPUT](codes[INPUT])
        if not np.array_equal(codes[INPUT], before.codes[INPUT]):
            dirty.add(INPUT)
        if injection.next_step is not None:
            return self._derailed(injection, before, sample)
        struck = {name for name, _ in injection.simulators}
        for step in self.program.steps:
            check = self.checks.get(step.name)
            itself = step.name in struck or (check is not None and check.name in struck)
            changed = injection.steps.get(step.name, step)
            if not (dirty & set(step.inputs)) and not itself:
                if step.name not in injection.sums and changed is step and step.name not in injection.codes:
                    continue
                out = self._finished(changed, codes, sums, injection)
            else:
                out = self._step(changed, codes, sums, sample, injection.simulators, injection)
            if step.name in injection.codes:
                out = injection.codes[step.name](out)
            if not np.array_equal(out, before.codes[step.name]):
                dirty.add(step.name)
            codes[step.name] = out
        return ChipAnswers(codes[self.program.steps[-1].name].astype(np.int32), sums, codes)

    def _step(
        self,
        step: Step,
        codes: Mapping[str, Codes],
        sums: dict[str, NDArray[np.int32]],
        sample: int,
        simulators: Mapping[tuple[str, int], LayerSimulator],
        injection: Injection | None = None,
    ) -> Codes:
        if not isinstance(step, MatrixStep):
            return apply(step, codes, self.virtual, layers=self.program.layers)
        seen = in_places(step, codes[step.inputs[0]].astype(np.int16, copy=False))
        sums[step.name] = self._product(step, seen, sample, simulators)
        check = self.checks.get(step.name)
        if check is not None:
            sums[check.name] = self._product(check, seen, sample, simulators)
        return self._finished(step, codes, sums, injection)

    def _finished(
        self, step: Step, codes: Mapping[str, Codes], sums: dict[str, NDArray[np.int32]], injection: Injection | None
    ) -> Codes:
        """A step whose product is known already."""
        if not isinstance(step, MatrixStep):
            return apply(step, codes, self.virtual, layers=self.program.layers)
        if injection is not None and step.name in injection.sums:
            sums[step.name] = injection.sums[step.name](sums[step.name])
        return out_of_places(step, digital_ops.finish(sums[step.name], step.bias, step.requantise))

    def _product(
        self,
        step: MatrixStep,
        codes: NDArray[np.int16],
        sample: int,
        simulators: Mapping[tuple[str, int], LayerSimulator],
    ) -> NDArray[np.int32]:
        """As ``VirtualChip.sums``, with other simulators for some copies."""
        layer = list(self.virtual.layers).index(step.name)
        parts = []
        for copy, seen in by_copy(step.group, codes):
            own = simulators.get((step.name, copy.number), self.virtual.layers[step.name][copy.number])
            key = NoiseKey(self.virtual.seed, self.virtual.number, layer + copy.number * COPY_NOISE, sample)
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
