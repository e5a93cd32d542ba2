"""Built-in architectures: all of them run, and public weights give their published answers."""

from __future__ import annotations

import dataclasses
import gzip
import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mapping.network.architectures import ARCHITECTURES, build
from mapping.network.capture import capture
from mapping.network.float_run import float_logits
from mapping.network.graph import NetworkGraph, node_shapes
from mapping.network.importers import import_graph
from mapping.operators.joins import Add
from mapping.operators.padding import PadChannels
from mapping.operators.products import Conv
from mapping.workload import unplaced_workload

from ...torch_networks import module

CLASSES = tuple("0123456789")
DATA = Path(os.environ.get("HIL_DATA", ""))
FASHION = Path("/usr/share/datasets/fashion-mnist")
PUBLIC = {
    "cifar10_resnet14_b": "cifar_resnet14_b",
    "cifar10_resnet20_a": "cifar_resnet20_a",
    "cifar10_resnet20_b": "cifar_resnet20_b",
    "cifar10_resnet32_a": "cifar_resnet32_a",
    "cifar10_resnet32_b": "cifar_resnet32_b",
    "cifar10_resnet56_a": "cifar_resnet56_a",
    "fmnist_cnn5x5": "fmnist_cnn5x5",
}
needs_models = pytest.mark.skipif(
    not (DATA / "models" / "reference_logits.h5").is_file(), reason="HIL_DATA has no models/"
)
needs_fashion = pytest.mark.skipif(
    not (FASHION / "t10k-images-idx3-ubyte.gz").is_file(), reason="dataset-fashion-mnist is not installed"
)


def cifar() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    with h5py.File(DATA / "cifar10_test.h5") as file:
        return file["lossless/images"][()], file["lossless/labels"][()]


def fashion() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images, labels = (
        np.frombuffer(gzip.decompress((FASHION / f"t10k-{kind}-ubyte.gz").read_bytes()), np.uint8, offset=offset)
        for kind, offset in (("images-idx3", 16), ("labels-idx1", 8))
    )
    return images.reshape(-1, 28, 28, 1), labels


def public(name: str) -> NetworkGraph:
    return import_graph(DATA / "models" / f"{name}.safetensors", arch=PUBLIC[name], classes=CLASSES)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_builds_and_resnets_have_their_depth(name: str) -> None:
    graph = build(name, classes=CLASSES, rng=np.random.default_rng(3))
    assert node_shapes(graph)[graph.nodes[-1].name] == (10,)
    if match := re.fullmatch(r"cifar_resnet(\d+)_(a|b)", name):
        depth, option = int(match[1]), match[2]
        count = {kind: sum(isinstance(node, kind) for node in graph.nodes) for kind in (Conv, Add, PadChannels)}
        assert count[Conv] == depth - 1 + 2 * (option == "b")
        assert count[Add] == (depth - 2) // 2
        assert count[PadChannels] == 2 * (option == "a")


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        *((name, None, {}) for name in ARCHITECTURES),
        ("resnet18", (3, 64, 64), {"stem": 7}),
        ("lenet5", (3, 32, 32), {}),
        ("mobilenet_v2_tiny", (1, 28, 28), {"width": 0.5, "depth": 1, "expansion": 1}),
    ],
)
def test_a_graph_is_node_by_node_what_capture_gives_of_the_torch_module(
    name: str, shape: tuple[int, int, int] | None, options: dict[str, float]
) -> None:
    graph = build(name, classes=CLASSES, input_shape=shape, rng=np.random.default_rng(3), **options)
    network = module(name, classes=10, input_shape=graph.input_shape, rng=np.random.default_rng(3), **options)
    example = torch.zeros(1, *graph.input_shape)
    captured = capture(network, example, preprocess=graph.preprocess, classes=CLASSES)
    for own, other in zip(graph.nodes, captured.nodes, strict=True):
        assert type(own) is type(other)
        for field in dataclasses.fields(own):
            np.testing.assert_array_equal(getattr(own, field.name), getattr(other, field.name), f"{own.name} {field}")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_shapes_alone_give_the_same_work_as_weights(name: str) -> None:
    drawn = build(name, classes=CLASSES, rng=np.random.default_rng(3))
    bare = build(name, classes=CLASSES, shapes_only=True)
    works = [unplaced_workload(graph, weight_bits=4, activation_bits=8) for graph in (drawn, bare)]
    assert works[0] == works[1]


def test_weights_repeat_from_their_rng() -> None:
    first, again, other = (
        build("lenet5", classes=CLASSES, rng=np.random.default_rng(seed)).nodes[0] for seed in (3, 3, 4)
    )
    assert isinstance(first, Conv)
    assert isinstance(again, Conv)
    assert isinstance(other, Conv)
    assert np.array_equal(first.weight, again.weight)
    assert not np.array_equal(first.weight, other.weight)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize("name", ["mobilenet_v2_tiny", "lenet5", "vgg8", "cifar_resnet8_a", "cifar_resnet8_b"])
def test_both_usual_input_sizes(name: str, shape: tuple[int, int, int]) -> None:
    graph = build(name, classes=("a", "b"), input_shape=shape, rng=np.random.default_rng(0))
    images = np.zeros((1, *shape[1:], shape[0]), np.uint8)
    assert np.isfinite(float_logits(graph, images)).all()


def test_mobilenet_width_and_depth_scale_its_depthwise_layers() -> None:
    small, large = (
        build("mobilenet_v2_tiny", classes=CLASSES, rng=np.random.default_rng(0), width=width, depth=depth)
        for width, depth in ((0.5, 1), (1.0, 3))
    )
    depthwise = [[n.groups for n in g.nodes if isinstance(n, Conv) and n.groups > 1] for g in (small, large)]
    assert [len(groups) for groups in depthwise] == [3, 9]
    assert max(depthwise[0]) < max(depthwise[1])


def test_unknown_names_and_options_are_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"there are .*cifar_resnet20_a"):
        build("resnet-20", classes=CLASSES, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="width"):
        build("fmnist_cnn5x5", classes=CLASSES, rng=np.random.default_rng(0), width=2)
    with pytest.raises(ValueError, match="either"):
        build("fmnist_cnn5x5", classes=CLASSES)
    with pytest.raises(ValueError, match="stem=5"):
        build("resnet18", classes=CLASSES, shapes_only=True, stem=5)


@needs_models
@needs_fashion
@pytest.mark.parametrize("name", PUBLIC)
def test_public_weights_give_their_reference_logits(name: str) -> None:
    with h5py.File(DATA / "models" / "reference_logits.h5") as file:
        expected = file[name][()]
    images = (fashion() if name.startswith("fmnist") else cifar())[0][:100]
    np.testing.assert_allclose(float_logits(public(name), images), expected, atol=1e-3)


@needs_models
def test_resnet20_a_classifies_915_of_1000_lossless_cifar10_images() -> None:
    images, labels = cifar()
    assert int((float_logits(public("cifar10_resnet20_a"), images).argmax(1) == labels).sum()) == 915


@needs_models
@needs_fashion
def test_cnn5x5_classifies_8831_of_10000_fashion_mnist_images() -> None:
    images, labels = fashion()
    assert int((float_logits(public("fmnist_cnn5x5"), images).argmax(1) == labels).sum()) == 8831
