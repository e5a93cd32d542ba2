"""The networks of ``mapping.network.architectures`` as torch modules, for plain forwards beside ours.

A test captures each and compares it, node by node, with the graph of the same name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, doi 10.1109/CVPR.2016.90).

    Where the shape changes the shortcut is option A, every second pixel and zero channels on
    both sides, or option B, a strided 1x1 convolution with batch norm (``downsample``).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, option: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.before, self.after = stride, (outputs - inputs) // 2, (outputs - inputs + 1) // 2
        self.downsample: nn.Module | None = None
        if option == "B" and (stride != 1 or inputs != outputs):
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.downsample is not None:
            x = self.downsample(x)
        elif self.stride != 1 or self.before + self.after:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))
        return functional.relu(y + x)


def _stage(blocks: int, inputs: int, outputs: int, stride: int, option: str) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride, option)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1, option) for _ in range(blocks - 1)))


class CifarResNetA(nn.Module):
    """ResNet of depth 6 n + 2, option A; names of akamaster/pytorch_resnet_cifar10."""

    def __init__(self, blocks: int, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(blocks, 16, 16, 1, "A")
        self.layer2 = _stage(blocks, 16, 32, 2, "A")
        self.layer3 = _stage(blocks, 32, 64, 2, "A")
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = self.linear(x.mean((2, 3)))
        return x


class CifarResNetB(nn.Module):
    """ResNet of depth 6 n + 2, option B; names of sandialabs/cross-sim (its first norm has eps 1e-3)."""

    def __init__(self, blocks: int, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16, eps=1e-3)
        self.res1 = _stage(blocks, 16, 16, 1, "B")
        self.res2 = _stage(blocks, 16, 32, 2, "B")
        self.res3 = _stage(blocks, 32, 64, 2, "B")
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.classifier(self.res3(self.res2(self.res1(x))))
        return x


class ResNet18(nn.Module):
    """ResNet-18, widths 64 to 512, with a 3x3 stem for small images or that of torchvision; torchvision's names."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, stem: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], 64, stem, 1 if stem == 3 else 2, stem // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.Identity() if stem == 3 else nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(2, 64, 64, 1, "B")
        self.layer2 = _stage(2, 64, 128, 2, "B")
        self.layer3 = _stage(2, 128, 256, 2, "B")
        self.layer4 = _stage(2, 256, 512, 2, "B")
        self.fc = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(functional.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.fc(x.mean((2, 3)))
        return x


class LeNet5(nn.Module):
    """LeNet-5 with ReLU and max pooling (LeCun et al. 1998, doi 10.1109/5.726791)."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        edge = 2 if height < 32 else 0  # 28 x 28 images are padded to LeCun's 32 x 32
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=edge)
        self.conv2 = nn.Conv2d(6, 16, 5)
        after = [((size + 2 * edge - 4) // 2 - 4) // 2 for size in (height, width)]
        self.fc1 = nn.Linear(16 * after[0] * after[1], 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2).flatten(1)
        x = self.fc3(functional.relu(self.fc2(functional.relu(self.fc1(x)))))
        return x


class Vgg8(nn.Module):
    """VGG-8: six 3x3 convolutions of 128, 256, 512 channels, pooled in pairs, then 1024 and the classes."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, width: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = input_shape[0]
        for outputs in (width, 2 * width, 4 * width):
            for _ in range(2):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        after = inputs * (input_shape[1] // 8) * (input_shape[2] // 8)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(after, 8 * width), nn.ReLU(), nn.Linear(8 * width, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.classifier(self.features(x))
        return x


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection (Sandler et al. 2018, doi 10.1109/CVPR.2018.00474)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [nn.Conv2d(inputs, middle, 1, bias=False), nn.BatchNorm2d(middle), nn.ReLU6()]
        layers += [
            nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU6(),
            nn.Conv2d(middle, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.shortcut else y


class MobileNetV2Tiny(nn.Module):
    """MobileNetV2 for small images: a stem, three stages of inverted residuals, a 1x1 head, ReLU6.

    ``width`` scales the channels, ``depth`` is the number of blocks in each stage.
    """

    def __init__(
        self, input_shape: tuple[int, int, int], classes: int, width: float = 1.0, depth: int = 2, expansion: int = 4
    ) -> None:
        super().__init__()
        stem, *stages = (max(8, round(channels * width / 8) * 8) for channels in (16, 16, 32, 64))
        head = 2 * stages[-1]
        layers: list[nn.Module] = [
            nn.Conv2d(input_shape[0], stem, 3, 1, 1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU6(),
        ]
        inputs = stem
        for outputs, stride in zip(stages, (1, 2, 2), strict=True):
            for block in range(depth):
                layers.append(InvertedResidual(inputs, outputs, stride if block == 0 else 1, expansion))
                inputs = outputs
        layers += [nn.Conv2d(inputs, head, 1, bias=False), nn.BatchNorm2d(head), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(head, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.classifier(self.features(x).mean((2, 3)))
        return x


class FmnistCnn5x5(nn.Module):
    """Two 5x5 convolutions and two linear layers; names of shinjitsue/fashion-mnist-cnn-pytorch."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], 16, 5, padding=2)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 5, padding=2)
        self.bn2 = nn.BatchNorm2d(32)
        self.fc1 = nn.Linear(32 * (input_shape[1] // 4) * (input_shape[2] // 4), 128)
        self.fc2 = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 2)
        x = functional.max_pool2d(functional.relu(self.bn2(self.conv2(x))), 2).flatten(1)
        x = self.fc2(functional.relu(self.fc1(x)))
        return x


def _cifar(kind: Callable[..., nn.Module], depth: int) -> Callable[..., nn.Module]:
    def make(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
        return kind((depth - 2) // 6, input_shape, classes)

    return make


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    **{f"cifar_resnet{depth}_a": _cifar(CifarResNetA, depth) for depth in (8, 14, 20, 32, 44, 56)},
    **{f"cifar_resnet{depth}_b": _cifar(CifarResNetB, depth) for depth in (8, 14, 20, 32, 44, 56)},
    "resnet18": ResNet18,
    "lenet5": LeNet5,
    "vgg8": Vgg8,
    "mobilenet_v2_tiny": MobileNetV2Tiny,
    "fmnist_cnn5x5": FmnistCnn5x5,
}
"""Name -> callable(input_shape, classes, **options) giving an untrained module."""


def module(
    name: str,
    *,
    classes: int,
    input_shape: tuple[int, int, int],
    rng: np.random.Generator | None = None,
    **options: Any,
) -> nn.Module:
    """Give an untrained module of ``ARCHITECTURES``, its weights drawn from ``rng``.

    Without ``rng`` the weights are torch's own random draw, to be replaced. Raises
    ``ValueError`` for an unknown name or options that the architecture does not have.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"no architecture {name!r}; there are {', '.join(ARCHITECTURES)}")
    with torch.random.fork_rng(devices=[]):
        if rng is not None:
            torch.manual_seed(int(rng.integers(2**63)))
        try:
            return ARCHITECTURES[name](input_shape=input_shape, classes=classes, **options)
        except TypeError as error:
            raise ValueError(f"architecture {name!r}: {error}") from error
