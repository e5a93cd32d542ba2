"""What a fine-tuning works on: network, chip, record and images, loaded and checked against each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cim.chip.file import description_words, is_cost_model, load_chip
from cim.chip.spec import ChipSpec
from cim.record.file import load_record
from cim.record.published import nominal_record
from cim.simulator.training_errors import ArrayNoise, array_noise
from hil.datasets.image_set import Dataset, load_dataset
from hil.datasets.seen_images import shared_images
from hil.deployment.scoring import check_classes
from hil.errors import FileError, HilError, MismatchError, UsageError
from hil.improvement.finetuning.settings import FinetuneSettings
from hil.prediction.predict import OF_CELLS
from hil.watch import Watch
from mapping.network.file import NetworkFile, load_network, sample_keys
from mapping.network.graph import NetworkGraph
from mapping.operators.node import GraphError
from search.train.arrays import aimed
from search.train.images import Images

FEW = 5000
"""Images below which networks learn them by heart."""


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneInputs:
    """Network, chip and images of a fine-tuning; ``kept``: held-out training images that give the scores.

    ``source``, ``record``: where images and errors come from. ``teacher``: another network; None: the float network
    itself.
    """

    network: NetworkFile
    chip: ChipSpec
    noise: ArrayNoise
    record: str
    train: Images
    kept: Images
    source: str
    teacher: NetworkFile | None = None


def load_finetune_inputs(
    network: Path,
    data: str,
    settings: FinetuneSettings,
    watch: Watch,
    *,
    chip: str,
    calibration: Path | None,
    macros: int | None = None,
    without: NDArray[np.uint8] | None = None,
) -> FinetuneInputs:
    """Load network, data, chip and record of a fine-tuning, and check that they fit each other.

    Args:
        without: images to leave out of training and held-out sets; None: no image.

    Raises:
        UsageError: the network is not a classifier or takes other images; too few images; a chip without
            training errors.
        FileError: a file is missing or broken, or test images are among the training images.
        MismatchError: the record is of a chip of another description.
    """
    if is_cost_model(chip):
        raise UsageError(f"{chip} is a scale of costs, no chip to train for", hint="--chip lab-128")
    spec, net = load_chip(chip, macros=macros), load_network(network)
    _check_task(net, network)
    other = _taught_by(Path(settings.teacher), net) if settings.teacher else None
    noise, record = _errors(spec, calibration, settings)
    train = load_dataset(data, "train")
    if without is not None:
        train = _without(train, without)
    _check_images(train, net, settings)
    _check_no_test_images(train, data)
    whole = Images(train.images, train.labels.astype(np.int64))
    own, kept = whole.split(min(settings.held_out, len(train) // 10) / len(train), settings.seed)
    if len(own) < FEW:
        watch.note(f"{len(own)} training images are few: a network may learn them by heart and lose accuracy on others")
    said = f"{train.name}, {len(own)} training images"
    return FinetuneInputs(net, spec, noise, record, own, kept, said, other)


def _taught_by(path: Path, network: NetworkFile) -> NetworkFile:
    """The teacher network of another file; refused if its classes or inputs differ."""
    other = load_network(path)
    for what, own, theirs in (
        ("images of", network.graph.input_shape, other.graph.input_shape),
        ("classes", network.graph.classes, other.graph.classes),
    ):
        if own != theirs:
            raise UsageError(
                f"the teacher takes or gives other {what} {theirs}; the network has {own}",
                hint="--teacher: the network that it was made smaller from",
            )
    return other


def _check_task(network: NetworkFile, path: Path) -> None:
    """Refuse a network of another task than classes: training uses losses and scores of classes."""
    graph = network.graph
    if graph.outputs or not graph.classes:
        raise UsageError(
            f"fine-tuning is for networks that give classes; {path.name} is to {graph.purpose}",
            likely="its outputs are maps, boxes, numbers or steps",
            hint=f"hil deploy {path} tunes it to its chip without labels; train it under errors on its weights before "
            "hil import (docs/my-network.md), or hil improve where its metric is a share",
        )


def _errors(chip: ChipSpec, calibration: Path | None, settings: FinetuneSettings) -> tuple[ArrayNoise, str]:
    """The error law of virtual chips, and where it comes from, as text."""
    record = nominal_record(chip, [0]) if calibration is None else load_record(calibration)
    if calibration is not None and record.kind not in OF_CELLS and record.spec_digest != chip.digest:
        raise MismatchError(
            f"the record is of {description_words(record.spec_digest, chip)}, requested is "
            f"{description_words(chip.digest, chip)}",
            where=str(calibration),
            hint="--chip and --macros of the chip that the record measured",
        )
    if not chip.macro.even_levels:
        raise UsageError(f"networks are trained for evenly spaced levels, and {chip.name} has others")
    try:
        noise = array_noise(chip.macro, record, settings.age_s)
    except ValueError as error:
        raise UsageError(f"no network is trained for {chip.name}: {error}") from error
    words = "models of the chip file" if calibration is None else f"record of {record.chip_name} {record.serial}"
    if not settings.aimed:
        return noise, f"{words}, {settings.age_s:g} s after programming"
    return aimed(noise), f"{words}, aimed for {settings.age_s:g} s after programming"


def _check_images(data: Dataset, network: NetworkFile, settings: FinetuneSettings) -> None:
    channels, height, width = network.graph.input_shape
    if data.images.shape[1:] != (height, width, channels):
        raise UsageError(
            f"{data.name} has images of {data.images.shape[1:]}, the network takes {(height, width, channels)}",
            hint="name a data set of that shape: --data",
        )
    check_classes(data, network.graph.classes)
    if len(data) * 9 // 10 < settings.batch:
        raise UsageError(f"{len(data)} training images are less than a batch of {settings.batch}", hint="--batch N")
    if settings.crop > min(height, width):
        raise UsageError(f"images of {height} x {width} hold no square of {settings.crop}", hint="a smaller --crop")
    if settings.crop and not _takes(network.graph, settings.crop):
        raise UsageError(
            f"the network takes images of {height} x {width} only, no squares of {settings.crop}",
            likely="a layer reads every place of a map, not their mean",
            hint="leave --crop out",
        )
    if settings.symmetry == "turn" and height != width:
        raise UsageError(f"images of {height} x {width} have no quarter turns", hint="--symmetry mirror, or none")


def _without(data: Dataset, images: NDArray[np.uint8]) -> Dataset:
    """The data set without those images."""
    return data.part(~np.isin(sample_keys(data.images), sample_keys(images)))


def _takes(graph: NetworkGraph, side: int) -> bool:
    """Whether a network also accepts square images of that side, pixels."""
    try:
        replace(graph, input_shape=(graph.input_shape[0], side, side))
    except GraphError:
        return False
    return True


def _check_no_test_images(train: Dataset, data: str) -> None:
    """Training images never score (decision 0008), so none of them may be a test image of the set."""
    try:
        test = load_dataset(data, "test")
    except HilError:
        return  # training images only
    if test.digest == train.digest:
        return  # one set of images: what was trained on is noted in the file, and never scores
    both = shared_images(train.images, test.images)
    if both.any():
        raise FileError(
            f"{int(both.sum())} of the training images are test images (first: number {int(np.argmax(both))})",
            where=train.source,
            likely="the test images were copied into the training split",
            hint="take them out: what was trained on can prove nothing",
        )
