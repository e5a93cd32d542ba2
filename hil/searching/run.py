"""A whole search in one folder: teacher, stages, sample networks, front, trained networks, table.

    folder = begin_folder(Path("runs/search"), SearchSettings("fashion-mnist", "lab-128"), space_text)
    run_search(folder, settings, watch)

Each phase leaves files and is skipped where they are there, so a search that was stopped goes on where it was.
"""

from __future__ import annotations

import functools
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hil.errors import FileError, UsageError
from hil.searching.budget import SearchPlan
from hil.searching.folder import SearchFolder
from hil.searching.front import find_front
from hil.searching.inputs import SearchInputs, load_inputs
from hil.searching.learned import check_learned
from hil.searching.loop import Loop, run_loop
from hil.searching.networks import accuracy_model, member_named, network_folder, train_members, train_networks
from hil.searching.own import add_own
from hil.searching.pruned_inputs import load_pruning_inputs
from hil.searching.pruned_search import PrunedSearch
from hil.searching.settings import SearchSettings
from hil.searching.table import members_of, write_table
from hil.searching.work import SearchRun, expected_phases, running
from hil.watch import Watch
from mapping.network.file import NetworkFile, load_network, save_network
from search.space.architecture import read_architecture
from search.space.significance import Significance
from search.stage.rating import StageJob, train_stage
from search.stage.scores import task_significance
from search.stage.task import RATED_PARTS, StageSettings
from search.train.images import Images
from search.train.teacher_training import refine_teacher, train_teacher
from search.train.training import ProgressCallback
from search.train.workers import side_by_side

PROBE = 4  # batches that say how long an epoch takes
REFINING_RATE = 0.0003  # of a given teacher, which is near a good place


def run_search(
    folder: SearchFolder,
    settings: SearchSettings,
    watch: Watch,
    *,
    scheduler: str | None = None,
    loop: Loop | None = None,
) -> None:
    """Run the phases of a search that are not done yet: over a space, or over pruned networks of the folder's teacher.

    Args:
        scheduler: of a Dask cluster that does the jobs, instead of workers of this machine.
        loop: over a chip on which networks are deployed; None: none is asked.

    Raises:
        Interrupted: Ctrl-C; the folder can be gone on with.
        NothingLearned: the sample networks tell no network from another; what was done is kept.
        search.errors.SearchError: space, teacher or data that do not go together.
    """
    watch.plan(expected_phases(settings))
    if settings.pruned:
        with running(folder, settings, watch, scheduler, load_pruning_inputs) as (pruned, client):
            PrunedSearch(folder, settings, pruned, watch, client).run()
        return
    with running(folder, settings, watch, scheduler, load_inputs) as found:
        run = _search_run(folder, settings, watch, *found)
        for text in run.inputs.dropped:
            watch.note(f"not on {run.inputs.chip.name}: {text}")
        _search(run, loop)


def train_named(
    folder: SearchFolder,
    settings: SearchSettings,
    names: Sequence[str],
    watch: Watch,
    *,
    scheduler: str | None = None,
) -> None:
    """Train and evaluate networks of a search, with the epochs of ``settings``.

    Args:
        names: the beginnings of names, or architecture files (``.json``) of other networks of its space.

    Raises:
        FileError: the search has no front or no teacher, or an architecture file is broken.
        SpaceError: the network of a file is not of the space.
        UsageError: a name is none or several of the search's, a network was trained before, or does not fit the chip.
        Interrupted: Ctrl-C; the same call goes on at the last whole epoch.
    """
    known = members_of(folder)
    if not folder.teacher.exists():
        raise FileError(
            f"{folder.root} does not keep the teacher that its networks learn from",
            where=f"no {folder.teacher}",
            hint=f"cp TEACHER {folder.teacher}: the net.pt that hil search run had as --teacher, or made",
        )
    own = {path: read_architecture(path) for path in map(Path, names) if path.suffix == ".json"}
    members = [member_named(known, name) for name in names if not name.endswith(".json")]
    for architecture in (*own.values(), *(m.architecture for m in members)):
        place = network_folder(folder, architecture)
        if (place / "evaluation.json").exists():
            raise UsageError(f"network {place.name} was trained before", hint=f"rm -r {place} forgets it")
    with running(folder, settings, watch, scheduler, load_inputs) as found:
        run = _search_run(folder, settings, watch, *found)
        members += add_own(run, own) if own else []
        with watch.stage("networks"):
            train_members(run, members)
        if folder.table.exists():
            write_table(folder, run.plan.words())


def _search_run(
    folder: SearchFolder, settings: SearchSettings, watch: Watch, inputs: SearchInputs, client: Any
) -> SearchRun:
    return SearchRun(folder, settings, inputs, SearchPlan(folder.plan, settings.budget_s, watch), watch, client)


