"""A space of seconds: 8 x 8 pictures of three kinds, two stages of two positions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.space.architecture import Architecture
from search.space.file import parse_space
from search.space.genes import Bits, Space

TEXT = """
format = "hil.space"
version = "1.0"
name = "tiny"
input = [1, 8, 8]
classes = 3
[stem]
channels = 4
kernel = 3
stride = 1
[bits]
weight = [4]
activation = [8]
adc = [8]
edge_weight = 6
edge_activation = 8
[operators]
conv2 = { kind = "conv", kernel = 2 }
conv3 = { kind = "conv", kernel = 3 }
conv3g2 = { kind = "conv", kernel = 3, groups = 2 }
residual = { kind = "residual" }
skip = { kind = "skip" }
[[stage]]
layers = 2
stride = 1
channels = 4
widths = [1.0]
operators = ["conv2", "conv3g2", "skip"]
[[stage]]
layers = 2
stride = 2
channels = 8
widths = [1.0]
operators = ["conv2", "conv3", "residual", "skip"]
"""
TINY: Space = parse_space(TEXT, "tiny.toml")
CLASSES = ("rising", "falling", "flat")


def tiny_architecture(*operators: str) -> Architecture:
    chosen = operators or ("conv2", "conv3g2", "residual", "conv2")
    return TINY.uniform(chosen, (1.0, 1.0), Bits(4, 8))


def images(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Stripes along one diagonal, the other, or none, under noise; uint8 (n, 8, 8, 1) and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    y, x = np.mgrid[:8, :8]
    patterns = np.stack([np.sin(1.3 * (x + y)), np.sin(1.3 * (x - y)), np.zeros((8, 8))])
    values = 128 + 60 * patterns[labels] + 40 * rng.standard_normal((count, 8, 8))
    return np.clip(values, 0, 255).astype(np.uint8)[..., None], labels.astype(np.int64)
