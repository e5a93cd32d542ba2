"""Deploy: compile, program, calibrate, run on the chip and in the simulator, and judge.

``deploy`` is the whole story with files and ports, ``deploy_on`` the part with an open chip.
Chapters: ``hil.deployment.chip_record`` finds a record or measures the chip, ``hil.deployment.targets.wired`` is the
chip that the recipe is carried out on, in ``hil.deployment.rounds`` where the network is larger,
``hil.deployment.inference`` and ``hil.simulation.virtual_chips`` run images, ``hil.deployment.interim_looks`` plans
and judges them, ``hil.deployment.causes`` says where the gap comes from, ``hil.deployment.build_report`` gathers what
is left.
"""

from __future__ import annotations

import datetime
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.file import load_chip
from cim.record.calibration import CalibrationRecord
from cim.record.file import load_record
from hil.datasets.image_set import Dataset
from hil.datasets.input_values import with_pixels
from hil.deployment.adaptation import check_adapted
from hil.deployment.build_report import collect, report_of, sample_layers
from hil.deployment.causes import find_causes
from hil.deployment.chip_record import record_for, record_of_runs, with_writer
from hil.deployment.chip_run import ChipRun
from hil.deployment.deployment import Deployment
from hil.deployment.dry_run import say_plan, with_chosen_age
from hil.deployment.expected_work import expected_stages
from hil.deployment.interim_looks import RunAnswers, judged, plan_images, say_what_is_excluded
from hil.deployment.layer_sums import Exact, exact_layers
from hil.deployment.network_source import BUNDLED_NETWORK, images_asked, program_of
from hil.deployment.options import RECONNECT_TIMEOUT_S, RECORD_AGE_S, DeployOptions, NetworkOptions
from hil.deployment.resumable import check_content, clear_working_files, resumable, run_folder
from hil.deployment.rounds import RoundsRun
from hil.deployment.run_settings import RunSettings
from hil.deployment.running.whole_run import WholeRun
from hil.deployment.scoring import Scoring, scoring_of
from hil.deployment.switching_off import say_if_on
from hil.deployment.targets.wired import WiredTarget
from hil.deployment.tuning import check_untuned, note_aims, source_digest
from hil.deployment.without_tune import beside_tune, lines_of_look, without_harmful_tune
from hil.driver.chip_driver import ChipDriver
from hil.driver.errors import RestartedChip
from hil.driver.open_chip import open_chip, opened_port
from hil.report.files import write_report
from hil.report.losses import lost_to
from hil.report.run_data import RunData
from hil.report.run_folder import RunFolder
from hil.report.work_folder import WorkFolder
from hil.simulation.cores import BackgroundPool
from hil.simulation.virtual_chips import VirtualChips
from hil.transports import with_baud
from hil.verdict.agreement import AgreementReport
from hil.watch import SetOfSteps, Watch
from mapping.network.float_run import float_logits
from mapping.network.graph import NetworkGraph
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.program.training_inputs import LayerInputs, training_inputs
from mapping.recipe.recipe import run_recipe
from mapping.tune.channel_affine import TuneTargets

MOST_RESTARTS = 3  # of the chip in one run

__all__ = ["DeployOptions", "deploy", "deploy_on"]


