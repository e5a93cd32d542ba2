"""A radiation campaign: sample faults, inject each, count their outcomes; then accuracy over the years.

Resumable, on any number of workers. The folder holds settings, blocks of injections as they are done, accuracies over
the years (one file a virtual chip), and at the end ``injections.json``, ``campaign.json`` and ``campaign.html``.

Number of injections after Leveugle et al. (DATE 2009, doi 10.1109/DATE.2009.5090716):

    n = N / (1 + e² (N − 1) / (t² p (1 − p)))

N sites in the population, e the margin, t the normal quantile of the confidence, p = ½ the share that needs most.
Example: e = 1 %, 95 %, N without end: 9,604.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cim.files import read_text
from cim.json_text import parse_json
from cim.record.calibration import CalibrationRecord
from hil.atomic import write_text
from hil.datasets.image_set import Dataset
from hil.errors import FileError, Interrupted, LinkError, UsageError
from hil.payload.orbit import OrbitFile
from hil.payload.radiation.block import ContextInputs, fault_context, run_block
from hil.payload.radiation.detectors import ALARM_SAMPLE, calibrate_guards, healthy_batches
from hil.payload.radiation.faults import fault_space
from hil.payload.radiation.outcomes import InjectionResult, Share
from hil.payload.radiation.report import CampaignResult, campaign_json, campaign_page, campaign_summary
from hil.payload.radiation.timeline import simulate_years
from hil.payload.settings import OrbitSettings
from hil.prediction.predict import record_or_nominal
from hil.report.work_folder import GO_ON, WorkFolder
from hil.watch import PlannedStage, Watch
from mapping.program.conductance import ConductanceProgram
from search.errors import SearchError
from search.train.workers import side_by_side, workers

FORMAT = "hil.injections/2.0"
REPORT, TABLE, PAGE = "campaign.json", "injections.json", "campaign.html"
BLOCK = 200  # injections of one block
MOST_BYTES = 1 << 26
USUAL_INJECTIONS = 9600  # of the usual margin, 1 point at 95 %
GUARD_IMAGE_S, INJECTION_IMAGE_S = 2e-3, 5e-5  # of one core, for the bundled network
ORDER = 0x0D3A  # purpose tag of the order of images


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def report_digest(report: dict[str, Any]) -> str:
    """SHA-256 (hex) of a report's values, its digests apart."""
    plain = {name: value for name, value in report.items() if name != "digests"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def injections_needed(population: int, margin: float, confidence: float = 0.95) -> int:
    """Injections for a margin (fraction) at a confidence.

    Raises:
        UsageError: margin or confidence outside 0 to 1, or no site.
    """
    if not 0.0 < margin < 1.0 or not 0.0 < confidence < 1.0 or population < 1:
        raise UsageError(
            f"a margin of {margin:g} at a confidence of {confidence:g} for {population} sites",
            hint="hil campaign --margin 0.01 --confidence 0.95",
        )
    t = float(stats.norm.ppf(0.5 + confidence / 2))
    infinite = t * t * 0.25 / (margin * margin)
    # N / (1 + (N − 1) / n∞); written so that no size of N overflows
    return min(population, math.ceil(population / (1.0 + (population - 1) / infinite) - 1e-6))


def expected_campaign(options: OrbitSettings) -> tuple[PlannedStage, ...]:
    """Stages of a study and their usual time, s; a margin counts as the injections of the usual margin."""
    injections = options.injections or USUAL_INJECTIONS
    processes = options.workers if isinstance(options.workers, int) else 1
    return (
        PlannedStage("guards", GUARD_IMAGE_S * (options.widen_images + options.alarm_images)),
        PlannedStage("injecting", INJECTION_IMAGE_S * injections * options.images / processes),
        *([PlannedStage("years", 0.01 * options.chips * options.year_images)] if options.chips else []),
    )


def run_study(
    program: ConductanceProgram,
    data: Dataset,
    record: CalibrationRecord | None,
    orbit: OrbitFile,
    folder: Path,
    options: OrbitSettings,
    watch: Watch,
    *,
    restart: bool = False,
    busy_share: float | None = None,
) -> dict[str, Any]:
    """Run what is missing in a folder and write campaign.json and campaign.html; the report.

    Args:
        record: None takes the models that the chip file names.
        options: with ``chips`` 0 the accuracy over the years is left out.
        restart: forget what is in the folder.
        busy_share: share of the time in which the chip processes images (``hil.payload.budget.busy_share``); None: all
        of it.

    Raises:
        as ``run_campaign`` and ``hil.prediction.predict.record_or_nominal``.
    """
    known, source, notes = record_or_nominal(program, record)
    found = run_campaign(program, data, known, orbit, folder, options, watch, restart=restart)
    report = {**campaign_json(found, orbit, busy_share), "belief": source, "notes": list(notes)}
    report["notes"].append(f"done to the network: {options.recipe or 'nothing, as compiled'}")
    if options.chips:
        kept = kept_years(options, folder)
        report["timeline"] = simulate_years(program, data, known, orbit, options, watch, kept).to_json()
    report["digests"] = {TABLE: file_digest(folder / TABLE), "report": report_digest(report)}
    write_text(folder / REPORT, json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(folder / PAGE, campaign_page(report, campaign_summary(report, page=str(folder / PAGE))))
    return report


def run_campaign(
    program: ConductanceProgram,
    data: Dataset,
    record: CalibrationRecord,
    orbit: OrbitFile,
    folder: Path,
    options: OrbitSettings,
    watch: Watch,
    *,
    restart: bool = False,
) -> CampaignResult:
    """Inject faults into virtual chip 0 of a seed. The same call in the same folder resumes.

    Raises:
        UsageError: too few images. MismatchError: the folder has other settings.
        Interrupted: Ctrl-C; whole blocks are kept.
        LinkError: no scheduler answers.
    """
    space = fault_space(program)
    images = _split(program, data, options)
    wanted = options.injections or injections_needed(space.population, options.margin, options.confidence)
    settings = {
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
        **{
            name: getattr(options, name)
            for name in ("confidence", "images", "golden", "widen_images", "alarm_images", "age_s", "seed")
        },
        "kinds": [str(kind) for kind in options.kinds],
        "recipe": options.recipe.to_json(),
    }
    work = WorkFolder(folder, settings, kind="hil.radiation", about="settings.json", restart=restart)
    with watch.stage("guards"):
        recipe = replace(options.recipe, age_s=options.age_s)
        program = recipe.prepared(program, record, watch)
        context = fault_context(program, record, recipe, seed=options.seed)
        golden = program.calibration_images[: options.golden]
        guards = calibrate_guards(context, program.calibration_images, golden, images["widen"])
        raised = 0
        for answers in healthy_batches(context, images["alarm"], ALARM_SAMPLE):
            raised += int(guards.range_alarms(answers).sum())
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
    save_injections(results, folder / TABLE)
    alarms, healthy = Share(raised, len(images["alarm"])), Share(int(right.sum()), len(right))
    return CampaignResult(results, space, guards, alarms, healthy, settings)


def _split(program: ConductanceProgram, data: Dataset, options: OrbitSettings) -> dict[str, NDArray[Any]]:
    """Split images into judged ones, images that widen the guards, and images for false alarms, without overlap."""
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


def _blocks(work: WorkFolder, inputs: ContextInputs, wanted: int, options: OrbitSettings, watch: Watch) -> None:
    """Run the missing blocks; each is saved when it is finished."""
    numbers = [n for n in range(-(-wanted // BLOCK)) if not work.has(block_name(n))]
    jobs = [range(n * BLOCK, min((n + 1) * BLOCK, wanted)) for n in numbers]
    done = wanted - sum(len(job) for job in jobs)

    def ready(which: int, results: list[InjectionResult]) -> None:
        nonlocal done
        work.keep(block_name(numbers[which]), results, save_injections)
        done += len(results)
        watch.step(done, wanted, "injections")

    try:
        with contextlib.nullcontext() if options.workers == 1 else workers(options.workers) as client:
            side_by_side(client, run_block, jobs, inputs, done=ready)
    except SearchError as error:
        raise LinkError(str(error)) from error
    except KeyboardInterrupt:
        raise Interrupted(
            f"the campaign in {work.root} was interrupted; {done} of {wanted} injections are kept", hint=GO_ON
        ) from None


def block_name(number: int) -> str:
    return f"blocks/{number:05d}.json"


def save_injections(results: list[InjectionResult], path: Path) -> None:
    """Write rows of injections as JSON, one a line."""
    names = json.dumps([f.name for f in dataclasses.fields(InjectionResult)])
    rows = ",\n".join(json.dumps(list(astuple(result))) for result in results)
    write_text(path, f'{{"format": "{FORMAT}", "columns": {names}, "rows": [\n{rows}\n]}}\n')


def read_injections(path: Path) -> list[InjectionResult]:
    """Read what ``save_injections`` wrote.

    Raises:
        FileError: missing, or damaged.
    """
    hint = f"rm {path} and give the same command again: it repeats that block"
    try:
        found = parse_json(read_text(path, MOST_BYTES))
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']!r:.60}")
        return [InjectionResult.of_row(row) for row in found["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"cannot read injections {path}", likely=str(error), hint=hint) from error


def kept_years(options: OrbitSettings, folder: Path) -> WorkFolder:
    """Folder for counts of correct answers over the years, within the folder of a campaign, which fixes program,
    record, data and orbit; each setting has its own folder."""
    settings = {
        "images": options.year_images,
        "scrub_s": options.scrub_s,
        "seed": options.seed,
        "left_out": [str(kind) for kind in options.left_out],
        "recipe": options.recipe.to_json(),
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return WorkFolder(folder / "years" / key, settings, kind="hil.years")