def _search(run: SearchRun, loop: Loop | None) -> None:
    _teacher(run)
    task = _stages(run)
    accuracy = accuracy_model(run, task)
    check_learned(run, accuracy)
    find_front(run, task, accuracy)
    if loop is None:
        train_networks(run)
    else:
        run_loop(run, task, loop)
    write_table(run.folder, run.plan.words())
    run.plan.save()


def _teacher(run: SearchRun) -> None:
    """Leave a teacher in the folder; one may lie there from the beginning, or be given to be trained further."""
    path = run.folder.teacher
    if not path.exists():
        checkpoint = run.folder.root / "teacher.checkpoint"
        with run.watch.stage("teacher"):
            epochs = run.plan.count("teacher epochs", run.settings.teacher_epochs, 1, lambda: _teacher_epoch_s(run))
            network = _trained_teacher(run, run.inputs.train, run.inputs.kept, epochs, checkpoint, run.report(epochs))
        save_network(network, path)
        checkpoint.unlink()
        run.plan.save()


def _trained_teacher(
    run: SearchRun,
    images: Images,
    kept: Images,
    epochs: int,
    checkpoint: Path | None = None,
    progress: ProgressCallback | None = None,
) -> NetworkFile:
    given, machine = run.folder.given_teacher, run.machine
    if given.exists():
        schedule = run.schedule(epochs, rate=REFINING_RATE)
        network = load_network(given)
        return refine_teacher(
            network, images, kept, schedule, checkpoint=checkpoint, machine=machine, progress=progress
        )
    return train_teacher(
        run.inputs.space,
        images,
        kept,
        run.schedule(epochs),
        classes=run.inputs.test.classes,
        checkpoint=checkpoint,
        machine=machine,
        progress=progress,
    )


def _stages(run: SearchRun) -> Significance:
    """Train and rate the operators of each stage (phase A of the search)."""
    space, count = run.inputs.space, len(run.inputs.space.stages)
    with run.watch.stage("stages"):
        probe = functools.cache(lambda: _stage_s(run))
        epochs = run.plan.count("stage epochs", run.settings.stage_epochs, 1, lambda: count * probe()[0])
        settings = StageSettings(run.schedule(epochs, average=False))
        choices = [[len(p.operators) for p in space.positions if p.stage == stage] for stage in range(count)]
        most = min(settings.most_paths, max(math.prod(own) for own in choices))
        least = 2 * max(max(own) for own in choices)
        settings = replace(
            settings, most_paths=run.plan.count("paths to rate", most, least, lambda: count * probe()[1])
        )
        jobs = [_stage_job(run, stage, settings, run.folder.stages) for stage in range(count)]
        progress = run.report_jobs(epochs + RATED_PARTS, "stages, their rating among them", count)
        scores = side_by_side(run.client, train_stage, jobs, run.inputs.brief, progress=progress)
        for job in jobs:
            (job.folder / f"{job.name}.checkpoint").unlink(missing_ok=True)
    run.plan.save()
    return task_significance(space, scores)


def _stage_job(run: SearchRun, stage: int, settings: StageSettings, folder: Path) -> StageJob:
    inputs = run.inputs
    return StageJob(inputs.space, stage, settings, run.folder.teacher, inputs.noise, folder, machine=run.machine)


def _teacher_epoch_s(run: SearchRun) -> float:
    """Time of an epoch of the teacher over all training images, s, from a few batches."""
    batch, images = run.settings.batch, run.inputs.train
    few = images.part(np.arange(min(PROBE * batch, len(images))))
    start = time.monotonic()
    _trained_teacher(run, few, few, 1)
    return (time.monotonic() - start) * len(images) / len(few)


def _stage_s(run: SearchRun) -> tuple[float, float]:
    """Times of the first stage, whose maps are the largest, from a few batches: s an epoch, s a rated path."""
    batch, images = run.settings.batch, run.inputs.brief
    few = images.part(np.arange(min(2 * PROBE * batch, len(images))))
    paths = 2 * max(len(p.operators) for p in run.inputs.space.positions)
    settings = StageSettings(run.schedule(1, average=False), most_paths=paths, draws=1, rate_images=batch)
    whole = StageSettings(settings.schedule)
    with tempfile.TemporaryDirectory() as place:
        start = time.monotonic()
        scores = train_stage(_stage_job(run, 0, settings, Path(place)), few)
        rating = time.monotonic() - start - sum(scores.seconds)
    epoch = scores.seconds[0] * len(images) / len(few)
    size = min(batch, whole.rate_images)
    held = max(min(whole.rate_images, whole.held_out * len(images)) // size, 1)  # batches that rate a path
    passes = (whole.statistics_batches + (1 + whole.draws) * held) / (whole.statistics_batches + 2) * size / batch
    return epoch, rating / max(scores.paths, 1) * passes
