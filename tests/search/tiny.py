"""A space of seconds: 8 x 8 pictures of three kinds, two stages of two positions."""

from __future__ import annotations

from search.space.architecture import Architecture
from search.space.file import parse_space
from search.space.genes import Bits, Space

from ..hil.search_files import CLASSES as CLASSES
from ..hil.search_files import images as images

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


def tiny_architecture(*operators: str) -> Architecture:
    chosen = operators or ("conv2", "conv3g2", "residual", "conv2")
    return TINY.uniform(chosen, (1.0, 1.0), Bits(4, 8))
