"""Files of answers that were cut, mixed or made to deceive: read as what they say, or refused; nothing else happens."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.errors import FileError
from hil.prediction.answers_file import read_answers, read_chips
from hil.prediction.measured_answers import MeasuredAccuracy, MeasuredAnswers

IMAGES, REPEATS = 5, 2
HEADER = ["image", "repeat", "label", "logit_0", "logit_1", "age_s", "chip", "backend"]
HOSTILE = [
    "", "nan", "inf", "-1", "-0", "1e400", "1e300", "-1e300", "9" * 30, "1_0", "\uff11", "0x1", "\x00", '"', "a,b", 
    "\n", "1.5", "silicon", "=1+1", "\u221e", "1e5", "9223372036854775808", "4294967296",
]  # fmt: skip
ROWS = [
    [str(image), str(repeat), str(image % 2), str(3 * image - repeat), str(7 - image), "3600", "B7", "silicon"]
    for repeat in range(REPEATS)
    for image in range(IMAGES)
]
Harm = tuple[str, int, int, str]
HARMS = st.lists(
    st.tuples(
        st.sampled_from(["cell", "twice", "lost", "swapped", "short", "long"]),
        st.integers(0, len(ROWS)), st.integers(0, len(HEADER) - 1), st.sampled_from(HOSTILE),
    ),
    max_size=3,
)  # fmt: skip
ARRAYS: list[Any] = [
    np.zeros((2, 5, 3), np.int32), np.zeros((5, 3)), np.zeros(5, np.int64), np.array(0.5), np.array("x"),
    np.array(["a", "b"]), np.zeros(0), np.full(5, np.nan), np.zeros((2, 5)), np.zeros((2, 5), bool),
    np.zeros((2, 0, 3)), np.zeros(5, complex), np.arange(5), np.full(5, 1e300), np.full((2, 5, 3), 1 << 63, np.uint64),
    np.array([b"x"]), np.array(np.datetime64("2020")), np.full((2, 5), -1), np.array(-1.0), np.array(np.inf),
    np.zeros((2, 2, 5, 3)),
]  # fmt: skip


def read_or_refused(path: Path) -> MeasuredAnswers | MeasuredAccuracy | None:
    """What is read; None: it was refused, and said where."""
    try:
        read_chips(path)
        return read_answers(path)
    except FileError as error:
        refused = error
    assert str(refused.where).startswith(str(path))
    return None


def harmed(harms: list[Harm]) -> bytes:
    rows = [HEADER, *ROWS]
    for kind, at, column, text in harms:
        rows, at = [list(row) for row in rows], at % len(rows)
        match kind:
            case "cell":
                rows[at][column % max(len(rows[at]), 1) :][:1] = []
                rows[at].insert(column, text)
            case "twice":
                rows.insert(at, list(rows[-1]))
            case "lost":
                rows.pop(at) if len(rows) > 1 else None
            case "swapped":
                rows[at], rows[-1] = rows[-1], rows[at]
            case "short":
                rows[at] = rows[at][:column]
            case "long":
                rows[at].append(text)
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


@pytest.mark.filterwarnings("error")
@settings(max_examples=100, deadline=None)
@given(HARMS, st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=2))
def test_a_harmed_table_is_refused_with_its_reason_or_read_as_what_it_says(
    tmp_path_factory: pytest.TempPathFactory, harms: list[Harm], bytes_: list[tuple[int, int]]
) -> None:
    content = bytearray(harmed(harms))
    for place, value in bytes_:
        content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "answers.csv"
    path.write_bytes(content)
    found = read_or_refused(path)
    if found is None:
        return
    assert isinstance(found, MeasuredAnswers)
    told = {}
    for row in csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")):
        logits = [float(row[name]) for name in HEADER if name.startswith("logit_") and name in row]
        told[int(row.get("image") or len(told)), int(row.get("repeat") or 0)] = int(np.argmax(logits))
    read = {
        (int(image), repeat): int(found.answers[repeat, n])
        for n, image in enumerate(found.images)
        for repeat in range(len(found.answers))
    }
    assert len(read) == len(told)
    assert sorted(read.values()) == sorted(told.values())


@pytest.mark.filterwarnings("error")
@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["logits", "answers", "labels", "images", "age_s", "chip", "backend", "accuracy", "runs"]),
        st.one_of(st.none(), st.integers(0, len(ARRAYS) - 1)), max_size=4,
    ),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=3),
)  # fmt: skip
def test_harmed_arrays_are_refused_with_their_reason_or_read(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, int | None], bytes_: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "answers.npz"
    good: dict[str, Any] = {"logits": np.arange(30).reshape(2, 5, 3) % 7, "labels": np.arange(5) % 3}
    chosen = {name: None if at is None else ARRAYS[at] for name, at in arrays.items()}
    np.savez(path, **{name: values for name, values in {**good, **chosen}.items() if values is not None})
    content = bytearray(path.read_bytes())
    for place, value in bytes_:
        content[place % len(content)] = value
    path.write_bytes(content)
    found = read_or_refused(path)
    if found is None:
        return
    if isinstance(found, MeasuredAnswers):
        assert len(found.images) == len(found.labels) == found.answers.shape[1]
        assert (found.answers >= 0).all()


@pytest.mark.parametrize("large", ["1e300", "9223372036854775808", "36893488147419103232"])
def test_the_largest_of_numbers_that_no_integer_holds_is_the_class(large: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text(f"label,logit_0,logit_1\n0,{large},5\n1,3,{large}\n", "utf-8")
    found = read_answers(path)
    assert isinstance(found, MeasuredAnswers)
    assert found.answers.tolist() == [[0, 1]]
    assert found.logits is None
