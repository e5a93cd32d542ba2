"""The metrics of each task by name; the first of a task is its default."""

from __future__ import annotations

from collections.abc import Mapping

from hil.errors import UsageError
from hil.verdict.metric import ACCURACY, Metric
from mapping.network.task import TaskKind

IOU = Metric("iou", "IoU", "points")
PIXEL_ACCURACY = Metric("pixel-accuracy", "pixel accuracy", "points")
MEAN_IOU = Metric("mean-iou", "IoU of all pixels", "points", paired=False)
MAP = Metric("map", "mAP", "points", paired=False)
MAP50 = Metric("map50", "mAP at IoU 0.5", "points", paired=False)
SQUARED_ERROR = Metric("squared-error", "squared error", "squared units", factor=1.0, greater=False)
ABSOLUTE_ERROR = Metric("absolute-error", "absolute error", "units", factor=1.0, greater=False)
AUC = Metric("auc", "AUC", "points", paired=False)
STEP_ACCURACY = Metric("step-accuracy", "step accuracy", "points")

METRICS: Mapping[TaskKind, tuple[Metric, ...]] = {
    TaskKind.CLASSIFY: (ACCURACY,),
    TaskKind.SEGMENT: (IOU, PIXEL_ACCURACY, MEAN_IOU),
    TaskKind.DETECT: (MAP, MAP50),
    TaskKind.REGRESS: (SQUARED_ERROR, ABSOLUTE_ERROR),
    TaskKind.AUTOENCODE: (SQUARED_ERROR, AUC),
    TaskKind.SEQUENCE: (STEP_ACCURACY,),
}
USUAL_TOLERANCE = 0.01  # of a share; other metrics have no usual one


def metric_named(kind: TaskKind, name: str) -> Metric:
    """The metric of a task by its name, "" for its first one; raises ``UsageError``."""
    known = METRICS[kind]
    for metric in known:
        if name in ("", metric.name):
            return metric
    raise UsageError(
        f"no metric {name!r} of the task {kind}",
        hint=f"one of {', '.join(m.name for m in known)}, or file.py:function with --allow-code",
    )


def tolerance_of(metric: Metric, asked: float | None) -> float:
    """The tolerance as a score: ``asked`` in the metric's unit (points of a share), or the usual one.

    Raises:
        UsageError: none was asked for, and the metric has no usual one; or it cannot be.
    """
    if asked is None:
        if metric.share:
            return USUAL_TOLERANCE
        raise UsageError(
            f"{metric.title} has a unit of its own, and no tolerance that suits every network",
            hint=f"hil deploy --tolerance NUMBER, in {metric.unit}; hil simulate prints what virtual chips reach",
        )
    tolerance = asked / metric.factor
    if not 0 < tolerance < (1 if metric.share else float("inf")):
        raise UsageError(f"tolerance {asked:g} {metric.unit}", hint="points between 0 and 100, or a positive number")
    return tolerance
