"""A verdict on answers that were measured elsewhere: the report of a deployment, without a chip on the wire.

Cells were not read back, so there is no verdict on *this chip*: *other chips* decides. Its virtual chips are those of
``hil.deploy``, drawn from the same seeds: answers of a deployment get the same judgement again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.record.calibration import CalibrationRecord
from cim.record.file import load_record
from hil.datasets.image_set import Dataset
from hil.datasets.input_values import with_pixels
from hil.deployment.adaptation import check_adapted
from hil.deployment.build_report import aim_notes, digests, of_any_run, stuck_cells
from hil.deployment.deployment import mode_of
from hil.deployment.interim_looks import RunAnswers, judged, plan_images
from hil.deployment.network_source import BUNDLED_NETWORK, images_asked, program_of
from hil.deployment.options import DeployOptions, NetworkOptions
from hil.deployment.plan import image_cost
from hil.deployment.resumable import clear_working_files
from hil.deployment.run_settings import asked_for
from hil.deployment.scoring import Scoring, scoring_of
from hil.deployment.tuning import check_untuned, note_aims
from hil.errors import UsageError
from hil.prediction.answers_file import read_answers
from hil.prediction.answers_fit import age_notes, images_of, order_notes, plan_of
from hil.prediction.measured_answers import AnswersOrigin, MeasuredAccuracy, MeasuredAnswers
from hil.prediction.predict import OF_CELLS, Tuning, VirtualRow, points_of, record_or_nominal, tuning_words
from hil.report.answers import most_telling
from hil.report.files import write_report
from hil.report.run_data import RunData
from hil.report.run_folder import RunFolder, new_run_folder
from hil.verdict.accuracy_alone import judge_accuracy
from hil.verdict.agreement import AgreementReport, ChipIdentity, summarise_cells
from hil.verdict.verdict import Judgement, Mode
from hil.verdict.verdict import judge as judge_answers
from hil.watch import Watch
from mapping.layout.place import targets_by_slot_us
from mapping.network.float_run import float_logits
from mapping.network.graph import NetworkGraph
from mapping.network.task import TaskKind
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.recipe.rewrite import Rewrite

CANNOT = "nothing was read back, so that nothing is said of this chip, and causes cannot be separated"
CLASSES_ONLY = "the file has classes, or logits that are not this network's codes: logits are not compared"
ACCURACY_ONLY = "the file has an accuracy alone: only other chips can be judged, and no image of it is known"


def judge(
    network: str | Path | None,
    answers: str | Path,
    *,
    calibration: Path | None = None,
    measured_chip: str | None = None,
    looks: Sequence[int] = (),
    out: Path | None = None,
    options: DeployOptions | None = None,
    watch: Watch | None = None,
    **of: Any,
) -> AgreementReport:
    """Judge answers that were measured elsewhere by virtual chips, and write a run folder.

    Args:
        network: as ``hil.deploy`` takes it; None takes the bundled Fashion-MNIST network.
        answers: .npz or .csv (``hil.prediction.answers_file``).
        calibration: a record of the chip, or of cells; None: the models of the chip file.
        measured_chip: chip to judge, if the file has several.
        looks: image counts of interim analyses, planned before the first answer; empty: one analysis of all.
        out: run folder; None makes runs/NNNN.
        options: as of a deployment. Of an accuracy alone virtual chips answer ``samples`` images; ``age_s`` counts
            where the file does not say the age.
        of: fields of ``hil.deployment.options.NetworkOptions``: ``chip``, ``macros``, ``data`` …

    Raises:
        hil.errors.FileError: invalid answers, or not of these images, with the row; or images used in training.
        hil.errors.MismatchError: the record is of another chip description.
        hil.errors.UsageError: a task other than classes, or ``looks`` that do not fit the answers.
    """
    watch, options = watch or Watch(), options or DeployOptions()
    found = read_answers(answers, measured_chip)
    record = load_record(calibration) if calibration else None
    source = NetworkOptions(**of)
    images = images_asked(source)
    with new_run_folder(out) as folder:
        with watch.stage("compiling"):
            program, graph = program_of(network, source, watch, recipe=options.recipe, task=options.task)
        images = with_pixels(images, program.input.shape, program.preprocess)
        report, arrays = judge_found(found, program, images, record, graph, looks, options, watch)
        name = Path(network).stem if network else BUNDLED_NETWORK.stem
        report = replace(report, asked=asked_for(network, source.data))
        report = write_judged(report, arrays, program, name, folder, options, watch)
    clear_working_files(folder.final)
    return report


def write_judged(
    report: AgreementReport,
    arrays: RunData | None,
    program: ConductanceProgram,
    name: str,
    folder: RunFolder,
    options: DeployOptions,
    watch: Watch,
) -> AgreementReport:
    """The report of judged answers in its run folder, with the network's ``name`` and what an image costs."""
    report = replace(
        report,
        run=str(folder.final),
        network=replace(report.network, name=name),
        cost=image_cost(program, options.recipe_of(program)),
    )
    with watch.stage("reporting"):
        write_report(folder.part, report, arrays)
    return report


