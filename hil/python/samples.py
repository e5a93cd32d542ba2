"""Samples from Python: arrays and tensors become the data sets that commands read from files."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hil.datasets.arrays import content_of
from hil.datasets.image_set import Dataset, dataset_of, load_dataset
from hil.datasets.seen_images import evenly_taken
from hil.datasets.targets import TargetKind
from hil.errors import FileError, UsageError

Samples: TypeAlias = Dataset | tuple[Any, Any] | str | Path | Any
"""A data set, its name or path, (inputs, targets) or inputs alone (arrays, tensors), torch's Dataset or DataLoader."""

HOW = "(images, labels): images uint8 (n, H, W[, C]), or numbers (n, …) as the module takes them; labels (n,)"


def samples_of(given: Samples, split: str = "test") -> Dataset:
    """The data set of a name, a path, arrays or an object that holds samples.

    Args:
        given: ``Samples``. Integers (n,) beside the inputs are classes, other numbers (n, …) values.
        split: of a set that is named.

    Raises:
        UsageError: nothing that holds samples, or arrays that do not fit each other.
        hil.errors.FileError: a set by name or path that is missing or broken.
    """
    if isinstance(given, Dataset):
        return given
    if isinstance(given, str | Path):
        return load_dataset(given, split, any_kind=True)
    given = _of_torch(given)
    inputs, targets = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    held = _array(inputs)
    arrays = {"images" if held.dtype == np.uint8 else "inputs": held}
    if targets is not None:
        wanted = _array(targets)
        classes = wanted.ndim == 1 and wanted.dtype.kind in "iu"
        arrays["labels" if classes else "values"] = wanted
    try:
        return dataset_of("arrays", content_of(arrays, "arrays"))
    except FileError as error:
        raise UsageError(f"samples: {error.what}", hint=HOW) from error


def labelled(data: Dataset) -> bool:
    """Whether samples have classes or other targets."""
    return data.kind is not TargetKind.NONE


def parted(data: Dataset) -> tuple[Dataset, Dataset]:
    """Every fourth sample (at most 512) for ranges and scales, and the remaining samples for scoring."""
    if len(data) < 8:
        raise UsageError(f"{len(data)} samples are too few to calibrate a network and to score it", hint=HOW)
    taken = np.zeros(len(data), bool)
    taken[evenly_taken(len(data), min(512, len(data) // 4))] = True
    calibrating, scored = data.part(taken), data.part(~taken)
    return calibrating, replace(scored, digest=f"{data.digest}:{len(scored)}")


def _of_torch(given: Any) -> Any:
    """Inputs and targets of a torch ``Dataset`` or ``DataLoader``; other objects are returned unchanged."""
    if (torch := sys.modules.get("torch")) is None:
        return given
    if isinstance(given, torch.utils.data.Dataset):
        given = torch.utils.data.DataLoader(given, batch_size=256)
    if not isinstance(given, torch.utils.data.DataLoader):
        return given
    try:
        batches = [tuple(batch) if isinstance(batch, list | tuple) else (batch,) for batch in given]
        columns = tuple(torch.cat(column) for column in zip(*batches, strict=True))
    except TypeError as error:  # of collate or cat: samples that are no tensors
        raise UsageError(
            f"samples of torch that are no tensors: {error}", hint="transforms.ToTensor(); " + HOW
        ) from error
    return columns[0] if len(columns) == 1 else columns


def _array(value: Any) -> NDArray[Any]:
    """A tensor of any device, a list or an array as an array of numbers."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise UsageError(f"samples that are no array: {error}", hint=HOW) from error
    if array.dtype.kind not in "iuf" or not array.ndim:
        raise UsageError(f"samples of {type(value).__name__} {array.dtype} {array.shape}", hint=HOW)
    return array
