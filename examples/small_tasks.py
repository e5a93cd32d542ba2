"""Two small networks that do not classify, as ONNX files beside synthetic sets: a regression and a segmentation.

    python examples/small_tasks.py FOLDER        # reg.onnx, seg.onnx, and for each a training and a test set (.npz)

The regression takes 12 values and gives 2; the segmentation finds bright discs in images of 16 x 16 pixels.
``docs/my-network.md`` deploys both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

SIDE = 16
MEAN, STD = 0.5, 0.25


def samples(count: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Inputs (count, 12) and the two values that belong to them."""
    x = rng.normal(size=(count, 12)).astype(np.float32)
    y = np.stack([x[:, :3].sum(1) / 2 + np.sin(x[:, 4]), x[:, 5] * 0.8 - x[:, 6] * 0.5], 1)
    return x, y.astype(np.float32)


def discs(count: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (count, 16, 16, 1) of one bright disc under noise, and masks (count, 16, 16) of its pixels."""
    images = rng.normal(110, 18, size=(count, SIDE, SIDE))
    masks = np.zeros((count, SIDE, SIDE), np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE]
    for image, mask in zip(images, masks, strict=True):
        (row, column), radius = rng.uniform(4, 12, 2), rng.uniform(2, 5)
        inside = (y - row) ** 2 + (x - column) ** 2 < radius * radius
        mask[inside] = 1
        image[inside] += 60
    return np.clip(images, 0, 255).astype(np.uint8)[..., None], masks


def fit(net: nn.Module, x: Tensor, y: Tensor, loss_of: Callable[[Tensor, Tensor], Tensor], steps: int) -> None:
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(steps):
        chosen = torch.randint(len(x), (64,))
        optimiser.zero_grad()
        loss_of(net(x[chosen]), y[chosen]).backward()
        optimiser.step()


def main(folder: Path) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    x, y = samples(3000, rng)
    net = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 2))
    fit(net, torch.tensor(x), torch.tensor(y), functional.mse_loss, 250)
    torch.onnx.export(net, (torch.tensor(x[:2]),), folder / "reg.onnx", dynamo=False)
    np.savez(folder / "reg_train.npz", inputs=x[:600], values=y[:600])
    x, y = samples(600, rng)
    np.savez(folder / "reg_test.npz", inputs=x, values=y)

    images, masks = discs(2000, rng)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1)
    )
    pixels = (torch.tensor(images).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
    fit(net, pixels, torch.tensor(masks).long(), functional.cross_entropy, 150)
    torch.onnx.export(net, (pixels[:2],), folder / "seg.onnx", dynamo=False)
    np.savez(folder / "seg_train.npz", images=images[:300], masks=masks[:300])
    images, masks = discs(400, rng)
    np.savez(folder / "seg_test.npz", images=images, masks=masks)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
