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
from pathlib import Path

from hil.errors import FileError
from hil.prediction.answers_arrays import from_arrays
from hil.prediction.answers_table import from_table
from hil.prediction.measured_answers import HINT, MeasuredAccuracy, MeasuredAnswers


def read_answers(path: str | Path, chip: str | None = None) -> MeasuredAnswers | MeasuredAccuracy:
    """The answers, or the accuracy, that a file holds; of several chips those of ``chip``.

    Raises:
        FileError: missing, broken or unsafe, several chips and none chosen, or a row that cannot be, with its number.
    """
    path = Path(path)
    try:
        if path.suffix == ".npz":
            return from_arrays(path, chip)
        if path.suffix == ".csv":
            return from_table(path, chip)
    except (
        zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, NotImplementedError, OSError, RuntimeError,
        TypeError, UnicodeDecodeError, OverflowError, csv.Error, SyntaxError, lzma.LZMAError,
    ) as error:  # fmt: skip
        raise FileError(f"not a readable file of answers: {str(error)[:200]}", where=str(path), hint=HINT) from error
    raise FileError(f"answers in {path.name!r}, neither .npz nor .csv", where=str(path), hint=HINT)
