"""Answers measured elsewhere as a table, .csv: every row is checked as it comes."""

from __future__ import annotations

import csv
import hashlib
import io
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cim.files import read_bytes
from hil.prediction.measured_answers import (
    EMULATED,
    LARGEST_WHOLE,
    MOST_REPEATS,
    MOST_WORD,
    SILICON,
    UNKNOWN,
    MeasuredAccuracy,
    MeasuredAnswers,
    accuracy_of,
    age_of,
    check_size,
    chosen_chip,
    classes_of,
    each_once,
    number_of,
    origin_of,
    refuse,
)

MOST_CSV_BYTES = 1 << 28
MOST_ROWS = 2_000_000  # of a table, about 0.5 GB in memory


def from_table(path: Path, chip: str | None) -> MeasuredAnswers | MeasuredAccuracy:
    content = read_bytes(path, MOST_CSV_BYTES)
    digest, source = hashlib.sha256(content).hexdigest(), str(path)
    lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    header = [name.strip() for name in next(lines, [])]
    if len(set(header)) != len(header):
        refuse("a column stands twice in the header", source, row=1)
    columns = {name: at for at, name in enumerate(header)}
    rows = _rows(lines, len(header), source)
    if "accuracy" in columns:
        return _accuracy_row(rows, columns, source, digest, chip)
    table = _Table(columns, source)
    for row, cells in rows:
        table.add(row, cells)
    return table.answers(digest, chip)


def chips_of_table(path: Path) -> set[str]:
    """Names of the chips in a .csv file of answers."""
    text = read_bytes(path, MOST_CSV_BYTES).decode("utf-8-sig")
    return {(row.get("chip") or "").strip() for row in csv.DictReader(io.StringIO(text, newline=""))}


