"""Split the accuracy gap by cause: the run's images simulated with every combination of a chip's error sources.

The game of ``hil.verdict.cause_split``: a coalition is a set of error sources (``cim.record.error_sources``), its value
the accuracy or another metric (and each layer's error energy) of virtual chips that have these and no others. They are
*measured* ones: cells as read back, converters and wires as the record has them. Columns are
corrected anew for every coalition, as a lab would with such a chip; noise is common to all
coalitions (same keys), so that what differs is the parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.record.calibration import CalibrationRecord
from cim.record.device import Columns, draw_columns
from cim.record.error_sources import (
    EVERYTHING,
    NOTHING,
    CellSteps,
    ErrorSource,
    inputs_err,
    record_with_sources,
    spec_with_sources,
)
from cim.record.read_back import estimate_cells
from cim.simulator.modes import SimulationMode
from hil.datasets.image_set import Dataset
from hil.deployment.deployment import Deployment
from hil.deployment.interim_looks import RunAnswers
from hil.deployment.layer_sums import Exact
from hil.simulation.cores import in_threads
from hil.simulation.virtual_chip import SampledDevice, VirtualChip, build_chip
from hil.verdict.cause_split import CauseAnswers, CauseSplit, LayerCauses, split_energy, split_losses
from hil.verdict.layers import LayerSample
from hil.watch import Watch
from mapping.layout.place import macro_levels_us, targets_by_slot_us
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import Corrections
from mapping.program.execute import IdealMultiply, run
from mapping.tune.columns import column_corrections

CHIPS = 2  # virtual chips of a coalition with the calibration error; the others need one
BUDGET = 4e10  # conversions of all coalitions together: fewer images are taken for large networks
LEAST_IMAGES = 200  # but not fewer than these

PROGRAMMING = {"programming": ErrorSource.PROGRAMMING, "relaxation": ErrorSource.RELAXATION}
TOGETHER = {"programming and relaxation": ErrorSource.PROGRAMMING | ErrorSource.RELAXATION}
OTHERS = {
    "read noise": ErrorSource.READ_NOISE,
    "ADC": ErrorSource.ADC,
    "IR drop": ErrorSource.IR_DROP,
}
INPUTS = {"inputs": ErrorSource.INPUTS}  # where they err
ALL_ERRORS = "all simulated errors"
LAST = {"calibration error": ErrorSource.CALIBRATION}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one coalition: scores (chips, n), more is better, and each layer's mean square error (chips,)."""

    right: NDArray[Any]
    energy: Mapping[str, NDArray[np.float64]]


def find_causes(
    job: Deployment,
    data: Dataset,
    order: NDArray[np.int64],
    answers: RunAnswers,
    samples: tuple[LayerSample, ...],
    exact: Exact,
    watch: Watch,
) -> CauseSplit | None:
    """Split the gap of a finished run, and each layer's error energy, as a stage of the run.

    Where the gap's interval holds 0 or less, no error source is switched off and on: all of them are one cause.

    None where causes are not asked for, or a note says why there are none.

    Args:
        order: positions of the images in run order.
        samples: layer samples of the run, for the codes of ``exact``.
    """
    metric = job.scoring.task.metric
    if not job.options.causes:
        return None
    if job.program.residual:
        watch.note("causes are not split with residual slices: lower slices hold errors of the highest")
        return None
    if not metric.paired:
        watch.note(f"causes are split for scores of single samples only, and {metric.title} has none")
        return None
    with watch.stage("finding causes"):
        return _split_gap(job, data, order, answers, samples, exact, watch)


