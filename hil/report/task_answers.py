"""Answers of a task other than classes, drawn: masks and boxes side by side, curves, scores of all samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape

import numpy as np
from numpy.typing import NDArray

from hil.pages.figures import Figure, axis, dots, figure, line, packed
from hil.pages.png import image_address
from hil.report.run_data import RunData
from hil.verdict.tasks.per_sample import IGNORED_PIXEL
from hil.verdict.tasks.task import Task
from mapping.network.task import TaskKind

Plot = Callable[..., str]
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
COLUMNS = {"float": "@soft", "ideal": "@ideal", "simulated": "@simulated", "measured": "@measured"}


def task_answers(data: RunData, task: Task, measured_words: str, plot: Plot) -> tuple[str, ...]:
    """The parts of the section on answers."""
    parts = []
    if data.scores:
        drawn = score_figure(data, task, measured_words)
        parts.append(plot("scores", f"{task.metric.title} of all samples, in four columns.", drawn))
    if task.kind is TaskKind.REGRESS and data.targets is not None:
        parts.append(plot("values", "Values against targets, samples of the run.", value_figure(data, task)))
    if task.kind is TaskKind.SEQUENCE and data.targets is not None:
        words = "Share of right steps along the sequence."
        parts.append(plot("steps", words, step_figure(data, task, measured_words)))
    one_axis = task.image[1] == 1 or task.image[2] == 1
    if task.kind is TaskKind.AUTOENCODE and one_axis:
        parts.append(plot("curves", "Inputs and what comes again: the samples that differ most.", curves(data, task)))
    return (*parts, pictures(data, task, measured_words))


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


def value_figure(data: RunData, task: Task) -> Figure:
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
        drawn.append({**marks, "name": name})
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


def curves(data: RunData, task: Task) -> Figure:
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
            drawn.append({**curve, "name": f"{name}, sample {int(data.indices[k])}"})
    return {**figure(drawn, 380, x=axis("place"), y=axis("value, samples lifted apart")), "wide": True}


def _mean(logits: NDArray[np.int32], task: Task, k: int) -> NDArray[np.float64]:
    return np.asarray(task.values(logits[:, k]).mean(axis=0), np.float64)


def pictures(data: RunData, task: Task, measured_words: str) -> str:
    """The telling samples as pictures, as markup; "" where the task has none."""
    if data.telling is None or data.telling_images is None or data.targets is None or not len(data.telling):
        return ""
    if task.kind not in (TaskKind.SEGMENT, TaskKind.DETECT, TaskKind.AUTOENCODE) or 1 in task.image[1:]:
        return ""
    draw = {TaskKind.SEGMENT: _masks, TaskKind.DETECT: _boxes, TaskKind.AUTOENCODE: _again}[task.kind]
    items = []
    for k, pixels in zip(data.telling, data.telling_images, strict=True):
        shown = "".join(
            f"<figure>{picture}<figcaption>{escape(words)}</figcaption></figure>"
            for words, picture in draw(data, task, int(k), pixels, measured_words)
        )
        number = int(data.indices[k])
        items.append(f'<div role="group" aria-label="Sample {number}"><p>Sample {number:,}</p>{shown}</div>')
    note = "Samples that the chip does worse than the virtual chips, clearest first; first repeat and virtual chip."
    return f'<h3>Most telling samples</h3><p class="note">{note}</p><div class="telling">{"".join(items)}</div>'


def _logits(data: RunData, k: int, measured_words: str) -> Iterator[tuple[str, NDArray[np.int32]]]:
    yield "ideal", data.ideal_logits[k : k + 1]
    yield "simulated", data.simulated_logits[0, k : k + 1]
    yield measured_words, data.measured_logits[0, k : k + 1]


def _masks(
    data: RunData, task: Task, k: int, pixels: NDArray[np.uint8], measured_words: str
) -> Iterator[tuple[str, str]]:
    assert data.targets is not None
    yield "image", _image(pixels, f"Sample {k}")
    yield "mask", _image(coloured(data.targets[k]), f"Mask of sample {k}")
    for words, logits in _logits(data, k, measured_words):
        yield words, _image(coloured(task.pixels(logits)[0]), f"Classes of the pixels, {words}")


def coloured(classes: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Class numbers (height, width) in colours, (height, width, 3)."""
    found = COLOURS[np.asarray(classes, np.int64) % len(COLOURS)]
    found[classes == IGNORED_PIXEL] = 255
    return found


def _again(
    data: RunData, task: Task, k: int, pixels: NDArray[np.uint8], measured_words: str
) -> Iterator[tuple[str, str]]:
    assert data.targets is not None
    size = sum(output.size for output in task.outputs)
    wanted = data.targets[k].reshape(-1)[:size]
    low, high = float(wanted.min()), float(wanted.max())
    yield "input", _image(pixels, f"Sample {k}")
    for words, logits in _logits(data, k, measured_words):
        values = (task.values(logits)[0] - low) / max(high - low, 1e-12)
        maps = np.clip(255 * values, 0, 255).astype(np.uint8).reshape(task.image).transpose(1, 2, 0)
        yield words, _image(maps, f"Sample {k} again, {words}")


def _boxes(
    data: RunData, task: Task, k: int, pixels: NDArray[np.uint8], measured_words: str
) -> Iterator[tuple[str, str]]:
    assert data.targets is not None
    there = data.targets[k][data.targets[k][:, 0] >= 0]
    yield "boxes that are there", _with_boxes(pixels, there[:, 1:], there[:, 0], f"Sample {k}")
    for words, logits in _logits(data, k, measured_words):
        found = task.boxes(logits)[0]
        likely = found[found[:, 5] >= SEEN_SCORE]
        yield words, _with_boxes(pixels, likely[:, :4], likely[:, 4], f"Boxes in sample {k}, {words}")


def _with_boxes(
    pixels: NDArray[np.uint8], corners: NDArray[np.floating], classes: NDArray[np.floating], words: str
) -> str:
    """The image with boxes over it, as inline SVG."""
    height, width = pixels.shape[:2]
    drawn = []
    for (x1, y1, x2, y2), kind in zip(corners, classes, strict=True):
        red, green, blue = COLOURS[1 + int(kind) % (len(COLOURS) - 1)]
        place = f'x="{x1:.1f}" y="{y1:.1f}" width="{max(x2 - x1, 0):.1f}" height="{max(y2 - y1, 0):.1f}"'
        drawn.append(f'<rect {place} fill="none" stroke="rgb({red},{green},{blue})" stroke-width="{width / 64:.2f}"/>')
    image = f'<image href="{image_address(pixels)}" width="{width}" height="{height}"/>'
    view = f'viewBox="0 0 {width} {height}" width="128" height="{round(128 * height / width)}"'
    return f'<svg {view} role="img" aria-label="{escape(words)}">{image}{"".join(drawn)}</svg>'


def _image(pixels: NDArray[np.uint8], words: str) -> str:
    return f'<img alt="{escape(words)}" src="{image_address(pixels)}">'
