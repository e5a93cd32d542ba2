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
import io
import math
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from cim.files import check_regular, read_bytes
from hil.datasets.npy_header import npy_header
from hil.errors import FileError

MOST_CSV_BYTES = 1 << 28
MOST_NPZ_BYTES = 1 << 31
MOST_NUMBERS = 1 << 28  # answers times classes
MOST_REPEATS, MOST_CLASSES, MOST_WORD = 10_000, 65_536, 200
SILICON, EMULATED, UNKNOWN = "silicon", "emulated", "unknown"
HINT = "docs/how-to/judge-answers.md has the formats"


@dataclass(frozen=True, slots=True)
class AnswersOrigin:
    """Where answers come from, in the words of their file; an age of None and an empty chip: it does not say.

    ``age_s`` is the median of all answers. ``backend``: silicon, emulated or unknown. ``digest``: SHA-256 of the file.
    """

    source: str
    digest: str
    chip: str = ""
    backend: str = UNKNOWN
    age_s: float | None = None
    age_range_s: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class MeasuredAnswers:
    """Answers of one chip to n images in m repeats; ``rows`` are where the file has each image first.

    ``logits`` (m, n, classes) are codes of the compiled network; None where the file has classes, or numbers of another
    unit, of which only the largest is known.
    """

    origin: AnswersOrigin
    images: NDArray[np.int64]  # (n,) numbers in the data set, in run order
    labels: NDArray[np.int64]  # (n,)
    answers: NDArray[np.int64]  # (m, n) classes
    rows: NDArray[np.int64]  # (n,)
    logits: NDArray[np.int32] | None = None
    classes: int = 0  # logits of the file for each image; 0: it has classes

    def place(self, at: int) -> str:
        """Where image ``at`` of the run stands in the file."""
        return f"{self.origin.source}, row {self.rows[at]}"


@dataclass(frozen=True, slots=True)
class MeasuredAccuracy:
    """A mean accuracy over ``runs`` runs of ``images`` images each."""

    origin: AnswersOrigin
    accuracy: float
    images: int
    runs: int

    def __post_init__(self) -> None:
        for good, what in (
            (0 <= self.accuracy <= 1, f"accuracy {self.accuracy:g}, not a share from 0 to 1"),
            (1 <= self.images < 1 << 40, f"accuracy of {self.images} images"),
            (1 <= self.runs <= MOST_REPEATS, f"accuracy of {self.runs} runs, not from 1 to {MOST_REPEATS:,}"),
        ):
            if not good:
                raise FileError(what, where=self.origin.source, hint="0.8352 is 83.52 %")


def read_answers(path: str | Path, chip: str | None = None) -> MeasuredAnswers | MeasuredAccuracy:
    """The answers, or the accuracy, that a file holds; of several chips those of ``chip``.

    Raises:
        FileError: missing, broken or unsafe, several chips and none chosen, or a row that cannot be, with its number.
    """
    path = Path(path)
    try:
        if path.suffix == ".npz":
            return _from_npz(path, chip)
        if path.suffix == ".csv":
            return _from_csv(path, chip)
    except (
        zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, NotImplementedError, OSError, RuntimeError,
        TypeError, UnicodeDecodeError, OverflowError, csv.Error, SyntaxError,
    ) as error:  # fmt: skip
        raise FileError(f"not a readable file of answers: {str(error)[:200]}", where=str(path), hint=HINT) from error
    raise FileError(f"answers in {path.name!r}, neither .npz nor .csv", where=str(path), hint=HINT)


# --- npz --------------------------------------------------------------------------------


def _from_npz(path: Path, chip: str | None) -> MeasuredAnswers | MeasuredAccuracy:
    check_regular(path, MOST_NPZ_BYTES)
    with path.open("rb") as stream:
        digest, source = hashlib.file_digest(stream, "sha256").hexdigest(), str(path)
    with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as arrays:
        file = _Arrays(archive, arrays, path)
        if file.has("accuracy"):
            numbers = [file.one(name) for name in ("accuracy", "images", "runs")]
            return _accuracy(file.origin(digest, chip, 1, 1)[0], *numbers)
        if file.has("answers") == file.has("logits"):
            raise FileError("it needs either answers or logits, or an accuracy", where=source, hint=HINT)
        name, axes = ("answers", (1, 2)) if file.has("answers") else ("logits", (2, 3))
        shape = file.shape(name, axes)
        full = (1, *shape) if len(shape) == axes[0] else shape
        _check_size(full[0], full[1], full[2] if name == "logits" else 1, source)
        for other in ("labels", "images"):
            if (other == "labels" or file.has(other)) and file.shape(other, (1,)) != (full[1],):
                _refuse(f"{other} {file.shape(other, (1,))} of {full[1]:,} images", source)
        labels = _whole(file.read("labels"), "label", source)
        images = _whole(file.read("images"), "image", source) if file.has("images") else np.arange(full[1])
        origin, mine = file.origin(digest, chip, full[0], full[1])
        given = file.read(name).reshape(full)[mine]
    rows = np.arange(full[1])
    if name == "answers":
        classes = _whole(given.reshape(-1), "answer", source, columns=full[1]).reshape(given.shape)
        return _checked(MeasuredAnswers(origin, images, labels, classes, rows))
    return _checked(MeasuredAnswers(origin, images, labels, *_of_logits(given, rows, source)))