def _split_gap(
    job: Deployment,
    data: Dataset,
    order: NDArray[np.int64],
    answers: RunAnswers,
    samples: tuple[LayerSample, ...],
    exact: Exact,
    watch: Watch,
) -> CauseSplit:
    early_age_s = job.written.early_age_s if job.written else None
    sign = gained(job)

    def split(n: int, rows: Sequence[Outcome], players: Sequence[str], chips: int) -> CauseSplit:
        """The split on the first ``n`` images by the outcomes of all coalitions but the empty and the full one."""
        ideal = sign * answers.score("ideal")[:n]
        start = sign * answers.score("floats")[:n] if answers.floats else ideal
        measured, simulated = (sign * answers.score(name)[:, :n] for name in ("measured", "simulated"))
        found = CauseAnswers(start, ideal, measured, simulated, [row.right for row in rows])
        gap, parts = split_losses(found, players, job.options.seed)
        return CauseSplit(
            start="float" if answers.floats else "ideal",
            gap=gap.loss,
            low=gap.low,
            high=gap.high,
            images=n,
            repeats=len(measured),
            chips=len(simulated),
            chips_per_coalition=chips,
            coalitions=len(rows) + 2,
            early_age_s=early_age_s,
            parts=parts if answers.floats else parts[1:],
            layers=tuple(_layer(sample, rows, players) for sample in samples),
            metric=job.scoring.task.metric,
        )

    together = split(min(answers.seen, job.options.cause_images), (), (ALL_ERRORS,), job.options.virtual_chips)
    if together.low <= 0:
        return together
    players = {**(TOGETHER if early_age_s is None else PROGRAMMING), **OTHERS}
    players |= {**(INPUTS if inputs_err(job.program.spec.macro, job.record) else {}), **LAST}
    game = Coalitions(job, early_age_s, min(CHIPS, job.options.virtual_chips))
    wanted = coalitions(list(players.values()))
    n = images_enough(job, answers, len(game.distinct(wanted)))
    seen = order[:n]
    found = game.play(wanted, data.images[seen], job.scoring.targets[seen], exact, watch)
    simulated = sign * answers.score("simulated")[:, :n]
    found[game.effective(EVERYTHING)] = Outcome(simulated[: game.chips], _energies(samples, game.chips))
    return split(n, [found[game.effective(parts)] for parts in wanted], list(players), game.chips)


def gained(job: Deployment) -> int:
    """Sign of the metric: 1 where more is better, −1 where less is better."""
    return 1 if job.scoring.task.metric.greater else -1


def coalitions(players: Sequence[ErrorSource]) -> list[ErrorSource]:
    """Every coalition but the empty and the full one, in the order of ``hil.verdict.cause_split.shapley``."""
    found = []
    for number in range(1, (1 << len(players)) - 1):
        parts = NOTHING
        for i, player in enumerate(players):
            if number >> i & 1:
                parts |= player
        found.append(parts)
    return found


def images_enough(job: Deployment, answers: RunAnswers, runs: int) -> int:
    """The number of images for each coalition: up to ``cause_images``, fewer for networks with many conversions."""
    most = min(answers.seen, job.options.cause_images)
    conversions = answers.conversions / (job.options.repeats * answers.seen)
    return min(most, max(LEAST_IMAGES, int(BUDGET / max(1.0, conversions * runs))))


