"""A task: what turns logit codes and targets into scores, for every chip, simulated or real, by the same rules."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.errors import FileError, UsageError
from hil.verdict.metric import ACCURACY, Metric
from hil.verdict.set_metric import SetScore
from hil.verdict.tasks import boxes as boxes_of
from hil.verdict.tasks import per_sample, set_scores
from hil.verdict.tasks.metrics import (
    ABSOLUTE_ERROR,
    AUC,
    IOU,
    MAP,
    MAP50,
    MEAN_IOU,
    PIXEL_ACCURACY,
    SQUARED_ERROR,
    STEP_ACCURACY,
    metric_named,
)
from mapping.network.graph import Output
from mapping.network.task import LEAST_GRID, TaskKind

Floats = NDArray[np.float64]
Function = Callable[[Any, NDArray[Any]], Any]


@dataclass(frozen=True, slots=True)
class CustomMetric:
    """``function(outputs, targets)`` gives a score for each sample (n,), or one number for all of them.

    ``outputs`` is an array (n, …) of values, or a dict of them by name where there are several. Constants of the
    module say the rest: ``SET = True`` for one number, ``UNIT`` ("points" with shares from 0 to 1, or the score's
    own), ``GREATER = False`` where less is better.
    """

    function: Function
    metric: Metric

    def scores(self, outputs: Any, targets: NDArray[Any]) -> Floats:
        """Scores (n,), checked."""
        found = self._called(outputs, targets)
        if found.shape != (len(targets),) or not np.isfinite(found).all():
            raise UsageError(
                f"{self.metric.name} gave {found.shape} for {len(targets)} samples, or numbers that are not finite",
                hint="one finite score a sample; SET = True beside a function that gives one number for all",
            )
        return found

    def total(self, outputs: Any, targets: NDArray[Any]) -> float:
        """One number for all samples, checked."""
        found = self._called(outputs, targets)
        if found.shape != () or not np.isfinite(found):
            raise UsageError(f"{self.metric.name} gave {found.shape}, not one finite number, and SET is True")
        return float(found)

    def _called(self, outputs: Any, targets: NDArray[Any]) -> Floats:
        try:
            return np.asarray(self.function(outputs, targets), np.float64)
        except Exception as error:  # whatever a user's function raises
            named = outputs if isinstance(outputs, dict) else {"outputs": outputs}
            given = {name: values.shape for name, values in named.items()}
            raise FileError(
                f"{self.metric.name} stopped with {type(error).__name__}: {error}",
                where="--metric",
                likely=f"it was given outputs {given} and targets {targets.shape}",
            ) from error


def custom_metric(named: str, *, allowed: bool) -> CustomMetric:
    """The function of "file.py:function".

    Raises:
        UsageError: nobody allowed its code to run. FileError: no such file or function, or it does not run.
    """
    place, _, name = named.rpartition(":")
    if not allowed:
        raise UsageError(f"{named} is Python code, which nobody allowed to run", hint="--allow-code, if you trust it")
    path = Path(place)
    if not path.is_file():
        raise FileError(f"no file {place!r}", where="--metric", hint="--metric score.py:function")
    spec = importlib.util.spec_from_file_location(f"metric_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise FileError(f"{place} is no Python file", where="--metric", hint="--metric score.py:function")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        function: Function = getattr(module, name)
    except Exception as error:  # whatever a user's file raises
        raise FileError(f"{named} cannot be used: {type(error).__name__}: {error}", where="--metric") from error
    unit = str(getattr(module, "UNIT", "points"))
    shares = unit == "points"
    return CustomMetric(
        function,
        Metric(
            name,
            name.replace("_", " "),
            unit,
            factor=100.0 if shares else 1.0,
            greater=bool(getattr(module, "GREATER", True)),
            paired=not getattr(module, "SET", False),
        ),
    )


MOST_AT_ONCE = 1 << 22  # numbers that are scored together


@dataclass(frozen=True, slots=True)
class Task:
    """The task of a network: the meaning of its outputs, and their metric.

    ``image``: (channels, height, width) of the input. ``outputs``: of the network, none with classes; ``classes``:
    names of classes, of logits, pixels, boxes or steps. ``scale``: value of one logit code.
    """

    kind: TaskKind
    metric: Metric
    image: tuple[int, int, int]
    outputs: tuple[Output, ...] = ()
    classes: tuple[str, ...] = ()
    scale: float = 1.0
    own: CustomMetric | None = None

    @classmethod
    def of(
        cls,
        kind: TaskKind,
        *,
        metric: str = "",
        image: tuple[int, int, int],
        outputs: Sequence[Output] = (),
        classes: Sequence[str] = (),
        scale: float = 1.0,
        allow_code: bool = False,
    ) -> Task:
        """The task of a network with these outputs; ``metric`` "" is its first one.

        Raises:
            UsageError: an unknown metric, code that nobody allowed, or outputs that are not of this kind.
        """
        own = custom_metric(metric, allowed=allow_code) if ":" in metric else None
        found = cls(
            kind,
            metric_named(kind, metric) if own is None else own.metric,
            image,
            tuple(outputs),
            tuple(classes),
            scale,
            own,
        )
        if reason := found.misfit():
            shapes = ", ".join(f"{output.name} {output.shape}" for output in outputs) or f"{len(classes)} logits"
            raise UsageError(f"the network gives {shapes}: {reason}", hint="--task " + " | ".join(TaskKind))
        return found

    def misfit(self) -> str:
        """Why the outputs are not of this kind; "" where they are."""
        shapes = [output.shape for output in self.outputs]
        first = shapes[0] if shapes else ()
        match self.kind:
            case TaskKind.CLASSIFY:
                return "" if not shapes or [len(s) for s in shapes] == [1] else "a class needs one vector of logits"
            case TaskKind.SEGMENT:
                maps = len(shapes) == 1 and len(first) in (2, 3)
                whole = maps and self.image[1] % first[-2] == 0 and self.image[2] % first[-1] == 0
                return "" if whole else f"classes of pixels need one map (classes, {self.image[1]}, {self.image[2]})"
            case TaskKind.DETECT:
                pair = len(shapes) == 2 and all(len(s) == 2 for s in shapes) and 4 in (shapes[0][1], shapes[1][1])
                grid = len(shapes) == 1 and len(first) == 3 and first[0] >= LEAST_GRID
                return "" if pair or grid else "boxes need (N, 4) beside (N, classes), or one grid (5 + classes, h, w)"
            case TaskKind.AUTOENCODE:
                size = self.image[0] * self.image[1] * self.image[2]
                same = sum(output.size for output in self.outputs) == size
                return "" if same else f"an autoencoder gives its {size} inputs again"
            case TaskKind.SEQUENCE:
                return "" if [len(s) for s in shapes] == [2] else "steps need one output (steps, classes)"
            case TaskKind.REGRESS:
                return "" if shapes else "numbers need outputs, not classes"

    @property
    def class_count(self) -> int:
        """Classes of logits, pixels, boxes or steps; 0 where there are none."""
        shapes = [output.shape for output in self.outputs]
        match self.kind:
            case TaskKind.CLASSIFY:
                return len(self.classes) or shapes[0][0]
            case TaskKind.SEGMENT:
                return max(2, shapes[0][0]) if len(shapes[0]) == 3 else 2
            case TaskKind.DETECT:
                return shapes[0][0] - 5 if len(shapes) == 1 else shapes[1 - self._boxes_at][1]
            case TaskKind.SEQUENCE:
                return shapes[0][1]
            case _:
                return 0

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for every class: numbers where nobody named it."""
        return tuple(self.classes[k] if k < len(self.classes) else str(k) for k in range(self.class_count))

    @property
    def set_score(self) -> SetScore | None:
        """How evidence becomes the metric of a set; None where every sample has a score of its own."""
        if self.metric.paired:
            return None
        if self.own is not None:
            return self._own_total
        if self.metric in (MAP, MAP50):
            return set_scores.precision_of(self.class_count, loose=self.metric == MAP50)
        return set_scores.set_overlap if self.metric == MEAN_IOU else set_scores.area_under_curve

    def values(self, logits: NDArray[Any]) -> NDArray[Any]:
        """Logit codes as values; logits of the float network are values already."""
        return logits * np.float32(self.scale) if logits.dtype.kind in "iu" else logits

    def by_output(self, logits: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Values (n, …) of each output by name, of logits (n, width)."""
        values, at, found = self.values(logits), 0, {}
        for output in self.outputs:
            found[output.name] = values[:, at : at + output.size].reshape(len(values), *output.shape)
            at += output.size
        return found

    def scores(self, logits: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
        """Score of each sample, or its evidence for a metric of the set: (…, n, width) → (…, n) or (…, n, k)."""
        if self.kind is TaskKind.CLASSIFY and self.own is None:
            right: NDArray[np.bool_] = logits.argmax(axis=-1) == targets
            return right
        rows = logits.reshape(-1, *logits.shape[-2:])
        parts = list(per_sample.in_parts(rows.shape[1], rows.shape[2], MOST_AT_ONCE))
        found = [np.concatenate([self._scores(one[part], targets[part]) for part in parts]) for one in rows]
        return np.stack(found).reshape(*logits.shape[:-2], *found[0].shape)

    def totals(self, scores: NDArray[Any]) -> Floats:
        """The metric of scores (…, n) or evidence (…, n, k): (…)."""
        score = self.set_score
        if score is None:
            return np.asarray(scores.mean(axis=-1), np.float64)
        rows = np.asarray(scores, np.float64).reshape(-1, *scores.shape[-2:])
        once = np.ones((1, rows.shape[1]))
        return np.array([score(one, once)[0] for one in rows]).reshape(scores.shape[:-2])

    def boxes(self, logits: NDArray[Any]) -> list[Floats]:
        """Boxes of a detector's logits (n, width), likeliest first: one (k, 6) a sample of corners, class and score."""
        by = list(self.by_output(logits).values())
        if len(by) == 1:
            found, scores = boxes_of.from_grid(by[0], self.image[1:])
        else:
            found, scores = boxes_of.from_pair(by[self._boxes_at], by[1 - self._boxes_at])
        return [boxes_of.likeliest(b, s) for b, s in zip(found, scores, strict=True)]

    def pixels(self, logits: NDArray[Any]) -> NDArray[Any]:
        """Class of every pixel of a segmentation's logits (n, width), (n, height, width)."""
        shape = self.outputs[0].shape
        maps = logits.reshape(len(logits), *((1, *shape) if len(shape) == 2 else shape))
        return per_sample.pixel_classes(maps, self.image[1:])

    @property
    def _boxes_at(self) -> int:
        """Which of two outputs holds boxes: the one of four numbers, the first one of two such."""
        return 0 if self.outputs[0].shape[1] == 4 else 1

    def _scores(self, logits: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
        if self.own is not None:
            return self._own_scores(logits, targets)
        if self.metric == ACCURACY:
            return self.scores(logits, targets)
        if self.kind is TaskKind.SEGMENT:
            found = self.pixels(logits)
            if self.metric == PIXEL_ACCURACY:
                return per_sample.pixel_accuracy(found, targets)
            both, either = per_sample.class_overlaps(found, targets, self.class_count)
            return per_sample.mean_overlap(both, either) if self.metric == IOU else np.hstack([both, either])
        if self.kind is TaskKind.DETECT:
            count = self.class_count
            pairs = zip(self.boxes(logits), targets, strict=True)
            return np.stack([boxes_of.evidence_of(found, wanted, count) for found, wanted in pairs])
        if self.metric == STEP_ACCURACY:
            return per_sample.step_accuracy(logits.reshape(len(logits), *self.outputs[0].shape), targets)
        values = self.values(logits)
        if self.metric == AUC:
            error = per_sample.squared_error(values, targets[:, :-1])
            return np.column_stack([error, targets[:, -1]])
        assert self.metric in (SQUARED_ERROR, ABSOLUTE_ERROR)
        measure = per_sample.squared_error if self.metric == SQUARED_ERROR else per_sample.absolute_error
        return measure(values, targets.reshape(len(targets), -1)[:, : values.shape[1]])

    def _own_outputs(self, logits: NDArray[Any]) -> Any:
        by = self.by_output(logits)
        if not by:
            return self.values(logits)
        return by if len(by) > 1 else next(iter(by.values()))

    def _own_scores(self, logits: NDArray[Any], targets: NDArray[Any]) -> Floats:
        """Scores of a user's metric, or outputs and targets side by side as evidence of one of the set."""
        assert self.own is not None
        if self.metric.paired:
            return self.own.scores(self._own_outputs(logits), targets)
        flat = np.asarray(targets, np.float64).reshape(len(targets), -1)
        shape = np.tile(np.array([targets.ndim - 1, *targets.shape[1:]], np.float64), (len(targets), 1))
        return np.hstack([shape, np.asarray(self.values(logits), np.float64), flat])

    def _own_total(self, evidence: Floats, weights: Floats) -> Floats:
        assert self.own is not None
        axes = int(evidence[0, 0])
        shape = tuple(int(side) for side in evidence[0, 1 : 1 + axes])
        width = evidence.shape[1] - 1 - axes - int(np.prod(shape, dtype=np.int64))
        totals = []
        for drawn in weights:
            rows = evidence[np.repeat(np.arange(len(evidence)), drawn.astype(np.int64))]
            outputs = self._own_outputs(rows[:, 1 + axes : 1 + axes + width])
            totals.append(self.own.total(outputs, rows[:, 1 + axes + width :].reshape(len(rows), *shape)))
        return np.array(totals)
