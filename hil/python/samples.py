"""Samples from Python: arrays and tensors become the data sets that commands read from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hil.datasets.arrays import content_of
from hil.datasets.image_set import Dataset, dataset_of, load_dataset
from hil.datasets.targets import TargetKind
from hil.errors import FileError, UsageError

Samples: TypeAlias = Dataset | tuple[Any, Any] | str | Path | Any
"""A data set, its name or path, (inputs, targets), or inputs alone: arrays or tensors."""

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
