"""Open RRAM measurements by name: found in a folder, checked, and given as tables.

``data`` names the folder of a set, a folder above it, or the data folder itself; without it the
environment variable ``HIL_DATA`` does. Nothing is downloaded. Where each set is from:

* levy-tech-b, -c: A. Levy, RRAM-Relaxation-Master-Model (GitHub ``akashlevy``), MIT
* ember-1, ember-2: PBA (GitHub ``Anjiang-Wei``), two chips of one macro design, MIT
* bench: RRAM-Python (GitHub ``Anjiang-Wei/Anjiang-RRAM-Python``), source-meter bench, MIT
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, cast

import numpy as np
from numpy.typing import NDArray

from hil.datasets.image_set import ENVIRONMENT
from hil.device_fit.measured_tables import CellTable
from hil.errors import FileError, UsageError

MAX_ROWS = 2_000_000
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PublicSet:
    """Where a set lies, and how its cells are split between fit and test.

    ``held_out`` is ``odd`` (odd cell numbers test) or ``quarter``; cells are split in blocks of
    ``block`` neighbours, which share a word or a pair.
    """

    name: str
    words: str
    files: tuple[str, ...]
    folder: str
    held_out: str = "quarter"
    block: int = 1


SETS = {
    s.name: s
    for s in (
        PublicSet(
            "levy-tech-c",
            "relaxation of 16,292 cells over 10 ms to 1 day, 40 µS class",
            ("techC_relaxdata.min.tsv.gz",),
            "levy_rram_relaxation",
            "odd",
        ),
        PublicSet(
            "levy-tech-b",
            "relaxation over 10 ms to 3 h, 128 µS class, even addresses",
            ("techB_relaxdata_10k.min.tsv.gz",),
            "levy_rram_relaxation",
            block=2,
        ),
        PublicSet("ember-1", "retention of chip 1, levels of 64", ("retention.min.csv.gz",), "pba_ember", block=16),
        PublicSet("ember-2", "retention of chip 2, levels of 64", ("retention2.min.csv.gz",), "pba_ember", block=16),
        PublicSet(
            "bench",
            "bakes at 110 and 130 °C",
            ("prebake110.tsv.gz", "postbake110.tsv.gz", "prebake130.tsv.gz", "postbake130.tsv.gz"),
            "ni_rram_python",
        ),
    )
}


def find_set(name: str, data: str | Path | None = None) -> Path:
    """The folder that holds a set.

    Raises:
        UsageError: no set of that name, or no folder named.
        FileError: its files are nowhere below the folder.
    """
    if name not in SETS:
        raise UsageError(f"no public set {name!r}", hint=f"one of {', '.join(SETS)}")
    wanted, root = SETS[name], str(data or os.environ.get(ENVIRONMENT, ""))
    if not root:
        raise UsageError(f"where is {name}?", hint=f"set {ENVIRONMENT}")
    base = Path(root).expanduser()
    places = (base, base / wanted.folder, base / "device" / wanted.folder)
    for place in places:
        if all((place / f).is_file() for f in wanted.files):
            return place
    raise FileError(
        f"{name} is not there: no {wanted.files[0]}",
        where=", ".join(map(str, places)),
        hint=f"set {ENVIRONMENT} to the folder that holds it",
    )


def read_cells(name: str, data: str | Path | None = None) -> CellTable:
    """The relaxation or retention table of a set.

    Raises:
        UsageError: the set has none.
    """
    readers = {"levy-tech-c": _levy, "levy-tech-b": _levy, "ember-1": _ember, "ember-2": _ember}
    if name in SETS and name not in readers:
        raise UsageError(f"{name} has no readings of cells over time", hint=f"one of {', '.join(readers)}")
    folder = find_set(name, data)
    return readers[name](name, folder / SETS[name].files[0])


def read_bakes(data: str | Path | None = None) -> dict[int, tuple[Floats, Floats]]:
    """Bakes of the bench set: °C -> conductances of the same cells before and after, µS."""
    folder, bakes = find_set("bench", data), {}
    for degrees in (110, 130):
        before, after = (_columns(folder / f"{when}bake{degrees}.tsv.gz", "\t", 2) for when in ("pre", "post"))
        _, first, second = np.intersect1d(before[:, 0], after[:, 0], return_indices=True)
        bakes[degrees] = (1e6 / before[first, 1], 1e6 / after[second, 1])
    return bakes


# --- files ------------------------------------------------------------------------------------


def _levy(name: str, path: Path) -> CellTable:
    """Columns address, s, Ω, S, S at the first read, level, nominal s; no header."""
    rows = _columns(path, "\t", 7)
    notes = ["targets are first readings: the error of the write itself is not in this set"]
    if name == "levy-tech-b":
        rows = rows[rows[:, 0] % 2 == 0]
        notes.append("even addresses only: the odd cell of a pair behaves differently")
    return CellTable(
        name,
        rows[:, 0].astype(np.int64),
        rows[:, 1],
        rows[:, 3] * 1e6,
        rows[:, 4] * 1e6,
        True,
        rows[:, 6],
        notes=tuple(notes),
    )


def _ember(name: str, path: Path) -> CellTable:
    """Columns row, word address, s, level, level after writing, bit, window, nominal s; one header line."""
    rows = _columns(path, ",", 9, header=",addr,time,lvl,lvli,i,tmin,tmax,timept")
    words = np.unique(rows[:, 1], return_inverse=True)[1]
    return CellTable(
        name,
        words.astype(np.int64) * 16 + rows[:, 5].astype(np.int64),
        rows[:, 2],
        rows[:, 3],
        rows[:, 4],
        True,
        rows[:, 8],
        notes=(
            "levels of the chip's own 6-bit read-out, not siemens",
            "targets are levels read just after writing: the error of the write itself is not in this set",
        ),
        step=1.0,
    )


def _columns(path: Path, split: str, count: int, header: str = "") -> Floats:
    """Numbers of a gzip table, (rows, ``count``); checked for shape, size and holes."""
    with _errors(path), gzip.open(path, "rt", encoding="utf-8") as stream:
        text = cast("TextIO", stream)
        if header and (first := text.readline(4096).strip()) != header:
            raise FileError(f"columns {first[:80]!r}, not {header!r}", where=str(path))
        lines = iter(lambda: text.readline(4096), "")
        parts, left = [], MAX_ROWS + 1
        while batch := list(itertools.islice(lines, min(1 << 16, left))):
            parts.append(np.loadtxt(batch, delimiter=split, ndmin=2, comments=None))
            left -= len(batch)
    if not parts or any(p.shape[1] != count for p in parts):
        found = parts[0].shape[1] if parts else 0
        raise FileError(f"{found} columns, not {count}", where=str(path), likely="another version of the set")
    rows = np.concatenate(parts)
    if len(rows) > MAX_ROWS or not np.isfinite(rows).all():
        raise FileError(f"{len(rows):,} rows, or values that are not numbers", where=str(path))
    return rows


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Errors of reading a packed table, in words."""
    try:
        yield
    except (ValueError, EOFError, zlib.error, OSError) as error:
        raise FileError(f"cannot be read: {error}", where=str(path), likely="an incomplete download") from error
