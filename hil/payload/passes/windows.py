"""``passes.csv``: contact windows of a ground station.

    start,end            seconds, or UTC as 2030-01-01T10:00:00Z
    0,480
    5676,6100

A header line, then one pass a line, ascending, none within another. Other columns are left alone.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cim.files import read_text
from hil.payload.facts_file import FactsFileError

MOST_BYTES, MOST_PASSES = 1 << 22, 100_000
LONGEST_S = 86400.0 * 40


@dataclass(frozen=True, slots=True)
class ContactWindow:
    """One pass, seconds from the start of the first one."""

    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


def load_passes(path: str | Path) -> tuple[ContactWindow, ...]:
    """Read contact windows.

    Raises:
        FactsFileError: missing, or a line that cannot be, with its number.
    """
    origin = str(path)
    try:
        rows = list(csv.reader(io.StringIO(read_text(path, MOST_BYTES))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FactsFileError(origin, 0, "", f"cannot be read ({error})") from error
    if not rows:
        raise FactsFileError(origin, 1, "start", "the file is empty; its first line names the columns start and end")
    names = [name.strip() for name in rows[0]]
    for name in ("start", "end"):
        if name not in names:
            raise FactsFileError(origin, 1, name, f"no such column; there are {', '.join(names)[:80]}")
    if len(rows) > MOST_PASSES:
        raise FactsFileError(origin, len(rows), "start", f"more than {MOST_PASSES:,} passes")
    found: list[ContactWindow] = []
    first = None
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        start, end = (_seconds(origin, number, name, row, names.index(name)) for name in ("start", "end"))
        first = start if first is None else first
        if not 0.0 < end - start <= LONGEST_S:
            raise FactsFileError(origin, number, "end", f"a pass of {end - start:g} s")
        if found and start - first < found[-1].end_s:
            raise FactsFileError(origin, number, "start", "begins before the pass above ends")
        found.append(ContactWindow(start - first, end - first))
    if not found:
        raise FactsFileError(origin, len(rows), "start", "no pass at all")
    return tuple(found)


def _seconds(origin: str, line: int, name: str, row: list[str], column: int) -> float:
    text = row[column].strip() if column < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise FactsFileError(origin, line, name, f"{text!r:.40} is neither seconds nor a UTC time") from None
        value = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    if not math.isfinite(value) or abs(value) > 1e12:
        raise FactsFileError(origin, line, name, f"{text!r:.40} is not a time")
    return value
