"""Inputs of a search: chip, space, images and errors, loaded and checked against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cim.chip.file import is_cost_model, load_chip
from cim.chip.spec import ChipSpec
from cim.record.calibration import CalibrationRecord
from cim.record.file import load_record
from cim.record.published import NoModels, nominal_record
from cim.simulator.training_errors import ArrayNoise, array_noise
from hil.datasets.image_set import Dataset, load_dataset
from hil.errors import UsageError
from hil.report.work_folder import belongs
from hil.searching.folder import SearchFolder
from hil.searching.settings import SearchSettings
from hil.simulation.torch_device import check_device
from hil.watch import Watch
from mapping.network.file import load_network
from search.space.genes import Space
from search.space.prune import fitted
from search.space.target import ChipTarget, Target, load_target
from search.train.arrays import noise_digest
from search.train.images import Images
from search.train.teacher import split_graph
from search.train.training import multiplies_bfloat16

VALIDATION = 0.1  # share of training images that is kept out
TEST = 0.2  # of a file that has no test images of its own
LEAST_NETWORKS = 8
SUBSET = 0x5AB5E7  # purpose tag of a seed
FORMAT = "hil.search-origins"


@dataclass(frozen=True, slots=True, eq=False)
class SearchInputs:
    """``space`` is what the chip leaves of it; ``train`` and ``kept`` (validation) are training images.

    Stages and sample networks are trained on ``brief``, some of ``train``.
    """

    chip: ChipSpec
    target: Target
    space: Space
    train: Images
    brief: Images
    kept: Images
    test: Dataset
    record: CalibrationRecord | None
    noise: ArrayNoise
    source: str  # of the images, in words
    dropped: tuple[str, ...]  # operators and weight bits that went, and why


def load_inputs(folder: SearchFolder, settings: SearchSettings, watch: Watch) -> SearchInputs:
    """Load everything; report what the chip removed from the space.

    Raises:
        UsageError: images, classes or chip that do not go with the space.
        MismatchError: the folder was begun with other inputs.
        search.train.teacher.TeacherError: the folder's teacher cannot teach this space.
        search.errors.SpaceError: nothing of the space fits the chip.
    """
    _check_machine(settings, watch)
    chip = load_chip(settings.chip, macros=settings.macros or None)
    target = priced_on(settings, chip)
    whole = folder.load_space()
    space, dropped = fitted(whole, target, least_share=settings.least_share)
    if space.size() < LEAST_NETWORKS:
        raise UsageError(
            f"space {whole.name} has {space.size()} networks on {chip.name}; a search needs at least {LEAST_NETWORKS}",
            hint="more operators, widths or bits in the space file",
        )
    train, test = _images(settings, watch)
    _check_images(whole, train, settings.data)
    _check_crops(settings, whole)
    whole_set = Images(train.images, train.labels.astype(np.int64))
    own, kept = _some(whole_set, settings.subset, settings.seed).split(VALIDATION, settings.seed)
    brief = _some(own, settings.brief_images, settings.seed)
    if len(brief) * 8 // 10 < settings.batch or not len(kept):
        raise UsageError(
            f"{len(brief)} training images are too few for batches of {settings.batch}: a stage trains on 80 % of them",
            hint="hil search run --batch N, or more images: --subset N, --brief-images N",
        )
    record = load_record(Path(settings.calibration)) if settings.calibration else None
    try:
        noise = array_noise(chip.macro, record or nominal_record(chip, [0]), settings.age_s)
    except NoModels as error:
        raise UsageError(
            str(error), hint="hil search run --calibration RECORD, of hil calibrate or hil chip fit"
        ) from error
    found = SearchInputs(
        chip, target, space, own, brief, kept, test, record, noise, train.source, tuple(str(d) for d in dropped)
    )
    for teacher in (folder.teacher, folder.given_teacher):
        if teacher.exists():
            split_graph(load_network(teacher).graph, space)  # raises where it cannot teach
    here = {"chip": target.digest, "images": own.digest, "test": test.digest, "errors": noise_digest(noise)}
    check_origins(folder, here)
    return found


def priced_on(settings: SearchSettings, chip: ChipSpec) -> Target:
    """The array that prices networks: the chip, or another that is named beside it.

    Raises:
        UsageError: the chip has no prices, and no other array is named.
    """
    if settings.costs:
        return load_target(settings.costs, recipe=settings.asked)
    if chip.cost is None:
        raise UsageError(
            f"{chip.name} has no prices, by which networks could be chosen",
            hint=f"hil search run --chip {chip.name} --costs mnsim-default, or another chip file with [cost]",
        )
    return ChipTarget.of(chip, settings.asked)


def _check_machine(settings: SearchSettings, watch: Watch) -> None:
    """Refuse a chip that is none and a device that is not there; note a precision that this processor is slow at."""
    if is_cost_model(settings.chip):
        raise UsageError(
            f"{settings.chip} is a scale of costs, no chip that a network can be trained for",
            hint=f"hil search run --chip mnsim-256 --costs {settings.chip}: errors of its array, and its prices",
        )
    check_device(settings.device)
    if settings.device == "cpu" and settings.precision == "bf16-mixed" and not multiplies_bfloat16():
        watch.note(
            "this CPU has no instructions for bfloat16: bf16-mixed takes more than twice as long as 32-true "
            "(hil search run without --precision; of a search that was begun, precision in its settings.json)"
        )


def _check_crops(settings: SearchSettings, space: Space) -> None:
    """Refuse turns and squares that the images have no room for."""
    _, height, width = space.input_shape
    if settings.symmetry == "turn" and height != width:
        raise UsageError(
            f"images of {settings.data} are {height} x {width}: no square, so no quarter turns",
            hint="hil search run --symmetry mirror, or none",
        )
    if settings.crop > min(height, width):
        raise UsageError(
            f"images of {settings.data} are {height} x {width}: no squares of {settings.crop} in them",
            hint=f"hil search run --crop N, no more than {min(height, width)}",
        )


def space_of_data(data: str, names: list[str]) -> str:
    """The shipped space of a known data set."""
    name = data.removesuffix("-jpeg")
    if name not in names:
        raise UsageError(
            f"no space goes with {data!r} by itself", hint=f"hil search run --space {'|'.join(names)}, or a .toml file"
        )
    return name


def _images(settings: SearchSettings, watch: Watch) -> tuple[Dataset, Dataset]:
    train = load_dataset(settings.data, "train")
    test = load_dataset(settings.data, "test")
    if train.digest != test.digest:
        return train, test
    watch.note(f"{settings.data} has one set of images: {TEST:.0%} of them are kept for the test")
    rest, some = Images(train.images, train.labels.astype(np.int64)).split(TEST, settings.seed)
    return (
        Dataset(train.name, rest.pixels, rest.labels, train.classes, train.source, rest.digest),
        Dataset(train.name, some.pixels, some.labels, train.classes, train.source, some.digest),
    )


def _check_images(space: Space, data: Dataset, name: str) -> None:
    height, width, channels = data.images.shape[1:]
    if (channels, height, width) != space.input_shape:
        size = " x ".join(map(str, space.input_shape))
        raise UsageError(
            f"images of {name} are {channels} x {height} x {width}; space {space.name} takes {size}",
            hint="hil search run with another --space, or a copy of the space file with "
            f"input = [{channels}, {height}, {width}]",
        )
    if len(data.classes) != space.classes:
        raise UsageError(
            f"{name} has {len(data.classes)} classes; space {space.name} has {space.classes}",
            hint=f"hil search run with another --space, or a copy of the space file with classes = {len(data.classes)}",
        )
    present = len(np.unique(data.labels))
    if present < 2:
        raise UsageError(f"all training images of {name} are of one class", hint="images of two classes or more")


def _some(images: Images, count: int, seed: int) -> Images:
    """So many of them, drawn by the seed; 0: all."""
    if not count or count >= len(images):
        return images
    rng = np.random.default_rng(np.random.SeedSequence([seed, SUBSET]))
    return images.part(np.sort(rng.choice(len(images), count, replace=False)))


def check_origins(folder: SearchFolder, here: Mapping[str, str]) -> None:
    """Write the digests of the inputs, by name, or compare them with those of the folder."""
    belongs(folder.root, folder.origins.name, here, {"format": FORMAT, "version": "1.0"})
