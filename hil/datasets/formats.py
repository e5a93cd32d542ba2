"""Formats of image sets: each reader checks counts and sizes before it takes the memory.

All give a ``Content`` with images (n, H, W, C) uint8 and labels (n,) int64, and raise
``FileError`` with the file's name and what is wrong with it.
"""

from __future__ import annotations

import gzip
import io
import itertools
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from cim.files import open_regular
from cim.hdf5_file import open_hdf5
from hil.datasets.arrays import Hdf5Arrays, read_array_file
from hil.datasets.targets import TargetKind
from hil.errors import FileError

MAX_BYTES = 4 << 30  # decoded pixels of one set; --samples reads fewer
MAX_FILE_BYTES = 64 << 30
MAX_SIDE = 4096  # pixels
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_RECORD = 1 + 3 * 32 * 32  # label, then red, green and blue planes
_IDX_PREFIX = {"train": ("train",), "test": ("t10k", "test")}
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True, slots=True)
class Content:
    """Content of a file or folder; ``classes`` is empty when it names none."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    source: str


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Errors of memory and of the system, while a set is read, as a ``FileError``."""
    try:
        yield
    except MemoryError as error:
        raise FileError(
            "not enough memory for this set", where=str(path), hint="name a set of fewer images, or a part of this one"
        ) from error
    except OSError as error:
        raise FileError(f"cannot be read: {error}", where=str(path)) from error


def read_path(path: Path, split: str, limit: int | None, *, group: str = "") -> Content:
    """Read a folder or file of images by the format that its name shows; ``group``: ``jpeg`` or ``lossless`` (HDF5)."""
    with readable(path):
        if path.is_dir():
            return _read_directory(path, split, limit)
        if not path.is_file():
            raise FileError("no such file", where=str(path))
        if path.suffix == ".npz":
            return read_npz(path, limit)
        if path.suffix in (".h5", ".hdf5"):
            return read_hdf5(path, limit, group)
        if path.suffix == ".bin":
            return read_cifar([path], limit)
        if "-idx" in path.name:
            return read_idx(path.with_name(path.name.replace("labels-idx1", "images-idx3")), limit)
    raise FileError(
        "not a data set that can be read",
        where=str(path),
        hint="IDX files, CIFAR-10 .bin batches, .h5, .npz or a folder of images by class",
    )


def holds_split(path: Path, split: str, *, folders: bool) -> bool:
    """Whether a directory holds this split: as one folder for each class (``folders``), else as IDX or CIFAR files."""
    if not path.is_dir():
        return False
    return bool(_class_folders(path, split) if folders else _idx_images(path, split) or _cifar_batches(path, split))


def _read_directory(path: Path, split: str, limit: int | None) -> Content:
    if images := _idx_images(path, split):
        return read_idx(images, limit)
    if batches := _cifar_batches(path, split):
        return read_cifar(batches, limit)
    inner = path / split
    return read_folder(inner if inner.is_dir() else path, limit)


def _idx_images(path: Path, split: str) -> Path | None:
    for prefix, end in itertools.product(_IDX_PREFIX[split], ("", ".gz")):
        for name in (f"{prefix}-images-idx3-ubyte{end}", f"{prefix}-images.idx3-ubyte{end}"):
            if (path / name).is_file():
                return path / name
    return None


def _cifar_batches(path: Path, split: str) -> list[Path]:
    return sorted(path.glob("data_batch_*.bin" if split == "train" else "test_batch.bin"))


def _class_folders(path: Path, split: str) -> list[Path]:
    inner = path / split
    folders = sorted(p for p in (inner if inner.is_dir() else path).iterdir() if p.is_dir())
    return [p for p in folders if any(f.suffix.lower() in SUFFIXES for f in p.iterdir())]


def _take(count: int, shape: tuple[int, ...], limit: int | None, source: Path) -> int:
    """Number of images to read, after the check that they are sane and fit."""
    if count < 1:
        raise FileError("no image", where=str(source))
    if min(shape) < 1 or max(shape) > MAX_SIDE:
        raise FileError(f"images of {' x '.join(map(str, shape))}", where=str(source), likely="a broken header")
    taken = count if limit is None else min(count, limit)
    size = taken * int(np.prod(shape, dtype=np.int64))
    if size > MAX_BYTES:
        what = f"{taken} images of {' x '.join(map(str, shape))} are {size / 2**30:.1f} GiB, over {MAX_BYTES >> 30} GiB"
        raise FileError(what, where=str(source), hint="name a set of fewer images, or a part of this one")
    return taken


# --- IDX (MNIST, Fashion-MNIST): big-endian header, bytes -------------------------------------


