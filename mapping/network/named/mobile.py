"""MobileNetV2 for small images (Sandler et al. 2018, doi 10.1109/CVPR.2018.00474)."""

from __future__ import annotations

from mapping.network.named.sketch import Sketch
from mapping.operators.node import INPUT


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
