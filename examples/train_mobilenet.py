"""Train a small MobileNet-like network, ``examples/networks/mobilenet_fmnist.pt``.

    python examples/train_mobilenet.py --work /tmp/bundled --out examples/networks/mobilenet_fmnist.pt

Inverted residuals with depthwise convolutions and ReLU6 are the hard case for an array: a depthwise
column uses 9 of up to 126 rows, and the other cells, programmed to zero, still add their errors.
1.2 million multiplications an image. The stored network is that of epoch 15 of 20. ``--work`` may
be the folder of ``train_bundled.py``: the
teacher and its answers are the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from distil import accuracy, chip_accuracies, load_images, split_training, train_student
from noise_aware import NoisyConv2d, NoisyDepthwise, NoisyLinear, plain
from torch import Tensor, nn
from train_bundled import CALIBRATION_IMAGES, export, make_teacher, make_views

SEED = 4


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, momentum=0.02)


class InvertedResidual(nn.Module):
    """1x1 to ``hidden`` channels, 3x3 depthwise, 1x1 back; added to its input where the shapes agree."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            NoisyConv2d(inputs, hidden, 1, bias=False),
            norm(hidden),
            nn.ReLU6(),
            NoisyDepthwise(hidden, stride),
            norm(hidden),
            nn.ReLU6(),
            NoisyConv2d(hidden, outputs, 1, bias=False),
            norm(outputs),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


class MobileNet(nn.Module):
    """28 x 28 -> 14 x 14 x 28 -> 7 x 7 x 42 (two blocks) -> 4 x 4 x 56 -> 10."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            NoisyConv2d(1, 28, 5, 2, 2, bias=False),
            norm(28),
            nn.ReLU6(),
            InvertedResidual(28, 56, 42, 2),
            InvertedResidual(42, 84, 42, 1),
            InvertedResidual(42, 84, 56, 2),
        )
        self.classifier = NoisyLinear(56 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the teacher, its answers and checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="network file to write")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--strength", type=float, default=0.8, help="errors in training, in units of the expected ones")
    options = parser.parse_args()
    for folder in (options.work, options.out.parent):
        folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)

    images = load_images("fashion-mnist", "train")
    chosen, rest = split_training(images)
    train, validation = images[rest], images[chosen]
    views = make_views(options.work, make_teacher(options.work, train, validation), train, mirrored=True)
    torch.manual_seed(SEED)
    student = train_student(
        MobileNet().to(memory_format=torch.channels_last),
        train,
        validation,
        views,
        epochs=options.epochs,
        strength=options.strength,
        checkpoint=options.work / "mobilenet.pt",
    )
    provenance = {
        "trained by": "examples/train_mobilenet.py",
        "data": "Fashion-MNIST training images (MIT, Zalando SE)",
    }
    export(student, options.out, chosen[:CALIBRATION_IMAGES], provenance)

    test = load_images("fashion-mnist", "test")
    chips = chip_accuracies(student, test, 20)
    print(f"test images: exact {accuracy(plain(student), test):.2f} %, with errors {chips.mean():.2f} % (20 draws)")
    print(f"wrote {options.out}; what an emulated chip makes of it: hil deploy {options.out} --emulated")


if __name__ == "__main__":
    main()
