"""A network that fits one macro and takes 40 array reads an image, fitted in closed form, and images for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mapping.network.file import NetworkFile, save_network
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.operators.activations import Relu
from mapping.operators.moves import Flatten
from mapping.operators.node import Node
from mapping.operators.products import Conv, Linear

SIDE, PATCH, CLASSES, FILTERS = 8, 4, 4, 8
NAMES = ("a", "b", "c", "d")
READS_AN_IMAGE = ((SIDE // PATCH) ** 2 + 1) * 8  # 4 windows and 1 vector, 8 input planes each


def images(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (count, 8, 8, 1) of four faint patterns under noise, and their classes."""
    patterns = np.random.default_rng(7).normal(0, 1, (CLASSES, SIDE, SIDE))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    pixels = 128 + 26 * patterns[labels] + 36 * rng.standard_normal((count, SIDE, SIDE))
    return np.clip(pixels, 0, 255).astype(np.uint8)[..., None], labels


def one_macro_network() -> NetworkFile:
    """4 x 4 convolution with stride 4, ReLU, linear layer by least squares; W4A8, 64 calibration images."""
    rng = np.random.default_rng(1)
    kernel = rng.normal(0, 0.4, (FILTERS, 1, PATCH, PATCH)).astype(np.float32)
    pixels, labels = images(4000, seed=2)
    x = (pixels[..., 0] / 255.0 - 0.5).reshape(-1, SIDE // PATCH, PATCH, SIDE // PATCH, PATCH)
    features = np.maximum(np.einsum("niyjx,ocyx->noij", x, kernel), 0).reshape(len(x), -1)
    features = np.hstack([features, np.ones((len(x), 1))])
    wanted = np.eye(CLASSES)[labels] - 1 / CLASSES
    solved = np.linalg.solve(features.T @ features + 2 * np.eye(features.shape[1]), features.T @ wanted)
    nodes: tuple[Node, ...] = (
        Conv(name="conv", inputs=("input",), weight=kernel, stride=(PATCH, PATCH)),
        Relu(name="relu", inputs=("conv",)),
        Flatten(name="flat", inputs=("relu",)),
        Linear(
            name="fc", inputs=("flat",), weight=solved[:-1].T.astype(np.float32), bias=solved[-1].astype(np.float32)
        ),
    )
    graph = NetworkGraph((1, SIDE, SIDE), nodes, Preprocess((0.5,), (1.0,)), NAMES)
    return NetworkFile(graph, 4, 8, pixels[:64], labels[:64])


def write_files(folder: Path, count: int = 100) -> tuple[Path, Path]:
    """net.pt and images.npz (``count`` images that calibration has not seen) in ``folder``."""
    net, data = folder / "net.pt", folder / "images.npz"
    save_network(one_macro_network(), net)
    pixels, labels = images(count, seed=3)
    np.savez(data, images=pixels, labels=labels, classes=np.array(NAMES))
    return net, data
