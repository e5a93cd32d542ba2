"""Networks without shortcuts: LeNet-5, VGG-8 and a small one for Fashion-MNIST."""

from __future__ import annotations

from mapping.network.named.sketch import Sketch
from mapping.operators.activations import Relu
from mapping.operators.node import INPUT


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
