"""Prediction without a chip on the wire: the score of further chips of this kind.

Each virtual chip is drawn from a record alone: of a chip (``hil calibrate``), of tables of its
cells (``hil chip fit``), or of the models that the chip file names. Chips are drawn, run and let go one
after the other, so that a thousand take the memory of a few.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.cells.programming_law import redraw_law
from cim.chip.file import description_words
from cim.chip.spec import ChipSpec
from cim.record.calibration import CalibrationRecord, nominal_macro
from cim.record.ignorance import (
    BeliefPoints,
    belief_points,
    measured_models,
    unmeasured_record,
    with_stuck_cells,
)
from cim.record.published import NoModels, nominal_record
from cim.simulator.modes import SimulationMode
from hil.calibration.procedure import check_macros
from hil.datasets.image_set import Dataset
from hil.deployment.adaptation import check_adapted
from hil.deployment.build_report import aim_notes
from hil.deployment.options import DeployOptions
from hil.deployment.tuning import check_untuned, note_aims
from hil.errors import MismatchError, UsageError
from hil.prediction.scored import metric_of, scored_images
from hil.prediction.shares import Moves, Shrunk, shares
from hil.prediction.text import Prediction
from hil.simulation.chip_workers import THREADS, ChipWorkers
from hil.simulation.virtual_chip import SampledDevice, VirtualChip, build_chip
from hil.simulation.virtual_chips import VirtualChips, at_once
from hil.simulation.virtual_target import VirtualTarget
from hil.verdict.agreement import count_answers
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.program.training_inputs import LayerInputs, correction_inputs
from mapping.recipe.recipe import fit_digital, write_cells
from mapping.tune.channel_affine import TuneTargets


class Tuning(enum.StrEnum):
    """When a virtual chip is tuned if its prediction covers several ages: at each age, or never."""

    EACH = "each"
    NEVER = "never"


OF_CELLS = ("table", "model")  # kinds of records without a chip behind them
MOST_CHIPS = 1_000_000
LEAST_VARIANCE = 0.05  # no read variance is believed to fall below this share of its value at the reference
# Purpose tags of the host's seeds: stuck cells of chips that nobody measured; paths over several ages; what a
# kind of chips is like, and the columns and stuck cells of one of them.
STUCK, PATH, POINTS, UNMEASURED = 0x57AC, 0xA6E5, 0xB01E, 0x0D0E


def predict(
    program: ConductanceProgram,
    data: Dataset,
    record: CalibrationRecord | None,
    options: DeployOptions,
    watch: Watch,
    *,
    ages_s: Sequence[float] = (),
    temperature_c: float | None = None,
    target: float | None = None,
    mode: SimulationMode | str = SimulationMode.EXACT,
    tune_at: float | Tuning = Tuning.EACH,
    crew: ChipWorkers = THREADS,
) -> Prediction:
    """Run virtual chips drawn from ``record`` alone.

    Args:
        record: None: the models of the chip file.
        ages_s: times after programming; empty takes ``options.age_s``.
        temperature_c: temperature of the reads; None: that of the record.
        target: accuracy, or another metric that is a share, for the yield (fraction).
        tune_at: when each chip is tuned to its own answers: anew at each age, never, or once at this one of the ages
            (it then stays as it was tuned; columns are corrected anew at every age all the same).
            Without a tune in the recipe chips are not tuned.
        crew: workers that simulate chips; results do not depend on it.

    Raises:
        MismatchError: the record is of a chip of another description, lacks a macro in use, or
            lacks temperature coefficients that are needed; or the program is adapted to another chip.
        UsageError: ages, chips or target that make no sense.
    """
    ages = tuple(sorted(set(ages_s))) or (options.age_s,)
    if options.virtual_chips > MOST_CHIPS:
        raise UsageError(f"{options.virtual_chips} virtual chips, over {MOST_CHIPS:,}")
    check_untuned(program)
    options.recipe_of(program)  # refuses what the program leaves no place for
    if program.residual and len(ages) > 1:
        raise UsageError(
            f"{len(ages)} ages of a program with residual slices, whose cells are drawn for one",
            hint="hil simulate --age 1h",
        )
    if isinstance(tune_at, float) and tune_at not in ages:
        raise UsageError(
            f"to be tuned at {tune_at:g} s, which is none of the ages", hint="hil simulate with it in --age too"
        )
    check_adapted(program, None if record is None else record.serial)
    shrunk = shrunk_by(record, program, data, replace(options, age_s=ages[0]), watch, tune_at)
    known, source, notes = record_or_nominal(program, record)
    temperature = known.temperature_c if temperature_c is None else temperature_c
    if abs(temperature - known.temperature_c) > 0.01 and known.thermal is None:
        raise MismatchError(
            f"the record is of {known.temperature_c:g} °C and holds no temperature coefficients",
            hint=f"hil calibrate --second-temperature {temperature:g}C; hil simulate without --temperature",
        )
    images, targets, task = scored_images(program, data, options)
    if target is not None and not (task.metric.share and 0 < target <= 1):
        raise UsageError(f"target of {task.metric.title} {100 * target:g} %, not a share between 0 and 100")
    filled = program.macros if known.kind in OF_CELLS else ()
    recipe = replace(options.recipe_of(program), age_s=ages[0])
    note_aims(program, recipe, watch)
    recipe.check(program, known)
    program = recipe.prepared(program, known, watch)
    row = VirtualRow(
        program,
        at_temperature(known, temperature),
        filled,
        ages,
        temperature,
        options,
        mode,
        None if tune_at is Tuning.NEVER else recipe.targets(program, watch),
        tune_at,
        points_of(program.spec, options) if record is None else None,
    )
    accuracies, right = np.empty((len(ages), options.virtual_chips)), []
    with watch.stage("simulating"):
        for number, logits in enumerate(row.run(images, crew)):
            scores = task.scores(logits, targets)
            accuracies[:, number] = task.totals(scores)
            right.append(scores[0])
            watch.step(number + 1, options.virtual_chips, f"virtual chip {number + 1} of {options.virtual_chips}")
    few = task.metric.binary and len(ages) == 1 and row.points is not None and shares(row.points, accuracies[0]) is None
    with watch.stage("ranges"):
        moves = moves_of(row, images, lambda x: task.scores(x, targets[: x.shape[1]])[0], watch) if few else None
    ideal = float(metric_of(task, run(program, images, IdealMultiply(program)), targets))
    notes = (*notes, tuning_words(row.targets, tune_at), *aim_notes(program))
    return Prediction(
        ideal,
        accuracies,
        len(images),
        ages,
        temperature,
        mode,
        source,
        notes,
        target,
        task.kind,
        task.metric,
        row.points,
        shrunk,
        moves=moves,
        answers=count_answers(np.stack(right)) if task.metric.binary else "",
    )


def moves_of(
    row: VirtualRow, images: NDArray[np.uint8], right: Callable[[NDArray[np.int32]], NDArray[np.float64]], watch: Watch
) -> Moves | None:
    """Change of a virtual chip's score between both ends of each uncertain value; on fewer images, at the cost of one
    row of chips. ``right``: scores of logits (1, n, classes); None: no ranges."""
    points = row.points
    if points is None or not points.names:
        return None
    count, inputs = len(points.names), correction_inputs(row.program)
    few = min(len(images), max(1, len(images) * row.options.virtual_chips // (2 * count)))
    scores = np.empty((count, 2, few))
    for i, end in np.ndindex(count, 2):
        watch.step(2 * i + end, 2 * count, points.names[i])
        places = np.full((1, count), 0.5)
        places[0, i] = end
        at_end = replace(row, points=replace(points, places=places))
        scores[i, end] = right(at_end.answers(0, images[:few], inputs))
    moved = scores[:, 1] - scores[:, 0]
    return Moves(points, moved.mean(1), moved.std(1, ddof=min(1, few - 1)) / np.sqrt(few), few)


def shrunk_by(
    record: CalibrationRecord | None,
    program: ConductanceProgram,
    data: Dataset,
    options: DeployOptions,
    watch: Watch,
    tune_at: float | Tuning,
) -> Shrunk | None:
    """Effect of calibration on the chip file's uncertain values: their measurements, and the interval before it."""
    about = program.spec.models
    if record is None or record.kind in OF_CELLS or about is None or not about.ranges or program.adapted_to:
        return None
    watch.note("the interval before the chip was measured, in the fast mode")
    when = tune_at if isinstance(tune_at, Tuning) else Tuning.EACH
    before = predict(program, data, None, options, watch, mode=SimulationMode.FAST, tune_at=when)
    return Shrunk(about.ranges, measured_models(record, program.spec), before.one_chip(0))