def deploy(
    network: str | Path | None,
    address: str,
    *,
    calibration: Path | None = None,
    recalibrate: bool = False,
    record_age_s: float = RECORD_AGE_S,
    out: Path | None = None,
    options: DeployOptions | None = None,
    reconnect_timeout_s: float = RECONNECT_TIMEOUT_S,
    restart: bool = False,
    watch: Watch | None = None,
    **of: Any,
) -> AgreementReport:
    """Deploy a network file on the chip at ``address`` and write a run folder.

    The folder (``report.run``) holds report.json, report.md, report.html, data.h5, wire.log, the calibration record
    (record.h5) and the program as it stands on the chip, tuned (program.h5).

    Args:
        network: net.pt, program.h5, model.onnx or model.pt2; None takes the bundled Fashion-MNIST network.
        address: where the chip is (``hil.transports.open_transport``).
        calibration: a record of this chip; None takes the newest one that holds among the runs beside ``out``
            (``hil.deployment.chip_record``), or calibrates the macros in use first.
        recalibrate: calibrate, whatever the runs before have measured.
        record_age_s: how old a record of a run before may be, s.
        out: run folder; None makes runs/NNNN. An unfinished run of the same call, there or below runs/, goes on: what
            the chip answered before is not asked again, and the result is the one of a run without interruption.
        reconnect_timeout_s: how long the line may be silent or gone once it was open, s; then the run fails, and
            the same call goes on with it.
        restart: forget an unfinished run of the same call.
        of: fields of ``hil.deployment.options.NetworkOptions``: ``chip``, ``macros``, ``data`` …

    Raises:
        hil.errors.HilError, mapping.errors.CannotMap and the file errors of the rooms below.
    """
    watch = watch or Watch()
    settings = RunSettings.of(
        address,
        network,
        NetworkOptions(**of),
        calibration,
        recalibrate=recalibrate,
        record_age_s=record_age_s,
        reconnect_timeout_s=reconnect_timeout_s,
        options=options or DeployOptions(),
    )
    with run_folder(out, settings, watch, restart=restart) as (folder, work):
        report = run_in(folder, work, settings, watch)
    clear_working_files(folder.final)
    return report


def run_in(folder: RunFolder, work: WorkFolder, settings: RunSettings, watch: Watch) -> AgreementReport:
    """Make the run of ``settings``, or go on with it, in an unfinished folder.

    If the chip restarts meanwhile, the run resumes as after an interruption; a chip that lost
    its clock is not programmed again without consent.
    """
    most = MOST_RESTARTS if settings.reconnect_timeout_s else 0
    for restarts in range(most):
        try:
            return run_once(folder, work, settings, watch, anew=not restarts)
        except RestartedChip as error:
            watch.note(f"{error.what}; the run continues with what it has")
    return run_once(folder, work, settings, watch, anew=not most)


def run_once(
    folder: RunFolder, work: WorkFolder, settings: RunSettings, watch: Watch, *, anew: bool
) -> AgreementReport:
    """The run until it is complete or fails; ``anew``: a chip that lost its clock may be programmed again."""
    options, network, source = settings.options, settings.network, settings.source
    with opened_port(settings.address) as port:  # what is missing is said before work is done
        if Path(network or BUNDLED_NETWORK).suffix != ".h5":
            load_chip(source.chip, macros=source.macros)
        record = load_record(settings.calibration) if settings.calibration else None
        images = images_asked(source)
        with watch.stage("compiling"):
            program, graph = program_of(network, source, watch, recipe=options.recipe, task=options.task)
        check_content(work, program, images)
    with resumable(folder, watch, anew=anew) as journal:
        with open_chip(
            settings.address,
            chip=program.spec,
            log=folder.part / "wire.log",
            journal=journal,
            reconnect_timeout_s=settings.reconnect_timeout_s,
            report=watch.message,
            port=port,
        ) as driver:
            if journal.begun_anew:
                watch.note("the chip was restarted since the run was interrupted, and so is the run")
            if record is None and not settings.recalibrate:
                record = record_of_runs(folder, work, driver, program, settings, watch)
            options = with_chosen_age(driver, options, work, watch)
            say_plan(driver, program, with_baud(settings.address)[1], options, watch, calibrate=record is None)
            report, run = deploy_on(
                driver,
                program,
                images,
                graph=graph,
                record=record,
                options=options,
                watch=watch,
                run=str(folder.final),
                network_name=Path(network).stem if network else BUNDLED_NETWORK.stem,
                keep=folder.part,
                date=datetime.datetime.fromisoformat(work.begun),
            )
            say_if_on(driver.leave(), driver, watch)
            report = replace(with_writer(report, folder), asked=settings.asked)
            watch.found("explain", lost_to(report).words(report.decisive.metric))
        with watch.stage("reporting"):
            write_report(folder.part, report, run)
    return report


