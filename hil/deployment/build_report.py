"""Results of a run: layer samples, arrays for data.h5, and the report."""

from __future__ import annotations

import datetime
import hashlib
import platform
import shlex
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.cells.lasting_noise import lasting_variance_us2
from cim.chip.encoding import cell_lines
from cim.record.calibration import STUCK, CalibrationRecord
from hil.datasets.image_set import Dataset
from hil.deployment.chip_run import ChipRun
from hil.deployment.deployment import Deployment
from hil.deployment.inference import LayerSums
from hil.deployment.interim_looks import RunAnswers
from hil.deployment.layer_sums import Exact
from hil.deployment.plan import image_cost, plan_of
from hil.deployment.targets.wired import clock_set_back
from hil.deployment.without_tune import BesideTune
from hil.report.answers import most_telling
from hil.report.run_data import MOST_TELLING, MacroReadings, RunData
from hil.verdict.agreement import (
    AgreementReport,
    ChipIdentity,
    DataUse,
    NetworkIdentity,
    count_answers,
    summarise_cells,
)
from hil.verdict.cause_split import CauseSplit
from hil.verdict.fidelity import compare_readbacks
from hil.verdict.layers import LayerSample, layer_statistics
from hil.verdict.movements import SumsBeside
from hil.verdict.tasks.task import Task
from hil.watch import Watch
from mapping.layout.place import targets_by_slot_us
from mapping.network.task import TaskKind
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.rewrite import Rewrite

LAYER_CHIPS = 5  # virtual chips that a layer's residual is compared with

MOST_COMMAND = 2000  # characters
LEAST_SHOWN_US = 0.005  # targets that lie this close to their levels are said to be the levels


def sample_layers(
    job: Deployment, exact: Exact, measured: Mapping[str, LayerSums]
) -> tuple[tuple[LayerSample, ...], tuple[SumsBeside, ...]]:
    """Level sums of every layer for the same, exact input codes: of the chip, ideal, and of virtual chips, as tuned;
    and the same without the tune."""
    virtual = job.virtual_chips(conditioned=True, chips=LAYER_CHIPS)
    codes = {name: inputs for name, (inputs, _) in exact.items()}
    simulated = virtual.layer_sums(codes)
    tuned = virtual.tuned_sums(codes, {name: sums for name, (sums, _) in simulated.items()})
    samples, plain = [], []
    for step in job.program.matrices:
        name, chip = step.name, measured[step.name]
        sums_of_chip, ideal = chip.sums, exact[step.name][1]
        if job.tuned is not None:
            sums_of_chip = np.stack([job.tuned.applied(name, codes[name], one) for one in chip.sums])
        saturated = chip.count.saturated / max(chip.count.total, 1)
        samples.append(LayerSample(name, sums_of_chip, ideal, tuned[name], saturated, simulated[name][1]))
        plain.append(SumsBeside.of(name, chip.sums.mean(axis=0), ideal, simulated[name][0]))
    return tuple(samples), tuple(plain)


def collect(
    job: Deployment,
    data: Dataset,
    order: NDArray[np.int64],
    answers: RunAnswers,
    samples: tuple[LayerSample, ...],
    chip: ChipRun,
) -> RunData:
    """Everything of the run as arrays, for data.h5."""
    program = job.program
    written = {m.slot: m for m in job.written.macros} if job.written else {}
    macros = {
        slot: MacroReadings(
            targets,
            job.readings_us[slot],
            cell_layers(program, slot),
            written[slot].pulses.astype(np.int32) if written else None,
            written[slot].reached if written else None,
            chip.after_us[slot],
            written[slot].early_us if written else None,
        )
        for slot, targets in targets_by_slot_us(program)
    }
    measured, simulated = np.concatenate(answers.measured, axis=1), np.concatenate(answers.simulated, axis=1)
    ideal, again = np.concatenate(answers.ideal), np.concatenate(answers.again, axis=1)
    kept = min(measured.shape[1], simulated.shape[1], again.shape[1], len(ideal))
    floats = np.concatenate(answers.floats)[:kept] if answers.floats else None
    scored, task = order[:kept], job.scoring.task
    of_classes = task.kind is TaskKind.CLASSIFY
    if of_classes:
        telling = np.array(most_telling(data.labels[scored], measured, simulated), np.int64)
    else:
        telling = np.array(most_different(task, measured[:, :kept], simulated[:, :kept], answers), np.int64)
    return RunData(
        indices=scored,
        labels=data.labels[scored] if of_classes else np.zeros(0, np.int64),
        classes=task.class_names if of_classes else task.classes,
        ideal_logits=ideal[:kept],
        measured_logits=measured[:, :kept],
        simulated_logits=simulated[:, :kept],
        float_logits=floats,
        such_logits=again[:, :kept],
        task=None if of_classes else task,
        targets=None if of_classes else job.scoring.targets[scored],
        scores=scores_of(answers, task),
        telling=telling,
        telling_images=data.images[scored[telling]],
        layers=tuple(s.name for s in program.matrices),
        macros=macros,
        samples=samples,
        link=job.driver.counters,
        untuned_logits=chip.untuned,
        tuned_logits=None if answers.before is None else np.concatenate(answers.before.measured, axis=1),
    )


