"""Spaces for tests."""

from __future__ import annotations

SMALL = """format = "hil.space"
version = "1.0"
name = "small"
input = [1, 8, 8]
classes = 4

[stem]
channels = 8
kernel = 3
stride = 1

[bits]
weight = [2, 4]
activation = [4, 8]
adc = [6, 8]

[operators]
conv1 = { kind = "conv", kernel = 1 }
conv2 = { kind = "conv", kernel = 2 }
conv3g2 = { kind = "conv", kernel = 3, groups = 2 }
residual = { kind = "residual" }
mbconv = { kind = "mbconv", expansion = 2 }
skip = { kind = "skip" }

[[stage]]
layers = 2
stride = 1
channels = 8
widths = [0.5, 1.0]
operators = ["conv1", "conv2", "residual", "skip"]

[[stage]]
layers = 2
stride = 2
channels = 16
widths = [1.0]
operators = ["conv1", "conv2", "conv3g2", "residual", "mbconv", "skip"]
"""
