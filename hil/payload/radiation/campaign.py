"""A radiation campaign: sample faults, inject each, count what became of them; resumable, on any number of workers."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.record.calibration import CalibrationRecord
from hil.atomic import write_text
from hil.datasets.image_set import Dataset
from hil.errors import Interrupted, LinkError, UsageError
from hil.payload.orbit import OrbitFile
from hil.payload.radiation.block import ContextInputs, InjectionResult, run_block
from hil.payload.radiation.checksums import CheckedProgram, checked_program
from hil.payload.radiation.context import fault_context
from hil.payload.radiation.detectors import ALARM_SAMPLE, Guards, calibrate_guards, check_names, healthy_batches
from hil.payload.radiation.folder import (
    BLOCK,
    CampaignFolder,
    block_name,
    injections_text,
    read_injections,
    save_injections,
)
from hil.payload.radiation.outcomes import Share
from hil.payload.radiation.sampling import injections_needed
from hil.payload.radiation.space import FaultSpace, fault_space
from hil.payload.settings import CampaignOptions
from hil.report.work_folder import GO_ON, WorkFolder
from hil.watch import PlannedStage, Watch
from mapping.program.conductance import ConductanceProgram
from search.errors import SearchError
from search.train.workers import side_by_side, workers

USUAL_INJECTIONS = 9600  # of the usual margin, 1 point at 95 %
GUARD_IMAGE_S, INJECTION_IMAGE_S = 2e-3, 5e-5  # of one core, for the bundled network
ORDER = 0x0D3A  # purpose tag of the order of images


@dataclass(frozen=True)
class CampaignResult:
    """Injections in order, and what they were judged with."""

    results: list[InjectionResult]
    space: FaultSpace
    checked: CheckedProgram
    guards: Guards
    alarms: Share  # fault-free images with an alarm of range guard or checksum
    healthy: Share  # right answers of the chip without a fault, on the judged images
    settings: dict[str, Any]


def expected_campaign(options: CampaignOptions) -> tuple[PlannedStage, ...]:
    """Stages of a campaign and about how long they take, s; where the margin decides, as many as the usual margin."""
    injections = options.injections or USUAL_INJECTIONS
    return (
        PlannedStage("guards", GUARD_IMAGE_S * (options.widen_images + options.alarm_images)),
        PlannedStage("injecting", INJECTION_IMAGE_S * injections * options.images / options.workers),
    )


def run_campaign(
    program: ConductanceProgram,
    data: Dataset,
    record: CalibrationRecord,
    orbit: OrbitFile,
    folder: CampaignFolder,
    options: CampaignOptions,
    watch: Watch,
    *,
    restart: bool = False,
) -> CampaignResult:
    """Inject faults into virtual chip 0 of a seed. The same call in the same folder goes on where it stopped.

    Raises:
        UsageError: too few images. MismatchError: a folder of other settings.
        Interrupted: Ctrl-C; whole blocks are kept.
        LinkError: no scheduler answers.
    """
    space = fault_space(program)
    images = _split(program, data, options)
    wanted = options.injections or injections_needed(space.population, options.margin, options.confidence)
    settings = _settings(program, data, record, orbit, options, wanted)
    work = folder.begin(settings, restart=restart)
    with watch.stage("guards"):
        recipe = replace(options.recipe, age_s=options.age_s)
        program = recipe.prepared(program, record, watch)
        checked = checked_program(program)
        context = fault_context(program, checked, record, recipe, seed=options.seed)
        golden = program.calibration_images[: options.golden]
        guards = calibrate_guards(context, program.calibration_images, golden, images["widen"])
        raised = 0
        for answers in healthy_batches(context, images["alarm"], ALARM_SAMPLE):
            found = guards.range_alarms(answers) | guards.checksum_alarms(answers, check_names(context))
            raised += int(found.sum())
        right = context.healthy(images["judge"], 0).classes == images["labels"]
    inputs = ContextInputs(
        program=program,
        record=record,
        images=images["judge"],
        golden=golden,
        guards=guards,
        seed=options.seed,
        kinds=options.kinds,
        high_share=orbit.upsets.high_share,
        recipe=recipe,
    )
    with watch.stage("injecting"):
        _blocks(work, inputs, wanted, options, watch)
    blocks = (work.load(block_name(number), read_injections) for number in range(-(-wanted // BLOCK)))
    results = [result for block in blocks for result in block]
    write_text(folder.table, injections_text(results))
    alarms, healthy = Share(raised, len(images["alarm"])), Share(int(right.sum()), len(right))
    return CampaignResult(results, space, checked, guards, alarms, healthy, settings)


def _split(program: ConductanceProgram, data: Dataset, options: CampaignOptions) -> dict[str, NDArray[Any]]:
    """Judged images, others that widen the guards, others for false alarms; no image is in two of them."""
    needed = options.images + 2
    if len(data) < needed:
        raise UsageError(f"{len(data)} images in {data.name}, {needed} are needed", hint="name a larger data set")
    order = np.random.default_rng(np.random.SeedSequence([options.seed, ORDER])).permutation(len(data))
    rest = order[options.images :]
    widen = min(options.widen_images, max(1, len(rest) // 3))
    judged, wider = order[: options.images], rest[:widen]
    alarm = rest[widen : widen + options.alarm_images]
    picked = {"judge": judged, "widen": wider, "alarm": alarm}
    return {**{name: data.images[at] for name, at in picked.items()}, "labels": data.labels[judged]}


def _settings(
    program: ConductanceProgram,
    data: Dataset,
    record: CalibrationRecord,
    orbit: OrbitFile,
    options: CampaignOptions,
    wanted: int,
) -> dict[str, Any]:
    return {
        "program": program.digest,
        "network": program.network_digest,
        "chip": program.spec.name,
        "data": data.name,
        "data_digest": data.digest,
        "record": f"{record.kind} {record.chip_name} {record.method}",
        "record_cells": hashlib.sha256(repr(record.programming).encode()).hexdigest(),
        "orbit": orbit.name,
        "orbit_digest": orbit.digest,
        "injections": wanted,
        "confidence": options.confidence,
        "images": options.images,
        "golden": options.golden,
        "widen_images": options.widen_images,
        "alarm_images": options.alarm_images,
        "age_s": options.age_s,
        "seed": options.seed,
        "kinds": [str(kind) for kind in options.kinds],
        "recipe": options.recipe.to_json(),
    }


def _blocks(work: WorkFolder, inputs: ContextInputs, wanted: int, options: CampaignOptions, watch: Watch) -> None:
    """Do the blocks that are missing, each written as it is ready."""
    numbers = [n for n in range(-(-wanted // BLOCK)) if not work.has(block_name(n))]
    jobs = [range(n * BLOCK, min((n + 1) * BLOCK, wanted)) for n in numbers]
    done = wanted - sum(len(job) for job in jobs)

    def ready(which: int, results: list[InjectionResult]) -> None:
        nonlocal done
        work.keep(block_name(numbers[which]), results, save_injections)
        done += len(results)
        watch.step(done, wanted, "injections")

    try:
        with _client(options) as client:
            side_by_side(client, run_block, jobs, inputs, done=ready)
    except SearchError as error:
        raise LinkError(str(error)) from error
    except KeyboardInterrupt:
        raise Interrupted(
            f"the campaign in {work.root} was interrupted; {done} of {wanted} injections are kept",
            hint=GO_ON,
        ) from None


@contextlib.contextmanager
def _client(options: CampaignOptions) -> Iterator[Any]:
    """Dask workers; None: this process does all blocks."""
    if options.scheduler is None and options.workers == 1:
        yield None
        return
    with workers(options.scheduler, options.workers) as client:
        yield client