def scores_of(answers: RunAnswers, task: Task) -> dict[str, NDArray[np.float64]]:
    """Scores of every sample by column, (rows, samples); empty for classes (their logits tell) and for set metrics."""
    if task.metric.binary or not task.metric.paired:
        return {}
    names = {"float": "floats", "ideal": "ideal", "simulated": "simulated", "measured": "measured"}
    found = {name: answers.score(kept) for name, kept in names.items() if kept in answers.scores}
    return {name: np.atleast_2d(np.asarray(scores, np.float64)) for name, scores in found.items()}


def most_different(
    task: Task, measured: NDArray[np.int32], simulated: NDArray[np.int32], answers: RunAnswers
) -> list[int]:
    """Positions of the samples where the chip scores below the virtual chips, largest difference first.

    With a set metric, which has no scores by sample, the distance of the outputs decides.
    """
    kept = measured.shape[1]
    if task.metric.paired:
        chip, virtual = (np.asarray(answers.score(n), np.float64)[:, :kept].mean(0) for n in ("measured", "simulated"))
        worse = (virtual - chip) * (1 if task.metric.greater else -1)
    else:
        worse = np.abs(measured.mean(axis=0) - simulated.mean(axis=0)).mean(axis=1)
    return [int(k) for k in np.argsort(-worse, kind="stable")[: min(MOST_TELLING, kept)]]


def cell_layers(program: ConductanceProgram, slot: int) -> NDArray[np.int16]:
    """Position of each cell's layer in ``program.matrices``, −1 where unused; (rows, columns)."""
    spec = program.spec.macro
    layers = np.full((spec.rows, spec.columns), -1, np.int16)
    for number, step in enumerate(program.matrices):
        for t in step.group.tiles:
            if program.slot(t) == slot:
                lines = cell_lines(spec, t.row0, len(t.inputs), t.output0, len(t.outputs))
                layers[np.ix_(*lines)] = number
    return layers


def report_of(
    job: Deployment,
    data: Dataset,
    order: NDArray[np.int64],
    answers: RunAnswers,
    arrays: RunData,
    causes: CauseSplit | None,
    watch: Watch,
    name: str,
    beside: BesideTune,
) -> AgreementReport:
    """The report of a finished run."""
    program, driver, options, record = job.program, job.driver, job.options, job.record
    cells, written = [arrays.macros[slot] for slot in program.slots], job.written
    targets_us = np.stack([c.targets_us for c in cells])
    before = np.stack([c.readings_us for c in cells])
    after = np.stack([np.asarray(c.readings_after_us) for c in cells])
    read_s = ages(job, answers)
    return AgreementReport(
        chip=chip_identity(job),
        layers=tuple(layer_statistics(s) for s in arrays.samples),
        cells=summarise_cells(
            targets_us,
            before,
            unreached=written.unreached if written else None,
            stuck=stuck_cells(program, record, targets_us),
            pulses=written.pulses if written else 0,
        ),
        link=driver.counters,
        digests=digests(
            program,
            data,
            job.source_digest or program.digest,
            held_program=program.held_digest,
            **({} if job.tuned is None else {"tuned_program": job.tuned.program.digest}),
        ),
        saturated_share=answers.saturated / max(answers.conversions, 1),
        simulated_saturated_share=answers.simulated_saturated_share,
        seeds={"host": options.seed, "calibration": record.seed},
        age_s=options.age_s,
        age_range_s=read_s,
        readback=compare_readbacks(
            before,
            after,
            read_variance_us2=record.read_noise.at(before),
            reads_before=options.read_back_reads,
            reads_after=options.read_back_reads,
            lasting_variance_us2=lasting_variance_us2(record.read_noise, before),
        ),
        readback_reads=options.read_back_reads,
        causes=causes,
        untuned=beside.untuned,
        tuned_alike=beside.tuned_alike,
        tune=beside.tune,
        as_calibrated=beside.as_calibrated,
        tune_harm=job.harm,
        notes=(
            *filter(None, (clock_set_back(read_s[0], options.age_s),)),
            *aim_notes(program),
            *watch.notes,
            *driver.fallbacks,
        ),
        run=name,
        rewrite=options.recipe.get(Rewrite),
        cost=image_cost(program, options.recipe_of(program)),
        plan=plan_of(program, options.recipe_of(program)),
        **of_any_run(program, data, order, answers, job.scoring.task, job.mode, watch, job.network_name),
    )


