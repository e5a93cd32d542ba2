"""Small networks and synthetic sets of each task, made in closed form: net.pt and test data in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mapping.network.capture import capture
from mapping.network.file import NetworkFile, save_network
from mapping.network.graph import Preprocess
from mapping.network.task import TaskKind

SIDE = 8
PIXELS = Preprocess((0.5,), (0.25,))
Arrays = dict[str, Any]


def discs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 8, 8, 1) of one bright disc under noise, and its pixels (count, 8, 8)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    middle, radius = rng.uniform(2, 6, (2, count, 1, 1)), rng.uniform(1.5, 3, (count, 1, 1))
    inside = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < radius**2
    pixels = np.where(inside, 190, 90) + rng.normal(0, 12, inside.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)[..., None], inside


def values(count: int, seed: int) -> np.ndarray:
    """Samples of 16 values that lie near a space of four dimensions, (count, 16)."""
    base = np.random.default_rng(42).normal(0, 1, (4, 16))
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(0, 1, (count, 4)) @ base + rng.normal(0, 0.1, (count, 16)), np.float32)


class Segmenter(nn.Module):
    """Two logits a pixel: a little smoothed brightness against a threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        kernel = torch.full((3, 3), 0.06)
        kernel[1, 1] = 0.52
        self.conv.weight.data = torch.stack([-kernel, kernel])[:, None]
        self.conv.bias.data = torch.tensor([0.2, -0.2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


class Detector(nn.Module):
    """One box in a grid of 2 x 2 cells, its logits by the brightness of the cell."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 4, stride=4)
        self.conv.weight.data.zero_()
        self.conv.weight.data[4] = 1.5 / 16
        self.conv.bias.data = torch.tensor([0.0, 0.0, 0.2, 0.2, 0.0, 1.0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


class Again(nn.Module):
    """An autoencoder of 16 values by their four principal directions, its halves one after the other."""

    def __init__(self) -> None:
        super().__init__()
        found = torch.tensor(np.linalg.svd(values(2000, 1), full_matrices=False)[2][:4].copy())
        self.down, self.up = nn.Linear(16, 4, bias=False), nn.Linear(4, 16, bias=False)
        self.down.weight.data, self.up.weight.data = found, found.T.contiguous()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.down(x))  # type: ignore[no-any-return]


class Two(nn.Module):
    """Two outputs of 16 values: sums of halves, and their difference."""

    def __init__(self) -> None:
        super().__init__()
        self.sums, self.gap = nn.Linear(16, 2, bias=False), nn.Linear(16, 1, bias=False)
        halves = torch.tensor([[1.0] * 8 + [0.0] * 8, [0.0] * 8 + [1.0] * 8])
        self.sums.weight.data, self.gap.weight.data = halves / 8, (halves[:1] - halves[1:]) / 8

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.sums(x), self.gap(x)


class Steps(nn.Module):
    """A class for each of eight steps of eight features."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Linear(SIDE, 3, bias=False)
        self.own.weight.data = torch.tensor(np.random.default_rng(7).normal(0, 1, (3, SIDE)).astype(np.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.own(x)  # type: ignore[no-any-return]


def segmentation(count: int) -> Arrays:
    pixels, inside = discs(count, 3)
    return {"images": pixels, "masks": inside.astype(np.uint8)}


def detection(count: int) -> Arrays:
    pixels, inside = discs(count, 4)
    rows, columns = inside.any(2), inside.any(1)
    low = np.column_stack([columns.argmax(1), rows.argmax(1)])
    high = SIDE - np.column_stack([columns[:, ::-1].argmax(1), rows[:, ::-1].argmax(1)])
    return {
        "images": pixels, "boxes": np.hstack([low, high]), "box_classes": np.zeros(count, int),
        "box_counts": np.ones(count, int),
    }  # fmt: skip


def regression(count: int) -> Arrays:
    x = values(count, 5)
    sums = x.reshape(count, 2, 8).mean(2)
    return {"inputs": x, "values": np.column_stack([sums, sums[:, 0] - sums[:, 1]])}


def again(count: int) -> Arrays:
    return {"inputs": values(count, 6)}


def oddities(count: int) -> Arrays:
    """As ``again``, one in four samples far from the others."""
    x, odd = values(count, 6), np.arange(count) % 4 == 0
    x[odd] += np.random.default_rng(8).normal(0, 0.6, x[odd].shape)
    return {"inputs": x, "labels": odd.astype(int)}


def labelled_steps(count: int) -> Arrays:
    rng = np.random.default_rng(9)
    x = rng.normal(0, 1, (count, SIDE, SIDE)).astype(np.float32)
    weight = np.random.default_rng(7).normal(0, 1, (3, SIDE))
    steps = (x @ weight.T + rng.normal(0, 0.5, (count, SIDE, 3))).argmax(2)
    steps[:, 0] = -1
    return {"inputs": x, "steps": steps}


TASKS: dict[TaskKind, tuple[Callable[[], nn.Module], tuple[int, ...], Callable[[int], Arrays]]] = {
    TaskKind.SEGMENT: (Segmenter, (1, SIDE, SIDE), segmentation),
    TaskKind.DETECT: (Detector, (1, SIDE, SIDE), detection),
    TaskKind.REGRESS: (Two, (16,), regression),
    TaskKind.AUTOENCODE: (Again, (16,), again),
    TaskKind.SEQUENCE: (Steps, (SIDE, SIDE), labelled_steps),
}


def write_task(folder: Path, kind: TaskKind, count: int = 320) -> tuple[Path, Path]:
    """net.pt and test.npz of a task in ``folder``; W4A8, at most two matrix layers."""
    from hil.datasets.input_values import preprocess_of

    make, shape, arrays = TASKS[kind]
    given = arrays(count + 64)
    of_values = "inputs" in given
    rule = preprocess_of(given["inputs"]) if of_values else PIXELS
    graph = capture(make(), torch.zeros(2, *shape), preprocess=rule, classes=())
    stored = (
        np.clip(np.rint(255 * (given["inputs"] * rule.std[0] + rule.mean[0])), 0, 255).astype(np.uint8)
        if of_values
        else given["images"]
    )
    channels, height, width = graph.input_shape
    stored = stored.reshape(-1, height, width, channels)
    save_network(NetworkFile(graph, 4, 8, stored[count:]), folder / "net.pt")
    kept = {name: part[:count] for name, part in given.items()}
    np.savez(folder / "test.npz", **kept)
    return folder / "net.pt", folder / "test.npz"
