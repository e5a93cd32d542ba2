"""Images and labels that score virtual chips, and the float network's score on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.datasets.image_set import Dataset
from hil.datasets.input_values import with_pixels
from hil.deployment.interim_looks import plan_images
from hil.deployment.options import DeployOptions
from hil.deployment.scoring import targets_of, task_of
from hil.verdict.tasks.task import Task
from mapping.network.float_run import float_logits
from mapping.network.graph import NetworkGraph
from mapping.program.conductance import ConductanceProgram


def scored_images(
    program: ConductanceProgram, data: Dataset, options: DeployOptions
) -> tuple[NDArray[np.uint8], NDArray[Any], Task]:
    """Images that virtual chips are scored on, their targets, and the task that scores."""
    data = with_pixels(data, program.input.shape, program.preprocess)
    order, _ = plan_images(data, program, options)
    task = task_of(program, data, options)
    return data.images[order], targets_of(task, data, program.preprocess)[order], task


def float_score(graph: NetworkGraph, program: ConductanceProgram, data: Dataset, options: DeployOptions) -> float:
    """The score of the float network on the images that ``predict`` scores its chips on."""
    images, targets, task = scored_images(program, data, options)
    return float(metric_of(task, float_logits(graph, images), targets))


def metric_of(task: Task, logits: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """The metric of logits (…, n, width), computed over n; shape (…)."""
    return task.totals(task.scores(logits, targets))
