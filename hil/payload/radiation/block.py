"""A block of injections, the unit of work of one worker; its results do not depend on worker or time.

Injection i has its kind from its number (all kinds in turn), its site and the noise of its scrub from seed and number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.record.calibration import CalibrationRecord
from cim.simulator.modes import SimulationMode
from hil.payload.radiation.detectors import Guards, scrub_finds
from hil.payload.radiation.faults import STORED, ChipUnderTest, Fault, FaultSpace, fault_space, inject
from hil.payload.radiation.outcomes import InjectionResult
from hil.payload.radiation.run import ChipAnswers, FaultContext
from hil.payload.radiation.stored_words import StoredWords, stored_words
from hil.payload.settings import FaultKind
from hil.simulation.virtual_chip import build_chip
from hil.simulation.virtual_chips import VirtualChips
from mapping.program.conductance import ConductanceProgram
from mapping.program.training_inputs import training_inputs
from mapping.recipe.recipe import Recipe

SITES, SCRUB_NOISE = 0xFA17, 0x5C2B  # purpose tags of the host's seeds
JUDGE_SAMPLE = 0  # number of the noise of the first judged image


def fault_context(program: ConductanceProgram, record: CalibrationRecord, recipe: Recipe, *, seed: int) -> FaultContext:
    """Virtual chip 0 of a seed, in fast mode, after a recipe. Always the same.

    Args:
        program: prepared by the recipe (``Recipe.prepared``).
    """
    mode = SimulationMode.FAST
    chips = VirtualChips(program, record, recipe, 1, seed, inputs=training_inputs(program), mode=mode)
    drawn = chips.draw(0)
    virtual = build_chip(program, record, drawn, seed=chips.noise_seed, number=0, mode=mode)
    targets = recipe.targets(program)
    if targets is not None:
        program = virtual.tuned(program, targets).program
    return FaultContext(ChipUnderTest(program, record, drawn), virtual)


@dataclass(frozen=True)
class ContextInputs:
    """Inputs of a worker: program, record, judged and golden images, thresholds, seed, kinds; ``high_share``
    as in the orbit file, ``recipe`` with the age at which the chip answers."""

    program: ConductanceProgram
    record: CalibrationRecord
    images: NDArray[np.uint8]
    golden: NDArray[np.uint8]
    guards: Guards
    seed: int
    kinds: tuple[FaultKind, ...]
    high_share: float
    recipe: Recipe

    @cached_property
    def context(self) -> FaultContext:
        """Built where it is asked for first, once for all blocks that one process does, as is what follows."""
        return fault_context(self.program, self.record, self.recipe, seed=self.seed)

    @cached_property
    def all_images(self) -> NDArray[np.uint8]:
        return np.concatenate([self.images, self.golden])

    @cached_property
    def before(self) -> ChipAnswers:
        """Answers to all images without a fault."""
        return self.context.healthy(self.all_images, JUDGE_SAMPLE)

    @cached_property
    def space(self) -> FaultSpace:
        return fault_space(self.context.program)

    @cached_property
    def words(self) -> StoredWords:
        return stored_words(self.context.program, self.context.chip.drawn.corrections, self.space)


def run_block(job: range, *data: Any) -> list[InjectionResult]:
    """Injections of the numbers of a job: ``search.train.workers.Work`` with ``ContextInputs``."""
    inputs: ContextInputs = data[0]
    return [judge(number, inputs) for number in job]


def site_of(number: int, space: FaultSpace, seed: int, kinds: tuple[FaultKind, ...], high_share: float = 0.5) -> Fault:
    """Draw the fault that injection ``number`` of a campaign sets, by its seed."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, SITES, number]))
    return space.draw(kinds[number % len(kinds)], rng, high_share)


def judge(number: int, inputs: ContextInputs) -> InjectionResult:
    """Inject one fault and compare with the same chip, images and noise without it."""
    context, before, judged = inputs.context, inputs.before, len(inputs.images)
    fault = site_of(number, inputs.space, inputs.seed, inputs.kinds, inputs.high_share)
    injection = inject(context.chip, fault)
    by_code = fault.kind in STORED and inputs.words.read_after([inputs.words.bit_of(fault)]).mended
    place = (number, str(fault.kind), fault.step, fault.tile, fault.place, fault.bit)
    if injection.refused:
        return InjectionResult(*place, True, False, 0, 0, 0, False, False, by_code)
    after = context.faulted(injection, before, inputs.all_images, JUDGE_SAMPLE)
    if after.hung:
        return InjectionResult(*place, False, True, judged, judged, 0, False, False, by_code)
    rng = np.random.default_rng(np.random.SeedSequence([inputs.seed, SCRUB_NOISE, number]))
    step_us, read_noise = inputs.program.spec.macro.level_step_us, context.chip.record.read_noise
    # Layers without a change raise the alarms that they raised before, which are no detection.
    by_image = (
        (after.logits != before.logits).any(axis=1),
        after.classes != before.classes,
        inputs.guards.range_alarms(after, before),
    )
    logits, answers, ranges = (int(found[:judged].sum()) for found in by_image)
    return InjectionResult(
        *place,
        False,
        False,
        logits,
        answers,
        ranges,
        inputs.guards.golden_alarm(after.logits[judged:]),
        scrub_finds(injection.cell, step_us, read_noise, rng),
        by_code,
    )