def deploy_on(
    driver: ChipDriver,
    program: ConductanceProgram,
    data: Dataset,
    *,
    graph: NetworkGraph | None = None,
    record: CalibrationRecord | None = None,
    options: DeployOptions | None = None,
    watch: Watch | None = None,
    run: str = "",
    network_name: str = "",
    keep: Path | None = None,
    date: datetime.datetime | None = None,
) -> tuple[AgreementReport, RunData]:
    """Program the chip behind ``driver``, run ``data`` on it, and judge measured against simulated.

    Args:
        graph: the float network, for the float column; None leaves it out.
        record: a calibration record of this chip; None calibrates first (macros in use only).
        keep: folder where record.h5 and program.h5 are written as soon as there are any; None: nowhere.
        date: of a record that is measured; None: now.

    Raises:
        FileError: scored images are among the calibration images.
        MismatchError: the record or the program is of another chip.
        hil.errors.HilError: port, link, device or description errors.
    """
    options, watch = options or DeployOptions(), watch or Watch()
    data, order, looks, scoring = images_of_run(program, data, options, watch)
    check_untuned(program)
    recipe = options.recipe_of(program)
    recipe.check(program)
    calibrated = record is None
    watch.plan(expected_stages(driver, program, options, looks, calibrate=calibrated))
    record = record_for(driver, program, record, options, date, keep, watch)
    check_adapted(program, driver.description.serial)
    note_aims(program, recipe, watch)
    given, program = program, recipe.prepared(program, record, watch)
    targets, inputs = recipe.targets(program, watch), training_inputs(program)
    exact = exact_layers(program, data.images[order[: options.layer_images]])
    job = Deployment(
        driver, program, record, {}, inputs, None, {}, options, scoring, network_name, targets=targets,
        source_digest=source_digest(given, program),
    )  # fmt: skip
    with BackgroundPool() as cores:
        such = job.virtual_chips(conditioned=False, mode=job.mode)
        if not program.residual:  # its lower slices are this chip's
            cores.begin(such.prepare, such.numbers)
        force = options.reprogram or calibrated
        chip = network_on_chip(job, exact, data.images[order], watch, force=force)
        if program.rounds > 1:
            looks = (len(order),)  # every round ran for all images before the chip was written again
        job = job.on_chip(chip)
        if job.program is not program or job.options != options:
            such = job.virtual_chips(conditioned=False, mode=job.mode)
        job.keep_program(keep)
        written = job
        job, answers = run_looks(job, chip, such, data, order, looks, graph, watch, cores)
        if job.tuned is not written.tuned:
            job.keep_program(keep)
        chip.finish(exact, watch)
    with watch.stage("layers"):
        samples, plain = sample_layers(job, exact, chip.layers)
    beside = beside_tune(written, data, order, answers, chip.untuned, plain, watch)
    watch.found("compare", "" if beside.as_calibrated is None else beside.as_calibrated.text)
    causes = find_causes(job, data, order, answers, samples, exact, watch)
    arrays = collect(job, data, order, answers, samples, chip)
    return report_of(job, data, order, answers, arrays, causes, watch, run, beside), arrays


def images_of_run(
    program: ConductanceProgram, data: Dataset, options: DeployOptions, watch: Watch
) -> tuple[Dataset, NDArray[np.int64], tuple[int, ...], Scoring]:
    """Images as the network takes them, their order, the planned looks and the scoring, before the chip is asked.

    Raises:
        FileError: scored images are among the calibration images.
        UsageError: images or classes that are not the network's.
    """
    data = with_pixels(data, program.input.shape, program.preprocess)
    order, looks = plan_images(data, program, options, watch)
    say_what_is_excluded(len(order), options, watch)
    return data, order, looks, scoring_of(program, data, options)


def network_on_chip(job: Deployment, exact: Exact, images: NDArray[np.uint8], watch: Watch, *, force: bool) -> ChipRun:
    """Apply the recipe on the chip. With several rounds, each is written and runs all ``images`` before the next.

    Args:
        images: all images of the run, in run order.
        force: program the cells even if the chip holds this program.
    """
    program, options, targets = job.program, job.options, job.targets
    if program.rounds == 1:
        first = images[: options.untuned_images]
        return write_whole(job.driver, program, job.record, job.inputs, targets, first, options, watch, force=force)
    target = wired_target(job.driver, job.record, options, watch, force=force)
    with RoundsRun(target, program, exact, images, options, targets is not None) as rounds:
        run_recipe(options.recipe_of(program), program, target, job.inputs, targets, rounds)
    return rounds


