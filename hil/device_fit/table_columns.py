"""The columns of a table file: names checked first, counts and sizes before memory is taken, then numbers."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from cim.hdf5_file import open_hdf5
from hil.errors import FileError

MAX_ROWS = 10_000_000
MAX_TEXT = 2 << 30  # characters of a text file, unpacked
MAX_LINE = 4096
MAX_COLUMNS = 256
LINES = 1 << 16  # parsed at a time

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Column:
    """A column that a table of measurements may have: its description with unit, its limits, whole numbers or not."""

    words: str
    low: float
    high: float
    whole: bool = False


COLUMNS = {
    "cell": Column("number of the cell", 0, 2**53, whole=True),
    "time_s": Column("time from programming to this reading, s", 0, 1e10),
    "conductance_us": Column("reading, µS", -1e3, 1e6),
    "conductance_s": Column("reading, S", -1e-3, 1.0),
    "resistance_ohm": Column("reading, Ω", 1e-3, 1e15),
    "target_us": Column("conductance that the cell was programmed to, µS", 0, 1e6),
    "initial_us": Column("reading just after programming, where no target is known, µS", -1e3, 1e6),
    "nominal_s": Column("time that was planned; readings of one nominal time are fitted together, s", 0, 1e10),
    "read_v": Column("read voltage, V", -10, 10),
    "pulses": Column("programming pulses that the cell took", 0, 1e9, whole=True),
    "reached": Column("1: the write reached its window, 0: it did not", 0, 1, whole=True),
}
READING = ("conductance_us", "conductance_s", "resistance_ohm")
TARGET = ("target_us", "initial_us")

# What people write, and what it should be called.
MEANT = {
    "conductance": "conductance_us, conductance_s",
    "g": "conductance_us, conductance_s",
    "g_us": "conductance_us",
    "resistance": "resistance_ohm",
    "r": "resistance_ohm",
    "r_ohm": "resistance_ohm",
    "time": "time_s",
    "t": "time_s",
    "t_s": "time_s",
    "target": "target_us",
    "initial": "initial_us",
    "addr": "cell",
    "address": "cell",
}


def _check_names(path: Path, names: list[str]) -> None:
    """Refuse columns that are missing, double, or named without a unit."""
    twice = sorted({n for n in names if names.count(n) > 1 and n in COLUMNS})
    if twice:
        raise FileError(f"column {twice[0]} is there twice", where=str(path))
    needed = (("cell",), ("time_s",), READING, TARGET)
    for wanted in needed:
        if not set(wanted) & set(names):
            near = [f"{n} (call it {MEANT[n.lower()]})" for n in names if n.lower() in MEANT]
            raise FileError(
                f"no column {' or '.join(wanted)}",
                where=str(path),
                likely=f"the columns are {', '.join(names[:12])}{' …' if len(names) > 12 else ''}",
                hint=f"rename {', '.join(near)}" if near else "docs/my-chip.md lists the columns",
            )
    readings = [n for n in READING if n in names]
    if len(readings) > 1:
        raise FileError(f"columns {' and '.join(readings)} say the same", where=str(path), hint="leave one of them out")


def row_of(path: Path, row: int, first: int, name: str) -> str:
    return f"{path}, {f'line {row + first}' if first else f'row {row}'}, column {name}"


# --- text -------------------------------------------------------------------------------------


def text_columns(path: Path) -> tuple[dict[str, Floats], list[str], int]:
    """Known columns, names left alone, and the line number of the first row."""
    with path.open("rb") as probe:
        packed = probe.read(2) == b"\x1f\x8b"
    with cast(
        "TextIO",
        gzip.open(path, "rt", encoding="utf-8-sig") if packed else path.open("r", encoding="utf-8-sig"),
    ) as stream:
        first, header = 2, _line(path, stream, 1)
        while header.startswith("#"):
            header = _line(path, stream, first)
            first += 1
        split = next((d for d in ("\t", ";", ",") if d in header), ",")
        names = [n.strip().strip('"').strip() for n in header.rstrip("\r\n").split(split)]
        if len(names) > MAX_COLUMNS:
            raise FileError(f"{len(names)} columns, over {MAX_COLUMNS}", where=str(path))
        if names and all(_is_number(n) for n in names):
            raise FileError(
                "no names of columns in the first line",
                where=str(path),
                hint="write them: cell,time_s,conductance_us,target_us",
            )
        _check_names(path, names)
        used = [k for k, n in enumerate(names) if n in COLUMNS]
        parts: list[Floats] = []
        rows = 0
        for lines in _batches(path, stream, first):
            parts.append(_parse(path, lines, split, names, used, first + rows))
            rows += len(lines)
    if not rows:
        raise FileError("no row below the names of the columns", where=str(path))
    whole = np.concatenate(parts)
    columns = {names[k]: np.ascontiguousarray(whole[:, i]) for i, k in enumerate(used)}
    return columns, [n for n in names if n not in COLUMNS], first


def _line(path: Path, stream: TextIO, number: int) -> str:
    line = stream.readline(MAX_LINE)
    if len(line) == MAX_LINE and not line.endswith("\n"):
        raise FileError(f"a line of more than {MAX_LINE} characters", where=f"{path}, line {number}")
    return line


def _batches(path: Path, stream: TextIO, first: int) -> Iterator[list[str]]:
    """Lines in parts; one empty line may end the file."""
    rows = size = 0
    lines: list[str] = []
    while line := _line(path, stream, first + rows):
        if not line.strip():
            if stream.readline(MAX_LINE).strip():
                raise FileError("an empty line", where=f"{path}, line {first + rows}", hint="remove it")
            break
        rows, size = rows + 1, size + len(line)
        if rows > MAX_ROWS or size > MAX_TEXT:
            raise FileError(
                f"more than {MAX_ROWS:,} rows or {MAX_TEXT >> 30} GiB of text",
                where=str(path),
                hint="fit a part of the cells",
            )
        lines.append(line)
        if len(lines) == LINES:
            yield lines
            lines = []
    if lines:
        yield lines


def _parse(path: Path, lines: list[str], split: str, names: list[str], used: list[int], number: int) -> Floats:
    """Numbers of some lines, (lines, used columns); the slow way finds what is wrong."""
    try:
        plain = [line.replace('"', "") for line in lines] if '"' in lines[0] else lines
        values = np.loadtxt(plain, delimiter=split, usecols=used, dtype=np.float64, comments=None, ndmin=2)
        if len(values) == len(lines) and all(line.count(split) == len(names) - 1 for line in lines):
            return np.asarray(values)
    except ValueError:
        pass
    for row, line in enumerate(lines):
        texts = line.rstrip("\r\n").split(split)
        if len(texts) != len(names):
            comma = split == "," and len(texts) > len(names)
            raise FileError(
                f"{len(texts)} values for {len(names)} columns",
                where=f"{path}, line {number + row}",
                hint="write a decimal point, not a comma" if comma else "",
            )
        for k in used:
            text = texts[k].strip().strip('"').strip()
            if not _is_number(text):
                hint = "write a decimal point, not a comma" if "," in text else "numbers only, without a unit"
                raise FileError(
                    f"{names[k]} is {text[:40]!r}, not a number",
                    where=row_of(path, row, number, names[k]),
                    hint="leave out readings that failed" if not text else hint,
                )
    raise FileError("lines that cannot be read as numbers", where=f"{path}, from line {number}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


# --- HDF5 -------------------------------------------------------------------------------------


def hdf5_columns(path: Path) -> tuple[dict[str, Floats], list[str]]:
    import h5py

    try:
        with open_hdf5(path, MAX_TEXT) as file:
            inside = file.get("cells", getclass=True, getlink=True) is h5py.HardLink
            group = file["cells"] if inside and isinstance(file["cells"], h5py.Group) else file
            names = [str(n) for n in group]
            if len(names) > MAX_COLUMNS:
                raise FileError(f"{len(names)} data sets, over {MAX_COLUMNS}", where=str(path))
            _check_names(path, names)
            used = [n for n in names if n in COLUMNS]
            for name in used:
                if group.get(name, getclass=True, getlink=True) is not h5py.HardLink:
                    raise FileError(f"{name} lies elsewhere", where=str(path), hint="copy it into this file")
            shapes: dict[str, Any] = {n: getattr(group[n], "shape", None) for n in used}
            count = shapes["cell"]
            for name, shape in shapes.items():
                if shape is None or len(shape) != 1 or shape != count:
                    raise FileError(
                        f"{name} has shape {shape}, cell {count}; each needs one value a reading", where=str(path)
                    )
                if group[name].dtype.kind not in "iufb":
                    raise FileError(f"{name} holds {group[name].dtype}, not numbers", where=str(path))
                if group[name].is_virtual or group[name].external:
                    raise FileError(f"{name} lies elsewhere", where=str(path), hint="copy it into this file")
            if not 1 <= count[0] <= MAX_ROWS:
                raise FileError(f"{count[0]:,} rows, not from 1 to {MAX_ROWS:,}", where=str(path))
            columns = {n: np.asarray(group[n][()], np.float64) for n in used}
            return columns, [n for n in names if n not in COLUMNS]
    except (KeyError, RuntimeError, ValueError, AttributeError, TypeError) as error:
        raise FileError(f"not a readable HDF5 file: {error}", where=str(path)) from error