def read_idx(images: Path, limit: int | None) -> Content:
    """An IDX image file, plain or .gz, and the label file beside it."""
    labels = images.with_name(images.name.replace("images-idx3", "labels-idx1").replace("images.idx3", "labels.idx1"))
    if labels == images or not labels.is_file():
        raise FileError("no label file beside the images", where=str(images), hint=f"expected {labels.name}")
    (count, height, width), pixels = _idx_data(images, 3, limit)
    (label_count,), values = _idx_data(labels, 1, limit)
    if count != label_count:
        raise FileError(f"{count} images but {label_count} labels", where=f"{images} and {labels.name}")
    return Content(pixels.reshape(-1, height, width, 1), values.astype(np.int64), (), str(images))


def _idx_data(path: Path, dimensions: int, limit: int | None) -> tuple[tuple[int, ...], NDArray[np.uint8]]:
    try:
        with path.open("rb") as probe:
            packed = probe.read(2) == b"\x1f\x8b"
        with cast("IO[bytes]", gzip.open(path, "rb") if packed else path.open("rb")) as stream:
            header = stream.read(4 + 4 * dimensions)
            if len(header) < 4 + 4 * dimensions or header[:4] != bytes((0, 0, 8, dimensions)):
                what = f"not an IDX file of bytes with {dimensions} dimensions (starts {header[:4].hex()})"
                raise FileError(what, where=str(path))
            shape = tuple(int(n) for n in np.frombuffer(header, ">u4", offset=4))
            taken = _take(shape[0], shape[1:] or (1,), limit, path)
            expected = taken * int(np.prod(shape[1:], dtype=np.int64))
            data = stream.read(expected)
            if len(data) < expected:
                what = f"{shape[0]} items promised, the file ends after {len(data)} of {expected} bytes"
                raise FileError(what, where=str(path), likely="an incomplete download")
            if taken == shape[0] and stream.read(1):
                raise FileError(f"more data than the {shape[0]} items promised", where=str(path))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileError(f"broken gzip data: {error}", where=str(path), likely="an incomplete download") from error
    return shape, np.frombuffer(data, np.uint8)


# --- CIFAR-10 binary batches ------------------------------------------------------------------