def points_of(spec: ChipSpec, options: DeployOptions) -> BeliefPoints | None:
    """Values drawn for each virtual chip, if the chip file has ranges of values or spreads of columns; else None."""
    about = spec.models
    if about is None or not (about.ranges or about.column_gain_sigma or about.column_offset_codes or about.inl_codes):
        return None
    rng = np.random.default_rng(np.random.SeedSequence([options.seed, POINTS]))
    return belief_points(about, options.virtual_chips, rng)


def tuning_words(targets: TuneTargets | None, tune_at: float | Tuning) -> str:
    if targets is None:
        return "untuned: gains and biases are those of the compiled program"
    when = f"once, {tune_at:g} s after programming" if isinstance(tune_at, float) else "at each age"
    return f"each chip tuned {when}, to its own answers to {len(targets.images)} stored training images"


def record_or_nominal(
    program: ConductanceProgram, record: CalibrationRecord | None
) -> tuple[CalibrationRecord, str, tuple[str, ...]]:
    """The record to draw chips from, with all macros of this program; its source; and the assumptions made.

    Raises:
        MismatchError: a measured chip's record that does not fit the program.
    """
    spec = program.spec
    if record is None:
        try:
            nominal = nominal_record(spec, program.macros)
        except NoModels as error:
            raise UsageError(str(error), hint="--calibration RECORD, of hil calibrate or hil chip fit") from error
        doi = nominal.method.rpartition("doi ")[2] if "doi " in nominal.method else "the chip file"
        assumed = (ASSUMED,) if points_of(spec, DeployOptions()) is None else ()
        return nominal, PUBLISHED.format(spec.name, spec.models and spec.models.programming, doi), assumed
    if record.kind not in OF_CELLS:
        if record.spec_digest != spec.digest:
            raise MismatchError(
                f"the record is of {description_words(record.spec_digest, spec)}, the program for "
                f"{description_words(spec.digest, spec)}",
                hint="compile for the chip that the record measured",
            )
        check_macros(record, program.macros, program.spec.macro)
        return record, f"calibration of {record.kind} {record.chip_name}, serial {record.serial}, {record.date}", ()
    notes = []
    missing = [m for m in program.macros if m not in record.macros]
    if missing:
        notes.append(ASSUMED)
    low, high = record.programming.levels_us[[0, -1]]
    bottom, top = spec.macro.levels_us[0], spec.macro.levels_us[-1]
    step = (top - bottom) / max(len(spec.macro.levels_us) - 1, 1)
    if bottom < low - step / 2 or top > high + step / 2:
        notes.append(
            f"levels of the chip file are {bottom:g} to {top:g} µS, those of the cells {low:.3g} to {high:.3g} µS: "
            "beyond them the nearest level stands"
        )
    return (
        with_nominal_macros(record, spec, program.macros),
        f"cells of {record.chip_name} ({record.method})",
        tuple(notes),
    )


