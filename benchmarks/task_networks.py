"""Small networks, data and losses of ``task_studies.py``: segmentation, detection, a ViT, a GRU.

Scenes are synthetic and named so: discs and squares on waves of colour, with noise; masks and boxes are known exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from hil.datasets.image_set import load_dataset
from mapping.network.task import TaskKind

SHAPES = ("disc", "square")
MOST_SHAPES = 3
Targets = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Study:
    """One study. ``data``: the name of a data set, or "" for scenes of ``side`` pixels; ``loss``: of outputs and a
    batch of targets; ``macros`` of the chip, ``means``: channels of its preprocessing.
    """

    build: Callable[[], nn.Module]
    task: TaskKind
    loss: Callable[[torch.Tensor, dict[str, torch.Tensor]], torch.Tensor]
    about: str
    data: str = ""
    side: int = 0
    classes: tuple[str, ...] = ()
    epochs: int = 6
    rate: float = 2e-3
    macros: int = 64
    means: int = 3


# --- networks -------------------------------------------------------------------------------------


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class SmallUNet(nn.Module):
    """Two scales and one bridge; a map of class logits as large as the image."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first, self.down, self.deep = block(3, 16), block(16, 32, 2), block(32, 32)
        self.up, self.last = nn.Upsample(scale_factor=2), block(48, 16)
        self.head = nn.Conv2d(16, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.first(x)
        deep = self.deep(self.down(first))
        head: torch.Tensor = self.head(self.last(torch.cat([first, self.up(deep)], 1)))
        return head


class GridDetector(nn.Module):
    """A grid of one box a cell, each an eighth of the image wide."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(block(3, 16, 2), block(16, 32, 2), block(32, 48, 2), block(48, 48))
        self.head = nn.Conv2d(48, 5 + classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.body(x))
        return found


class SmallViT(nn.Module):
    """Patches, position codes, encoder layers, the mean token, a linear head."""

    def __init__(self, side: int = 64, patch: int = 8, width: int = 64, depth: int = 2, classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.places = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "relu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        found: torch.Tensor = self.head(self.norm(self.layers(tokens)).mean(1))
        return found


class RowGRU(nn.Module):
    """The rows of an image as a sequence; the last state is classified."""

    def __init__(self, features: int = 28, width: int = 48, classes: int = 10) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(features, width, batch_first=True), nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.gru(x.squeeze(1))
        found: torch.Tensor = self.head(states[:, -1])
        return found


# --- data -----------------------------------------------------------------------------------------


def scenes(count: int, side: int, seed: int) -> tuple[NDArray[np.uint8], Targets]:
    """Images (count, side, side, 3), ``masks`` (0: ground, 1: disc, 2: square), ``boxes``, ``box_classes``,
    ``box_counts``: one to three shapes each, later ones in front."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side]
    images = np.empty((count, side, side, 3), np.uint8)
    masks = np.zeros((count, side, side), np.uint8)
    boxes, kinds, counts = [], [], rng.integers(1, MOST_SHAPES + 1, count)
    for n in range(count):
        f = rng.normal(0, 0.35, (2, 3))
        waves = np.sin(f[0] * x[..., None] + f[1] * y[..., None] + rng.uniform(0, 2 * np.pi, 3))
        picture = rng.uniform(70, 150, 3) + 25 * waves
        for _ in range(counts[n]):
            half = rng.uniform(0.1, 0.2) * side
            cx, cy = rng.uniform(half, side - half, 2)
            kind = int(rng.integers(2))
            dx, dy = np.abs(x + 0.5 - cx), np.abs(y + 0.5 - cy)
            inside = (dx**2 + dy**2 < half**2) if kind == 0 else (np.maximum(dx, dy) < half)
            picture[inside] = rng.uniform(0, 255, 3)
            masks[n][inside] = 1 + kind
            boxes.append((cx - half, cy - half, cx + half, cy + half))
            kinds.append(kind)
        images[n] = np.clip(picture + rng.normal(0, 12, picture.shape), 0, 255)
    targets = {"masks": masks, "boxes": np.array(boxes, np.float32), "box_classes": np.array(kinds, np.int64)}
    return images, {**targets, "box_counts": counts.astype(np.int64)}


def grid_targets(targets: Targets, side: int, cells: int) -> NDArray[np.float32]:
    """What ``GridDetector`` should give: (n, 6, cells, cells) of tx, ty as shares of a cell, tw, th, object, class."""
    step = side / cells
    grid = np.zeros((len(targets["box_counts"]), 6, cells, cells), np.float32)
    at = 0
    for n, count in enumerate(targets["box_counts"]):
        for x1, y1, x2, y2, kind in np.column_stack([targets["boxes"], targets["box_classes"]])[at : at + count]:
            cx, cy = (x1 + x2) / 2 / step, (y1 + y2) / 2 / step
            i, j = min(int(cy), cells - 1), min(int(cx), cells - 1)
            grid[n, :, i, j] = cx - j, cy - i, np.log((x2 - x1) / step), np.log((y2 - y1) / step), 1.0, kind
        at += count
    return grid


def training_data(study: Study, count: int) -> tuple[NDArray[np.uint8], Targets]:
    """Training images, and what the loss compares with."""
    if study.data:
        found = load_dataset(study.data, "train", limit=count)
        return found.images, {"labels": found.labels}
    images, targets = scenes(count, study.side, seed=1)
    if study.task is TaskKind.DETECT:
        return images, {"grid": grid_targets(targets, study.side, study.side // 8)}
    return images, {"masks": targets["masks"].astype(np.int64)}


# --- losses ---------------------------------------------------------------------------------------


def class_loss(found: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
    return F.cross_entropy(found, targets["labels"])


def mask_loss(found: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
    return F.cross_entropy(found, targets["masks"])


def grid_loss(found: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
    grid = targets["grid"]
    there = grid[:, 4] > 0
    loss = F.binary_cross_entropy_with_logits(found[:, 4], grid[:, 4], pos_weight=torch.tensor(4.0))
    cells, wanted = found.permute(0, 2, 3, 1)[there], grid.permute(0, 2, 3, 1)[there]
    loss = loss + F.mse_loss(cells[:, :2].sigmoid(), wanted[:, :2]) + F.smooth_l1_loss(cells[:, 2:4], wanted[:, 2:4])
    return loss + 0.5 * F.cross_entropy(cells[:, 5:], wanted[:, 5].long())


STUDIES = {
    "segmentation": Study(
        lambda: SmallUNet(3), TaskKind.SEGMENT, mask_loss, "two-scale U-Net, synthetic scenes of 32 x 32", side=32
    ),
    "detection": Study(
        lambda: GridDetector(len(SHAPES)), TaskKind.DETECT, grid_loss, "grid of boxes, synthetic scenes of 48 x 48",
        side=48, epochs=12,
    ),
    "vit": Study(
        SmallViT, TaskKind.CLASSIFY, class_loss, "ViT of two layers, EuroSAT", data="eurosat",
        classes=tuple("0123456789"), epochs=10, rate=1e-3, macros=96,
    ),
    "gru": Study(
        RowGRU, TaskKind.CLASSIFY, class_loss, "GRU over the rows of Fashion-MNIST", data="fashion-mnist",
        classes=tuple("0123456789"), epochs=4, means=1,
    ),
}  # fmt: skip
