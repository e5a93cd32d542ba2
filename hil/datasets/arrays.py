"""Sets of arrays, .npz, HDF5 or .csv: inputs of any shape, targets of any kind; nothing pickled, sizes checked first.

Names of the arrays: ``images`` uint8 (n, H, W) or (n, H, W, C), or ``inputs`` (n, …) of any numbers, as the network
takes them; beside them at most one of ``labels``, ``masks``, ``values``, ``steps``, or ``boxes`` (m, 4) with
``box_classes`` (m,) and ``box_counts`` (n,). ``classes`` names classes, in HDF5 the attribute ``class_names``. A table
has a sample in each row, its features and last its class.
"""

from __future__ import annotations

import csv
import itertools
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cim.files import open_regular
from cim.hdf5_file import open_hdf5
from hil.datasets.npy_header import npy_header
from hil.datasets.targets import MOST_CLASSES, TargetKind, checked_targets, padded_boxes
from hil.errors import FileError

MAX_BYTES = 4 << 30  # of one array, as it is held
MAX_FILE_BYTES = 64 << 30
MAX_TABLE_BYTES = 256 << 20  # of text
LONGEST_SIDE = 1 << 20
NAMES = {
    "labels": TargetKind.CLASSES,
    "masks": TargetKind.MASKS,
    "values": TargetKind.VALUES,
    "steps": TargetKind.STEPS,
    "boxes": TargetKind.BOXES,
}
WHOLE = {"labels", "masks", "steps", "box_classes", "box_counts"}
READ = (*NAMES, "box_classes", "box_counts", "images", "inputs", "classes")


@dataclass(frozen=True, slots=True)
class ArrayContent:
    """Content of a file of arrays: either ``images`` uint8 (n, H, W, C) or ``inputs`` float32 (n, …)."""

    images: NDArray[np.uint8] | None
    inputs: NDArray[np.float32] | None
    kind: TargetKind
    targets: NDArray[Any]
    classes: tuple[str, ...]
    source: str


class NamedArrays(Protocol):
    """A file that holds arrays by name."""

    def names(self) -> set[str]: ...

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and type of the array of this name, read without its data."""

    def read(self, name: str, limit: int | None) -> NDArray[Any]:
        """The first ``limit`` rows of the array of this name; None: all."""

    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; empty where there are none."""


def read_array_file(path: Path, limit: int | None) -> ArrayContent:
    """The first ``limit`` samples of a file of arrays.

    Raises:
        FileError: missing, broken or unsafe, arrays that do not fit each other, or sizes beyond what is taken.
    """
    try:
        with _opened(path) as file:
            return _content(file, limit, str(path))
    except (
        zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, NotImplementedError, OSError, RuntimeError,
        TypeError, AttributeError, UnicodeDecodeError, OverflowError,
    ) as error:  # fmt: skip
        raise FileError(f"not a readable set of arrays: {str(error)[:200]}", where=str(path)) from error


def content_of(arrays: Mapping[str, NDArray[Any]], source: str) -> ArrayContent:
    """Samples and labels of arrays in memory, by the names that a file would give them.

    Raises:
        FileError: arrays that do not fit each other, or are none of those.
    """
    return _content(_Loaded(arrays), None, source)