def read_cifar(batches: list[Path], limit: int | None) -> Content:
    """Read CIFAR-10 batches: records of one label byte and 3 x 32 x 32 pixels."""
    counts = []
    for batch in batches:
        size = batch.stat().st_size
        if size == 0 or size % _CIFAR_RECORD:
            what = f"{size} bytes are not whole records of {_CIFAR_RECORD}"
            raise FileError(what, where=str(batch), likely="an incomplete download or no CIFAR-10 batch")
        counts.append(size // _CIFAR_RECORD)
    left = _take(sum(counts), (32, 32, 3), limit, batches[0])
    parts = []
    for batch, count in zip(batches, counts, strict=True):
        used = min(count, left)
        if used:
            parts.append(np.fromfile(batch, np.uint8, used * _CIFAR_RECORD).reshape(used, _CIFAR_RECORD))
        left -= used
    records = np.concatenate(parts)
    images = np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    source = str(batches[0] if len(batches) == 1 else batches[0].parent)
    return Content(images, records[:, 0].astype(np.int64), CIFAR_CLASSES, source)


# --- HDF5 -------------------------------------------------------------------------------------


def read_hdf5(path: Path, limit: int | None, group: str = "") -> Content:
    """Group ``lossless`` (or the root): ``images``, ``labels``; group ``jpeg``: ``bytes``, ``offsets``, ``labels``.

    Without ``group`` the bit-exact images are taken where there are any. File attributes
    ``class_names`` and ``image_shape`` are used when present.
    """
    try:
        with open_hdf5(path, MAX_FILE_BYTES) as file:
            chosen = group or next((g for g in ("lossless", "images", "jpeg") if g in file), "")
            classes = tuple(str(c.decode() if isinstance(c, bytes) else c) for c in file.attrs.get("class_names", ()))
            if chosen == "images":
                chosen = ""
            elif chosen == "" or chosen not in file:
                wanted = f"group {group!r}" if group else "groups 'lossless', 'jpeg' or dataset 'images'"
                raise FileError(f"no {wanted}", where=str(path))
            read = _read_jpegs if chosen == "jpeg" else _read_arrays
            images, labels = read(file, chosen, limit, path)
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise FileError(f"not a readable HDF5 data set: {error}", where=str(path)) from error
    return Content(images, labels, classes, f"{path}:{chosen}" if chosen else str(path))


def _h5_array(file: Any, name: str, path: Path, dimensions: int) -> Any:
    """A numeric dataset of an HDF5 file; links to other files are refused."""
    shape, dtype = Hdf5Arrays(file, path).header(name)
    if len(shape) != dimensions or dtype.kind not in "iu":
        what = f"{name}: {len(shape)} dimensions of {dtype}, expected {dimensions} of whole numbers"
        raise FileError(what, where=str(path))
    return file[name]


def _h5_labels(file: Any, name: str, count: int, taken: int, path: Path) -> NDArray[np.int64]:
    labels = _h5_array(file, name, path, 1)
    if len(labels) != count:
        raise FileError(f"{count} images but {len(labels)} labels", where=str(path))
    return np.asarray(labels[:taken], np.int64)


def _read_arrays(file: Any, group: str, limit: int | None, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images = _h5_array(file, f"{group}/images", path, 4)
    if images.dtype != np.uint8:
        raise FileError(f"images of {images.dtype}, expected uint8", where=str(path))
    taken = _take(len(images), images.shape[1:], limit, path)
    return images[:taken], _h5_labels(file, f"{group}/labels", len(images), taken, path)


def _read_jpegs(file: Any, group: str, limit: int | None, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    data, offsets = _h5_array(file, f"{group}/bytes", path, 1), _h5_array(file, f"{group}/offsets", path, 1)
    if data.dtype != np.uint8 or data.size > MAX_BYTES or offsets.size > MAX_BYTES // 8:
        raise FileError(f"{data.size} {data.dtype} of encoded images in {offsets.size} offsets", where=str(path))
    count = len(offsets) - 1
    taken = _take(count, (1,), limit, path)
    ends = np.asarray(offsets[: taken + 1], np.int64)
    if ends[0] != 0 or (np.diff(ends) <= 0).any() or ends[-1] > data.size:
        raise FileError("offsets of the encoded images do not rise from 0 to their size", where=str(path))
    encoded = data[: ends[-1]].tobytes()
    declared = file.attrs.get("image_shape")
    shape = None if declared is None else tuple(int(n) for n in declared)
    if shape is not None and len(shape) != 3:
        raise FileError(f"image_shape is {shape}, expected height, width, channels", where=str(path))
    pieces = [(f"image {i}", encoded[ends[i] : ends[i + 1]]) for i in range(taken)]
    return decode(pieces, shape, path), _h5_labels(file, f"{group}/labels", count, taken, path)


# --- .npz -------------------------------------------------------------------------------------


def read_npz(path: Path, limit: int | None) -> Content:
    """``images`` uint8 (n, H, W) or (n, H, W, C), ``labels`` (n,), optional ``classes`` (``hil.datasets.arrays``)."""
    found = read_array_file(path, limit)
    if found.images is None or found.kind is not TargetKind.CLASSES:
        raise FileError("images and labels are needed", where=str(path))
    return Content(found.images, found.targets, found.classes, found.source)


# --- folders of images ------------------------------------------------------------------------


def read_folder(path: Path, limit: int | None, chosen: Callable[[Path], bool] = lambda _: True) -> Content:
    """One folder a class, in order of name; images of one size.

    The order is the first image of each class, then the second of each, so that the first N
    images are spread over the classes.
    """
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    files = [sorted(f for f in p.iterdir() if f.suffix.lower() in SUFFIXES and chosen(f)) for p in folders]
    kept = [(folder.name, images) for folder, images in zip(folders, files, strict=True) if images]
    if not kept:
        raise FileError("no folder of images in it", where=str(path), hint="one folder a class, with PNG or JPEG files")
    turns = itertools.zip_longest(*([(label, f) for f in images] for label, (_, images) in enumerate(kept)))
    order = list(itertools.islice((item for turn in turns for item in turn if item is not None), limit))
    _take(len(order), (1,), None, path)
    pixels = decode([(str(f.relative_to(path)), f) for _, f in order], None, path)
    return Content(pixels, np.array([k for k, _ in order], np.int64), tuple(name for name, _ in kept), str(path))


def decode(pieces: list[tuple[str, bytes | Path]], shape: tuple[int, ...] | None, path: Path) -> NDArray[np.uint8]:
    """Decode images to (n, H, W, C); all must have the size and mode of the first, or ``shape``."""
    from PIL import Image, UnidentifiedImageError

    images: NDArray[np.uint8] | None = None
    for index, (name, piece) in enumerate(pieces):
        try:
            opened = io.BytesIO(piece) if isinstance(piece, bytes) else open_regular(piece)
            with opened as file, Image.open(file) as image:
                if shape is None:
                    shape = (image.height, image.width, 1 if image.mode in ("1", "L") else 3)
                if images is None:
                    _take(len(pieces), shape, None, path)
                    images = np.empty((len(pieces), *shape), np.uint8)
                if (image.height, image.width) != shape[:2]:
                    what = f"{name} is {image.width} x {image.height} pixels, the others {shape[1]} x {shape[0]}"
                    raise FileError(what, where=str(path), hint="images of one set must have one size")
                images[index] = np.asarray(image.convert("L" if shape[2] == 1 else "RGB")).reshape(shape)
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise FileError(f"{name} cannot be decoded: {error}", where=str(path)) from error
    if images is None:
        raise FileError("no image", where=str(path))
    return images
