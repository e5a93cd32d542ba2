"""Answers of a task other than classes, drawn: masks and boxes side by side, curves, scores of all samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.pages.figures import Figure, axis, dots, figure, line, packed
from hil.pages.png import image_address
from hil.pages.shell import Plot
from hil.report.run_data import RunData
from hil.verdict.tasks.per_sample import IGNORED_PIXEL
from hil.verdict.tasks.task import Task
from mapping.network.task import TaskKind

MOST_CURVES = 4  # samples drawn as curves
MOST_DOTS = 2000
SEEN_SCORE = 0.3  # boxes that are drawn are at least so likely
COLOURS = np.array(
    [
        (30, 34, 42), (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0),
        (240, 228, 66),
    ],
    np.uint8,
)  # fmt: skip
"""Of classes in turn (Okabe and Ito 2008); pixels without a class are white."""
NO_BOXES = np.zeros((0, 4), np.float32)
COLUMNS = {"float": "@soft", "ideal": "@ideal", "simulated": "@simulated", "measured": "@measured"}


@dataclass(frozen=True, slots=True)
class DrawnBox:
    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of ``width`` x ``height`` pixels, whose ``address`` holds it, with boxes over it."""

    words: str
    address: str
    width: int
    height: int
    boxes: tuple[DrawnBox, ...] = ()


@dataclass(frozen=True, slots=True)
class SamplePictures:
    """One sample: what is there, and what each column made of it."""

    name: str
    pictures: tuple[Picture, ...]


def class_colours(task: Task) -> tuple[tuple[str, str], ...]:
    """Colours of the classes in masks and boxes, by name; none where pictures have no classes."""
    if task.kind not in (TaskKind.SEGMENT, TaskKind.DETECT):
        return ()
    first = 0 if task.kind is TaskKind.SEGMENT else 1
    count = len(COLOURS) - first
    return tuple(
        (name, "rgb({}, {}, {})".format(*COLOURS[first + k % count].tolist())) for k, name in enumerate(task.classes)
    )


def task_plots(data: RunData, task: Task, measured_words: str) -> Iterator[Plot]:
    """The figures of the section on answers."""
    if data.scores:
        yield Plot("scores", f"{task.metric.title} of all samples.", score_figure(data, task, measured_words))
    if task.kind is TaskKind.REGRESS:
        yield Plot("values", "Values against targets, samples of the run.", value_figure(data, task, measured_words))
    if task.kind is TaskKind.SEQUENCE:
        yield Plot("steps", "Share of right steps along the sequence.", step_figure(data, task, measured_words))
    if task.kind is TaskKind.AUTOENCODE and 1 in task.image[1:]:
        yield Plot(
            "curves", "Inputs and what comes again: the samples that differ most.", curves(data, task, measured_words)
        )


def score_figure(data: RunData, task: Task, measured_words: str) -> Figure:
    """Share of the samples with at most a score, by column (means over repeats and virtual chips)."""
    drawn = []
    for name, colour in COLUMNS.items():
        if name in data.scores:
            scores = np.sort(data.scores[name].mean(axis=0)) * task.metric.factor
            shares = 100 * (1 + np.arange(len(scores))) / len(scores)
            curve = line(packed(scores), packed(shares), colour, "%{x:.4g}: %{y:.1f} % of samples", shape="hv")
            drawn.append({**curve, "name": measured_words if name == "measured" else name})
    unit = "%" if task.metric.share else task.metric.unit
    x, y = axis(f"{task.metric.title}, {unit}"), axis("samples, %")
    return {**figure(drawn, 300, x=x, y=y, showlegend=True), "wide": True}