def read_table(path: Path, limit: int | None) -> ArrayContent:
    """Features and classes of a CSV file, with or without a line of names: classes are words or whole numbers.

    Raises:
        FileError: too large, no numbers, or rows of several lengths.
    """
    try:
        with open_regular(path) as file:
            text = file.read(MAX_TABLE_BYTES + 1)
        if len(text) > MAX_TABLE_BYTES:
            raise FileError(f"a table of more than {MAX_TABLE_BYTES >> 20} MB", where=str(path), hint="an .npz file")
        rows = [row for row in csv.reader(text.decode("utf-8-sig").splitlines()) if row]
        if rows and not _is_number(rows[0][0]):
            del rows[0]
        rows = list(itertools.islice(rows, limit))
        inputs = np.array([row[:-1] for row in rows], np.float64)
        words = [row[-1].strip() for row in rows]
        names, labels = ((), words) if all(map(str.isdecimal, words)) else np.unique(words, return_inverse=True)
        labels = np.array(labels, np.int64)
    except (ValueError, OverflowError, csv.Error, OSError) as error:
        raise FileError(
            f"not a table of features: {str(error)[:200]}", where=str(path), hint="a row: 5.1,3.5,setosa"
        ) from error
    if len(names) > MOST_CLASSES:
        raise FileError(f"{len(names)} classes; the last column is the class", where=str(path))
    return replace(content_of({"inputs": inputs, "labels": labels}, str(path)), classes=tuple(map(str, names)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def has_inputs(path: Path) -> bool:
    """Whether a file of arrays needs ``read_array_file``: it holds ``inputs``, or images without ``labels``."""
    try:
        with _opened(path) as file:
            names = file.names()
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, ValueError, KeyError):
        return False  # the reader of images says what is wrong with it
    return "inputs" in names or ("images" in names and "labels" not in names)


@contextmanager
def _opened(path: Path) -> Iterator[NamedArrays]:
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as arrays:
            yield _Npz(archive, arrays, path)
    else:
        with open_hdf5(path, MAX_FILE_BYTES) as file:
            yield Hdf5Arrays(file, path)


@dataclass(frozen=True, slots=True)
class _Npz:
    archive: zipfile.ZipFile
    arrays: Any
    path: Path

    def names(self) -> set[str]:
        return {name.removesuffix(".npy") for name in self.archive.namelist()}

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        return npy_header(self.archive, f"{name}.npy", self.path, dimensions=range(6))

    def read(self, name: str, limit: int | None) -> NDArray[Any]:
        values: NDArray[Any] = self.arrays[name]
        return values[:limit]

    def class_names(self) -> tuple[str, ...]:
        if "classes" not in self.names():
            return ()
        shape, dtype = self.header("classes")
        if len(shape) != 1 or shape[0] > MOST_CLASSES or dtype.itemsize > 4096 or dtype.kind != "U":
            raise FileError(
                f"classes: {dtype!s:.40} {shape}, expected at most {MOST_CLASSES} names", where=str(self.path)
            )
        return tuple(str(name) for name in self.read("classes", None))


@dataclass(frozen=True, slots=True)
class Hdf5Arrays:
    file: Any
    path: Path

    def names(self) -> set[str]:
        return set(self.file)

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        import h5py

        data = self.file.get(name)
        inside = isinstance(data, h5py.Dataset) and data.file.filename == self.file.filename
        if not inside or data.external or data.is_virtual:
            raise FileError(f"no dataset {name!r} in the file itself", where=str(self.path))
        return data.shape, data.dtype

    def read(self, name: str, limit: int | None) -> NDArray[Any]:
        values: NDArray[Any] = self.file[name][:limit]
        return values

    def class_names(self) -> tuple[str, ...]:
        names = self.file.attrs.get("class_names", ())
        return tuple(str(c.decode() if isinstance(c, bytes) else c)[:4096] for c in names[:MOST_CLASSES])


@dataclass(frozen=True, slots=True)
class _Loaded:
    arrays: Mapping[str, NDArray[Any]]

    def names(self) -> set[str]:
        return set(self.arrays)

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        return self.arrays[name].shape, self.arrays[name].dtype

    def read(self, name: str, limit: int | None) -> NDArray[Any]:
        return self.arrays[name][:limit]

    def class_names(self) -> tuple[str, ...]:
        return ()


def _content(file: NamedArrays, limit: int | None, source: str) -> ArrayContent:
    names = file.names()
    if ("images" in names) == ("inputs" in names):
        hint = "in a folder, train.npz and test.npz: numpy.savez(file, images=uint8 (n, H, W), labels=…), or inputs=…"
        raise FileError(f"it needs images or inputs, and holds {sorted(names)!s:.150}", where=source, hint=hint)
    held = [name for name in NAMES if name in names]
    if len(held) > 1:
        raise FileError(f"targets of several kinds: {', '.join(held)}", where=source, hint="one kind a file")
    name = "images" if "images" in names else "inputs"
    shape, dtype = _checked(file, name, limit, source)
    images = inputs = None
    if name == "images":
        if dtype != np.uint8 or len(shape) not in (3, 4):
            raise FileError(f"images {dtype} {shape}, expected uint8 (n, H, W) or (n, H, W, C)", where=source)
        pixels = file.read(name, limit)
        images = pixels if pixels.ndim == 4 else pixels[..., None]
    else:
        inputs = np.ascontiguousarray(file.read(name, limit), np.float32)
        if not np.isfinite(inputs).all():
            raise FileError("inputs that are not finite, or beyond float32", where=source)
    count = shape[0] if limit is None else min(limit, shape[0])
    kind = NAMES[held[0]] if held else TargetKind.NONE
    targets = _targets(file, kind, held, shape[0], limit, source)
    return ArrayContent(images, inputs, kind, targets[:count], file.class_names(), source)


def _targets(
    file: NamedArrays, kind: TargetKind, held: list[str], count: int, limit: int | None, source: str
) -> NDArray[Any]:
    if kind is TargetKind.NONE:
        return np.zeros((count if limit is None else min(limit, count), 0), np.float32)
    if kind is TargetKind.BOXES:
        (boxes, _), (classes, _), (counts, _) = (
            _checked(file, name, None, source, axes=axes)
            for name, axes in (("boxes", (2,)), ("box_classes", (1,)), ("box_counts", (1,)))
        )
        if boxes[1:] != (4,) or classes[0] != boxes[0] or counts[0] != count:
            what = f"boxes {boxes}, box_classes {classes} and box_counts {counts} of {count} samples"
            raise FileError(what, where=source, hint="boxes (m, 4), box_classes (m,), box_counts (n,)")
        corners, kinds, many = (file.read(name, None) for name in ("boxes", "box_classes", "box_counts"))
        return padded_boxes(np.asarray(corners, np.float64), kinds, many, source)
    shape, _ = _checked(file, held[0], limit, source)
    if shape[0] != count:
        raise FileError(f"{count} samples but {shape[0]} {held[0]}", where=source)
    values = file.read(held[0], limit)
    return checked_targets(kind, values, len(values), source)


def _checked(
    file: NamedArrays, name: str, limit: int | None, source: str, axes: tuple[int, ...] = (1, 2, 3, 4, 5)
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array of numbers that may be read."""
    shape, dtype = file.header(name)
    kinds = "iu" if name in WHOLE else "iuf"
    if dtype.kind not in kinds or dtype.itemsize > 8 or dtype.fields is not None or len(shape) not in axes:
        what = "whole numbers" if name in WHOLE else "numbers"
        raise FileError(f"{name}: {dtype!s:.40} {shape}, expected {what}", where=source)
    empty = min(shape) < 1 and name not in ("boxes", "box_classes")
    if empty or max(shape[1:], default=1) > LONGEST_SIDE:
        raise FileError(f"{name} has the shape {shape}", where=source, likely="an empty set or a broken header")
    rows = shape[0] if limit is None else min(limit, shape[0])
    size = rows * max(dtype.itemsize, 4)
    for side in shape[1:]:
        size *= side
    if size > MAX_BYTES:
        what = f"{name}: {rows} samples of {shape[1:]} are {size / 2**30:.1f} GiB, over {MAX_BYTES >> 30} GiB"
        raise FileError(what, where=source, hint="name a set of fewer images, or a part of this one")
    return shape, dtype
