"""A lab's tables: what is read, and that everything wrong is said with file, row, column and value."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest

from hil.device_fit import measured_tables
from hil.device_fit.measured_tables import read_table
from hil.errors import FileError

GOOD = "cell,time_s,conductance_us,target_us\n1,0,10.5,10\n1,1,10.7,10\n2,0,20.5,20\n2,1.5,20.7,20\n"


def written(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def fault(path: Path) -> str:
    with pytest.raises(FileError) as error:
        read_table(path)
    assert error.value.exit_code == 7
    assert path.name in str(error.value)
    return str(error.value)


# --- what is read -----------------------------------------------------------------------------


def test_a_csv_table_is_read(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, GOOD))
    assert table.cell.tolist() == [1, 1, 2, 2]
    assert table.time_s.tolist() == [0, 1, 0, 1.5]
    assert table.conductance_us.tolist() == [10.5, 10.7, 20.5, 20.7]
    assert table.target_us.tolist() == [10, 10, 20, 20]
    assert not table.target_is_initial
    assert table.pulses is None


@pytest.mark.parametrize("split", ["\t", ";"])
def test_tabs_and_semicolons_part_columns_too(tmp_path: Path, split: str) -> None:
    assert len(read_table(written(tmp_path, GOOD.replace(",", split)))) == 4


def test_a_packed_table_is_read_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_bytes(gzip.compress(GOOD.replace(",", "\t").encode()))
    assert len(read_table(path)) == 4


def test_comments_quotes_a_byte_order_mark_and_windows_lines_do_no_harm(tmp_path: Path) -> None:
    text = "﻿# chip 7\n# run 3\n" + GOOD.replace("cell", '"cell"').replace("\n1,", '\n"1",').replace("\n", "\r\n")
    assert len(read_table(written(tmp_path, text))) == 4


@pytest.mark.parametrize(("column", "factor"), [("conductance_s", 1e-6), ("resistance_ohm", 0.0)])
def test_siemens_and_ohm_become_microsiemens(tmp_path: Path, column: str, factor: float) -> None:
    rows = [(1, 0.0, 12.5), (1, 1.0, 13.0), (2, 1.0, 40.0)]
    values = [g * factor if factor else 1e6 / g for _, _, g in rows]
    text = f"cell,time_s,{column},target_us\n" + "".join(
        f"{c},{t},{v!r},{(12, 40)[c - 1]}\n" for (c, t, _), v in zip(rows, values, strict=True)
    )
    assert read_table(written(tmp_path, text)).conductance_us == pytest.approx([12.5, 13.0, 40.0])


def test_an_initial_reading_stands_for_a_target_and_is_said_to(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, GOOD.replace("target_us", "initial_us")))
    assert table.target_is_initial


def test_columns_that_nobody_knows_are_named_in_a_note(tmp_path: Path) -> None:
    text = GOOD.replace("target_us", "target_us,operator").replace("10\n", "10,x\n").replace("20\n", "20,y\n")
    assert read_table(written(tmp_path, text)).notes == ("columns left alone: operator",)


def test_pulses_reached_and_nominal_times_are_read(tmp_path: Path) -> None:
    text = "cell,time_s,nominal_s,conductance_us,target_us,pulses,reached\n3,0.9,1,10,11,7,1\n4,1.1,1,12,11,200,0\n"
    table = read_table(written(tmp_path, text))
    assert table.pulses is not None
    assert table.pulses.tolist() == [7, 200]
    assert table.reached is not None
    assert table.reached.tolist() == [True, False]
    assert table.nominal_s is not None
    assert table.nominal_s.tolist() == [1, 1]


@pytest.mark.parametrize("group", ["", "cells/"])
def test_an_hdf5_table_is_read(tmp_path: Path, group: str) -> None:
    path = tmp_path / "table.h5"
    with h5py.File(path, "w") as file:
        for name, values in (("cell", [1, 2]), ("time_s", [0, 1]), ("conductance_us", [9.5, 8]), ("target_us", [9, 9])):
            file[f"{group}{name}"] = values
    assert read_table(path).conductance_us.tolist() == [9.5, 8]


def test_a_part_keeps_the_rows_that_are_wanted(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, GOOD))
    part = table.part(table.cell == 2)
    assert part.conductance_us.tolist() == [20.5, 20.7]
    assert part.name == table.name


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("10.7", "nan", ("line 3", "column conductance_us", "not a number", "leave out readings that failed")),
        ("10.7", "inf", ("line 3", "column conductance_us", "not a number")),
        ("10.7", "10.7 uS", ("line 3", "column conductance_us", "'10.7 uS'", "without a unit")),
        ("10.7", "", ("line 3", "column conductance_us", "''", "leave out readings that failed")),
        ("2,1.5", "2,-1.5", ("line 5", "column time_s", "-1.5", "before programming")),
        ("2,1.5", "2,1e11", ("line 5", "column time_s", "1e+11")),
        ("2,1.5", "2.5,1.5", ("line 5", "column cell", "2.5", "not a whole number")),
        ("2,1.5", "-2,1.5", ("line 5", "column cell", "-2")),
        ("20.7", "1e300", ("line 5", "column conductance_us", "1e+300")),
        ("20.7,20", "20.7,21", ("line 5", "column target_us", "cell 2 has target_us 20 and 21")),
        ("20.7,20", "20.7,20,3", ("line 5", "5 values for 4 columns")),
        ("20.7,20", "20,7,20", ("line 5", "5 values for 4 columns", "decimal point")),
        ("20.7,20", "20.7", ("line 5", "3 values for 4 columns")),
        ("20.7,20", "1_0.7,20", ("line 5", "'1_0.7'")),
        ("1,1,10.7", "\n1,1,10.7", ("line 3", "empty line")),
        (GOOD[36:], "\n", ("no row",)),
    ],
)
def test_a_wrong_value_is_said_with_its_line_and_column(
    tmp_path: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    assert old in GOOD
    text = fault(written(tmp_path, GOOD.replace(old, new)))
    for word in words:
        assert word in text, text


def test_a_fault_far_down_is_said_with_its_own_line(tmp_path: Path) -> None:
    lines = ["cell,time_s,conductance_us,target_us", *("1,1,10,10" for _ in range(70_000))]
    lines[69_000] = "1,1,ten,10"
    assert "line 69001" in fault(written(tmp_path, "\n".join(lines)))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("time_s,conductance_us,target_us", ("no column cell",)),
        ("cell,conductance_us,target_us", ("no column time_s",)),
        ("cell,t,conductance_us,target_us", ("no column time_s", "t (call it time_s)")),
        ("cell,time_s,target_us", ("no column conductance_us or conductance_s or resistance_ohm",)),
        ("cell,time_s,conductance,target_us", ("conductance (call it conductance_us, conductance_s)",)),
        ("cell,time_s,resistance_kohm,target_us", ("no column conductance_us", "resistance_kohm")),
        ("cell,time_s,conductance_us", ("no column target_us or initial_us",)),
        ("cell,time_s,conductance_us,resistance_ohm,target_us", ("say the same",)),
        ("cell,time_s,cell,conductance_us,target_us", ("column cell is there twice",)),
        ("1,0,10.5,10", ("no names of columns",)),
        (",".join(f"c{n}" for n in range(300)), ("300 columns, over 256",)),
    ],
)
def test_wrong_names_of_columns_are_said(tmp_path: Path, header: str, words: tuple[str, ...]) -> None:
    text = fault(written(tmp_path, f"{header}\n1,1,10,10,10\n"))
    for word in words:
        assert word in text, text


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("conductance_us", (1.05e-5, 2.05e-5), ("in siemens", "conductance_s")),
        ("conductance_s", (0.5, 0.9), ("in µS", "conductance_us")),
        ("resistance_ohm", (12.5, 33.0), ("kΩ",)),
        ("resistance_ohm", (0.0, 33e3), ("resistance_ohm is 0",)),
        ("resistance_ohm", (1e9, 2e9), ("another unit than its name says",)),
    ],
)
def test_readings_of_the_size_of_another_unit_are_refused(
    tmp_path: Path, column: str, values: tuple[float, float], words: tuple[str, ...]
) -> None:
    rows = "".join(f"{n},1,{v!r},20\n" for n, v in enumerate(values))
    text = fault(written(tmp_path, f"cell,time_s,{column},target_us\n{rows}"))
    for word in words:
        assert word in text, text


def test_more_rows_than_a_fit_can_use_are_refused_before_memory_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured_tables, "MAX_ROWS", 3)
    assert "more than 3 rows" in fault(written(tmp_path, GOOD))


def test_missing_files_and_folders_are_said(tmp_path: Path) -> None:
    assert "no such file" in fault(tmp_path / "none.csv")
    assert "a folder" in fault(tmp_path)


@pytest.mark.parametrize(
    ("times", "word"),
    [(np.zeros((2, 2)), "shape (2, 2)"), (np.array([b"1", b"2"]), "not numbers"), (None, "no column time_s")],
)
def test_an_hdf5_file_with_another_column_is_refused(tmp_path: Path, times: np.ndarray | None, word: str) -> None:
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        for name in ("cell", "conductance_us", "target_us"):
            file[name] = [1.0, 2.0]
        if times is not None:
            file["time_s"] = times
    assert word in fault(tmp_path / "bad.h5")
