"""Train the smallest network of the examples, ``examples/networks/fashion_small.pt``, on an array.

    apt-get install dataset-fashion-mnist
    python examples/train_small.py --out examples/networks/fashion_small.pt

For studies that deploy a network hundreds of times: 14 + 56 channels on Fashion-MNIST, four
macros of ``lab-128``. Its layers quantise with fixed steps and err as ``search.train.arrays`` has it: every batch runs
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
from hil.calibration.procedure import calibrate
from hil.datasets.image_set import load_dataset
from mapping.network.capture import capture
from mapping.network.file import NetworkFile, save_network
from mapping.network.graph import Preprocess
from search.train.arrays import WEIGHT_CLIP, ArrayLayer, some_windows

SEED = 11
CHIP = "emulated:lab-128?seed=90001"
AGE_S = 3600.0
BATCH, EPOCHS, RATE, STRENGTH = 128, 14, 0.006, 1.0
CALIBRATION_IMAGES = 128
FOLLOW = 0.05  # share of a batch in the running largest input


def straight_through(smooth: Tensor, hard: Tensor) -> Tensor:
    """``hard`` with the gradient of ``smooth``."""
    return smooth + (hard - smooth).detach()


class CimLayer(ArrayLayer):
    """Quantisers are straight-through: the gradient passes them as if they were not there and stops where they clip."""

    input_top: Tensor

    def begin(self, spec: MacroSpec, kernel: int) -> None:
        self.noise = None
        self.stand_on(spec, 8, False, kernel)
        self.register_buffer("input_top", torch.zeros(()))

    def input_scale(self, x: Tensor) -> Tensor:
        """Size of one input code; in training it follows the largest input of the batches."""
        top = x.detach().abs().amax()
        if self.training or not bool(self.input_top > 0):
            old = self.input_top
            self.input_top = torch.where(old > 0, old + FOLLOW * (top - old), top)
        return (self.input_top / self.high).clamp_min(1e-12)

    def codes(self, x: Tensor, scale: Tensor) -> Tensor:
        """Input codes as whole floats; straight-through inside their range."""
        inside = (x / scale).clamp(self.low, self.high)
        return straight_through(inside, inside.round())

    def level_scale(self) -> Tensor:
        """Size of one level of each output, (outputs, 1)."""
        rms = self.weight.detach().flatten(1).pow(2).mean(1, keepdim=True).sqrt()
        return (WEIGHT_CLIP / self.spec.max_level) * rms.clamp_min(1e-8)

    def levels(self, scale: Tensor) -> Tensor:
        """Weight levels (outputs, rows) as whole floats; straight-through everywhere."""
        real = self.weight.flatten(1) / scale
        return straight_through(real, real.detach().round().clamp(-self.spec.max_level, self.spec.max_level))


class CimConv2d(nn.Conv2d, CimLayer):
    """A convolution on an array."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int, spec: MacroSpec) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding, bias=False)
        self.begin(spec, kernel * kernel)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) to (n, outputs, out height, out width)."""
        scale, size = self.input_scale(x), self.level_scale()
        codes, levels = self.codes(x, scale), self.levels(size)
        if self.noise is None:
            y = functional.conv2d(codes, levels.view_as(self.weight), None, self.stride, self.padding)
        else:
            y = self._noisy(codes, levels)
        return straight_through(y, y.round()) * (scale * size.view(1, -1, 1, 1))

    def _noisy(self, codes: Tensor, levels: Tensor) -> Tensor:
        n, channels = codes.shape[:2]
        each, kernel, stride, pad = self._share(n), self.kernel_size, self.stride, self.padding
        windows = some_windows(codes, kernel, pad, stride)
        if self.range_code is None:
            self.range_code = self.choose_range(windows[0], levels)
        squares = self.squares[codes.detach().long() - self.low]
        held, offset, read = self.held(levels, windows, float(squares.mean()) / self.plane_squares)
        # Virtual chips side by side as groups of one convolution.
        grouped = codes.view(self.chips, each, channels, *codes.shape[2:]).transpose(0, 1).flatten(1, 2)
        weight = held.flatten(0, 1).view(-1, *self.weight.shape[1:])
        y = functional.conv2d(grouped, weight, None, stride, pad, groups=self.chips)
        y = y.view(each, self.chips, self.out_channels, *y.shape[2:]).transpose(0, 1)
        with torch.no_grad():
            box = torch.ones(1, 1, *kernel)
            square_sum = functional.conv2d(squares.sum(1, keepdim=True), box, None, stride, pad)
            square_sum = square_sum.view(self.chips, each, 1, *y.shape[3:])
            variance = self.noise_variance(square_sum, read.view(self.chips, 1, -1, 1, 1), levels.shape[1])
            error = offset.view(self.chips, 1, -1, 1, 1) + variance.sqrt_() * torch.randn(y.shape)
        return (y + error).flatten(0, 1)


class CimLinear(nn.Linear, CimLayer):
    """A matrix on an array, with a digital bias."""

    def __init__(self, inputs: int, outputs: int, spec: MacroSpec) -> None:
        super().__init__(inputs, outputs)
        self.begin(spec, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, features) to (n, outputs)."""
        scale, size = self.input_scale(x), self.level_scale()
        codes, levels = self.codes(x, scale), self.levels(size)
        y = functional.linear(codes, levels) if self.noise is None else self._noisy(codes, levels)
        return straight_through(y, y.round()) * (scale * size.view(1, -1)) + self.bias

    def _noisy(self, codes: Tensor, levels: Tensor) -> Tensor:
        each = self._share(len(codes))
        if self.range_code is None:
            self.range_code = self.choose_range(codes.detach()[:512], levels)
        squares = self.squares[codes.detach().long() - self.low]
        held, offset, read = self.held(levels, codes.detach().unsqueeze(0), float(squares.mean()) / self.plane_squares)
        y = torch.bmm(codes.view(self.chips, each, -1), held.transpose(1, 2))
        with torch.no_grad():
            square_sum = squares.sum(1).view(self.chips, each, 1)
            variance = self.noise_variance(square_sum, read.unsqueeze(1), levels.shape[1])
            error = offset.unsqueeze(1) + variance.sqrt_() * torch.randn(y.shape)
        return (y + error).flatten(0, 1)


class Small(nn.Module):
    """28 x 28 -> 14 x 14 x 14 -> 7 x 7 x 56 -> pooled to 2 x 2 -> 10; pixels 0..1, so black drives no row."""

    def __init__(self, spec: MacroSpec) -> None:
        super().__init__()
        self.conv1 = CimConv2d(1, 14, 5, 2, 2, spec)
        self.conv2 = CimConv2d(14, 56, 3, 2, 1, spec)
        self.bn1, self.bn2 = nn.BatchNorm2d(14, momentum=0.02), nn.BatchNorm2d(56, momentum=0.02)
        self.classifier = CimLinear(224, 10, spec)

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
