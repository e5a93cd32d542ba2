"""A lab's own table of cell readings: one row a reading, in CSV, TSV (each may end in .gz) or HDF5.

The first line names the columns, with their units; an HDF5 file has one data set a column, at the
root or in a group ``cells``. Each name of ``hil.device_fit.table_columns.COLUMNS`` is read, others are noted.
Needed are ``cell``, ``time_s``, one of ``conductance_us``, ``conductance_s`` and
``resistance_ohm``, and one of ``target_us`` and ``initial_us``. Counts, sizes, numbers, ranges and
units are checked before they are believed; an error says file, row, column, value and what to do.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.device_fit.table_columns import COLUMNS, READING, TARGET, hdf5_columns, row_of, text_columns
from hil.errors import FileError

Floats = NDArray[np.float64]


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

        def of(values: Any) -> Any:
            return None if values is None else values[kept]

        return CellTable(
            self.name,
            self.cell[kept],
            self.time_s[kept],
            self.conductance_us[kept],
            self.target_us[kept],
            self.target_is_initial,
            of(self.nominal_s),
            of(self.pulses),
            of(self.reached),
            self.notes,
            self.step,
        )


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
    """Refuse what is not finite, out of range, or not whole; ``first`` is the line of row 0 (0: count from 0)."""
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
    if name == "conductance_us" and middle < 1e-2:
        raise FileError(
            f"half of all readings are below {middle:.2g} µS",
            where=str(path),
            likely="they are in siemens",
            hint="call the column conductance_s",
        )
    if name == "conductance_s" and middle > 1e-2:
        raise FileError(
            f"half of all readings are above {middle:.2g} S",
            where=str(path),
            likely="they are in µS",
            hint="call the column conductance_us",
        )
    if name == "resistance_ohm" and middle < 50.0:
        raise FileError(
            f"half of all readings are below {middle:.3g} Ω",
            where=str(path),
            likely="they are in kΩ or MΩ",
            hint="write the resistance in Ω",
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
