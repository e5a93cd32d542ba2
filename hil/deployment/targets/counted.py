"""A chip that only counts: a recipe applied to drawn cells, to know its pulses, time and bytes beforehand.

Progress, the dry run and ``hil improve`` use it, so that they expect the requests that a chip on the wire gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from cim.record.calibration import CalibrationRecord
from cim.record.published import nominal_record, still_record
from hil.deployment.layer_sums import Exact, exact_layers
from hil.deployment.plans.network_plan import NoPlan
from hil.deployment.plans.taps import Taps
from hil.deployment.targets.measured_sums import MeasuredSums
from hil.deployment.targets.wired import WiredTarget
from hil.driver.counting.wire_cost import CountingChip, WireEstimate
from hil.simulation.virtual_target import VirtualTarget
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import Corrections, nominal_corrections
from mapping.program.rounds import part_of_round
from mapping.program.training_inputs import LayerInputs
from mapping.recipe.recipe import Recipe, run_recipe
from mapping.recipe.standing import Standing, Written
from mapping.tune.channel_affine import ChannelTune, TuneTargets

if TYPE_CHECKING:
    from mapping.recipe.standing import Cells

PULSES_A_CELL = 9.0  # of an emulated lab-128: hil deploy --emulated --json, cells.pulses / cells.total


@dataclass
class CountedStage:
    """Work of one stage of a recipe: cells written, readings of cells, images of a tune, waiting time (s), bytes on the
    wire."""

    name: str
    written: int = 0
    readings: int = 0
    images: int = 0
    wait_s: float = 0.0
    wire: WireEstimate = field(default_factory=WireEstimate)


@dataclass(frozen=True)
class RecipeCount:
    """Work of a recipe in all rounds: ``rounds`` lists the stages of each; ``cells``: written for the first time."""

    rounds: Sequence[Sequence[CountedStage]]
    cells: int
    spec: ChipSpec

    @property
    def stages(self) -> Iterator[CountedStage]:
        return (stage for stages in self.rounds for stage in stages)

    @property
    def pulses(self) -> int:
        """Pulses that writing every cell once is expected to take."""
        return round(self.cells * PULSES_A_CELL)

    @property
    def pulses_again(self) -> int:
        """Pulses that writing cells again is expected to take."""
        return round((sum(stage.written for stage in self.stages) - self.cells) * PULSES_A_CELL)

    @property
    def write_s(self) -> float:
        """Chip time of all pulses, waits and readings until cells are written for the last time, s."""
        before = [stage for stages in self.rounds for stage in stages[: _last_writing(stages)]]
        reading_ns = sum(stage.readings for stage in before) * self.spec.timing.cell_read_ns
        pulses_ns = (self.pulses + self.pulses_again) * pulse_ns(self.spec)
        return sum(stage.wait_s for stage in before) + (reading_ns + pulses_ns) * 1e-9

    def wire(self, *names: str) -> WireEstimate:
        """Wire cost of all stages with one of these names."""
        return sum((stage.wire for stage in self.stages if stage.name in names), WireEstimate())


def _last_writing(stages: Sequence[CountedStage]) -> int:
    return max(n for n, stage in enumerate(stages) if stage.written) + 1


def count_recipe(
    program: ConductanceProgram,
    recipe: Recipe,
    record: CalibrationRecord | None = None,
    *,
    chip: CountingChip | None = None,
    early_reads: int = 0,
) -> RecipeCount:
    """Apply ``recipe`` to a chip that only counts, round after round.

    Args:
        record: law of its cells; None: the models of the chip file, or ideal cells if it has no models.
        chip: counts bytes, too; None: bytes are not counted.
        early_reads: readings of each cell right after it is written.
    """
    if record is None:
        spec = program.spec
        record = still_record(spec, program.macros) if spec.models is None else nominal_record(spec, program.macros)
    target = CountedTarget(record, recipe, chip, early_reads)
    images = recipe.tune_images(program)
    run_recipe(recipe, program, target, {}, TuneTargets(images, {}, recipe.tune_plan.rank) if len(images) else None)
    return RecipeCount(target.rounds, target.cells, program.spec)


class CountedTarget:
    """A target with drawn cells that only counts work; satisfies ``mapping.recipe.target.RecipeTarget``."""

    def __init__(
        self,
        record: CalibrationRecord,
        recipe: Recipe,
        chip: CountingChip | None = None,
        early_reads: int = 0,
    ) -> None:
        self.record, self.cells, self.pulses, self._recipe = record, 0, 0, recipe
        self.stages: list[CountedStage] = []  # of the round that is under way
        self.rounds: list[list[CountedStage]] = []
        self._chip, self._wired = chip, None
        self._exact: Exact = {}  # of blank images
        if chip is not None:
            self._wired = WiredTarget(chip.driver, record, Watch(), early_reads=early_reads, force=True)

    @property
    def time_s(self) -> float:
        return self._virtual.time_s

    def targets_us(self, slot: int) -> NDArray[np.float32]:
        return self._virtual.targets_us(slot)

    def parts(self, program: ConductanceProgram) -> Iterator[tuple[int | None, ConductanceProgram]]:
        for number in range(program.rounds):
            self.stages = []
            self.rounds.append(self.stages)
            rng, law = np.random.default_rng(0), self.record.programming
            self._virtual = VirtualTarget(self.record, law, rng, treated=self._recipe.treats_cells)
            if program.rounds == 1:
                yield None, program
                return
            if self._wired is not None:
                self._wired.part = number
            yield number, part_of_round(program, number)

    def write(self, program: ConductanceProgram) -> tuple[int, ...]:
        slots = self._virtual.write(program)
        self.cells += sum(self._wrote(self.targets_us(slot)) for slot in slots)
        if self._wired is not None:
            self._wired.write(program)
        return slots

    def write_again(self, program: ConductanceProgram, slot: int, targets_us: NDArray[np.float32], number: int) -> None:
        self._wrote(targets_us)
        self._virtual.write_again(program, slot, targets_us, number)
        if self._wired is not None:
            self._wired.write_again(program, slot, targets_us, number)

    def hold(self, program: ConductanceProgram) -> None:
        if self._wired is not None:
            self._wired.hold(program)

    def wait(self, seconds: float) -> None:
        self._virtual.wait(seconds)
        self.stages[-1].wait_s += seconds

    def let_age(self, planned_s: float) -> float:
        with self.stage("waiting"):
            self.wait(planned_s)
        return planned_s

    def read(self, program: ConductanceProgram, slot: int, reads: int, number: int) -> NDArray[np.floating]:
        self._read(program, reads, 1)
        if self._wired is not None:
            self._wired.read(program, slot, reads, number)
        return self._virtual.read(program, slot, reads, number)

    def read_back(self, program: ConductanceProgram, reads: int) -> Cells:
        self._read(program, reads, len(program.slots))
        if self._wired is not None:
            self._wired.read_back(program, reads)
        return {}

    def correct(self, standing: Standing, readings_us: Cells, inputs: LayerInputs) -> Corrections:
        return nominal_corrections(standing.program)

    def tune(self, tune: ChannelTune, written: Written) -> None:
        images = tune.targets.images
        self.stages[-1].images += len(images)
        if self._chip is not None:
            if written.number is None and not tune.targets.rank:
                with suppress(NoPlan):
                    taps = Taps(self._chip.driver, tune.program, written.corrections)
                    for step in tune.program.matrices:
                        taps.after(tune.program, step.name, images, 0)
                    return
            self._exact = self._exact or exact_layers(tune.program, np.zeros_like(images))
            sums = MeasuredSums(self._chip.driver, written.corrections)
            for step in written.program.matrices:
                sums.sums(step, self._exact[step.name][0], 0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        before = WireEstimate() if self._chip is None else self._chip.spent
        self.stages.append(CountedStage(name))
        yield
        if self._chip is not None:
            self.stages[-1].wire = self._chip.spent - before

    def step(self, done: int, total: int, what: str) -> None: ...

    def note(self, text: str) -> None: ...

    def _wrote(self, targets_us: NDArray[np.float32]) -> int:
        count = int(np.isfinite(targets_us).sum())
        self.stages[-1].written += count
        self.pulses += round(count * PULSES_A_CELL)
        return count

    def _read(self, program: ConductanceProgram, reads: int, macros: int) -> None:
        macro = program.spec.macro
        self.stages[-1].readings += reads * macros * macro.rows * macro.columns


def pulse_ns(spec: ChipSpec) -> float:
    """Chip time of a programming pulse and its verify."""
    return spec.timing.pulse_ns + spec.write.verify_reads * spec.timing.verify_ns


def writing_by_round(program: ConductanceProgram) -> list[dict[str, float]]:
    """Expected work of writing each round once: cells, pulses (wear), seconds of chip time."""
    costs = []
    for number, stages in enumerate(count_recipe(program, Recipe()).rounds):
        cells = sum(stage.written for stage in stages)
        pulses = round(cells * PULSES_A_CELL)
        time_s = pulses * pulse_ns(program.spec) * 1e-9
        costs.append({"round": number, "cells": cells, "pulses": pulses, "chip_s": time_s})
    return costs
