"""Train ``demo:residual``, the bundled network that loses accuracy on a chip.

    apt-get install dataset-fashion-mnist
    python examples/train_residual.py --out hil/datasets/bundled/residual.pt

A ResNet-20 (He et al. 2016) of 8, 16 and 32 channels whose first layer has stride 2, trained in plain float without a
thought of a chip: no errors, no teacher, no choice of settings. One thread, some minutes. Test images are read once.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from distil import Images, accuracy, crop, load_images, random_crops
from torch import Tensor, nn
from torch.nn import functional
from train_bundled import CALIBRATION_IMAGES, Normalise, export

SEED, BATCH, EPOCHS, RATE = 1, 128, 8, 0.1
WIDTHS, BLOCKS = (8, 16, 32), 3


def convolution(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
    plain = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(plain, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = convolution(inputs, outputs, 3, stride), convolution(outputs, outputs, 3, 1)
        self.shortcut = convolution(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.shortcut(x) + self.second(functional.relu(self.first(x))))


def network() -> nn.Module:
    body, inputs = list[nn.Module](), WIDTHS[0]
    for stage, width in enumerate(WIDTHS):
        for number in range(BLOCKS):
            body.append(Block(inputs, width, 2 if stage and not number else 1))
            inputs = width
    stem = (Normalise(), convolution(1, WIDTHS[0], 3, 2), nn.ReLU())
    return nn.Sequential(*stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def train(model: nn.Module, images: Images) -> None:
    steps = len(images) // BATCH
    optimiser = torch.optim.SGD(model.parameters(), RATE, 0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=EPOCHS * steps, pct_start=0.2)
    for epoch in range(EPOCHS):
        begun = time.process_time()
        for index in torch.randperm(len(images))[: steps * BATCH].split(BATCH):
            pixels = crop(images.pixels[index], random_crops(BATCH))
            loss = functional.cross_entropy(model(pixels), images.labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"{epoch}: loss {loss:.3f}, {time.process_time() - begun:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="network file to write")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    images, model = load_images("fashion-mnist", "train"), network()
    train(model, images)
    print(f"test images: {accuracy(model, load_images('fashion-mnist', 'test')):.2f} %")
    provenance = {"trained by": "examples/train_residual.py", "data": "Fashion-MNIST training images (MIT, Zalando SE)"}
    export(model, out, torch.randperm(len(images))[:CALIBRATION_IMAGES], provenance)


if __name__ == "__main__":
    main()
