"""``net.pt``: what is saved comes back, versions are kept apart, and no half file appears."""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mapping.bits import LayerBits
from mapping.network.architectures import build
from mapping.network.file import NetworkFile, load_network, save_network
from mapping.network.file_check import NetworkFileError
from mapping.network.float_run import float_logits
from mapping.network.graph import NetworkGraph, Preprocess, node_shapes
from mapping.operators.activations import HardTanh, Relu
from mapping.operators.joins import Add
from mapping.operators.moves import Flatten
from mapping.operators.node import GraphError
from mapping.operators.products import Conv, Linear

SAMPLE = Path(__file__).parent.parent / "samples" / "net-1.0.pt"
CLASSES = tuple("0123456789")


def network(seed: int = 0) -> NetworkFile:
    rng = np.random.default_rng(seed)
    graph = build("fmnist_cnn5x5", classes=CLASSES, rng=rng, provenance={"made": "in a test"})
    images = rng.integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    return NetworkFile(graph, 4, 8, images, np.array([1, 2, 3, 9]))


def respoiled(path: Path, **fields: Any) -> Path:
    torch.save({**torch.load(path, weights_only=True), **fields}, path)
    return path


def test_a_saved_network_comes_back_equal(tmp_path: Path) -> None:
    saved = replace(network(), layer_bits={"conv1": LayerBits(8, 7)})
    save_network(saved, tmp_path / "net.pt")
    loaded = load_network(tmp_path / "net.pt")
    assert loaded.digest == saved.digest
    assert loaded.layer_bits == {"conv1": LayerBits(8, 7)}
    assert [n.name for n in loaded.graph.nodes] == [n.name for n in saved.graph.nodes]
    assert loaded.graph.preprocess == saved.graph.preprocess
    assert loaded.graph.provenance == {"made": "in a test"}
    assert (loaded.weight_bits, loaded.activation_bits, loaded.graph.classes) == (4, 8, CLASSES)
    np.testing.assert_array_equal(loaded.calibration_images, saved.calibration_images)
    np.testing.assert_array_equal(loaded.calibration_labels, saved.calibration_labels)
    for ours, theirs in zip(loaded.graph.nodes, saved.graph.nodes, strict=True):
        assert type(ours) is type(theirs)
        if isinstance(ours, Conv | Linear) and isinstance(theirs, Conv | Linear):
            np.testing.assert_array_equal(ours.weight, theirs.weight)


TEXTS = st.one_of(st.text(max_size=6), st.sampled_from(["a" * 257, "b" * 5000, "\ud800"]))
NUMBERS = st.one_of(
    st.integers(-3, 3), st.floats(-2, 2, width=32).map(np.float32), st.sampled_from([-math.inf, math.inf, 1e-5, 0.0])
)


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(TEXTS, min_size=2, max_size=2, unique=True),
    classes=st.lists(TEXTS, min_size=2, max_size=2),
    ends=st.tuples(NUMBERS, NUMBERS),
    mean=st.sampled_from([0, 0.5, np.float32(0.1), np.float64(0.1), True]),
    made=st.dictionaries(TEXTS, TEXTS, max_size=2),
    step=st.sampled_from([1, np.int64(1), True, 2**31]),
)
def test_what_is_saved_is_read_back_equal_or_not_written(
    names: list[str], classes: list[str], ends: tuple[Any, Any], mean: Any, made: dict[str, str], step: Any
) -> None:
    """Whatever numbers and texts a network is made of: no file that ``load_network`` refuses or reads otherwise."""
    try:
        conv = Conv(name=names[0], inputs=("input",), weight=np.ones((2, 1, 1, 1), np.float32), stride=(step, step))
        tanh = HardTanh(name=names[1], inputs=(names[0],), low=ends[0], high=ends[1])
        flat = Flatten(name="flat", inputs=(names[1],))
        graph = NetworkGraph((1, 1, 1), (conv, tanh, flat), Preprocess((mean,), (1,)), tuple(classes), made)
        made_of = NetworkFile(graph, 4, 8, np.zeros((2, 1, 1, 1), np.uint8), np.array([0, 1]))
    except (ValueError, TypeError):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.pt"
        try:
            save_network(made_of, path)
        except NetworkFileError:
            assert not path.exists()
        else:
            assert load_network(path).digest == made_of.digest


