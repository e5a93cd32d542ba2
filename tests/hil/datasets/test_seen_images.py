"""Samples that calibrated or trained a network are refused; samples that equal them by chance are scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cim
from hil.datasets.arrays import content_of
from hil.datasets.image_set import Dataset, dataset_of
from hil.datasets.input_values import preprocess_of, with_pixels
from hil.datasets.seen_images import check_unseen, raw_keys, shared_images
from hil.errors import FileError
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.network.file import NetworkFile, image_keys, load_network, save_network
from mapping.network.graph import NetworkGraph
from mapping.operators.moves import Flatten
from mapping.operators.products import Linear
from mapping.program.file import load_program, save_program

STORED, SCORED = 512, 1000


class Notes(Watch):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        self.heard.append(text)


def sensors(count: int, seed: int, features: int = 4) -> np.ndarray:
    """Features of one cause, as of sensors at one place: few of the possible codes are in use."""
    rng = np.random.default_rng(seed)
    cause = rng.normal(size=(count, 1))
    return np.tanh(cause + 0.03 * rng.normal(size=(count, features))).astype(np.float32)


TRAIN, TEST = sensors(STORED, 1), sensors(SCORED, 2)
PREPROCESS = preprocess_of(np.array([[[-1.0]], [[1.0]]], np.float32))


def samples(inputs: np.ndarray) -> Dataset:
    labels = (inputs[:, 0] > 0).astype(np.int64)
    data = dataset_of("sensors", content_of({"inputs": inputs, "labels": labels}, "memory"))
    return with_pixels(data, (1, 1, inputs.shape[1]), PREPROCESS)


def network(inputs: np.ndarray) -> NetworkFile:
    features = inputs.shape[1]
    weight = np.linspace(-1, 1, 2 * features, dtype=np.float32).reshape(2, features)
    nodes = (
        Flatten(name="flat", inputs=("input",)),
        Linear(name="fc", inputs=("flat",), weight=weight, bias=np.zeros(2, np.float32)),
    )
    graph = NetworkGraph((1, 1, features), nodes, PREPROCESS, ("low", "high"), {})
    data = samples(inputs)
    return NetworkFile(graph, 4, 8, data.images, calibration_keys=raw_keys(data, np.arange(len(inputs))))


def test_samples_of_few_features_that_round_to_stored_codes_are_scored(tmp_path: Path) -> None:
    file, test = network(TRAIN), samples(TEST)
    assert shared_keys(test, file) > 10, "the sets of this test do not meet"
    save_network(file, tmp_path / "net.pt")
    save_program(compile_network(load_network(tmp_path / "net.pt"), cim.load_chip("lab-128")), tmp_path / "p.h5")
    for held in (load_network(tmp_path / "net.pt"), load_program(tmp_path / "p.h5")):
        check_unseen(test, held)
        leaky = samples(np.concatenate([TEST, TRAIN[7:8]]))
        with pytest.raises(FileError, match=r"1 of the images to be scored calibrated .*number 1000"):
            check_unseen(leaky, held)


def test_a_file_without_keys_of_values_says_how_many_samples_met_by_chance() -> None:
    old, notes = replace(network(TRAIN), calibration_keys=np.zeros(0, np.int64)), Notes()
    check_unseen(samples(TEST), old, watch=notes)
    assert f"{shared_keys(samples(TEST), old)} of the 1,000 samples equal training samples" in notes.heard[0]
    for real in (TRAIN, np.concatenate([TEST[: SCORED // 2], TRAIN[: STORED // 2]])):
        with pytest.raises(FileError, match="calibrated the network"):
            check_unseen(samples(real), old)


def test_samples_of_few_features_that_met_the_fine_tuned_ones_by_chance_are_scored() -> None:
    tuned = replace(network(TRAIN), trained_on=image_keys(samples(sensors(2000, 5)).images))
    check_unseen(samples(TEST), tuned)
    with pytest.raises(FileError, match="fine-tuned on"):
        check_unseen(samples(sensors(2000, 5)), tuned)


def test_images_never_meet_by_chance() -> None:
    large, other = np.random.default_rng(1).integers(0, 2, (2, SCORED, 8, 8, 1)).astype(np.uint8)
    other[17] = other[18] = large[3]
    assert shared_images(other, large).nonzero()[0].tolist() == [17, 18]


def shared_keys(data: Dataset, file: NetworkFile) -> int:
    return int(np.isin(image_keys(data.images), image_keys(file.calibration_images)).sum())
