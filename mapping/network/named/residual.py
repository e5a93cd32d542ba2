"""Residual networks of CIFAR and ImageNet (He et al. 2016, doi 10.1109/CVPR.2016.90)."""

from __future__ import annotations

from collections.abc import Callable

from mapping.network.named.sketch import Sketch
from mapping.operators.moves import Slice
from mapping.operators.node import INPUT
from mapping.operators.padding import PadChannels


def cifar_resnet_a(depth: int) -> Callable[[Sketch, int], str]:
    """ResNet of depth 6 n + 2, option A; names of akamaster/pytorch_resnet_cifar10."""

    def draw(s: Sketch, classes: int) -> str:
        x = _stem(s, 16)
        for number, (outputs, stride) in enumerate(((16, 1), (32, 2), (64, 2)), start=1):
            x = _stage(s, x, f"layer{number}", (depth - 2) // 6, outputs, stride, "A")
        return s.linear(s.mean_of_map(x), "linear", classes)

    return draw


def cifar_resnet_b(depth: int) -> Callable[[Sketch, int], str]:
    """ResNet of depth 6 n + 2, option B; names of sandialabs/cross-sim (its first norm has eps 1e-3)."""

    def draw(s: Sketch, classes: int) -> str:
        x = _stem(s, 16, eps=1e-3)
        for number, (outputs, stride) in enumerate(((16, 1), (32, 2), (64, 2)), start=1):
            x = _stage(s, x, f"res{number}", (depth - 2) // 6, outputs, stride, "B")
        return s.linear(s.mean_of_map(x, "classifier.0"), "classifier.2", classes)

    return draw


def resnet18(s: Sketch, classes: int, *, stem: int = 3, width: int = 64) -> str:
    """ResNet-18, widths 64 to 512 (``width`` and its multiples); torchvision's names.

    ``stem`` is the width of the first kernel: 3 for small images, 7 for those of ImageNet, which it halves, as the
    max pooling behind it does.
    """
    if stem not in (3, 7):
        raise ValueError(f"stem={stem}: 3 for small images, 7 for those of ImageNet")
    x = _stem(s, width, kernel=stem, stride=1 if stem == 3 else 2)
    if stem == 7:
        x = s.max_pool(x, 3, 2, 1, module="maxpool")
    for number, (times, stride) in enumerate(((1, 1), (2, 2), (4, 2), (8, 2)), start=1):
        x = _stage(s, x, f"layer{number}", 2, times * width, stride, "B")
    return s.linear(s.mean_of_map(x), "fc", classes)


def _stem(s: Sketch, outputs: int, *, kernel: int = 3, stride: int = 1, eps: float = 1e-5) -> str:
    x = s.conv(INPUT, "conv1", outputs, kernel, stride=stride, padding=kernel // 2)
    return s.relu(s.norm(x, "bn1", eps))


def _stage(s: Sketch, x: str, name: str, blocks: int, outputs: int, stride: int, option: str) -> str:
    for number in range(blocks):
        x = _block(s, x, f"{name}.{number}", outputs, stride if number == 0 else 1, option)
    return x


def _block(s: Sketch, x: str, name: str, outputs: int, stride: int, option: str) -> str:
    """Two 3x3 convolutions and a shortcut.

    Where the shape changes the shortcut is option A, every second pixel and zero channels on
    both sides, or option B, a strided 1x1 convolution with batch norm (``downsample``).
    """
    y = s.norm(s.conv(x, f"{name}.conv1", outputs, 3, stride=stride, padding=1), f"{name}.bn1")
    y = s.norm(s.conv(s.relu(y, name), f"{name}.conv2", outputs, 3, padding=1), f"{name}.bn2")
    added = outputs - s.shape(x)[0]
    if option == "B" and (stride != 1 or added):
        x = s.norm(s.conv(x, f"{name}.downsample.0", outputs, 1, stride=stride), f"{name}.downsample.1")
    elif stride != 1 or added:
        x = s.function(Slice, x, name, step=(stride, stride))
        x = s.function(PadChannels, x, name, before=added // 2, after=(added + 1) // 2)
    return s.relu(s.sum(y, x, name), name)