def test_whole_numbers_where_fractions_belong_are_saved_as_such(tmp_path: Path) -> None:
    graph = replace(network().graph, preprocess=Preprocess((0,), (1,)))
    whole = replace(network(), graph=graph)
    save_network(whole, tmp_path / "net.pt")
    assert load_network(tmp_path / "net.pt").digest == whole.digest


def test_the_digest_changes_with_every_part() -> None:
    one = network()
    others = [
        network(seed=1),
        replace(one, weight_bits=5),
        replace(one, activation_bits=7),
        replace(one, calibration_images=one.calibration_images ^ np.uint8(1)),
        replace(one, calibration_labels=None),
        replace(one, layer_bits={"conv1": LayerBits(8, 8)}),
        replace(one, graph=replace(one.graph, classes=("x", *CLASSES[1:]))),
        replace(one, graph=replace(one.graph, preprocess=Preprocess((0.5,), (0.25,)))),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 1 + len(others)


def test_a_newer_minor_version_is_read_and_its_additions_ignored(tmp_path: Path) -> None:
    save_network(network(), tmp_path / "net.pt")
    loaded = load_network(respoiled(tmp_path / "net.pt", version="1.7", colour="blue"))
    assert loaded.digest == network().digest


def test_the_sample_of_version_1_0_is_still_read() -> None:
    sample = load_network(SAMPLE)
    assert sample.digest == "d97d958de32f4bad4a7a1cf363dd612732296cc70bf2f8ea86e5916a461e3a47"
    assert len({type(node) for node in sample.graph.nodes}) == 13
    expected = [[-0.82122624, -0.5711625, -0.61771333], [-0.7617902, -0.40304828, -0.6936051]]
    np.testing.assert_allclose(float_logits(sample.graph, sample.calibration_images), expected, atol=1e-5)
    assert sample.calibration_images.shape == (2, 8, 8, 2)


def test_the_sample_of_1_1_has_bits_of_layers() -> None:
    sample = load_network(SAMPLE.with_name("net-1.1.pt"))
    assert sample.digest == "d954a1ee29b78b545b69f830219879033701834fcacea50703e3fa3173fdcd95"
    assert sample.layer_bits == {"conv1": LayerBits(5, 6)}


def test_wrong_objects_cannot_be_made() -> None:
    good = network()
    for fault in (
        {"weight_bits": 1},
        {"activation_bits": 9},
        {"layer_bits": {"nowhere": LayerBits(8, 8)}},
        {"calibration_images": np.zeros((1, 1, 28, 28), np.uint8)},
        {"calibration_labels": np.array([0, 1, 2, 10])},
    ):
        with pytest.raises(ValueError, match=r"bits|images|labels"):
            replace(good, **fault)


def test_shapes_follow_stride_padding_dilation_and_groups() -> None:
    conv = Conv(
        name="conv",
        inputs=("input",),
        weight=np.zeros((8, 2, 3, 5), np.float32),
        stride=(2, 1),
        padding=(1, 2),
        dilation=(2, 1),
        groups=2,
    )
    flat = Flatten(name="flat", inputs=("conv",))
    last = Linear(name="last", inputs=("flat",), weight=np.zeros((2, 8 * 4 * 9), np.float32))
    graph = NetworkGraph((4, 10, 9), (conv, flat, last), Preprocess((0.0,) * 4, (1.0,) * 4), ("a", "b"))
    expected = torch.nn.functional.conv2d(
        torch.zeros(1, 4, 10, 9), torch.zeros(8, 2, 3, 5), None, (2, 1), (1, 2), (2, 1), 2
    )
    assert node_shapes(graph)["conv"] == tuple(expected.shape[1:]) == (8, 4, 9)


def test_a_graph_that_cannot_run_names_the_node_at_fault() -> None:
    relu = Relu(name="relu", inputs=("input",))
    add = Add(name="sum", inputs=("relu", "late"))
    with pytest.raises(GraphError, match="'late' is not an earlier node") as caught:
        NetworkGraph((1, 2, 2), (relu, add), Preprocess((0.0,), (1.0,)), ("a",))
    assert caught.value.node == "sum"
