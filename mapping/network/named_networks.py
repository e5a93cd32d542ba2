"""Published networks as sketches: nodes one after the other, weights by their names in a state dict."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mapping.network.compose.composer import Composer, ModulePlace
from mapping.operators.activations import Relu, Relu6
from mapping.operators.affine import BatchNorm
from mapping.operators.joins import Add
from mapping.operators.moves import Flatten, Slice
from mapping.operators.node import INPUT, Array, Node
from mapping.operators.padding import PadChannels
from mapping.operators.pools import GlobalAvgPool, MaxPool
from mapping.operators.products import Conv, Linear
from mapping.operators.step import Shape


@dataclass(frozen=True, slots=True)
class WantedArray:
    """An array of a state dict: its ``key`` and ``shape``, and what it is before any training.

    ``fan_in`` inputs to each output of a layer, or every element is ``value`` where there are none.
    """

    key: str
    shape: Shape
    fan_in: int = 0
    value: float = 0.0


class Sketch:
    """A network in the making; each method gives the name of the node that it wrote.

    ``weights`` gives each array that is wanted. Names of nodes are those that capture gives a torch module of the same
    parts: of a layer its own, of a function that of the module around it and its kind.
    """

    def __init__(self, input_shape: Shape, weights: Callable[[WantedArray], Array]) -> None:
        self._composer = Composer(1)
        self._composer.start(input_shape)
        self._weights = weights

    def shape(self, node: str = INPUT) -> Shape:
        """The shape of a node of one image."""
        return self._composer.shape(node)

    def conv(
        self,
        x: str,
        name: str,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = False,
    ) -> str:
        shape = (outputs, self.shape(x)[0] // groups, kernel, kernel)
        fields: dict[str, Any] = {"stride": (stride, stride), "padding": (padding, padding), "groups": groups}
        return self._layer(Conv, x, name, shape, bias, **fields)

    def linear(self, x: str, name: str, outputs: int) -> str:
        return self._layer(Linear, x, name, (outputs, *self.shape(x)), True)

    def norm(self, x: str, name: str, eps: float = 1e-5) -> str:
        """Batch normalisation of the channels of ``x``."""
        channels = (self.shape(x)[0],)
        parts = {"scale": ("weight", 1), "shift": ("bias", 0), "mean": ("running_mean", 0)}
        parts["variance"] = ("running_var", 1)
        arrays = {
            field: self._weights(WantedArray(f"{name}.{key}", channels, value=value))
            for field, (key, value) in parts.items()
        }
        return self._composer.add(BatchNorm, [x], name=name, eps=eps, **arrays)

    def relu(self, x: str, place: str = "") -> str:
        return self.function(Relu, x, place)

    def relu6(self, x: str, module: str) -> str:
        return self.function(Relu6, x, module, own=True)

    def max_pool(self, x: str, size: int, stride: int, padding: int = 0, *, module: str = "") -> str:
        fields: dict[str, Any] = {"kernel": (size, size), "stride": (stride, stride), "padding": (padding, padding)}
        return self.function(MaxPool, x, module, own=bool(module), **fields)

    def mean_of_map(self, x: str, module: str = "") -> str:
        return self.function(GlobalAvgPool, x, module, own=bool(module))

    def flat(self, x: str, module: str = "") -> str:
        return self.function(Flatten, x, module, own=bool(module))

    def sum(self, x: str, y: str, place: str) -> str:
        return self.function(Add, x, place, more=(y,))

    def function(
        self, kind: type[Node], x: str, place: str, *, own: bool = False, more: tuple[str, ...] = (), **fields: Any
    ) -> str:
        """A node without weights, in the module ``place``; ``own`` if the module is nothing else."""
        self._composer.begin(ModulePlace(place, own))
        return self._composer.add(kind, [x, *more], **fields)

    def nodes(self, last: str) -> tuple[Node, ...]:
        """All that ``last`` needs, in order and by their names."""
        return self._composer.finish(last)

    def _layer(self, kind: type[Node], x: str, name: str, shape: Shape, bias: bool, **fields: Any) -> str:
        fan_in = math.prod(shape[1:])
        fields["weight"] = self._weights(WantedArray(f"{name}.weight", shape, fan_in))
        if bias:
            fields["bias"] = self._weights(WantedArray(f"{name}.bias", shape[:1], fan_in))
        return self._composer.add(kind, [x], name=name, **fields)


def lenet5(s: Sketch, classes: int) -> str:
    """LeNet-5 with ReLU and max pooling (LeCun et al. 1998, doi 10.1109/5.726791)."""
    edge = 2 if s.shape()[1] < 32 else 0  # 28 x 28 images are padded to LeCun's 32 x 32
    x = s.max_pool(s.relu(s.conv(INPUT, "conv1", 6, 5, padding=edge, bias=True)), 2, 2)
    x = s.max_pool(s.relu(s.conv(x, "conv2", 16, 5, bias=True)), 2, 2)
    x = s.relu(s.linear(s.flat(x), "fc1", 120))
    return s.linear(s.relu(s.linear(x, "fc2", 84)), "fc3", classes)


def vgg8(s: Sketch, classes: int, *, width: int = 128) -> str:
    """VGG-8: six 3x3 convolutions of 128, 256, 512 channels, pooled in pairs, then 1024 and the classes."""
    x, number = INPUT, 0
    for outputs in (width, 2 * width, 4 * width):
        for _ in range(2):
            x = s.norm(s.conv(x, f"features.{number}", outputs, 3, padding=1), f"features.{number + 1}")
            x = s.function(Relu, x, f"features.{number + 2}", own=True)
            number += 3
        x = s.max_pool(x, 2, 2, module=f"features.{number}")
        number += 1
    x = s.linear(s.flat(x, "classifier.0"), "classifier.1", 8 * width)
    return s.linear(s.function(Relu, x, "classifier.2", own=True), "classifier.3", classes)


def fmnist_cnn5x5(s: Sketch, classes: int) -> str:
    """Two 5x5 convolutions and two linear layers; names of shinjitsue/fashion-mnist-cnn-pytorch."""
    x = INPUT
    for number, outputs in ((1, 16), (2, 32)):
        x = s.norm(s.conv(x, f"conv{number}", outputs, 5, padding=2, bias=True), f"bn{number}")
        x = s.max_pool(s.relu(x), 2, 2)
    return s.linear(s.relu(s.linear(s.flat(x), "fc1", 128)), "fc2", classes)


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


def mobilenet_v2_tiny(s: Sketch, classes: int, *, width: float = 1.0, depth: int = 2, expansion: int = 4) -> str:
    """A stem, three stages of inverted residuals, a 1x1 head, ReLU6.

    ``width`` scales the channels, ``depth`` is the number of blocks in each stage.
    """
    stem, *stages = (max(8, round(channels * width / 8) * 8) for channels in (16, 16, 32, 64))
    x, number = _convolution(s, INPUT, "features", 0, stem, kernel=3)
    for outputs, stride in zip(stages, (1, 2, 2), strict=True):
        for block in range(depth):
            x = _inverted_residual(s, x, f"features.{number}", outputs, stride if block == 0 else 1, expansion)
            number += 1
    x, _ = _convolution(s, x, "features", number, 2 * stages[-1])
    return s.linear(s.mean_of_map(x), "classifier", classes)


def _inverted_residual(s: Sketch, x: str, name: str, outputs: int, stride: int, expansion: int) -> str:
    """1x1 expansion, 3x3 depthwise, 1x1 projection."""
    inputs, parts, number = s.shape(x)[0], f"{name}.conv", 0
    middle = inputs * expansion
    y = x
    if expansion != 1:
        y, number = _convolution(s, y, parts, number, middle)
    y, number = _convolution(s, y, parts, number, middle, kernel=3, stride=stride, groups=middle)
    y = s.norm(s.conv(y, f"{parts}.{number}", outputs, 1), f"{parts}.{number + 1}")
    return s.sum(x, y, name) if stride == 1 and inputs == outputs else y


def _convolution(
    s: Sketch, x: str, module: str, number: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1
) -> tuple[str, int]:
    """Convolution, batch norm and ReLU6, parts ``number`` and next of ``module``; and the number of the part behind."""
    x = s.conv(x, f"{module}.{number}", outputs, kernel, stride=stride, padding=kernel // 2, groups=groups)
    return s.relu6(s.norm(x, f"{module}.{number + 1}"), f"{module}.{number + 2}"), number + 3
