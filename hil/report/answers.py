"""Answers against labels: confusion, accuracy of each class, and the images that tell chip and simulator apart."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from cim.intervals import wilson
from hil.pages.account import Pictures
from hil.pages.figures import Figure, axis, figure, packed, shown
from hil.pages.tables import Table, with_reason, without_empty
from hil.report.run_data import MOST_TELLING, RunData
from hil.verdict.agreement import correct_answers

MOST_CLASSES = 20  # in a figure
FITS_A_PHONE = 12  # classes of a figure that needs no scrolling on a narrow screen
COLUMNS = {"float": "float", "ideal": "quantised", "simulated": "simulated", "measured": "chip"}  # key and title
Shares = NDArray[np.float64]


def most_telling(labels: NDArray[np.int64], measured: NDArray[np.int32], simulated: NDArray[np.int32]) -> list[int]:
    """Positions of the images that most virtual chips get right and most repeats on the chip wrong, clearest first.

    Args:
        labels: (n,); measured: logits (m, n, classes); simulated: logits (S, n, classes).
    """
    predicted, answered = (correct_answers(x, labels).mean(axis=0) for x in (simulated, measured))
    lost = _margins(labels, simulated) - _margins(labels, measured)
    order = np.lexsort((-lost, answered - predicted))
    return [int(k) for k in order if predicted[k] > 0.5 > answered[k]][:MOST_TELLING]


def _margins(labels: NDArray[np.int64], logits: NDArray[np.int32]) -> Shares:
    """Mean logit of the label less the largest mean of the others, (n,)."""
    mean = logits.mean(axis=0)
    own = np.take_along_axis(mean, labels[:, None], axis=1)[:, 0]
    np.put_along_axis(mean, labels[:, None], -np.inf, axis=1)
    margins: Shares = own - mean.max(axis=1)
    return margins


def class_accuracies(data: RunData, name: str) -> tuple[Shares, Shares] | None:
    """Right answers of each class, means over repeats or virtual chips, and images of it; both (classes,).

    Args:
        name: ``float``, ``ideal``, ``simulated`` or ``measured``. None where the run has no such answers.
    """
    logits = getattr(data, f"{name}_logits")
    if logits is None:
        return None
    right = correct_answers(logits, data.labels).astype(np.float64)
    if right.ndim == 2:
        right = right.mean(axis=0)
    count = len(data.classes)
    images = np.bincount(data.labels, minlength=count)
    return np.bincount(data.labels, right, count).astype(np.float64), images.astype(np.float64)


def class_table(data: RunData) -> Table:
    """Accuracy of each class with Wilson intervals over images."""
    found = {name: class_accuracies(data, name) for name in COLUMNS}
    images = np.bincount(data.labels, minlength=len(data.classes))
    rows = tuple(
        (words, f"{images[k]:,}", *(_share_words(counts, k) for counts in found.values()))
        for k, words in enumerate(data.classes)
    )
    header = ("class", "images", *COLUMNS.values())
    note = "Intervals: Wilson 95 % over the images of the class; simulated is the mean of the virtual chips."
    whole = without_empty(Table("Accuracy by class", header, rows, note), "the run has no such answers")
    return with_reason(whole, "no image of the class was run")


def _share_words(counts: tuple[Shares, Shares] | None, k: int) -> str:
    if counts is None or not counts[1][k]:
        return "—"
    right, images = counts[0][k], int(counts[1][k])
    low, high = wilson(right, images)
    return f"{100 * right / images:.1f} ({100 * low:.1f} … {100 * high:.1f}) %"


def label_figure(data: RunData) -> Figure:
    """Answers of the chip (columns) against labels (rows), share of each row."""
    pairs = pair_shares(data.labels[None], data.measured_logits.argmax(-1), len(data.classes))
    return share_figure(pairs, data, rows="label", columns="answer of the chip")


def confusion_figure(data: RunData) -> Figure:
    """Answers of the chip (rows) against answers of the virtual chips (columns), share of each row."""
    return share_figure(confusion(data), data, rows="answer of the chip", columns="simulated answer")


def confusion(data: RunData) -> Shares:
    """Share of the virtual chips' answers given the chip's answer, (classes, classes); rows sum to 1 or are 0."""
    return pair_shares(data.measured_logits.argmax(-1), data.simulated_logits.argmax(-1), len(data.classes))


def pair_shares(rows: NDArray[np.int64], columns: NDArray[np.int64], count: int) -> Shares:
    """Share of each column's class given the row's, (count, count), over all pairs of answers (a, n) and (b, n)."""
    pairs = np.zeros(count * count)
    for other in columns:
        for one in rows:
            pairs += np.bincount(one * count + other, minlength=count * count)
    of_pairs = pairs.reshape(count, count)
    shares: Shares = of_pairs / np.maximum(of_pairs.sum(axis=1, keepdims=True), 1)
    return shares


def share_figure(shares: Shares, data: RunData, *, rows: str, columns: str) -> Figure:
    names, count = [shown(name) for name in data.classes], len(data.classes)
    heat: Figure = {
        "type": "heatmap",
        "z": packed(np.sqrt(shares)),  # so that rare confusions are seen
        "x": names,
        "y": names,
        "colorscale": [[0, "@surface"], [1, "@heat"]],
        "zmin": 0,
        "zmax": 1,
        "showscale": False,
        "hovertemplate": f"{rows}: %{{y}}<br>{columns}: %{{x}}<extra></extra>",
    }
    if count <= MOST_CLASSES:
        heat["text"] = [[f"{100 * x:.1f}" if x >= 0.0005 else "" for x in row] for row in shares]
        heat["texttemplate"], heat["textfont"] = "%{text}", {"color": "@ink"}
    side = {"type": "category", "showgrid": False}
    x, y = axis(columns, **side), axis(rows, autorange="reversed", **side)
    drawing = figure([heat], 140 + 34 * min(count, 20), x=x, y=y, left=70)
    return {**drawing, "wide": count > FITS_A_PHONE}


def telling_images(data: RunData) -> Pictures | None:
    """The telling images of the run and what was answered to them; None where it holds none."""
    if data.telling is None or data.telling_images is None or not len(data.telling):
        return None
    pairs = zip(data.telling, data.telling_images, strict=True)
    return Pictures(
        "Most telling images",
        "Right in most virtual chips, wrong in most repeats on the chip; clearest first.",
        tuple((image_address(pixels), _telling(data, int(k))) for k, pixels in pairs),
    )


def _telling(data: RunData, k: int) -> str:
    label = int(data.labels[k])
    chip, virtual = data.measured_logits[:, k].argmax(-1), data.simulated_logits[:, k].argmax(-1)
    answer = int(np.bincount(chip).argmax())
    right = f"right in {(virtual == label).sum()} of {len(virtual)} virtual chips"
    wrong = f"{data.classes[answer]} in {(chip == answer).sum()} of {len(chip)} repeats"
    return f"Image {int(data.indices[k]):,}, label {data.classes[label]}: {right}; chip: {wrong}"


MOST_PIXELS = 96  # of a side; larger images are thinned


def image_address(pixels: NDArray[np.uint8]) -> str:
    """A ``data:`` address of an image, uint8 (H, W, C); unless C is 1 or 3, only the first channel is shown."""
    step = max(1, -(-max(pixels.shape[:2]) // MOST_PIXELS))
    shown = pixels[::step, ::step]
    if shown.shape[2] != 3:
        shown = shown[..., :1]
    height, width, channels = shown.shape
    lines = np.zeros((height, 1 + width * channels), np.uint8)  # each line says first that it is not filtered
    lines[:, 1:] = shown.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in parts)
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
