"""Data sets: found by name or by path, checked before they take memory, images kept as uint8.

``load_dataset("fashion-mnist", "test")`` searches, in this order: the directory in
``HIL_DATA``, the directory of the Debian package, and the cache that ``fetch_dataset`` fills through torchvision
(which checks an MD5). A path is read by what it holds: IDX files, CIFAR-10
binary batches, HDF5, .npz or a folder of images by class. ``hil.datasets.formats`` has the formats of images with
classes; ``hil.datasets.arrays`` those of any inputs and targets, ``hil.datasets.labelled_folders`` masks and boxes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.atomic import new_file
from hil.datasets import formats
from hil.datasets.arrays import ArrayContent, has_inputs, read_array_file, read_table
from hil.datasets.demos import BUNDLED
from hil.datasets.formats import Content
from hil.datasets.labelled_folders import BOXES_FILE, holds_masks, read_coco, read_masks
from hil.datasets.targets import MOST_CLASSES, TargetKind
from hil.errors import FileError, UsageError

ENVIRONMENT = "HIL_DATA"
DEBIAN = Path("/usr/share/datasets")
CACHE = Path("~/.cache/hil")  # of what was fetched without ``HIL_DATA``

_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_EUROSAT = (
    *("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial"),
    *("Pasture", "PermanentCrop", "Residential", "River", "SeaLake"),
)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled samples.

    ``images`` uint8 (n, H, W, C), ``labels`` int64 (n,) into ``classes``; ``source`` is where they
    were read; ``digest`` is the SHA-256 of shape, pixels and labels.

    A set of another ``kind`` than classes has its ``targets`` (``hil.datasets.targets``) and no labels. A set of values
    instead of pixels has ``inputs`` float32 (n, …) and no images before ``hil.datasets.input_values`` gives them.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    source: str
    digest: str
    kind: TargetKind = TargetKind.CLASSES
    targets: NDArray[Any] | None = None
    inputs: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.images) if self.inputs is None else len(self.inputs)

    def part(self, chosen: NDArray[Any]) -> Dataset:
        """Samples by number, or by a mask (n,); ``digest`` stays that of the whole."""

        def of(values: NDArray[Any] | None) -> Any:
            return values if values is None or len(values) != len(self) else values[chosen]

        return replace(
            self, images=of(self.images), labels=of(self.labels), targets=of(self.targets), inputs=of(self.inputs)
        )

    @property
    def truth(self) -> NDArray[Any]:
        """Targets of any kind, (n, …)."""
        return self.labels if self.targets is None else self.targets


@dataclass(frozen=True, slots=True)
class _Known:
    """A set known by name: the places inside a data directory, and what its files must hold."""

    places: tuple[str, ...]  # below a data directory; {split} is filled in
    classes: tuple[str, ...]
    shape: tuple[int, int, int]  # H, W, C
    group: str = ""  # of an HDF5 file: "" takes lossless where there is one
    torchvision: str = ""  # class of torchvision.datasets
    test_every: int = 0  # test images are those whose file number it divides (EuroSAT)


_CIFAR_PLACES = ("cifar10_{split}.h5", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "cifar10_{split}.npz")
_KNOWN = {
    "fashion-mnist": _Known(("fashion-mnist", "FashionMNIST/raw", "."), _FASHION, (28, 28, 1), "", "FashionMNIST"),
    "cifar10": _Known(_CIFAR_PLACES, formats.CIFAR_CLASSES, (32, 32, 3), "", "CIFAR10"),
    "cifar10-jpeg": _Known(_CIFAR_PLACES[:1], formats.CIFAR_CLASSES, (32, 32, 3), "jpeg"),
    "eurosat": _Known(
        ("eurosat_rgb_{split}.h5", "eurosat/2750", "EuroSAT_RGB"), _EUROSAT, (64, 64, 3), "", "EuroSAT", test_every=5
    ),
}
_SPLITS = ("train", "test")
_BUNDLED = {  # samples that are part of this package, by split; and the names of their classes, where no file has them
    "fashion-mnist-bundled": ({"test": "fashion_mnist_test2000.npz"}, _FASHION),
    "digits-bundled": ({split: f"digits_{split}.npz" for split in _SPLITS}, ()),
    "yin-yang-bundled": ({split: f"yin_yang_{split}.npz" for split in _SPLITS}, ()),
}


def dataset_names() -> list[str]:
    """Names of known sets, whether they are on this machine or not."""
    return [*_KNOWN, *_BUNDLED]


def load_dataset(
    name_or_path: str | Path,
    split: str = "test",
    *,
    limit: int | None = None,
    any_kind: bool = False,
) -> Dataset:
    """The images of a known set or of a path; the first ``limit`` of them when it is given.

    Known names: ``fashion-mnist``, ``cifar10`` (bit-exact images where the file has them), ``cifar10-jpeg``,
    ``eurosat``; part of this package: ``fashion-mnist-bundled`` (the first 2,000 test images), ``digits-bundled``
    (1,000 of 8 x 8), ``yin-yang-bundled`` (1,000 points of 4 features).
    ``any_kind`` takes sets whose samples are not images with classes, for those who can score them.
    Raises ``FileError`` when nothing is found or a file is broken, or is of a kind that was not asked for.

    Args:
        name_or_path: known name, or a folder, .npz, COCO or IDX file.
        split: train or test.
        limit: number of images from the first; None: all.
        any_kind: samples may be other than images with classes.

    Returns:
        images uint8 (n, height, width, channels) with labels and class names.

    Example:
        >>> len(load_dataset("fashion-mnist-bundled", limit=100))
        100
    """
    name = str(name_or_path)
    if split not in _SPLITS:
        raise UsageError(f"unknown split {split!r}", hint=f"one of {', '.join(_SPLITS)}")
    if limit is not None and limit < 1:
        raise UsageError(f"at least one image is needed, not {limit}")
    if name in _BUNDLED:
        files, classes = _BUNDLED[name]
        if split not in files:
            raise UsageError(f"{name} has test images only", hint="fashion-mnist has the training images")
        file = BUNDLED / files[split]
        if has_inputs(file):
            return dataset_of(name, read_array_file(file, limit))
        return _dataset(name, formats.read_path(file, split, limit), classes)
    known = _KNOWN.get(name)
    if known is not None:
        found = _find(name, known, split)
        return _dataset(name, _read_known(known, found, split, limit), known.classes, known.shape)
    path = Path(name_or_path).expanduser()
    if not path.exists():
        raise FileError(
            f"no data set {name!r}",
            likely="neither a known name nor an existing file or folder",
            hint=f"one of {', '.join(dataset_names())}, or a path",
        )
    if (content := _of_any_kind(path, split, limit)) is None:
        return _dataset(path.name, formats.read_path(path, split, limit))
    if not any_kind and (content.kind is not TargetKind.CLASSES or content.images is None):
        held = "images" if content.inputs is None else "values"
        kind = "no labels" if content.kind is TargetKind.NONE else content.kind
        raise FileError(
            f"{held} with {kind}, where images with labels are needed",
            where=content.source,
            hint="hil import, deploy and simulate take samples of any kind",
        )
    return dataset_of(path.name, content)


def _of_any_kind(path: Path, split: str, limit: int | None) -> ArrayContent | None:
    """Samples of a path that holds boxes, masks, arrays or a table; None: it may be a set of images with classes."""
    with formats.readable(path):
        if path.is_dir():
            for place in (path / split, path):
                if (place / BOXES_FILE).is_file():
                    return read_coco(place / BOXES_FILE, limit)
                if holds_masks(place):
                    return read_masks(place, limit)
            files = (path / f"{split}{suffix}" for suffix in (".npz", ".h5", ".hdf5"))
            found = next((file for file in files if file.is_file()), None)
            return None if found is None else read_array_file(found, limit)
        if path.suffix == ".json" and path.is_file():
            return read_coco(path, limit)
        if path.suffix == ".csv" and path.is_file():
            return read_table(path, limit)
        if path.suffix in (".npz", ".h5", ".hdf5") and path.is_file() and has_inputs(path):
            return read_array_file(path, limit)
    return None


def dataset_of(name: str, content: ArrayContent) -> Dataset:
    """A set of any kind, once its parts were checked by their readers.

    Raises:
        FileError: no sample, or labels beyond the classes.
    """
    if content.kind is TargetKind.CLASSES and content.images is not None:
        return _dataset(name, Content(content.images, content.targets, content.classes, content.source))
    given: NDArray[Any] = content.images if content.inputs is None else content.inputs  # type: ignore[assignment]
    digest = hashlib.sha256(f"{given.dtype} {given.shape} {content.kind} {content.targets.shape}".encode())
    for part in (given, content.targets):
        digest.update(np.ascontiguousarray(part).data)
    classes = content.classes
    if content.kind is TargetKind.CLASSES:
        whole = _dataset(name, Content(np.zeros((len(given), 1, 1, 1), np.uint8), content.targets, classes, ""))
        return replace(
            whole, images=_NO_IMAGES, source=content.source, digest=digest.hexdigest(), inputs=content.inputs
        )
    images = _NO_IMAGES if content.images is None else content.images
    no_labels = np.zeros(0, np.int64)
    return Dataset(
        name, images, no_labels, classes, content.source, digest.hexdigest(), content.kind, content.targets,
        content.inputs,
    )  # fmt: skip


_NO_IMAGES = np.zeros((0, 1, 1, 1), np.uint8)


def _read_known(known: _Known, path: Path, split: str, limit: int | None) -> Content:
    if known.test_every and path.is_dir():

        def chosen(file: Path) -> bool:
            number = file.stem.rpartition("_")[2]
            return number.isdecimal() and (int(number) % known.test_every == 0) == (split == "test")

        return formats.read_folder(path, limit, chosen)
    return formats.read_path(path, split, limit, group=known.group)


def _find(name: str, known: _Known, split: str) -> Path:
    """The file or folder of a known set; the error names every way to get it."""
    environment = os.environ.get(ENVIRONMENT)
    roots = [Path(root).expanduser() for root in (environment, DEBIAN, CACHE) if root]
    places = [root / place.format(split=split) for root in roots for place in known.places]
    for place in places:
        if place.is_file() or formats.holds_split(place, split, folders=known.test_every > 0):
            return place
    package = "apt-get install dataset-fashion-mnist" if name == "fashion-mnist" else f"the same files below {DEBIAN}"
    fetch = f"hil doctor --download {name} (needs pip install 'rram-hil[data]', torchvision checks it by MD5)"
    raise FileError(
        f"data set {name!r} ({split}) is not on this machine",
        where="looked for " + ", ".join(str(place) for place in places),
        hint="\n          ".join(
            [
                *([fetch] if known.torchvision else []),
                f"export {ENVIRONMENT}=DIR, DIR holding {' or '.join(p.format(split=split) for p in known.places)}",
                package,
            ]
        ),
    )


def fetch_dataset(name: str) -> list[Path]:
    """Fetch a known set into ``HIL_DATA``, else into the user's cache, through torchvision, which checks an MD5.

    Args:
        name: of a set that torchvision knows.

    Returns:
        the file or folder of each split, where ``load_dataset`` finds it.

    Raises:
        UsageError: a set that torchvision does not know.
        FileError: torchvision is not installed, or the set could not be fetched.
    """
    known = _KNOWN.get(name)
    if known is None or not known.torchvision:
        names = ", ".join(found for found, one in _KNOWN.items() if one.torchvision)
        raise UsageError(f"no download is known for {name!r}", hint=f"one of {names}")
    target = Path(os.environ.get(ENVIRONMENT) or CACHE).expanduser()
    return [_download(name, known, split, target) for split in _SPLITS]


def _download(name: str, known: _Known, split: str, target: Path) -> Path:
    """Fetch one split; returns what ``_read_known`` can read."""
    try:
        from torchvision import datasets
    except ImportError as error:
        raise FileError(f"{name}: torchvision is not installed", hint="pip install 'rram-hil[data]'") from error
    try:
        target.mkdir(parents=True, exist_ok=True)
        make = getattr(datasets, known.torchvision)
        options = {} if known.test_every else {"train": split == "train"}
        fetched = make(target, download=True, **options)
    except OSError as error:
        raise FileError(f"{name} could not be fetched into {target}: {error}") from error
    except RuntimeError as error:  # torchvision: wrong checksum
        raise FileError(f"{name}: the download is not what was expected: {error}", where=str(target)) from error
    if known.torchvision == "CIFAR10":  # its files are pickles: keep the arrays that torchvision checked
        kept = target / f"cifar10_{split}.npz"
        with new_file(kept) as part, part.open("wb") as file:
            np.savez_compressed(file, images=np.asarray(fetched.data), labels=np.asarray(fetched.targets))
        return kept
    for place in known.places:
        if formats.holds_split(target / place, split, folders=known.test_every > 0):
            return target / place
    raise FileError(f"{name}: torchvision left nothing readable in {target}")


def _dataset(
    name: str, content: Content, classes: Sequence[str] = (), shape: tuple[int, int, int] | None = None
) -> Dataset:
    """Check what a file held and name its classes."""
    images, labels = content.images, content.labels
    if len(images) != len(labels):
        raise FileError(f"{len(images)} images but {len(labels)} labels", where=content.source)
    if not len(images):
        raise FileError("no image", where=content.source)
    if shape is not None and images.shape[1:] != shape:
        size = " x ".join(map(str, images.shape[1:]))
        raise FileError(f"images of {size}, but {name} has {' x '.join(map(str, shape))}", where=content.source)
    if int(labels.max()) >= MOST_CLASSES:
        what = f"label {int(labels.max())}; a set has at most {MOST_CLASSES} classes"
        raise FileError(what, where=content.source)
    names = tuple(classes) or content.classes or tuple(str(k) for k in range(int(labels.max()) + 1))
    if labels.min() < 0 or labels.max() >= len(names):
        worst = int(labels.min()) if labels.min() < 0 else int(labels.max())
        raise FileError(f"label {worst} with {len(names)} classes", where=content.source)
    digest = hashlib.sha256(repr(images.shape).encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return Dataset(name, images, labels, names, content.source, digest.hexdigest())