@dataclass(frozen=True)
class SuchChips:
    """Virtual chips to judge answers by: ``row``: of ``program`` with its targets, and the source of their errors."""

    program: ConductanceProgram
    record: CalibrationRecord
    row: VirtualRow
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, program: ConductanceProgram, record: CalibrationRecord | None, options: DeployOptions, watch: Watch
    ) -> SuchChips:
        """Virtual chips at ``options.age_s``, drawn from a record, else from the models of the chip file."""
        check_untuned(program)
        check_adapted(program, None if record is None else record.serial)
        known, source, assumed = record_or_nominal(program, record)
        recipe = options.recipe_of(program)
        note_aims(program, recipe, watch)
        recipe.check(program, known)
        program = recipe.prepared(program, known, watch)
        tune = recipe.targets(program, watch)
        mode = mode_of(program, options, tuned=tune is not None)
        filled = program.macros if known.kind in OF_CELLS else ()
        points = points_of(program.spec, options) if record is None else None
        age = (options.age_s,)
        row = VirtualRow(program, known, filled, age, known.temperature_c, options, mode, tune, points=points)
        treated = f"virtual chips are treated as hil deploy treats a chip: {tuning_words(tune, Tuning.EACH)}"
        return cls(program, known, row, (f"other chips: {source}", *assumed, treated, *aim_notes(program)))

    def answers(self, images: NDArray[np.uint8], watch: Watch) -> NDArray[np.int32]:
        """Logit codes (chips, n, classes)."""
        found, count = [], self.row.options.virtual_chips
        with watch.stage("simulating"):
            for number, logits in enumerate(self.row.run(images), 1):
                found.append(logits[0])
                watch.step(number, count, f"virtual chip {number} of {count}")
        return np.stack(found)


def judge_found(
    found: MeasuredAnswers | MeasuredAccuracy,
    program: ConductanceProgram,
    data: Dataset,
    record: CalibrationRecord | None,
    graph: NetworkGraph | None,
    looks: Sequence[int],
    options: DeployOptions,
    watch: Watch,
) -> tuple[AgreementReport, RunData | None]:
    """Report on answers, and its arrays (none for an accuracy alone); arguments as for ``judge``."""
    origin, scoring = found.origin, scoring_of(program, data, options)
    if scoring.task.kind is not TaskKind.CLASSIFY or not scoring.task.metric.binary:
        raise UsageError(f"to {scoring.task.kind} by {scoring.task.metric.title}: answers in a file are classes")
    if isinstance(found, MeasuredAnswers):
        order = images_of(found, data, program, scoring.task.class_count)
        plan = plan_of(looks, len(order))
    else:
        order, plan = plan_images(data, program, options, watch)[0], ()
    options = replace(options, age_s=options.age_s if origin.age_s is None else origin.age_s)
    such = SuchChips.of(program, record, options, watch)
    images, answers, targets = data.images[order], RunAnswers(), scoring.targets[order]
    with watch.stage("ideal"):
        answers.add("ideal", run(such.program, images, IdealMultiply(such.program)), targets, scoring)
        if graph is not None:
            answers.add("floats", float_logits(graph, images), targets, scoring)
    answers.add("again", such.answers(images, watch), targets, scoring)
    arrays: RunData | None = None
    limits: tuple[str, ...] = (ACCURACY_ONLY,)
    if isinstance(found, MeasuredAnswers):
        answers.add("measured", codes_of(found, scoring.task.class_count), targets, scoring)
        answers.other_chips = judged_paired(answers, found.logits is not None, plan, scoring)
        arrays = arrays_of(answers, found, data, order, scoring)
        limits = (*order_notes(found, arrays.ideal_logits), *(() if found.logits is not None else (CLASSES_ONLY,)))
    else:
        scores = answers.score("again"), answers.score("ideal")
        answers.other_chips = judge_accuracy(
            found.accuracy, found.images, found.runs, *scores, tolerance=scoring.tolerance
        )
    notes = (*limits, CANNOT, *age_notes(origin, options.age_s), *such.notes, *watch.notes)
    return report_of(such, origin, answers, data, order, scoring, notes, program.digest, watch), arrays


