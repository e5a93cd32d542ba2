"""A lab's own table of cell readings: one row a reading, in CSV, TSV (each may end in .gz) or HDF5.

The first line names the columns, with their units; an HDF5 file has one data set a column, at the
root or in a group ``cells``. Each name of ``hil.device_fit.measured_tables.COLUMNS`` is read, others are noted.
Needed are ``cell``, ``time_s``, one of ``conductance_us``, ``conductance_s`` and
``resistance_ohm``, and one of ``target_us`` and ``initial_us``. Counts, sizes, numbers, ranges and
units are checked before they are believed; an error says file, row, column, value and what to do.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from cim.fit.aged_readings import GAP, Flags, Floats, Readings
from cim.hdf5_file import open_hdf5
from cim.record.calibration import CellState
from hil.errors import FileError, UsageError

MAX_ROWS = 10_000_000
MAX_TEXT = 2 << 30  # characters of a text file, unpacked
MAX_LINE = 4096
MAX_COLUMNS = 256
LINES = 1 << 16  # parsed at a time


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
# Where half of all readings lie that are in another unit than their column says.
UNITS = {
    "conductance_us": ("below", 1e-2, "µS", "siemens", "call the column conductance_s"),
    "conductance_s": ("above", 1e-2, "S", "µS", "call the column conductance_us"),
    "resistance_ohm": ("below", 50.0, "Ω", "kΩ or MΩ", "write the resistance in Ω"),
}
READING = tuple(UNITS)
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
    """Known columns, the names of ignored columns, and the line number of the first row."""
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
    """Lines of a table in batches; only the last line may be empty."""
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
    """Numbers of some lines, (lines, used columns); on an error, each value is parsed alone to find the wrong one."""
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


@dataclass(frozen=True, slots=True)
class CellTable:
    """Readings of cells over time, one row a reading; all arrays (n,).

    ``target_us`` is constant for a cell. With ``target_is_initial`` it is the cell's first reading,
    so that the error of the write is not in these data. ``nominal_s``, ``pulses`` and ``reached``
    are None where the table has none. ``notes`` says what was assumed or left out.
    """

    name: str
    cell: NDArray[np.int64]
    time_s: Floats
    conductance_us: Floats
    target_us: Floats
    target_is_initial: bool
    nominal_s: Floats | None = None
    pulses: NDArray[np.int64] | None = None
    reached: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()
    step: float = 0.0  # readings are whole multiples of this; 0: they are fine enough

    def __len__(self) -> int:
        return len(self.cell)

    def part(self, kept: NDArray[np.bool_]) -> CellTable:
        """The rows where ``kept``."""

        of: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        of = {name: part[kept] for name, part in of.items() if isinstance(part, np.ndarray)}
        return replace(self, **of)


def read_table(path: str | Path) -> CellTable:
    """Read and check one table.

    Raises:
        FileError: missing, broken, too large, or not what its columns say (exit code 7).
    """
    path = Path(path)
    if path.is_dir():
        raise FileError("a folder, not a table", where=str(path))
    if not path.is_file():
        raise FileError("no such file", where=str(path))
    try:
        if path.suffix.lower() in (".h5", ".hdf5"):
            columns, left, first = *hdf5_columns(path), 0
        else:
            columns, left, first = text_columns(path)
    except MemoryError as error:
        raise FileError("not enough memory for this table", where=str(path)) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileError(f"broken gzip data: {error}", where=str(path), likely="an incomplete download") from error
    except UnicodeDecodeError as error:
        raise FileError(f"no UTF-8 text: {error}", where=str(path), hint="save it as CSV in UTF-8") from error
    except OSError as error:
        raise FileError(f"cannot be read: {error}", where=str(path)) from error
    for name, values in columns.items():
        _check_values(path, name, values, first)
    return _table(path, columns, left, first)


# --- meaning ----------------------------------------------------------------------------------


def _table(path: Path, columns: dict[str, Floats], left: list[str], first: int) -> CellTable:
    reading = next(n for n in READING if n in columns)
    values = columns[reading]
    _check_unit(path, reading, values)
    if reading == "conductance_us":
        conductance = values
    elif reading == "conductance_s":
        conductance = values * 1e6
    else:
        conductance = 1e6 / values
    initial = "target_us" not in columns
    target = columns["initial_us" if initial else "target_us"]
    high_reading, high_target = (float(np.quantile(np.abs(v), 0.99)) for v in (conductance, target))
    if high_target and high_reading and not 1e-3 < high_reading / high_target < 1e3:
        raise FileError(
            f"readings reach {high_reading:g} µS, {TARGET[initial]} reaches {high_target:g} µS",
            where=str(path),
            likely=f"{reading} or {TARGET[initial]} is in another unit than its name says",
        )
    cell = columns["cell"].astype(np.int64)
    _check_constant(path, cell, target, TARGET[initial], first)
    notes = [f"columns left alone: {', '.join(left)}"] if left else []
    if "read_v" in columns and len(seen := np.unique(columns["read_v"])) > 1:
        notes.append(f"read at {len(seen)} voltages, {seen[0]:g} to {seen[-1]:g} V, taken as one")
    return CellTable(
        path.name,
        cell,
        columns["time_s"],
        conductance,
        target,
        initial,
        columns.get("nominal_s"),
        columns["pulses"].astype(np.int64) if "pulses" in columns else None,
        columns["reached"] == 1 if "reached" in columns else None,
        tuple(notes),
    )


def _check_values(path: Path, name: str, values: Floats, first: int) -> None:
    """Refuse values not finite, out of range, or not whole; ``first`` is the line of row 0 (0: count from 0)."""
    column = COLUMNS[name]
    bad = ~(np.isfinite(values) & (values >= column.low) & (values <= column.high))
    what = f"not from {column.low:g} to {column.high:g}"
    if column.whole and not bad.any():
        bad, what = values != np.round(values), "not a whole number"
    if bad.any():
        row = int(bad.argmax())
        value = values[row]
        if not np.isfinite(value):
            what, hint = "not a number", "leave out readings that failed"
        elif name == "time_s" and value < 0:
            what, hint = "before programming", "count from the end of programming"
        else:
            hint = column.words
        more = f" ({int(bad.sum())} such rows)" if bad.sum() > 1 else ""
        raise FileError(f"{name} is {value:g}, {what}{more}", where=row_of(path, row, first, name), hint=hint)


def _check_unit(path: Path, name: str, values: Floats) -> None:
    """Refuse readings whose size is that of another unit."""
    middle = float(np.median(np.abs(values)))
    side, limit, unit, likely, hint = UNITS[name]
    if middle < limit if side == "below" else middle > limit:
        raise FileError(
            f"half of all readings are {side} {middle:.3g} {unit}",
            where=str(path),
            likely=f"they are in {likely}",
            hint=hint,
        )


def _check_constant(path: Path, cell: NDArray[np.int64], target: Floats, name: str, first: int) -> None:
    order = np.argsort(cell, kind="stable")
    same = cell[order][1:] == cell[order][:-1]
    moved = same & (np.abs(np.diff(target[order])) > 1e-6 * np.maximum(np.abs(target[order][1:]), 1.0))
    if moved.any():
        a, b = (int(order[int(moved.argmax()) + k]) for k in (0, 1))
        raise FileError(
            f"cell {cell[a]} has {name} {target[a]:g} and {target[b]:g}",
            where=row_of(path, b, first, name),
            hint="a cell that was programmed again needs another cell number",
        )


# --- readings by age ---

MAX_AGES = 64
MAX_READINGS = 100_000_000  # ages times cells
JUST_WRITTEN_S = 1e-3  # age given to readings at time 0
ODD, QUARTER = "odd", "quarter"


def by_age(table: CellTable) -> Readings:
    """Rows sorted into ages and cells; an age is the median time of its readings.

    Readings of one nominal time are one age; without nominal times, readings whose times have no
    gap of more than a factor 1.4 between them. Readings at time 0 of a table whose targets are
    first readings are those targets, and no age.

    Raises:
        FileError: no readings after programming, too many ages, or too many readings.
    """
    zero = (table.time_s if table.nominal_s is None else table.nominal_s) <= 0.0
    kept = ~zero if table.target_is_initial else np.ones(len(table), np.bool_)
    rows = table.part(kept)
    if not len(rows):
        raise FileError("no reading after time 0", where=table.name, hint="relaxation needs a later reading")
    group = _groups(rows)
    cells, at = np.unique(rows.cell, return_inverse=True)
    ages = int(group.max()) + 1
    if ages > MAX_AGES:
        raise FileError(
            f"{ages} different times, over {MAX_AGES}",
            where=table.name,
            hint="add a column nominal_s with the time that was planned",
        )
    if ages * len(cells) > MAX_READINGS:
        raise FileError(f"{ages} ages of {len(cells):,} cells, over {MAX_READINGS:,} in all", where=table.name)
    place = group * len(cells) + at
    counts = np.bincount(place, minlength=ages * len(cells))
    sums = np.bincount(place, rows.conductance_us, minlength=ages * len(cells))
    readings = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).reshape(ages, -1)
    times = np.array([float(np.median(rows.time_s[group == a])) for a in range(ages)])
    times = np.maximum(times, JUST_WRITTEN_S)
    order = np.argsort(times, kind="stable")
    if np.any(np.diff(times[order]) <= 0):
        raise FileError("two nominal times with the same times", where=table.name)
    first = np.unique(at, return_index=True)[1]
    pairs, pair_targets = _pairs(place, rows.conductance_us, rows.target_us)
    return Readings(
        cells,
        rows.target_us[first],
        times[order],
        readings[order],
        counts.reshape(ages, -1)[order],
        pairs,
        pair_targets,
        np.full(len(cells), CellState.GOOD, np.int8) if rows.reached is None else _states(rows.reached[first]),
        None if rows.pulses is None else rows.pulses[first],
        rows.step,
    )


def _states(reached: NDArray[np.bool_]) -> NDArray[np.int8]:
    return np.where(reached, CellState.GOOD, CellState.NOT_REACHED).astype(np.int8)


def _groups(rows: CellTable) -> NDArray[np.intp]:
    """Number of the age of each row."""
    if rows.nominal_s is not None:
        return np.asarray(np.unique(rows.nominal_s, return_inverse=True)[1], np.intp)
    log = np.log(np.maximum(rows.time_s, JUST_WRITTEN_S))
    order = np.argsort(log, kind="stable")
    new = np.diff(log[order], prepend=log[order][0]) > np.log(GAP)
    group = np.empty(len(log), np.intp)
    group[order] = np.cumsum(new)
    return group


def _pairs(place: NDArray[np.intp], readings: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """The first two readings of each cell and age that was read more than once."""
    order = np.argsort(place, kind="stable")
    sorted_place = place[order]
    start = np.flatnonzero(np.diff(sorted_place, prepend=-1))
    twice = start[np.append(np.diff(start), len(place) - start[-1]) > 1]
    return np.stack([readings[order[twice]], readings[order[twice + 1]]]), targets[order[twice]]


def split(cells: NDArray[np.int64], held_out: str, block: int = 1) -> Flags:
    """Which cells test: odd numbers, or a quarter of the blocks of ``block`` neighbouring numbers.

    The quarter is chosen by a hash of the block's number (the finaliser of SplitMix64), so that no
    pattern of the numbering, such as level = cell modulo 8, puts all cells of a level on one side.
    """
    if held_out == ODD:
        return np.asarray(cells % 2 == 1)
    if held_out != QUARTER:
        raise UsageError(f"hil chip fit --hold-out {held_out}", hint=f"one of {ODD}, {QUARTER}")
    x = (cells // block).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((x ^ (x >> np.uint64(31))) % np.uint64(4) == 3)
