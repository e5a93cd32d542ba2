"""A whole search in one folder: teacher, stages, sample networks, front, trained networks, table.

    folder = begin_folder(Path("runs/search"), SearchSettings("fashion-mnist", "lab-128"), space_text)
    run_search(folder, settings, watch)

Each phase leaves files and is skipped where they are there, so a search that was stopped goes on where it was.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from hil.errors import Interrupted
from hil.search_budget import Plan
from hil.search_front import find_front
from hil.search_inputs import load_inputs
from hil.search_networks import accuracy_model, train_networks
from hil.search_settings import SearchFolder, SearchSettings
from hil.search_table import write_table
from hil.search_work import SearchRun
from hil.watch import Watch
from mapping.netfile import save_network
from search.significance import Significance
from search.stage import Estimator, StageJob, StageSettings, train_stage
from search.stage_scores import task_significance
from search.teacher import train_teacher

PROBE = 4  # batches that say how long an epoch takes


def run_search(
    folder: SearchFolder,
    settings: SearchSettings,
    watch: Watch,
    *,
    scheduler: str | None = None,
) -> None:
    """Do what is left to do of a search.

    Args:
        scheduler: of a Dask cluster, which then simulates the whole networks.

    Raises:
        Interrupted: Ctrl-C; the folder can be gone on with.
        search.errors.SearchError: space, teacher or data that do not go together.
    """
    try:
        with watch.stage("loading"):
            inputs = load_inputs(folder, settings, watch)
        run = SearchRun(folder, settings, inputs, Plan(folder.plan, settings.budget_s, watch), watch)
        for text in inputs.dropped:
            watch.note(f"not on {inputs.chip.name}: {text}")
        _teacher(run)
        task = _stages(run)
        find_front(run, task, accuracy_model(run, task), scheduler)
        train_networks(run)
        write_table(folder, run.plan.words())
        run.plan.save()
    except KeyboardInterrupt:
        raise Interrupted(
            f"the search in {folder.root} was interrupted; what is done is kept",
            hint=f"hil search resume {folder.root}",
        ) from None


def _teacher(run: SearchRun) -> None:
    """Leave a teacher in the folder; one may lie there from the beginning."""
    path, inputs = run.folder.teacher, run.inputs
    if not path.exists():
        with run.watch.stage("teacher"):
            epochs = run.plan.count("teacher epochs", run.settings.teacher_epochs, 1, lambda: _teacher_epoch_s(run))
            checkpoint = run.folder.root / "teacher.checkpoint"
            network = train_teacher(
                inputs.space,
                inputs.train,
                inputs.kept,
                run.schedule(epochs),
                classes=inputs.test.classes,
                checkpoint=checkpoint,
                machine=run.machine,
                told=run.told(epochs, "epochs"),
            )
        save_network(network, path)
        checkpoint.unlink()
        run.plan.save()


def _stages(run: SearchRun) -> Significance:
    """Phase A."""
    count = len(run.inputs.space.stages)
    with run.watch.stage("stages"):
        epochs = run.plan.count("stage epochs", run.settings.stage_epochs, 1, lambda: count * _stage_epoch_s(run))
        scores = []
        for stage in range(count):
            settings = StageSettings(run.schedule(epochs, average=False), Estimator(run.settings.estimator))
            job = StageJob(
                run.inputs.space, stage, settings, run.folder.teacher, run.inputs.noise, run.folder.stages,
                machine=run.machine,
            )  # fmt: skip
            scores.append(
                train_stage(job, run.inputs.train, run.told(epochs, f"epochs of stage {stage + 1} of {count}"))
            )
            (job.folder / f"{job.name}.checkpoint").unlink(missing_ok=True)
    run.plan.save()
    return task_significance(run.inputs.space, scores)


def _teacher_epoch_s(run: SearchRun) -> float:
    """Of all training images, from a few batches."""
    batch, images = run.settings.batch, run.inputs.train
    few = images.part(np.arange(min(PROBE * batch, len(images))))
    start = time.monotonic()
    train_teacher(run.inputs.space, few, few, run.schedule(1), classes=run.inputs.test.classes, machine=run.machine)
    return (time.monotonic() - start) * len(images) / len(few)


def _stage_epoch_s(run: SearchRun) -> float:
    """Of the first stage, whose maps are the largest, from a few batches."""
    batch, images = run.settings.batch, run.inputs.train
    few = images.part(np.arange(min(2 * PROBE * batch, len(images))))
    settings = StageSettings(
        run.schedule(1, average=False), Estimator(run.settings.estimator), most_paths=16, draws=1, rate_images=batch
    )
    with tempfile.TemporaryDirectory() as place:
        job = StageJob(
            run.inputs.space, 0, settings, run.folder.teacher, run.inputs.noise, Path(place), machine=run.machine
        )
        return train_stage(job, few).seconds[0] * len(images) / len(few)