@dataclass(frozen=True, slots=True)
class _Arrays:
    archive: zipfile.ZipFile
    arrays: Any
    path: Path

    def has(self, name: str) -> bool:
        return f"{name}.npy" in self.archive.namelist()

    def shape(self, name: str, axes: tuple[int, ...], kinds: str = "iuf") -> tuple[int, ...]:
        """What an array promises, read without its data."""
        shape, dtype = npy_header(self.archive, f"{name}.npy", self.path, dimensions=axes)
        if (
            dtype.kind not in kinds
            or dtype.fields is not None
            or dtype.itemsize > (8 if "i" in kinds else 4 * MOST_WORD)
        ):
            _refuse(f"{name}: {dtype!s:.40} {shape}", str(self.path))
        if math.prod(shape) > MOST_NUMBERS:
            _refuse(f"{name}: {shape}, over {MOST_NUMBERS:,} numbers", str(self.path))
        return shape

    def read(self, name: str) -> NDArray[Any]:
        values: NDArray[Any] = self.arrays[name]
        return values

    def one(self, name: str) -> float:
        if self.has(name):
            self.shape(name, (0,))
            return float(self.read(name))
        return 1.0 if name == "runs" else _refuse(f"an accuracy without {name}", str(self.path))

    def origin(
        self, digest: str, chip: str | None, repeats: int, images: int
    ) -> tuple[AnswersOrigin, NDArray[np.bool_]]:
        """Where the answers come from, and which repeats are those of the chip."""
        words: dict[str, list[str]] = {"chip": [""] * repeats, "backend": [""] * repeats}
        for name in filter(self.has, tuple(words)):
            shape = self.shape(name, (0, 1), "U")
            if shape not in ((), (repeats,)):
                _refuse(f"{name} {shape} of {repeats} repeats", str(self.path))
            words[name] = [str(word) for word in np.broadcast_to(self.read(name), (repeats,))]
        ages = np.zeros((repeats, 0))
        if self.has("age_s"):
            shape = self.shape("age_s", (0, 1, 2))
            if shape not in ((), (repeats,), (repeats, images)):
                _refuse(f"age_s {shape} of {repeats} repeats of {images:,} images", str(self.path))
            ages = self.read("age_s").astype(np.float64).reshape(-1 if shape else 1, *shape[1:] or (1,))
            ages = np.broadcast_to(ages, (repeats, ages.shape[1]))
        chosen = _chosen(set(words["chip"]), chip, str(self.path))
        mine = np.array([name == chosen for name in words["chip"]], np.bool_)
        backends = {b for b, own in zip(words["backend"], mine, strict=True) if own}
        return _origin(str(self.path), digest, chosen, backends, ages[mine]), mine


# --- csv --------------------------------------------------------------------------------


def _from_csv(path: Path, chip: str | None) -> MeasuredAnswers | MeasuredAccuracy:
    content = read_bytes(path, MOST_CSV_BYTES)
    digest, source = hashlib.sha256(content).hexdigest(), str(path)
    lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    header = [name.strip() for name in next(lines, [])]
    if len(set(header)) != len(header):
        _refuse("a column stands twice in the header", source, row=1)
    columns = {name: at for at, name in enumerate(header)}
    if "accuracy" in columns:
        return _accuracy_of(lines, columns, source, digest, chip)
    table = _Table(columns, source)
    for row, cells in enumerate(lines, 2):
        if cells:
            table.add(row, cells)
    return table.answers(digest, chip)


def _accuracy_of(
    lines: Iterator[list[str]], columns: dict[str, int], source: str, digest: str, chip: str | None
) -> MeasuredAccuracy:
    rows = [dict(zip(columns, cells, strict=True)) for cells in lines if cells]
    chosen = _chosen({row.get("chip", "") for row in rows}, chip, source)
    mine = [row for row in rows if row.get("chip", "") == chosen]
    if len(mine) != 1:
        _refuse(f"{len(mine)} rows of accuracies, where one is needed: their mean, images and runs", source)
    row = mine[0]
    ages = [_number(row["age_s"], "age_s", source, 2)] if "age_s" in row else []
    origin = _origin(source, digest, chosen, {row.get("backend", "").strip()}, np.array(ages))
    if "images" not in row:
        _refuse("an accuracy without images", source)
    return _accuracy(origin, *(_number(row.get(name, "1"), name, source, 2) for name in ("accuracy", "images", "runs")))