class Coalitions:
    """Virtual chips of one deployment with any set of error sources."""

    def __init__(self, job: Deployment, early_age_s: float | None, chips: int) -> None:
        self.job, self.chips = job, chips
        self.virtual = job.virtual_chips(conditioned=True, mode=job.mode)
        self.drawn = [self.virtual.draw(number) for number in range(chips)]
        self.read, self.estimated = _cell_steps(job, early_age_s)
        absent = NOTHING
        if job.record.wire.ohm == 0.0:
            absent |= ErrorSource.IR_DROP
        if not job.record.read_noise.variance_us2.any():
            absent |= ErrorSource.READ_NOISE
        if not inputs_err(job.program.spec.macro, job.record):
            absent |= ErrorSource.INPUTS
        self.present = EVERYTHING & ~absent

    def effective(self, parts: ErrorSource) -> ErrorSource:
        """The error sources among ``parts`` of which the record holds an error at all."""
        return parts & self.present

    def distinct(self, wanted: Sequence[ErrorSource]) -> dict[ErrorSource, int]:
        """Coalitions to simulate, with their number of chips; the empty and the full one are known from the run."""
        done = (NOTHING, self.effective(EVERYTHING))
        parts = dict.fromkeys(p for w in wanted if (p := self.effective(w)) not in done)
        return {p: self.chips if ErrorSource.CALIBRATION in p else 1 for p in parts}

    def play(
        self,
        wanted: Sequence[ErrorSource],
        images: NDArray[np.uint8],
        targets: NDArray[Any],
        exact: Exact,
        watch: Watch,
    ) -> dict[ErrorSource, Outcome]:
        """Simulate every coalition; the empty one is exact."""
        runs = self.distinct(wanted)
        alike: dict[ErrorSource, list[ErrorSource]] = {}  # read noise has no part in the corrections: one fit for both
        for parts in runs:
            alike.setdefault(parts & ~ErrorSource.READ_NOISE, []).append(parts)

        def outcomes(group: list[ErrorSource]) -> list[Outcome]:
            corrections = self.corrections(group[0])
            return [self.outcome(p, corrections, runs[p], images, targets, exact) for p in group]

        none = {name: np.zeros(1) for name in exact}
        ideal = self.scores(run(self.job.program, images, IdealMultiply(self.job.program)), targets)
        found = {NOTHING: Outcome(ideal[None], none)}
        groups = list(alike.values())
        for group, results in zip(groups, in_threads(outcomes, groups), strict=True):
            found.update(zip(group, results, strict=True))
            watch.step(len(found) - 1, len(runs), f"coalition {len(found) - 1} of {len(runs)}")
        return found

    def scores(self, logits: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
        """Scores of logits (n, width), more is better, (n,)."""
        scored: NDArray[Any] = gained(self.job) * self.job.scoring.task.scores(logits, targets)
        return scored

    def corrections(self, parts: ErrorSource) -> Corrections:
        """Column corrections of such a chip, from its readings; without the calibration part, from its exact cells."""
        program, record = with_sources(self.job.program, self.job.record, parts)
        steps = self.read if ErrorSource.CALIBRATION in parts else self.estimated
        cells = {slot: step.with_sources(parts) for slot, step in steps.items()}
        return column_corrections(program, record, cells, self.job.inputs)

    def outcome(
        self,
        parts: ErrorSource,
        corrections: Corrections,
        chips: int,
        images: NDArray[np.uint8],
        targets: NDArray[Any],
        exact: Exact,
    ) -> Outcome:
        """One coalition, on the run's images and on each layer's exact codes."""
        right, energy = [], []
        for number in range(chips):
            chip = self.chip(parts, number, corrections)
            program = self.job.program
            lined = {name: chip.layer_sample(name, codes)[0] for name, (codes, _) in exact.items()}
            if self.job.targets is not None:  # as the chip was, to its own answers
                tuned = chip.tuned(program, self.job.targets)
                program = tuned.program
                lined = {name: tuned.applied(name, exact[name][0], sums) for name, sums in lined.items()}
            right.append(self.scores(run(program, images, chip), targets))
            energy.append([mean_square(lined[name] - sums) for name, (_, sums) in exact.items()])
        return Outcome(np.stack(right), dict(zip(exact, np.array(energy).T, strict=True)))

    def chip(self, parts: ErrorSource, number: int, corrections: Corrections) -> VirtualChip:
        """Virtual chip ``number`` with these parts.

        Without the converters' part nothing is rounded on the way. Then, unless wires bend the sums, one product
        and noise of the right variance are as exact as every conversion by itself, and faster.
        """
        program, record = with_sources(self.job.program, self.job.record, parts)
        return build_chip(
            program,
            record,
            SampledDevice(
                self.cells_us(parts, number),
                self.columns(parts, number),
                corrections,
                self.drawn[number].lasting_us if ErrorSource.READ_NOISE in parts else {},
            ),
            seed=self.virtual.noise_seed,
            number=number,
            mode=self.virtual.mode if parts & (ErrorSource.ADC | ErrorSource.IR_DROP) else SimulationMode.FAST,
        )

    def cells_us(self, parts: ErrorSource, number: int) -> dict[int, NDArray[np.float64]]:
        """Conductances of virtual chip ``number``, µS by slot; with all sources, those of the run's virtual chip."""
        cells = {}
        for slot, steps in self.estimated.items():
            cells[slot] = steps.with_sources(parts)
            if ErrorSource.CALIBRATION in parts:
                cells[slot] = cells[slot] + (self.drawn[number].cells_us[slot] - steps.late_us)
            cells[slot] = np.maximum(cells[slot], 0.0)
        return cells

    def columns(self, parts: ErrorSource, number: int) -> Mapping[int, Columns]:
        """Converters of virtual chip ``number``."""
        if ErrorSource.ADC in parts and ErrorSource.CALIBRATION in parts:
            return self.drawn[number].columns
        _, record = with_sources(self.job.program, self.job.record, parts)
        certain = np.random.default_rng(0)  # errors are zero here: nothing depends on it
        program = self.job.program
        return {slot: draw_columns(record, program.macro_of(slot), certain) for slot in program.slots}


def with_sources(
    program: ConductanceProgram, record: CalibrationRecord, parts: ErrorSource
) -> tuple[ConductanceProgram, CalibrationRecord]:
    """Program and record of a chip that has only these error sources; ``CellSteps`` treats the cells."""
    own = program.spec.macro
    macro = spec_with_sources(own, parts)
    if macro is not own:
        program = replace(program, spec=replace(program.spec, macro=macro))
    return program, record_with_sources(record, own, parts)


def mean_square(errors: NDArray[np.integer]) -> float:
    return float(np.square(errors, dtype=np.float64).mean())


def _cell_steps(job: Deployment, early_age_s: float | None) -> tuple[dict[int, CellSteps], dict[int, CellSteps]]:
    """Target, early and late conductances of every slot's cells: as read, and as estimated from the readings."""
    read, estimated = {}, {}
    early = {m.slot: m.early_us for m in job.written.macros} if job.written else {}
    for slot, targets in targets_by_slot_us(job.program):
        macro = job.program.macro_of(slot)
        late = job.readings_us[slot]
        likely = estimate_cells(targets, late, job.options.read_back_reads, job.record, macro, job.options.age_s)
        first, likely_first = late, likely
        young = early.get(slot)
        if young is not None and early_age_s is not None:
            first = young
            likely_first = estimate_cells(targets, young, job.options.early_reads, job.record, macro, early_age_s)
        wide = np.asarray(macro_levels_us(job.program, slot), np.float64)
        read[slot] = CellSteps(wide, first.astype(np.float64), late.astype(np.float64))
        estimated[slot] = CellSteps(wide, np.asarray(likely_first, np.float64), likely)
    return read, estimated


def _energies(samples: tuple[LayerSample, ...], chips: int | None = None) -> dict[str, NDArray[np.float64]]:
    """Mean square error of each layer on each of the virtual chips that its samples hold: an array (chips,) a layer."""
    return {
        s.layer: np.array([mean_square(chip - s.ideal) for chip in s.simulated[:chips]])
        for s in samples
        if s.simulated is not None
    }


def _layer(sample: LayerSample, rows: Sequence[Outcome], players: Sequence[str]) -> LayerCauses:
    measured = mean_square(sample.measured - sample.ideal)
    simulated = _energies((sample,))[sample.layer]
    return split_energy(
        sample.layer, mean_square(sample.ideal), measured, simulated, [r.energy[sample.layer] for r in rows], players
    )
