"""Answers that were measured elsewhere, from .npz or .csv: checked row by row; nothing pickled, sizes checked first.

.npz: ``answers`` (m, n) or (n,), classes from 0, or ``logits`` (m, n, classes) or (n, classes), of m repeats of n
images; ``labels`` (n,). Optional: ``images`` (n,), their numbers in the data set (else 0 to n − 1); ``age_s``, one, one
a repeat or (m, n); ``chip``, one name or one a repeat; ``backend``, "silicon" or "emulated", the same. Of an accuracy
alone ``accuracy`` (a share), ``images`` (how many) and ``runs``, one number each.

.csv: the same by column, one row an answer: ``image``, ``repeat``, ``label``, ``answer`` or ``logit_0``, ``logit_1``,
…, ``age_s``, ``chip``, ``backend``; or one row of ``accuracy``, ``images`` and ``runs``.
"""

from __future__ import annotations

import csv
import hashlib
import lzma
import math
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cim.files import check_regular
from hil.datasets.npy_header import npy_header
from hil.errors import FileError
from hil.prediction.answers_table import chips_of_table, from_table
from hil.prediction.measured_answers import (
    HINT,
    MOST_NUMBERS,
    MOST_WORD,
    AnswersOrigin,
    MeasuredAccuracy,
    MeasuredAnswers,
    accuracy_of,
    check_size,
    chosen_chip,
    classes_of,
    each_once,
    origin_of,
    refuse,
    whole_numbers,
)

MOST_NPZ_BYTES = 1 << 31


def from_arrays(path: Path, chip: str | None) -> MeasuredAnswers | MeasuredAccuracy:
    check_regular(path, MOST_NPZ_BYTES)
    with path.open("rb") as stream:
        digest, source = hashlib.file_digest(stream, "sha256").hexdigest(), str(path)
    with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as arrays:
        file = _Arrays(archive, arrays, path)
        if file.has("accuracy"):
            numbers = [file.one(name) for name in ("accuracy", "images", "runs")]
            return accuracy_of(file.origin(digest, chip, 1, 1)[0], *numbers)
        if file.has("answers") == file.has("logits"):
            raise FileError("it needs either answers or logits, or an accuracy", where=source, hint=HINT)
        name, axes = ("answers", (1, 2)) if file.has("answers") else ("logits", (2, 3))
        shape = file.shape(name, axes)
        full = (1, *shape) if len(shape) == axes[0] else shape
        check_size(full[0], full[1], full[2] if name == "logits" else 1, source)
        for other in ("labels", "images"):
            if (other == "labels" or file.has(other)) and file.shape(other, (1,)) != (full[1],):
                refuse(f"{other} {file.shape(other, (1,))} of {full[1]:,} images", source)
        labels = whole_numbers(file.read("labels"), "label", source)
        images = whole_numbers(file.read("images"), "image", source) if file.has("images") else np.arange(full[1])
        origin, mine = file.origin(digest, chip, full[0], full[1])
        given = file.read(name).reshape(full)[mine]
    rows = np.arange(full[1])
    if name == "answers":
        classes = whole_numbers(given.reshape(-1), "answer", source, columns=full[1]).reshape(given.shape)
        return each_once(MeasuredAnswers(origin, images, labels, classes, rows))
    return each_once(MeasuredAnswers(origin, images, labels, *classes_of(given, rows, source)))


def chips_of_arrays(path: Path) -> set[str]:
    """Names of the chips in an .npz file of answers."""
    check_regular(path, MOST_NPZ_BYTES)
    with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as arrays:
        file = _Arrays(archive, arrays, path)
        if not file.has("chip"):
            return {""}
        file.shape("chip", (0, 1), "U")
        return {str(name) for name in np.atleast_1d(file.read("chip"))}


