"""Scores of a run: its task and metric, the targets of all samples, and the tolerance in the metric's own unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hil.datasets.image_set import Dataset
from hil.datasets.targets import TargetKind
from hil.deployment.options import DeployOptions
from hil.errors import UsageError
from hil.verdict.tasks.metrics import AUC, tolerance_of
from hil.verdict.tasks.task import Task
from mapping.network.graph import Preprocess
from mapping.network.task import TaskKind
from mapping.program.conductance import ConductanceProgram

NEEDED = {
    TaskKind.CLASSIFY: TargetKind.CLASSES,
    TaskKind.SEGMENT: TargetKind.MASKS,
    TaskKind.DETECT: TargetKind.BOXES,
    TaskKind.REGRESS: TargetKind.VALUES,
    TaskKind.SEQUENCE: TargetKind.STEPS,
}
SAMPLES_A_CLASS = 5  # with so many samples for each class, a class without one is not missing by chance
MOST_NUMBERS = 1 << 24  # logits of all chips that are held at once


@dataclass(frozen=True, slots=True)
class Scoring:
    """How samples are scored: ``targets`` (n, …) of the whole set, in its order; ``tolerance`` is a score."""

    task: Task
    targets: NDArray[np.generic]
    tolerance: float

    def at_once(self, samples: int, rows: int, width: int) -> int:
        """Samples that are run together, so that logits of ``rows`` chips and repeats fit into memory."""
        if self.task.kind is TaskKind.CLASSIFY:
            return max(samples, 1)
        return max(1, min(samples, MOST_NUMBERS // max(1, rows * width)))


def scoring_of(program: ConductanceProgram, data: Dataset, options: DeployOptions) -> Scoring:
    """The scoring that options ask for, or that program and data suggest.

    Raises:
        UsageError: outputs or targets that are not of the task, an unknown metric, or a tolerance that is missing.
    """
    task = task_of(program, data, options)
    if options.tolerance_in_units is None and options.tolerance is not None:
        asked: float | None = options.tolerance * task.metric.factor
    else:
        asked = options.tolerance_in_units
    return Scoring(task, targets_of(task, data, program.preprocess), tolerance_of(task.metric, asked))


def task_of(program: ConductanceProgram, data: Dataset, options: DeployOptions) -> Task:
    """The task of a program and its metric; raises ``UsageError`` if the network's outputs do not fit the task."""
    kind = TaskKind(options.task) if options.task else program.purpose
    return Task.of(
        kind,
        metric=options.metric,
        image=program.input.shape,
        outputs=program.outputs,
        classes=program.classes or data.classes,
        scale=program.logit_scale if program.outputs else 1.0,
        allow_code=options.allow_code,
    )


def targets_of(task: Task, data: Dataset, preprocess: Preprocess | None) -> NDArray[np.generic]:
    """Targets of every sample as the task scores them; of an autoencoder its inputs, with labels for the AUC.

    Raises:
        UsageError: the set has targets of another kind, size or class.
    """
    if task.kind is TaskKind.AUTOENCODE and task.own is None:
        return _inputs_again(task, data, preprocess)
    if task.own is None or task.kind is TaskKind.CLASSIFY:
        _check_kind(task, data)
    truth = data.truth
    if task.own is not None:
        return truth
    count = task.class_count
    match task.kind:
        case TaskKind.CLASSIFY:
            check_classes(data, task.classes)
        case TaskKind.SEGMENT:
            _need(data, truth.shape[1:] == task.image[1:], f"masks of {truth.shape[1:]}", f"masks of {task.image[1:]}")
            known = truth[truth != 255]
            _check_classes(data, int(known.max(initial=0)), count, "masks")
        case TaskKind.DETECT:
            _check_classes(data, int(truth[:, :, 0].max()), count, "boxes")
        case TaskKind.SEQUENCE:
            steps = task.outputs[0].shape[0]
            _need(data, truth.shape[1] == steps, f"{truth.shape[1]} steps a sample", f"{steps} steps")
            _check_classes(data, int(truth.max()), count, "steps")
        case TaskKind.REGRESS:
            size, given = sum(o.size for o in task.outputs), math.prod(truth.shape[1:])
            _need(data, size == given, f"{given} values a sample", f"{size} values")
    return truth


def _inputs_again(task: Task, data: Dataset, preprocess: Preprocess | None) -> NDArray[np.generic]:
    """Inputs as the network takes them, (n, values), targets of an autoencoder; last column: 0 or 1 for the AUC."""
    if preprocess is None:
        raise UsageError(
            "the program does not say how pixels become inputs, which an autoencoder is to give again",
            hint="name the network file instead, or compile it again",
        )
    pixels = data.images.transpose(0, 3, 1, 2)
    flat = np.empty((len(pixels), math.prod(pixels.shape[1:])), np.float32)
    mean, std = (np.array(x, np.float32).reshape(1, -1, 1, 1) for x in (preprocess.mean, preprocess.std))
    for at in range(0, len(pixels), 1024):
        part = (pixels[at : at + 1024].astype(np.float32) / 255 - mean) / std
        flat[at : at + 1024] = part.reshape(len(part), -1)
    if task.metric != AUC:
        return flat
    _need(data, data.kind is TargetKind.CLASSES, f"{data.kind}", "labels: 0 of ordinary samples, 1 of odd ones")
    odd = data.labels
    _need(data, set(np.unique(odd)) == {0, 1}, f"labels {np.unique(odd)[:5]}", "labels 0 and 1, both of them")
    return np.column_stack([flat, odd.astype(np.float32)])


def _check_kind(task: Task, data: Dataset) -> None:
    if data.kind is not NEEDED.get(task.kind, data.kind):
        raise UsageError(
            f"{data.name} has {data.kind}, but to {task.kind} is scored by {NEEDED[task.kind]}",
            hint="another --data, another --task, or --metric file.py:function with --allow-code",
        )


def check_classes(data: Dataset, names: Sequence[str]) -> None:
    """Compare the labels and class names of a set with the classes of a network, before anything is written.

    Names that are numbers count as none. Of a set without names, some class may be missing by chance where it has fewer
    than ``SAMPLES_A_CLASS`` samples for each class.

    Raises:
        UsageError: more or fewer classes than the network has, names in another order, or other names altogether.
    """
    _check_classes(data, int(data.labels.max()), len(names), "labels")
    wanted, given = ([_folded(name) for name in some] for some in (names, data.classes))
    hint = "name the network's own data set: --data; or the network's classes, in its order, in the file"
    numbered = all(name.isdigit() for name in given)
    if len(given) != len(wanted) and (not numbered or len(data) >= SAMPLES_A_CLASS * len(wanted)):
        raise UsageError(f"{data.name} has {len(given)} classes, the network {len(wanted)}", hint=hint)
    if numbered or all(name.isdigit() for name in wanted):
        return
    moved = [name for at, name in enumerate(given) if name in wanted and wanted[at] != name]
    if moved or not set(given) & set(wanted):
        said = f"{', '.join(data.classes[:4])} …, the network {', '.join(list(names)[:4])} …"
        raise UsageError(
            f"{data.name} has {'the classes in another order' if moved else 'other classes'}: {said}", hint=hint
        )


def _folded(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _check_classes(data: Dataset, largest: int, count: int, what: str) -> None:
    if largest >= count:
        raise UsageError(f"{data.name} has {what} up to {largest}, the network {count} classes")


def _need(data: Dataset, good: bool, has: str, wants: str) -> None:
    if not good:
        raise UsageError(f"{data.name} has {has}, the network gives {wants}", hint="another --data or --task")