def codes_of(found: MeasuredAnswers, classes: int) -> NDArray[np.int32]:
    """Logit codes (m, n, classes); for answers without logits, 1 for the predicted class and 0 for the others."""
    if found.logits is not None:
        return found.logits
    return np.equal(found.answers[..., None], np.arange(classes)).astype(np.int32)


def judged_paired(answers: RunAnswers, codes: bool, plan: tuple[int, ...], scoring: Scoring) -> Judgement:
    """*Other chips* judged image by image; ``codes``: measured logits are codes of this network."""
    if codes:
        return judged(answers, "again", plan.index(answers.seen) + 1, plan, scoring)
    return judge_answers(
        answers.score("measured"),
        answers.score("again"),
        answers.score("ideal"),
        mode=Mode.UNCONDITIONAL,
        tolerance=scoring.tolerance,
        look=plan.index(answers.seen) + 1,
        looks=plan,
        metric=scoring.task.metric,
    )


def arrays_of(
    answers: RunAnswers, found: MeasuredAnswers, data: Dataset, order: NDArray[np.int64], scoring: Scoring
) -> RunData:
    """Every answer as arrays, for data.h5; with comparable logits, also images where chip and simulator differ most."""
    (ideal,), (measured,), (simulated,), labels = answers.ideal, answers.measured, answers.again, data.labels[order]
    telling = None
    if found.logits is not None:
        telling = np.array(most_telling(labels, measured, simulated), np.int64)
    return RunData(
        indices=order,
        labels=labels,
        classes=scoring.task.class_names,
        ideal_logits=ideal,
        measured_logits=measured,
        simulated_logits=simulated,
        float_logits=answers.floats[0] if answers.floats else None,
        telling=telling,
        telling_images=None if telling is None else data.images[order[telling]],
    )


def report_of(
    such: SuchChips,
    origin: AnswersOrigin,
    answers: RunAnswers,
    data: Dataset,
    order: NDArray[np.int64],
    scoring: Scoring,
    notes: tuple[str, ...],
    source_digest: str,
    watch: Watch,
) -> AgreementReport:
    """The report of judged answers; fields that need a chip on the wire are empty."""
    program, record, options = such.program, such.record, such.row.options
    spec, targets = program.spec, np.stack([targets for _, targets in targets_by_slot_us(program)])
    return AgreementReport(
        chip=ChipIdentity(
            kind=origin.backend,
            name=spec.name,
            revision="",
            serial=origin.chip,
            firmware="",
            address="",
            macros=spec.macros,
            macros_used=len(program.macros),
            rows=spec.macro.rows,
            columns=spec.macro.columns,
            told_by=origin.source,
        ),
        layers=(),
        cells=summarise_cells(
            targets,
            np.full_like(targets, np.nan),
            unreached=None,
            stuck=stuck_cells(program, record, targets),
            pulses=0,
        ),
        link={},
        digests=digests(program, data, source_digest) | {"answers": origin.digest},
        saturated_share=None,
        simulated_saturated_share=None,
        seeds={"host": options.seed, "calibration": record.seed},
        age_s=options.age_s,
        age_range_s=origin.age_range_s or (options.age_s, options.age_s),
        notes=notes,
        rewrite=options.recipe.get(Rewrite),
        **of_any_run(program, data, order, answers, scoring.task, such.row.mode, watch),
    )