@dataclass(frozen=True, slots=True)
class _Arrays:
    archive: zipfile.ZipFile
    arrays: Any
    path: Path

    def has(self, name: str) -> bool:
        return f"{name}.npy" in self.archive.namelist()

    def shape(self, name: str, axes: tuple[int, ...], kinds: str = "iuf") -> tuple[int, ...]:
        """Shape of an array, from its header, without reading data."""
        shape, dtype = npy_header(self.archive, f"{name}.npy", self.path, dimensions=axes)
        if (
            dtype.kind not in kinds
            or dtype.fields is not None
            or dtype.itemsize > (8 if "i" in kinds else 4 * MOST_WORD)
        ):
            refuse(f"{name}: {dtype!s:.40} {shape}", str(self.path))
        if math.prod(shape) > MOST_NUMBERS:
            refuse(f"{name}: {shape}, over {MOST_NUMBERS:,} numbers", str(self.path))
        return shape

    def read(self, name: str) -> NDArray[Any]:
        values: NDArray[Any] = self.arrays[name]
        return values

    def one(self, name: str) -> float:
        if self.has(name):
            self.shape(name, (0,))
            return float(self.read(name))
        return 1.0 if name == "runs" else refuse(f"an accuracy without {name}", str(self.path))

    def origin(
        self, digest: str, chip: str | None, repeats: int, images: int
    ) -> tuple[AnswersOrigin, NDArray[np.bool_]]:
        """Origin of the answers, and which repeats belong to the chip."""
        words: dict[str, list[str]] = {"chip": [""] * repeats, "backend": [""] * repeats}
        for name in filter(self.has, tuple(words)):
            shape = self.shape(name, (0, 1), "U")
            if shape not in ((), (repeats,)):
                refuse(f"{name} {shape} of {repeats} repeats", str(self.path))
            words[name] = [str(word) for word in np.broadcast_to(self.read(name), (repeats,))]
        ages = np.zeros((repeats, 0))
        if self.has("age_s"):
            shape = self.shape("age_s", (0, 1, 2))
            if shape not in ((), (repeats,), (repeats, images)):
                refuse(f"age_s {shape} of {repeats} repeats of {images:,} images", str(self.path))
            ages = self.read("age_s").astype(np.float64).reshape(-1 if shape else 1, *shape[1:] or (1,))
            ages = np.broadcast_to(ages, (repeats, ages.shape[1]))
        chosen = chosen_chip(set(words["chip"]), chip, str(self.path))
        mine = np.array([name == chosen for name in words["chip"]], np.bool_)
        backends = {b for b, own in zip(words["backend"], mine, strict=True) if own}
        return origin_of(str(self.path), digest, chosen, backends, ages[mine]), mine


Found = TypeVar("Found")


def read_answers(path: str | Path, chip: str | None = None) -> MeasuredAnswers | MeasuredAccuracy:
    """The answers, or the accuracy, that a file holds; of several chips those of ``chip``.

    Raises:
        FileError: missing, broken or unsafe, several chips and none chosen, or a row that cannot be, with its number.
    """
    return _read(Path(path), lambda file: from_arrays(file, chip), lambda file: from_table(file, chip))


def read_chips(path: str | Path) -> tuple[MeasuredAnswers | MeasuredAccuracy, ...]:
    """What a file holds of each of its chips, by name.

    Raises:
        FileError: as of ``read_answers``.
    """
    names = _read(Path(path), chips_of_arrays, chips_of_table)
    return tuple(read_answers(path, name) for name in sorted(names))


def _read(path: Path, arrays: Callable[[Path], Found], table: Callable[[Path], Found]) -> Found:
    """Read a file by the reader of its kind, arrays or table."""
    try:
        if path.suffix == ".npz":
            return arrays(path)
        if path.suffix == ".csv":
            return table(path)
    except (
        zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, NotImplementedError, OSError, RuntimeError,
        TypeError, UnicodeDecodeError, OverflowError, csv.Error, SyntaxError, lzma.LZMAError,
    ) as error:  # fmt: skip
        raise FileError(f"not a readable file of answers: {str(error)[:200]}", where=str(path), hint=HINT) from error
    raise FileError(f"answers in {path.name!r}, neither .npz nor .csv", where=str(path), hint=HINT)
