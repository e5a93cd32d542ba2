"""Phase A for one stage: how much each candidate operator counts for the task.

A teacher's frozen stem and earlier stages feed the student's stage, which holds all candidates; the
teacher's later stages and head, frozen too, turn its output into logits. The stage learns

    L = λ_f · noise-to-signal(g, t) + λ_l · τ² KL(teacher ‖ logits through the suffix)

under quantisation and the errors of the chip, at 0 to 2 times the record's strength: one operator a position in
each step, each equally often. Then T[l, o] = −mean of L on held-out images over the paths through o, with statistics
of each path's own.

Stages are independent jobs. Imports torch: import this module late.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning_fabric import Fabric

from cim.simulator.training_errors import ArrayNoise
from mapping.network.file import load_network
from search.space.genes import Space
from search.stage.net import StageNet
from search.stage.scores import StageScores, read_scores, write_scores
from search.stage.task import BITS, StageSettings, Staging
from search.train.arrays import forget_ranges, noise_digest
from search.train.images import Images
from search.train.teacher import StagedTeacher, split_graph
from search.train.training import Machine, ProgressCallback, fit


@dataclass(frozen=True, slots=True, eq=False)
class StageJob:
    """One stage to be trained, with all that it needs; picklable.

    ``stage`` from 0; ``teacher`` is a ``net.pt``; ``folder`` takes checkpoint and result.
    """

    space: Space
    stage: int
    settings: StageSettings
    teacher: Path
    noise: ArrayNoise | None
    folder: Path
    machine: Machine = field(default_factory=Machine)

    @property
    def name(self) -> str:
        return f"stage-{self.stage + 1}"


def train_stage(job: StageJob, images: Images, progress: ProgressCallback | None = None) -> StageScores:
    """Train and rate one stage, or read what was found before under the same settings.

    Leaves its scores, ``stage-N.json``, in the folder. Killed, it goes on from the last whole epoch.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    key = _key(job, images)
    result = job.folder / f"{job.name}.json"
    if result.exists() and (found := read_scores(result)).key == key:
        return found
    return job.machine.run(_train, job, images, key, progress=progress)


def _key(job: StageJob, images: Images) -> str:
    teacher = load_network(job.teacher).digest
    noise = "" if job.noise is None else noise_digest(job.noise)
    space = job.space
    choices = [(p.name, p.operators) for p in space.positions], [max(stage.widths) for stage in space.stages]
    run = (job.stage, repr(job.settings), job.machine.precision)
    what = (space.skeleton, choices, run, teacher, noise, images.digest)
    return hashlib.sha256(repr(what).encode()).hexdigest()


def _train(fabric: Fabric, job: StageJob, images: Images, key: str, progress: ProgressCallback | None) -> StageScores:
    settings = job.settings
    own, held = images.split(settings.held_out, settings.schedule.seed)
    teacher = split_graph(load_network(job.teacher).graph, job.space).to(fabric.device)
    torch.manual_seed(settings.schedule.seed)
    net = stage_net(job, teacher)
    task = Staging(net, teacher, job.stage, settings, held, len(own) // settings.schedule.batch, fabric.device)
    _, records = fit(
        fabric,
        task,
        own,
        settings.schedule,
        checkpoint=job.folder / f"{job.name}.checkpoint",
        key=key,
        progress=progress,
    )
    forget_ranges(net)
    with fabric.autocast():
        clean, noisy, paths = task.rate(own, progress)
    scores = StageScores(
        key=key,
        stage=job.stage,
        positions=tuple(job.space.positions[i].name for i in net.places),
        operators=tuple(net.names),
        clean=clean,
        noisy=noisy,
        counts=task.counts(),
        paths=paths,
        losses=tuple(r.loss for r in records),
        seconds=tuple(r.seconds for r in records),
    )
    write_scores(job.folder / f"{job.name}.json", scores)
    return scores


def stage_net(job: StageJob, teacher: StagedTeacher) -> StageNet:
    """The supernet of a stage, untrained."""
    at = job.stage
    net = StageNet(
        job.space, at, teacher.channels[at], teacher.channels[at + 1], BITS, job.noise, plain=teacher.rectified[at]
    )
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