def of_any_run(
    program: ConductanceProgram,
    data: Dataset,
    order: NDArray[np.int64],
    answers: RunAnswers,
    task: Task,
    mode: str,
    watch: Watch,
    name: str = "",
) -> dict[str, Any]:
    """Report fields common to a deployment and to answers read from a file; ``name`` of the network."""
    return {
        "network": NetworkIdentity(
            name=name,
            layers=len(program.matrices),
            weights=sum(m.group.weights for m in program.matrices),
            weight_bits=program.weight_bits,
            activation_bits=program.activation_bits,
        ),
        "data": data_use(data, order, answers, task),
        "float_accuracy": float(task.totals(answers.score("floats"))) if answers.floats else None,
        "this_chip": answers.this_chip,
        "other_chips": answers.other_chips,
        "timing_s": {k: round(v, 3) for k, v in watch.timing_s.items()},
        "environment": {**environment(), "simulation": str(mode)},
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "task": task.kind.value,
    }


def chip_identity(job: Deployment) -> ChipIdentity:
    about = job.driver.description
    return ChipIdentity(
        kind=about.kind,
        name=about.name,
        revision=about.revision,
        serial=about.serial,
        firmware=about.firmware,
        address=job.driver.address,
        macros=about.macros,
        macros_used=len(job.program.macros),
        rows=about.rows,
        columns=about.columns,
        temperature_c=job.record.temperature_c,
    )


def data_use(data: Dataset, order: NDArray[np.int64], answers: RunAnswers, task: Task) -> DataUse:
    """Which images were seen, in which order, and how often each was right."""
    right = answers.score("measured") if task.metric.binary and answers.measured else None
    return DataUse(
        name=data.name,
        split="test",
        images=answers.seen,
        available=len(data),
        classes=task.class_count,
        order_digest=hashlib.sha256(order.tobytes() + data.truth[order].tobytes()).hexdigest(),
        answers="" if right is None else count_answers(right),
    )


def stuck_cells(program: ConductanceProgram, record: CalibrationRecord, targets_us: NDArray[np.float32]) -> int:
    """Cells in use, (slots, rows, columns), that the record lists as stuck."""
    marked = np.stack([np.isin(record.macro(program.macro_of(slot)).cells, STUCK) for slot in program.slots])
    return int((marked & np.isfinite(targets_us)).sum())


def digests(program: ConductanceProgram, data: Dataset, source: str, **held: str) -> dict[str, str]:
    """Digests of a run; ``source``: digest of the program before drift compensation moved its targets."""
    return {
        "network": program.network_digest,
        "program": source,
        **held,
        "chip": program.spec.digest,
        "calibration_images": program.calibration_digest,
        "data": data.digest,
    }


def aim_notes(program: ConductanceProgram) -> tuple[str, ...]:
    """A note on targets that are offset for drift: how far, for which age, whose drift; empty if at their levels."""
    aims = program.aims
    if aims is None:
        return ()
    moved = max((a - g for a, g in zip(aims.targets_us, program.spec.macro.levels_us, strict=True)), key=abs)
    if abs(moved) < LEAST_SHOWN_US:
        return ()
    return (
        f"targets beside the levels, by up to {moved:+.2f} µS, for {aims.age_s:g} s after programming: {aims.source}",
    )


def ages(job: Deployment, answers: RunAnswers) -> tuple[float, float]:
    """Youngest and oldest age at which a macro was read, s; the plan's age when the chip held the program already."""
    if job.written is None:
        return job.options.age_s, job.options.age_s
    if answers.ages_s is not None:
        return answers.ages_s
    born = [m.programmed_s for m in job.written.macros]
    return answers.times_ns[0] * 1e-9 - max(born), answers.times_ns[-1] * 1e-9 - min(born)


def environment() -> dict[str, str]:
    """Versions that a result may depend on, and the command that made it."""
    packages = ("rram-hil", "torch", "numpy", "scipy", "numba")
    versions = {name: metadata.version(name) for name in packages}
    system = f"{platform.system()} {platform.machine()}"
    program = Path(sys.argv[0])
    name = "hil" if program.name == "__main__.py" and "hil" in program.parts[-3:] else program.name
    command = shlex.join([name, *sys.argv[1:]])[:MOST_COMMAND]
    return {"python": platform.python_version(), "system": system, **versions, "command": command}
