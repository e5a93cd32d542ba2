"""A block of injections: what a worker does, the same wherever and whenever it is done.

Injection i has its kind from its number (all kinds in turn), its site and the noise of its scrub from seed and number.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.record.calibration import CalibrationRecord
from hil.payload.radiation.checksums import checked_program
from hil.payload.radiation.context import fault_context
from hil.payload.radiation.detectors import Guards, check_names, scrub_finds
from hil.payload.radiation.inject import inject
from hil.payload.radiation.kinds import FaultKind
from hil.payload.radiation.run import ChipAnswers, FaultContext
from hil.payload.radiation.space import Fault, FaultSpace, fault_space
from hil.payload.radiation.stored_words import STORED, StoredWords, stored_words
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.recipe import Recipe

# Purpose tags of the host's seeds.
SITES, SCRUB_NOISE = 0xFA17, 0x5C2B
JUDGE_SAMPLE = 0  # number of the noise of the first judged image


@dataclass(frozen=True)
class ContextInputs:
    """All that a worker needs: program, record, judged and golden images, thresholds, seed, kinds; ``high_share``
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
    def ready(self) -> ReadyContext:
        """Built where it is asked for first, once for all blocks that one process does."""
        checked = checked_program(self.program)
        context = fault_context(self.program, checked, self.record, self.recipe, seed=self.seed)
        images = np.concatenate([self.images, self.golden])
        space = fault_space(context.program)
        words = stored_words(context.program, context.chip.drawn.corrections, space)
        return ReadyContext(context, images, context.healthy(images, JUDGE_SAMPLE), space, words)


@dataclass(frozen=True)
class ReadyContext:
    """A chip under test with its judged and golden images, its answers to them without a fault, all sites, and its
    stored words."""

    context: FaultContext
    images: NDArray[np.uint8]
    before: ChipAnswers
    space: FaultSpace
    words: StoredWords


@dataclass(frozen=True, slots=True)
class InjectionResult:
    """One injection. Counts are of judged images: logits changed, answers changed, range and checksum alarms.
    ``ecc_mended``: it struck a stored word, whose code gave the word back."""

    number: int
    kind: str
    step: str
    tile: int
    place: int
    bit: int
    refused: bool
    hung: bool
    logits: int
    answers: int
    range_alarms: int
    checksum_alarms: int
    golden_alarm: bool
    scrubbed: bool
    ecc_mended: bool

    def row(self) -> list[Any]:
        return list(astuple(self))


def run_block(job: range, *data: Any) -> list[InjectionResult]:
    """Injections of the numbers of a job: ``search.train.workers.Work`` with ``ContextInputs``; no epochs are told."""
    inputs: ContextInputs = data[0]
    return [judge(number, inputs) for number in job]


def site_of(number: int, space: FaultSpace, seed: int, kinds: tuple[FaultKind, ...], high_share: float = 0.5) -> Fault:
    """Draw the fault that injection ``number`` of a campaign sets, by its seed."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, SITES, number]))
    return space.draw(kinds[number % len(kinds)], rng, high_share)


def judge(number: int, inputs: ContextInputs) -> InjectionResult:
    """Inject one fault and compare with the same chip, images and noise without it."""
    ready = inputs.ready
    context, before = ready.context, ready.before
    fault = site_of(number, ready.space, inputs.seed, inputs.kinds, inputs.high_share)
    injection = inject(context.chip, fault)
    place = (number, str(fault.kind), fault.step, fault.tile, fault.place, fault.bit)
    reading = ready.words.read_after([ready.words.bit_of(fault)]) if fault.kind in STORED else None
    by_code = reading is not None and reading.noticed and reading.whole
    if injection.refused:
        return InjectionResult(*place, True, False, 0, 0, 0, 0, False, False, by_code)
    after = context.faulted(injection, before, ready.images, JUDGE_SAMPLE)
    if after.hung:
        return InjectionResult(*place, False, True, len(inputs.images), len(inputs.images), 0, 0, False, False, by_code)
    judged = slice(0, len(inputs.images))
    logits = (after.logits != before.logits)[judged].any(axis=1)
    rng = np.random.default_rng(np.random.SeedSequence([inputs.seed, SCRUB_NOISE, number]))
    macro = inputs.program.spec.macro
    # Layers without a change raise the alarms that they raised before, which are no detection.
    by_range = inputs.guards.range_alarms(after, before)
    by_checksum = inputs.guards.checksum_alarms(after, check_names(context), before)
    return InjectionResult(
        *place,
        False,
        False,
        int(logits.sum()),
        int((after.classes != before.classes)[judged].sum()),
        int(by_range[judged].sum()),
        int(by_checksum[judged].sum()),
        inputs.guards.golden_alarm(after.logits[len(inputs.images) :]),
        scrub_finds(injection.cell, macro.level_step_us, context.chip.record.read_noise, rng),
        by_code,
    )
