"""Answers that were measured elsewhere, and checks common to .npz and .csv files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from hil.errors import FileError

MOST_NUMBERS = 1 << 26  # answers times classes
MOST_REPEATS, MOST_CLASSES, MOST_WORD = 10_000, 65_536, 200
SILICON, EMULATED, UNKNOWN = "silicon", "emulated", "unknown"
LATEST_S = 1e12
LARGEST_WHOLE = float(1 << 53)  # up to which every whole number has a double
HINT = "docs/predict-and-judge.md has the formats"


@dataclass(frozen=True, slots=True)
class AnswersOrigin:
    """Origin of answers, as their file states it; age None, or an empty chip: not stated.

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
    """Answers of one chip to n images in m repeats; ``rows``: first row of each image in the file.

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
        """File and row of image ``at`` of the run, for error messages."""
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


def refuse(what: str, source: str, *, row: int | None = None, hint: str = "") -> NoReturn:
    raise FileError(what, where=source if row is None else f"{source}, row {row}", hint=hint or HINT)


def number_of(text: str, name: str, source: str, row: int) -> float:
    plain = text.isascii() and "_" not in text  # Python reads 1_0 and digits of any script
    try:
        value = float(text) if plain else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        refuse(f"{name} {text.strip()[:40]!r} is not a finite number", source, row=row)
    return value


def age_of(text: str, source: str, row: int) -> float:
    """Parse an age in a table, s."""
    value = number_of(text, "age_s", source, row)
    if not 0 <= value < LATEST_S:
        refuse(f"age_s {value:g} is not a time from 0 s", source, row=row)
    return value


def check_size(repeats: int, images: int, classes: int, source: str) -> None:
    if not (1 <= repeats <= MOST_REPEATS and images >= 2 and 1 <= classes <= MOST_CLASSES):
        refuse(f"{repeats:,} repeats of {images:,} images with {classes:,} numbers each", source)
    if repeats * images * classes > MOST_NUMBERS:
        refuse(f"{repeats:,} × {images:,} × {classes:,} numbers, over {MOST_NUMBERS:,}", source)


def whole_numbers(values: NDArray[Any], name: str, source: str, columns: int = 0) -> NDArray[np.int64]:
    """Whole numbers from 0; ``columns``: images in each repeat, where there are several."""
    bad = ~((values >= 0) & (values < 1 << 40) & (values == np.floor(values)))
    if bad.any():
        at = int(np.argmax(bad))
        refuse(f"{name} {values[at]} is not a whole number from 0", source, row=at % columns if columns else at)
    found: NDArray[np.int64] = values.astype(np.int64)
    return found


def classes_of(
    given: NDArray[Any], rows: NDArray[np.int64], source: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32] | None, int]:
    """Classes, rows, logits if they are codes, and the number of classes."""
    if (bad := ~np.isfinite(given)).any():
        refuse("a logit is not a finite number", source, row=int(rows[np.argwhere(bad)[0][1]]))
    codes = given.dtype.kind in "iu" and (not given.size or int(np.abs(given.astype(np.float64)).max()) < 1 << 31)
    return given.argmax(axis=-1), rows, given.astype(np.int32) if codes else None, given.shape[-1]


def each_once(found: MeasuredAnswers) -> MeasuredAnswers:
    """The answers, after a check that no image occurs twice."""
    _, first, of = np.unique(found.images, return_index=True, return_inverse=True)
    if len(first) < len(found.images):
        at = int(np.argmax(first[of] != np.arange(len(of))))
        refuse(
            f"image {found.images[at]} is in row {found.rows[first[of[at]]]} already",
            found.origin.source,
            row=int(found.rows[at]),
        )
    return found


def chosen_chip(names: set[str], asked: str | None, source: str) -> str:
    """Name of the chip whose answers are used: the one the user names, or the only one in the file."""
    shown = ", ".join(sorted(names)[:10])
    if asked is None and len(names) > 1:
        refuse(f"answers of {len(names)} chips: {shown}", source, hint="hil judge --measured-chip NAME, one at a time")
    if asked is not None and asked not in names:
        refuse(f"no answers of chip {asked!r}, but of {shown or 'none that is named'}", source)
    return next(iter(names), "") if asked is None else asked


def origin_of(source: str, digest: str, chip: str, backends: set[str], ages_s: NDArray[np.float64]) -> AnswersOrigin:
    said = {word or UNKNOWN for word in backends}
    if len(said) > 1 or not said <= {SILICON, EMULATED, UNKNOWN}:
        refuse(f"backend {', '.join(sorted(said))[:80]}, not one of {SILICON}, {EMULATED}", source)
    if (bad := ~((ages_s >= 0) & (ages_s < LATEST_S))).any():
        at = np.argwhere(bad)[0]
        refuse(f"age_s {ages_s[tuple(at)]:g} is not a time from 0 s", source, row=int(at[-1]) if len(at) > 1 else None)
    known = (float(np.median(ages_s)), (float(ages_s.min()), float(ages_s.max()))) if ages_s.size else (None, None)
    return AnswersOrigin(source, digest, chip, said.pop(), *known)


def accuracy_of(origin: AnswersOrigin, accuracy: float, images: float, runs: float) -> MeasuredAccuracy:
    if not (float(images).is_integer() and float(runs).is_integer()):
        refuse(f"accuracy of {images:g} images in {runs:g} runs", origin.source)
    return MeasuredAccuracy(origin, accuracy, int(images), int(runs))
