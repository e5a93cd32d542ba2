"""Train the smallest network of the examples, ``examples/networks/fashion_small.pt``, on an array.

    apt-get install dataset-fashion-mnist
    python examples/train_small.py --out examples/networks/fashion_small.pt

For studies that deploy a network hundreds of times: 14 + 56 channels on Fashion-MNIST, four
macros of ``lab-128``. Its layers are ``cim.simulator.training_layers``'s: every batch of the training runs
on freshly programmed virtual chips, drawn from the calibration record of an emulated chip,
an hour after programming. One thread, a few minutes. The seed of the chip is that of no study.
5,000 training images are kept out and chosen by; the test images are read once, at the end.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
from distil import Images, crop, follow, load_images, random_crops, split_training
from torch import Tensor, nn
from torch.nn import functional

import hil
from cim.chip.file import load_chip
from cim.chip.spec import MacroSpec
from cim.simulator.training_errors import ArrayNoise, array_noise
from cim.simulator.training_layers import CimConv2d, CimLayer, CimLinear
from hil.calibration.procedure import calibrate
from hil.datasets.image_set import load_dataset
from mapping.network.capture import capture
from mapping.network.file import NetworkFile, save_network
from mapping.network.graph import Preprocess

SEED = 11
CHIP = "emulated:lab-128?seed=90001"
AGE_S = 3600.0
BATCH, EPOCHS, RATE, STRENGTH = 128, 14, 0.006, 1.0
CALIBRATION_IMAGES = 128


class Small(nn.Module):
    """28 x 28 -> 14 x 14 x 14 -> 7 x 7 x 56 -> pooled to 2 x 2 -> 10; pixels 0..1, so black drives no row."""

    def __init__(self, spec: MacroSpec) -> None:
        super().__init__()
        self.conv1 = CimConv2d(1, 14, 5, 2, 2, spec=spec, bias=False)
        self.conv2 = CimConv2d(14, 56, 3, 2, 1, spec=spec, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(14, momentum=0.02), nn.BatchNorm2d(56, momentum=0.02)
        self.classifier = CimLinear(224, 10, spec=spec)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        logits: Tensor = self.classifier(functional.avg_pool2d(x, 4, 3).flatten(1))
        return logits


def arrays(model: nn.Module) -> list[CimLayer]:
    return [m for m in model.modules() if isinstance(m, CimLayer)]


def set_noise(model: nn.Module, noise: ArrayNoise | None, strength: float = 1.0, chips: int = 1) -> None:
    for layer in arrays(model):
        layer.noise, layer.strength, layer.chips = noise, strength, chips


@torch.no_grad()
def accuracy(model: nn.Module, images: Images) -> float:
    """Percent right; a batch of 500 images is one virtual chip when there is noise."""
    model.eval()
    parts = zip(images.pixels.split(500), images.labels.split(500), strict=True)
    right = sum(int((model(pixels).argmax(1) == labels).sum()) for pixels, labels in parts)
    return 100.0 * right / len(images)


def measured_noise(spec: MacroSpec) -> ArrayNoise:
    """The law of errors, calibrated on one emulated chip."""
    with hil.open_chip(CHIP, chip=load_chip("lab-128")) as chip:
        return array_noise(spec, calibrate(chip, (0, 1, 2, 3), age_s=AGE_S), AGE_S)


def train(model: nn.Module, noise: ArrayNoise, images: Images, validation: Images) -> nn.Module:
    """Train under errors that grow to ``STRENGTH`` over the first quarter; returns the running mean."""
    steps = len(images) // BATCH
    total = EPOCHS * steps
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=total, pct_start=0.15)
    mean, step = copy.deepcopy(model), 0
    for epoch in range(EPOCHS):
        start = time.monotonic()
        model.train()
        for layer in arrays(model):
            layer.range_code = None  # chosen anew on the activations of now
        if 2 * epoch >= EPOCHS:  # statistics as they will stand on the chip, so that shifts of a channel count
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        for index in torch.randperm(len(images))[: steps * BATCH].split(BATCH):
            set_noise(model, noise, STRENGTH * min(1.0, 4 * step / total), chips=2)
            pixels = crop(images.pixels[index], random_crops(BATCH, mirrored=False))
            loss = functional.cross_entropy(model(pixels), images.labels[index], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimiser.step()
            schedule.step()
            step += 1
            follow(mean, model, min(0.998, step / (step + 9)))
        for from_layer, to_layer in zip(arrays(model), arrays(mean), strict=True):
            to_layer.range_code = from_layer.range_code
        set_noise(mean, None)
        exact = accuracy(mean, validation)
        set_noise(mean, noise)
        print(f"{epoch}: exact {exact:.2f} %, chips {accuracy(mean, validation):.2f} %, "
              f"{time.monotonic() - start:.0f} s", flush=True)  # fmt: skip
    return mean


@torch.no_grad()
def plain(model: nn.Module) -> nn.Module:
    """A copy of ordinary layers whose weights lie on the grid of levels."""
    ordinary: dict[type, type] = {CimConv2d: nn.Conv2d, CimLinear: nn.Linear}
    model = copy.deepcopy(model)
    for layer in arrays(model):
        scale = layer.level_scale()
        layer.weight.copy_((layer.levels(scale) * scale).view_as(layer.weight))
        for name in ("squares", "input_top"):
            del layer._buffers[name]
        layer.__class__ = ordinary[type(layer)]
    return model.eval()


def export(model: nn.Module, out: Path, calibration: np.ndarray) -> None:
    """Write ``net.pt``; ``calibration`` are indices of training images."""
    data = load_dataset("fashion-mnist", "train")
    graph = capture(
        plain(model),
        torch.zeros(1, 1, 28, 28),
        preprocess=Preprocess((0.0,), (1.0,)),
        classes=data.classes,
        provenance={
            "trained by": "examples/train_small.py",
            "data": "Fashion-MNIST training images (MIT, Zalando SE)",
            "errors": f"record of {CHIP} (emulated), {AGE_S:.0f} s after programming",
        },
    )
    save_network(NetworkFile(graph, 4, 8, data.images[calibration], data.labels[calibration]), out)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--out", type=Path, required=True, help="network file to write")
    given = ask.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    spec = load_chip("lab-128").macro
    noise = measured_noise(spec)
    images = load_images("fashion-mnist", "train")
    chosen, rest = split_training(images)
    model = train(Small(spec), noise, images[rest], images[chosen])
    export(model, given.out, chosen[:CALIBRATION_IMAGES].numpy())

    test = load_images("fashion-mnist", "test")
    exact = accuracy(plain(model), test)
    set_noise(model, noise)
    chips = [accuracy(model, test) for _ in range(5)]
    print(f"test images: exact {exact:.2f} %, on virtual chips {np.mean(chips):.2f} % (simulated, 5 passes)")
    print(f"wrote {given.out}; what an emulated chip makes of it: hil deploy {given.out} --emulated")


if __name__ == "__main__":
    main()