def value_figure(data: RunData, task: Task, measured_words: str) -> Figure:
    """Values of the chip and of the virtual chips (means) against targets."""
    assert data.targets is not None
    wanted = data.targets.reshape(len(data.targets), -1)
    step = max(1, wanted.size // MOST_DOTS)
    drawn = []
    for name, logits in (("simulated", data.simulated_logits), ("measured", data.measured_logits)):
        values = task.values(logits).mean(axis=0)
        marks = dots(
            packed(wanted.reshape(-1)[::step]), packed(values.reshape(-1)[::step]), COLUMNS[name],
            "target %{x:.4g}: %{y:.4g}", size=5, opacity=0.5,
        )  # fmt: skip
        drawn.append({**marks, "name": measured_words if name == "measured" else name})
    return figure(drawn, 340, x=axis("target"), y=axis("value"), showlegend=True)


def step_figure(data: RunData, task: Task, measured_words: str) -> Figure:
    """Accuracy of each step, by column."""
    assert data.targets is not None
    known = data.targets >= 0
    steps = task.outputs[0].shape
    drawn = []
    every = {"float": data.float_logits, "ideal": data.ideal_logits, "simulated": data.simulated_logits}
    for name, logits in (*every.items(), ("measured", data.measured_logits)):
        if logits is not None:
            right = (logits.reshape(-1, len(known), *steps).argmax(-1) == data.targets) & known
            share = 100 * right.mean(axis=0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
            curve = line(list(range(steps[0])), packed(share), COLUMNS[name], "step %{x}: %{y:.1f} %")
            drawn.append({**curve, "name": measured_words if name == "measured" else name})
    return figure(drawn, 300, x=axis("step"), y=axis("right, %"), showlegend=True)


def curves(data: RunData, task: Task, measured_words: str) -> Figure:
    """Inputs of an autoencoder and its outputs on the chip, one above the other."""
    if data.telling is None or data.targets is None:
        return figure([], 200)
    drawn = []
    width = sum(output.size for output in task.outputs)
    for place, k in enumerate(data.telling[:MOST_CURVES]):
        wanted = data.targets[k].reshape(-1)[:width]
        lift = place * (float(data.targets.max()) - float(data.targets.min()))
        named = (("input", wanted, "@ideal"), ("simulated", _mean(data.simulated_logits, task, int(k)), "@simulated"))
        for name, values, colour in (*named, ("measured", _mean(data.measured_logits, task, int(k)), "@measured")):
            curve = line(list(range(len(values))), packed(np.asarray(values) + lift), colour, f"{name}: %{{y:.4g}}")
            words = measured_words if name == "measured" else name
            drawn.append({**curve, "name": words, "legendgroup": name, "showlegend": place == 0})
    return {**figure(drawn, 380, x=axis("place"), y=axis("value, samples lifted apart"), showlegend=True), "wide": True}


def _mean(logits: NDArray[np.int32], task: Task, k: int) -> NDArray[np.float64]:
    return np.asarray(task.values(logits[:, k]).mean(axis=0), np.float64)


@dataclass(frozen=True, slots=True)
class TellingSamples:
    """A part of the page of a run; ``colours`` of classes by name."""

    samples: tuple[SamplePictures, ...]
    colours: tuple[tuple[str, str], ...]


def pictures(data: RunData, task: Task, measured_words: str) -> TellingSamples | None:
    """The telling samples as pictures; None where the task has none."""
    if data.telling is None or data.telling_images is None or data.targets is None or 1 in task.image[1:]:
        return None
    if task.kind not in (TaskKind.SEGMENT, TaskKind.DETECT, TaskKind.AUTOENCODE) or not len(data.telling):
        return None
    draw = {TaskKind.SEGMENT: _masks, TaskKind.DETECT: _boxes, TaskKind.AUTOENCODE: _again}[task.kind]
    samples = tuple(
        SamplePictures(f"Sample {int(data.indices[k]):,}", tuple(draw(data, task, int(k), pixels, measured_words)))
        for k, pixels in zip(data.telling, data.telling_images, strict=True)
    )
    return TellingSamples(samples, class_colours(task))


def _logits(data: RunData, k: int, measured_words: str) -> Iterator[tuple[str, NDArray[np.int32]]]:
    yield "ideal", data.ideal_logits[k : k + 1]
    yield "simulated", data.simulated_logits[0, k : k + 1]
    yield measured_words, data.measured_logits[0, k : k + 1]


def _masks(data: RunData, task: Task, k: int, pixels: NDArray[np.uint8], measured_words: str) -> Iterator[Picture]:
    assert data.targets is not None
    yield _picture("image", pixels)
    yield _picture("mask", coloured(data.targets[k]))
    for words, logits in _logits(data, k, measured_words):
        yield _picture(words, coloured(task.pixels(logits)[0]))


def coloured(classes: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Class numbers (height, width) in colours, (height, width, 3)."""
    found = COLOURS[np.asarray(classes, np.int64) % len(COLOURS)]
    found[classes == IGNORED_PIXEL] = 255
    return found


def _again(data: RunData, task: Task, k: int, pixels: NDArray[np.uint8], measured_words: str) -> Iterator[Picture]:
    assert data.targets is not None
    size = sum(output.size for output in task.outputs)
    wanted = data.targets[k].reshape(-1)[:size]
    low, high = float(wanted.min()), float(wanted.max())
    yield _picture("input", pixels)
    for words, logits in _logits(data, k, measured_words):
        values = (task.values(logits)[0] - low) / max(high - low, 1e-12)
        maps = np.clip(255 * values, 0, 255).astype(np.uint8).reshape(task.image).transpose(1, 2, 0)
        yield _picture(words, maps)


def _boxes(data: RunData, task: Task, k: int, pixels: NDArray[np.uint8], measured_words: str) -> Iterator[Picture]:
    assert data.targets is not None
    there = data.targets[k][data.targets[k][:, 0] >= 0]
    yield _picture("boxes that are there", pixels, there[:, 1:], there[:, 0])
    for words, logits in _logits(data, k, measured_words):
        found = task.boxes(logits)[0]
        likely = found[found[:, 5] >= SEEN_SCORE]
        yield _picture(words, pixels, likely[:, :4], likely[:, 4])


def _picture(
    words: str, pixels: NDArray[np.uint8], corners: NDArray[Any] = NO_BOXES, classes: NDArray[Any] = NO_BOXES
) -> Picture:
    """An image with boxes over it, corners (k, 4) in pixels and classes (k,)."""
    drawn = []
    for (x1, y1, x2, y2), kind in zip(corners.round(1).tolist(), classes, strict=True):
        red, green, blue = COLOURS[1 + int(kind) % (len(COLOURS) - 1)]
        drawn.append(DrawnBox(x1, y1, max(x2 - x1, 0.0), max(y2 - y1, 0.0), f"rgb({red}, {green}, {blue})"))
    return Picture(words, image_address(pixels), pixels.shape[1], pixels.shape[0], tuple(drawn))