PUBLISHED = "simulated from published models, no chip measured: {} with cells of {} ({})"
ASSUMED = "columns as the chip file says: no macro was measured, so gain, offset and INL are taken as ideal"


def with_nominal_macros(record: CalibrationRecord, spec: ChipSpec, macros: Sequence[int]) -> CalibrationRecord:
    """A record of cells, completed by columns of the chip file for the macros that it lacks."""
    missing = {m: nominal_macro(spec.macro, m) for m in macros if m not in record.macros}
    return replace(record, macros={**missing, **record.macros}) if missing else record


def at_temperature(record: CalibrationRecord, temperature_c: float) -> CalibrationRecord:
    """The record with its read noise at this temperature: variances times 1 + coefficient · (T − reference)."""
    if record.thermal is None:
        return record
    warmer = temperature_c - record.thermal.reference_c
    factor = max(1.0 + record.thermal.read_variance_per_k * warmer, LEAST_VARIANCE)
    noise = record.read_noise
    warm = replace(noise, variance_us2=noise.variance_us2 * factor, flicker_us2=noise.flicker_us2 * factor)
    return replace(record, read_noise=warm)


@dataclass(frozen=True)
class VirtualRow:
    """Virtual chips of one record, each at every age, drawn when needed."""

    program: ConductanceProgram
    record: CalibrationRecord
    filled: tuple[int, ...]  # macros that nobody measured: each chip draws its own stuck cells
    ages_s: tuple[float, ...]
    temperature_c: float
    options: DeployOptions
    mode: SimulationMode | str
    targets: TuneTargets | None = None
    tune_at: float | Tuning = Tuning.EACH
    points: BeliefPoints | None = None  # of chips that only their file describes

    def run(self, images: NDArray[np.uint8], crew: ChipWorkers = THREADS) -> Iterator[NDArray[np.int32]]:
        """Logit codes (ages, n, classes) of each chip in turn; large networks one at a time, others one on a core."""
        inputs, numbers = correction_inputs(self.program), range(self.options.virtual_chips)
        yield from crew.each(_answers, numbers, self, images, inputs, at_once=at_once(self.program))

    def answers(self, number: int, images: NDArray[np.uint8], inputs: LayerInputs) -> NDArray[np.int32]:
        """Logit codes (ages, n, classes) of one chip."""
        logits = [run(program, images, chip) for program, chip in self.ready(number, inputs)]
        return np.stack(logits)

    def ready(self, number: int, inputs: LayerInputs) -> Iterator[tuple[ConductanceProgram, VirtualChip]]:
        """One chip at each age, and the program that it runs, tuned to this chip."""
        program = self.program
        for age_s, chip in zip(self.ages_s, self.chip(number, inputs), strict=True):
            if self.targets is not None and self.tune_at in (Tuning.EACH, age_s):
                program = chip.tuned(self.program, self.targets).program
            yield program, chip

    def chip(self, number: int, inputs: LayerInputs) -> Iterator[VirtualChip]:
        """One virtual chip at each age. At one age it is drawn as ``hil deploy`` draws chips of this kind.

        At several its cells age along one path (``cim.cells.history``): a cell that is far off early is
        likelier to be far off late. It is corrected anew at every age, from simulated readings.
        """
        record = self.record_of(number)
        chips = self._chips(record, inputs)
        if len(self.ages_s) == 1:
            yield chips.chip(number)
            return
        rng = np.random.default_rng(np.random.SeedSequence([self.options.seed, PATH, number]))
        law = redraw_law(record.programming, rng)
        target = VirtualTarget(record, law, rng, temperature_c=self.temperature_c, treated=True)
        recipe = self.options.recipe_of(self.program)
        standing = write_cells(replace(recipe, age_s=self.ages_s[0]), self.program, target)
        for before_s, age_s in zip((0.0, *self.ages_s), self.ages_s, strict=False):
            if before_s:
                target.wait(age_s - before_s)
            corrections = fit_digital(standing, target, recipe.reads, inputs).corrections
            now = dict(target.cells_us)
            drawn = SampledDevice(now, target.columns, corrections, chips.lasting_us(number, now))
            yield build_chip(
                self.program,
                record,
                drawn,
                seed=chips.noise_seed,
                number=number,
                mode=self.mode,
            )

    def record_of(self, number: int) -> CalibrationRecord:
        """The record of virtual chip ``number``, drawn within the uncertainty of the chip file."""
        spec = self.program.spec
        if self.points is not None and spec.models is not None:
            rng = np.random.default_rng(np.random.SeedSequence([self.options.seed, UNMEASURED, number]))
            about = self.points.models(spec.models, number)
            return at_temperature(unmeasured_record(spec, self.program.macros, about, rng), self.temperature_c)
        if not self.filled:
            return self.record
        rng = np.random.default_rng(np.random.SeedSequence([self.options.seed, STUCK, number]))
        parts = {m: with_stuck_cells(self.record.macros[m], self.record, self.program.spec, rng) for m in self.filled}
        return replace(self.record, macros={**self.record.macros, **parts})

    def _chips(self, record: CalibrationRecord, inputs: LayerInputs) -> VirtualChips:
        return VirtualChips(
            self.program,
            record,
            replace(self.options.recipe_of(self.program), age_s=self.ages_s[0]),
            self.options.virtual_chips,
            self.options.seed,
            inputs=inputs,
            mode=self.mode,
            temperature_c=self.temperature_c,
        )


def _answers(number: int, row: VirtualRow, images: NDArray[np.uint8], inputs: LayerInputs) -> NDArray[np.int32]:
    """``VirtualRow.answers`` as a function that a worker process can call."""
    return row.answers(number, images, inputs)
