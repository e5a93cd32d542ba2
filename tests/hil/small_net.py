"""A network of two matrix layers for small images, fitted in closed form, and images to score it with."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mapping.network.architectures import build
from mapping.network.file import NetworkFile, save_network
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.network.graph_records import to_records
from mapping.operators.activations import Relu
from mapping.operators.moves import Flatten
from mapping.operators.node import Node
from mapping.operators.products import Conv, Linear

SIDE, CLASSES, FILTERS = 8, 4, 8
NAMES = ("a", "b", "c", "d")


def lenet_weights() -> dict[str, Tensor]:
    """Weights of others for the architecture ``lenet5`` with four classes."""
    graph = build("lenet5", classes=NAMES, rng=np.random.default_rng(0))
    return {key: torch.from_numpy(array) for key, array in to_records(graph)[1].items()}


def images(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (count, 8, 8, 1) of four faint patterns under noise, and their classes."""
    patterns = np.random.default_rng(99).normal(0, 1, (CLASSES, SIDE, SIDE))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    pixels = 128 + 22 * patterns[labels] + 40 * rng.standard_normal((count, SIDE, SIDE))
    return np.clip(pixels, 0, 255).astype(np.uint8)[..., None], labels


@functools.cache
def small_network() -> NetworkFile:
    """3 x 3 convolution with stride 2, ReLU, linear layer by least squares; W4A8, 64 calibration images."""
    rng = np.random.default_rng(1)
    kernel = rng.normal(0, 0.4, (FILTERS, 1, 3, 3)).astype(np.float32)
    pixels, labels = images(4000, seed=2)
    x = np.pad(pixels[..., 0] / 255.0 - 0.5, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2]
    features = np.maximum(np.einsum("nijyx,ocyx->noij", windows, kernel), 0).reshape(len(x), -1)
    features = np.hstack([features, np.ones((len(x), 1))])
    wanted = np.eye(CLASSES)[labels] - 1 / CLASSES
    solved = np.linalg.solve(features.T @ features + 2 * np.eye(features.shape[1]), features.T @ wanted)
    weight, bias = solved[:-1].T.astype(np.float32), solved[-1].astype(np.float32)
    nodes: tuple[Node, ...] = (
        Conv(name="conv", inputs=("input",), weight=kernel, stride=(2, 2), padding=(1, 1)),
        Relu(name="relu", inputs=("conv",)),
        Flatten(name="flat", inputs=("relu",)),
        Linear(name="fc", inputs=("flat",), weight=weight, bias=bias),
    )
    graph = NetworkGraph((1, SIDE, SIDE), nodes, Preprocess((0.5,), (1.0,)), NAMES)
    return NetworkFile(graph, 4, 8, pixels[:64], labels[:64])


def write_files(folder: Path, count: int = 300) -> tuple[Path, Path]:
    """net.pt and images.npz (``count`` images that calibration has not seen) in ``folder``."""
    net, data = folder / "net.pt", folder / "images.npz"
    save_network(small_network(), net)
    pixels, labels = images(count, seed=3)
    np.savez(data, images=pixels, labels=labels, classes=np.array(NAMES))
    return net, data
