"""Training images: kept as uint8, split, moved and mirrored at random. Imports torch: import this module late."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Symmetry = Literal["none", "mirror", "turn"]
"""What keeps the meaning of an image: nothing, left for right, or also quarter turns (seen from above)."""


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """``pixels`` uint8 (n, height, width, channels), ``labels`` int64 (n,)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or len(self.pixels) != len(self.labels):
            raise ValueError(f"images {self.pixels.dtype} {self.pixels.shape} with {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, index: NDArray[np.int64]) -> Images:
        return Images(self.pixels[index], self.labels[index])

    def spread(self, count: int) -> Images:
        """So many of them (all, where there are fewer), evenly from the first to the last."""
        return self.part(np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64))

    def split(self, share: float, seed: int) -> tuple[Images, Images]:
        """The rest, and ``share`` of them kept out."""
        order = np.random.default_rng(np.random.SeedSequence([seed, 0x59117])).permutation(len(self))
        kept = round(share * len(self))
        return self.part(np.sort(order[kept:])), self.part(np.sort(order[:kept]))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of pixels and labels."""
        total = hashlib.sha256(repr(self.pixels.shape).encode())
        total.update(np.ascontiguousarray(self.pixels).data)
        total.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        return total.hexdigest()


def on_device(images: Images, device: torch.device) -> tuple[Tensor, Tensor]:
    """uint8 (n, channels, height, width) and labels."""
    pixels = torch.tensor(np.ascontiguousarray(images.pixels.transpose(0, 3, 1, 2)))
    return pixels.to(device), torch.tensor(images.labels).to(device)


def batches(images: Images, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, pixels as 0..1, channels last in memory."""
    for i in range(0, len(images), size):
        part = Images(images.pixels[i : i + size], images.labels[i : i + size])
        pixels, labels = on_device(part, device)
        yield moved(pixels, 0, "none"), labels


def moved(pixels: Tensor, shift: int, symmetry: Symmetry, crop: int = 0) -> Tensor:
    """uint8 (n, channels, height, width) to 0..1, each image moved, and mirrored or turned, at random.

    What comes in at the edges is black. ``turn`` is any of the eight symmetries of a square, equally likely.
    With ``crop`` a square of that side is cut out anywhere, instead of moving the whole image.
    """
    n, _, height, width = pixels.shape
    if crop > min(height, width):
        raise ValueError(f"images of {height} x {width} hold no square of {crop}")
    if shift or crop:
        padded = functional.pad(pixels, (0 if crop else shift,) * 4)
        high, wide = crop or height, crop or width
        down = torch.randint(0, padded.shape[2] - high + 1, (n, 1), device=pixels.device)
        right = torch.randint(0, padded.shape[3] - wide + 1, (n, 1), device=pixels.device)
        rows = torch.arange(high, device=pixels.device) + down
        columns = torch.arange(wide, device=pixels.device) + right
        image = torch.arange(n, device=pixels.device)[:, None, None]
        pixels = padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if symmetry == "turn":
        pixels = _some(pixels, pixels.transpose(2, 3))
        pixels = _some(pixels, pixels.flip(2))
    if symmetry != "none":
        pixels = _some(pixels, pixels.flip(3))
    return (pixels.float() / 255.0).contiguous(memory_format=torch.channels_last)


def symmetric(pixels: Tensor, symmetry: Symmetry) -> list[Tensor]:
    """The same images in each way that ``symmetry`` may turn them."""
    ways = [pixels]
    if symmetry == "turn":
        ways += [pixels.transpose(2, 3)]
        ways += [way.flip(2) for way in ways]
    if symmetry != "none":
        ways += [way.flip(3) for way in ways]
    return ways


def _some(pixels: Tensor, others: Tensor) -> Tensor:
    """Each image as it is or as in ``others``, by chance."""
    return torch.where(torch.rand(len(pixels), 1, 1, 1, device=pixels.device) < 0.5, others, pixels)