def _rows(lines: Iterator[list[str]], width: int, source: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, with row numbers from 2, as the header is row 1."""
    row = 1
    try:
        for row, cells in enumerate(lines, 2):
            if row > MOST_ROWS + 1:
                refuse(f"over {MOST_ROWS:,} rows", source, row=row, hint="an .npz holds more answers in less memory")
            if cells and len(cells) != width:
                refuse(f"{len(cells)} cells, where the header has {width}", source, row=row)
            if cells:
                yield row, cells
    except csv.Error as error:
        refuse(f"not a table: {error}", source, row=row + 1)


def _accuracy_row(
    rows: Iterator[tuple[int, list[str]]], columns: dict[str, int], source: str, digest: str, chip: str | None
) -> MeasuredAccuracy:
    found = [(row, dict(zip(columns, cells, strict=True))) for row, cells in rows]
    chosen = chosen_chip({cells.get("chip", "") for _, cells in found}, chip, source)
    mine = [(row, cells) for row, cells in found if cells.get("chip", "") == chosen]
    if len(mine) != 1:
        refuse(f"{len(mine)} rows of accuracies, where one is needed: their mean, images and runs", source)
    row, cells = mine[0]
    if "images" not in cells:
        refuse("an accuracy without images", source, row=row)
    ages = [age_of(cells["age_s"], source, row)] if "age_s" in cells else []
    origin = origin_of(source, digest, chosen, {cells.get("backend", "").strip()}, np.array(ages))
    names = ("accuracy", "images", "runs")
    return accuracy_of(origin, *(number_of(cells.get(name, "1"), name, source, row) for name in names))


class _Table:
    """Rows of a table of answers, checked one by one and kept as plain numbers."""

    def __init__(self, columns: dict[str, int], source: str) -> None:
        self.columns, self.source = columns, source
        self.logits = [columns[f"logit_{k}"] for k in range(len(columns)) if f"logit_{k}" in columns]
        names = sum(name.startswith("logit_") for name in columns)
        if names != len(self.logits) or (self.logits and f"logit_{names - 1}" not in columns):
            refuse("logits are not numbered from logit_0 without a gap", source, row=1)
        if bool(self.logits) == ("answer" in columns) or "label" not in columns:
            refuse("it needs label, and either answer or logit_0, logit_1, …, as columns", source, row=1)
        self.chips: dict[str, _ChipRows] = {}
        self.whole = True

    def add(self, row: int, cells: list[str]) -> None:
        name = self._word(row, cells, "chip")
        found = self.chips.setdefault(name, _ChipRows())
        if len(self.chips) > MOST_REPEATS:
            refuse(f"over {MOST_REPEATS:,} chips", self.source, row=row)
        repeat = self._index(row, cells, "repeat") if "repeat" in self.columns else 0
        number = self._index(row, cells, "image") if "image" in self.columns else found.next_image(repeat)
        label = self._index(row, cells, "label")
        if (twice := found.at.get((repeat, number))) is not None:
            reason = f"image {number} in repeat {repeat} is in row {found.rows[twice]} already"
            refuse(reason, self.source, row=row, hint="" if "repeat" in self.columns else "name repeats: column repeat")
        if found.labels.setdefault(number, label) != label:
            refuse(f"image {number} has label {label}, before {found.labels[number]}", self.source, row=row)
        found.at[repeat, number] = len(found.rows)
        found.rows.append(row)
        if self.logits:
            for at in self.logits:
                value = number_of(cells[at], "logit", self.source, row)
                code = value.is_integer() and abs(value) <= LARGEST_WHOLE and "." not in cells[at]
                self.whole = self.whole and code
                found.values.append(value)
        else:
            found.values.append(self._index(row, cells, "answer"))
        if "age_s" in self.columns:
            found.ages.append(age_of(cells[self.columns["age_s"]], self.source, row))
        found.backends.add(self._backend(row, cells, found.backends))

    def answers(self, digest: str, chip: str | None) -> MeasuredAnswers:
        if not self.chips:
            refuse("no answer", self.source)
        name = chosen_chip(set(self.chips), chip, self.source)
        found = self.chips[name]
        repeats, images = sorted({r for r, _ in found.at}), list(found.labels)
        width = max(len(self.logits), 1)
        check_size(len(repeats), len(images), width, self.source)
        places = np.full((len(repeats), len(images)), -1, np.int64)
        for i, repeat in enumerate(repeats):
            for k, number in enumerate(images):
                place = found.at.get((repeat, number))
                if place is None:
                    first = next(p for (_, n), p in found.at.items() if n == number)
                    refuse(f"image {number} has no answer in repeat {repeat}", self.source, row=found.rows[first])
                places[i, k] = place
        origin = origin_of(self.source, digest, name, found.backends, np.array(found.ages, np.float64))
        rows = np.array(found.rows, np.int64)[places[0]]
        numbers, labels = (np.array(x, np.int64) for x in (images, list(found.labels.values())))
        values = np.frombuffer(found.values, np.float64).reshape(-1, width)[places]
        if not self.logits:
            return each_once(MeasuredAnswers(origin, numbers, labels, values[..., 0].astype(np.int64), rows))
        given = values.astype(np.int64) if self.whole else values
        return each_once(MeasuredAnswers(origin, numbers, labels, *classes_of(given, rows, self.source)))

    def _word(self, row: int, cells: list[str], name: str) -> str:
        word = cells[self.columns[name]].strip() if name in self.columns else ""
        if len(word) > MOST_WORD:
            refuse(f"{name} of {len(word)} characters", self.source, row=row)
        return word

    def _backend(self, row: int, cells: list[str], before: set[str]) -> str:
        word = self._word(row, cells, "backend")
        if word not in ("", SILICON, EMULATED, UNKNOWN):
            refuse(f"backend {word[:40]!r}, not one of {SILICON}, {EMULATED}", self.source, row=row)
        if before - {word}:
            refuse(f"backend {word!r}, {min(before)!r} in rows before", self.source, row=row)
        return word

    def _index(self, row: int, cells: list[str], name: str) -> int:
        text = cells[self.columns[name]].strip()
        if not (text.isascii() and text.isdecimal() and len(text) < 12):
            refuse(f"{name} {text[:40]!r} is not a whole number from 0", self.source, row=row)
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
        """The number of an image that the table does not number: its position within its repeat."""
        number = self._seen.get(repeat, 0)
        self._seen[repeat] = number + 1
        return number