class _Table:
    """Rows of a table of answers, kept as plain numbers and checked as they come."""

    def __init__(self, columns: dict[str, int], source: str) -> None:
        self.columns, self.source = columns, source
        self.logits = [columns[f"logit_{k}"] for k in range(len(columns)) if f"logit_{k}" in columns]
        names = sum(name.startswith("logit_") for name in columns)
        if names != len(self.logits) or (self.logits and f"logit_{names - 1}" not in columns):
            _refuse("logits are not numbered from logit_0 without a gap", source, row=1)
        if bool(self.logits) == ("answer" in columns) or "label" not in columns:
            _refuse("it needs label, and either answer or logit_0, logit_1, …, as columns", source, row=1)
        self.chips: dict[str, _ChipRows] = {}
        self.whole = True

    def add(self, row: int, cells: list[str]) -> None:
        if len(cells) != len(self.columns):
            _refuse(f"{len(cells)} cells, where the header has {len(self.columns)}", self.source, row=row)
        name = self._word(row, cells, "chip")
        found = self.chips.setdefault(name, _ChipRows())
        if len(self.chips) > MOST_REPEATS:
            _refuse(f"over {MOST_REPEATS:,} chips", self.source, row=row)
        repeat = self._index(row, cells, "repeat") if "repeat" in self.columns else 0
        number = self._index(row, cells, "image") if "image" in self.columns else found.next_image(repeat)
        label = self._index(row, cells, "label")
        if (twice := found.at.get((repeat, number))) is not None:
            reason = f"image {number} in repeat {repeat} is in row {found.rows[twice]} already"
            _refuse(
                reason, self.source, row=row, hint="" if "repeat" in self.columns else "name repeats: column repeat"
            )
        if found.labels.setdefault(number, label) != label:
            _refuse(f"image {number} has label {label}, before {found.labels[number]}", self.source, row=row)
        found.at[repeat, number] = len(found.rows)
        found.rows.append(row)
        if self.logits:
            for at in self.logits:
                value = _number(cells[at], "logit", self.source, row)
                self.whole = self.whole and value.is_integer() and "." not in cells[at]
                found.values.append(value)
        else:
            found.values.append(self._index(row, cells, "answer"))
        if "age_s" in self.columns:
            found.ages.append(_number(cells[self.columns["age_s"]], "age_s", self.source, row))
        found.backends.add(self._word(row, cells, "backend"))

    def answers(self, digest: str, chip: str | None) -> MeasuredAnswers:
        if not self.chips:
            _refuse("no answer", self.source)
        name = _chosen(set(self.chips), chip, self.source)
        found = self.chips[name]
        repeats, images = sorted({r for r, _ in found.at}), list(found.labels)
        width = max(len(self.logits), 1)
        _check_size(len(repeats), len(images), width, self.source)
        places = np.full((len(repeats), len(images)), -1, np.int64)
        for i, repeat in enumerate(repeats):
            for k, number in enumerate(images):
                place = found.at.get((repeat, number))
                if place is None:
                    first = next(p for (_, n), p in found.at.items() if n == number)
                    _refuse(f"image {number} has no answer in repeat {repeat}", self.source, row=found.rows[first])
                places[i, k] = place
        origin = _origin(self.source, digest, name, found.backends, np.array(found.ages, np.float64))
        rows = np.array(found.rows, np.int64)[places[0]]
        numbers, labels = (np.array(x, np.int64) for x in (images, list(found.labels.values())))
        values = np.frombuffer(found.values, np.float64).reshape(-1, width)[places]
        if not self.logits:
            return _checked(MeasuredAnswers(origin, numbers, labels, values[..., 0].astype(np.int64), rows))
        given = values.astype(np.int64) if self.whole else values
        return _checked(MeasuredAnswers(origin, numbers, labels, *_of_logits(given, rows, self.source)))

    def _word(self, row: int, cells: list[str], name: str) -> str:
        word = cells[self.columns[name]].strip() if name in self.columns else ""
        if len(word) > MOST_WORD:
            _refuse(f"{name} of {len(word)} characters", self.source, row=row)
        return word

    def _index(self, row: int, cells: list[str], name: str) -> int:
        text = cells[self.columns[name]].strip()
        if not (text.isascii() and text.isdecimal() and len(text) < 12):
            _refuse(f"{name} {text[:40]!r} is not a whole number from 0", self.source, row=row)
        return int(text)