def write_whole(
    driver: ChipDriver,
    program: ConductanceProgram,
    record: CalibrationRecord,
    inputs: LayerInputs,
    targets: TuneTargets | None,
    images: NDArray[np.uint8],
    options: DeployOptions,
    watch: Watch,
    *,
    force: bool,
) -> WholeRun:
    """Program a chip that holds the whole network by the recipe of ``options``, and tune it; then it can run images.

    Args:
        inputs: input codes of every layer for training images, for the corrections.
        targets: outputs that the tune aims at; None: no tune.
        images: images that run before the tune, to compare.
        force: program the cells even if the chip holds this program.
    """
    target = wired_target(driver, record, options, watch, force=force or program.residual)
    whole = WholeRun(target, options, images if targets is not None else None)
    run_recipe(options.recipe_of(program), program, target, inputs, targets, whole)
    return whole


def wired_target(
    driver: ChipDriver, record: CalibrationRecord, options: DeployOptions, watch: Watch, *, force: bool
) -> WiredTarget:
    """The chip behind ``driver`` as a run of ``options`` treats it."""
    early_reads = options.early_reads if options.causes else 0
    return WiredTarget(driver, record, watch, options.seed, early_reads=early_reads, force=force)


def run_looks(
    job: Deployment,
    chip: ChipRun,
    such: VirtualChips,
    data: Dataset,
    order: NDArray[np.int64],
    looks: tuple[int, ...],
    graph: NetworkGraph | None,
    watch: Watch,
    cores: BackgroundPool,
    before: RunAnswers | None = None,
) -> tuple[Deployment, RunAnswers]:
    """Run one interim analysis after another until *this chip* is judged to agree or disagree, or the plan ends.

    A harmful tune is undone and the chip measured again; ``before`` keeps the answers with the tune.

    ``such``: virtual chips of *other chips*; ``cores`` simulate while the chip measures.
    """
    answers = RunAnswers(before=before)
    ideal = IdealMultiply(job.program)
    conditioned = job.virtual_chips(conditioned=True, mode=job.mode)
    first, scoring = 0, job.scoring
    rows = job.options.repeats + 2 * job.options.virtual_chips
    for look, until in enumerate(looks, 1):
        step = scoring.at_once(until - first, rows, job.program.width)
        for at in range(first, until, step):
            seen = order[at : min(at + step, until)]
            images, targets = data.images[seen], scoring.targets[seen]
            simulated = [
                cores.begin(partial(chips.answers, images=images, first=at), chips.numbers)
                for chips in (conditioned, such)
            ]
            with watch.stage("ideal"):
                right = run(job.program, images, ideal)
                answers.add("ideal", right, targets, scoring)
                if graph is not None:
                    answers.add("floats", float_logits(graph, images), targets, scoring)
            measured = chip.measure(images, at, watch)
            answers.add("measured", measured, targets, scoring)
            with watch.stage("simulating", (SetOfSteps(),) * 2):
                for name, chips, found in zip(("simulated", "again"), (conditioned, such), simulated, strict=True):
                    logits = chips.gathered((chip.result() for chip in found), watch)
                    answers.add(name, logits, targets, scoring)
                    if name == "simulated":
                        answers.lines.append(lines_of_look(range(at, at + len(seen)), measured, right, logits))
        answers.this_chip = judged(answers, "simulated", look, looks, scoring)
        answers.other_chips = judged(answers, "again", look, looks, scoring)
        j, m = answers.this_chip, scoring.task.metric
        seen_as = f"chip {m.value(j.measured.mean, 1)}, simulated {m.value(j.simulated.mean, 1)}"
        watch.found("measure", f"{seen_as}, {j.n:,} images × {j.repeats}")
        first = until
        tuned, job = job.tuned, without_harmful_tune(job, chip, answers, order, watch) if look == 1 else job
        if job.tuned is not tuned:
            such = job.virtual_chips(conditioned=False, mode=job.mode)
            return run_looks(job, chip, such, data, order, looks, graph, watch, cores, answers)
        if answers.this_chip.final:
            break
    answers.count(chip.conversions)
    answers.times_ns, answers.ages_s = chip.times_ns, chip.ages_s
    answers.simulated_saturated_share = conditioned.saturated_share
    return job, answers
