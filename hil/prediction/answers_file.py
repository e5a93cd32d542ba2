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
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hil.errors import FileError
from hil.prediction.answers_arrays import chips_of_arrays, from_arrays
from hil.prediction.answers_table import chips_of_table, from_table
from hil.prediction.measured_answers import HINT, MeasuredAccuracy, MeasuredAnswers

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