class _ChipRows:
    """Rows of one chip: ``at`` (repeat, image) -> position in ``rows`` and ``values``."""

    def __init__(self) -> None:
        self.at: dict[tuple[int, int], int] = {}
        self.rows: array[int] = array("q")
        self.values: array[float] = array("d")
        self.labels: dict[int, int] = {}
        self.ages: array[float] = array("d")
        self.backends: set[str] = set()
        self._seen: dict[int, int] = {}

    def next_image(self, repeat: int) -> int:
        """The number of an image without one: its place in its repeat."""
        number = self._seen.get(repeat, 0)
        self._seen[repeat] = number + 1
        return number


# --- both -------------------------------------------------------------------------------


def _refuse(what: str, source: str, *, row: int | None = None, hint: str = "") -> NoReturn:
    raise FileError(what, where=source if row is None else f"{source}, row {row}", hint=hint or HINT)


def _number(text: str, name: str, source: str, row: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        _refuse(f"{name} {text.strip()[:40]!r} is not a finite number", source, row=row)
    return value


def _check_size(repeats: int, images: int, classes: int, source: str) -> None:
    if not (1 <= repeats <= MOST_REPEATS and images >= 2 and 1 <= classes <= MOST_CLASSES):
        _refuse(f"{repeats:,} repeats of {images:,} images with {classes:,} numbers each", source)
    if repeats * images * classes > MOST_NUMBERS:
        _refuse(f"{repeats:,} × {images:,} × {classes:,} numbers, over {MOST_NUMBERS:,}", source)


def _whole(values: NDArray[Any], name: str, source: str, columns: int = 0) -> NDArray[np.int64]:
    """Whole numbers from 0; ``columns``: images in each repeat, where there are several."""
    bad = ~((values >= 0) & (values < 1 << 40) & (values == np.floor(values)))
    if bad.any():
        at = int(np.argmax(bad))
        _refuse(f"{name} {values[at]} is not a whole number from 0", source, row=at % columns if columns else at)
    found: NDArray[np.int64] = values.astype(np.int64)
    return found


def _of_logits(
    given: NDArray[Any], rows: NDArray[np.int64], source: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32] | None, int]:
    """Classes, rows, logits where they are codes, and their number."""
    if (bad := ~np.isfinite(given)).any():
        _refuse("a logit is not a finite number", source, row=int(rows[np.argwhere(bad)[0][1]]))
    codes = given.dtype.kind in "iu" and (not given.size or int(np.abs(given.astype(np.float64)).max()) < 1 << 31)
    return given.argmax(axis=-1), rows, given.astype(np.int32) if codes else None, given.shape[-1]


def _checked(found: MeasuredAnswers) -> MeasuredAnswers:
    """The answers, unless an image stands among them twice."""
    _, first, of = np.unique(found.images, return_index=True, return_inverse=True)
    if len(first) < len(found.images):
        at = int(np.argmax(first[of] != np.arange(len(of))))
        _refuse(
            f"image {found.images[at]} is in row {found.rows[first[of[at]]]} already",
            found.origin.source,
            row=int(found.rows[at]),
        )
    return found


def _chosen(names: set[str], asked: str | None, source: str) -> str:
    """The chip whose answers are meant."""
    shown = ", ".join(sorted(names)[:10])
    if asked is None and len(names) > 1:
        _refuse(f"answers of {len(names)} chips: {shown}", source, hint="hil judge --measured-chip NAME, one at a time")
    if asked is not None and asked not in names:
        _refuse(f"no answers of chip {asked!r}, but of {shown or 'none that is named'}", source)
    return next(iter(names), "") if asked is None else asked


def _origin(source: str, digest: str, chip: str, backends: set[str], ages_s: NDArray[np.float64]) -> AnswersOrigin:
    said = {word or UNKNOWN for word in backends}
    if len(said) > 1 or not said <= {SILICON, EMULATED, UNKNOWN}:
        _refuse(f"backend {', '.join(sorted(said))[:80]}, not one of {SILICON}, {EMULATED}", source)
    if not ((ages_s >= 0) & (ages_s < 1e12)).all():
        _refuse("an age_s that is not a time from 0 s", source)
    known = (float(np.median(ages_s)), (float(ages_s.min()), float(ages_s.max()))) if ages_s.size else (None, None)
    return AnswersOrigin(source, digest, chip, said.pop(), *known)


def _accuracy(origin: AnswersOrigin, accuracy: float, images: float, runs: float) -> MeasuredAccuracy:
    if not (float(images).is_integer() and float(runs).is_integer()):
        _refuse(f"accuracy of {images:g} images in {runs:g} runs", origin.source)
    return MeasuredAccuracy(origin, accuracy, int(images), int(runs))
