"""Contact windows of a ground station, and the seconds on the air and passes that bytes need.

``passes.csv``:

    start,end            seconds, or UTC as 2030-01-01T10:00:00Z
    0,480
    5676,6100

Its first line is a header, then follows one pass a line, ascending, none within another. Other columns are left alone.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import lzma
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cim.files import read_text
from hil.pages.tables import Table
from hil.payload.facts_file import FactsFileError
from mapping.network.file import NO_KEYS
from mapping.program.conductance import ConductanceProgram
from mapping.program.records import to_record

MOST_BYTES, MOST_PASSES = 1 << 22, 100_000
LONGEST_S = 86400.0 * 40
PACKED = {"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 15, "lc": 3, "lp": 0}
UNPACK_BYTES = 2 * (1846 + (768 << 3)) + (1 << 15)  # probabilities of 16 bits for lc + lp = 3, and the dictionary
FRAMING = 1.05  # bytes sent for a byte of a file: packet headers, checksums, repeats (assumed)


@dataclass(frozen=True, slots=True)
class ContactWindow:
    """One pass, seconds from the start of the first one."""

    start_s: float
    end_s: float


def load_passes(path: str | Path) -> tuple[ContactWindow, ...]:
    """Read contact windows.

    Raises:
        FactsFileError: missing, or a line that cannot be, with its number.
    """
    origin = str(path)
    try:
        rows = csv.DictReader(io.StringIO(read_text(path, MOST_BYTES)), skipinitialspace=True)
        names = [name.strip() for name in rows.fieldnames or ()]
        rows.fieldnames = names
        lines = list(enumerate(itertools.islice(rows, MOST_PASSES + 1), 2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FactsFileError(origin, 0, "", f"cannot be read ({error})") from error
    for name in ("start", "end"):
        if name not in names:
            there = ", ".join(names)[:80] or "none, the file is empty"
            raise FactsFileError(origin, 1, name, f"no such column; there are {there}")
    if not 1 <= len(lines) <= MOST_PASSES:
        raise FactsFileError(origin, 1, "start", f"{len(lines)} passes, from 1 to {MOST_PASSES:,} are read")
    found: list[ContactWindow] = []
    first = None
    for number, row in lines:
        start, end = (_seconds(origin, number, name, row[name] or "") for name in ("start", "end"))
        first = start if first is None else first
        if not 0.0 < end - start <= LONGEST_S:
            raise FactsFileError(origin, number, "end", f"a pass of {end - start:g} s")
        if found and start - first < found[-1].end_s:
            raise FactsFileError(origin, number, "start", "begins before the pass above ends")
        found.append(ContactWindow(start - first, end - first))
    return tuple(found)


def _seconds(origin: str, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            raise FactsFileError(origin, line, name, f"{text!r:.40} is neither seconds nor a UTC time") from None
        value = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    if not math.isfinite(value) or abs(value) > 1e12:
        raise FactsFileError(origin, line, name, f"{text!r:.40} is not a time")
    return value


@dataclass(frozen=True, slots=True)
class TransferPlan:
    """Seconds on the air of one file, and the passes that it takes (None: more than there are)."""

    name: str
    bytes: int
    on_air_s: float
    passes: int | None


def plan_transfer(name: str, size: int, windows: Sequence[ContactWindow], bit_per_s: float) -> TransferPlan:
    """Plan a file of ``size`` bytes, sent with ``FRAMING`` at ``bit_per_s``."""
    on_air_s = 8 * FRAMING * size / bit_per_s
    contact = itertools.accumulate(window.end_s - window.start_s for window in windows)
    needed = next((count for count, seconds in enumerate(contact, 1) if seconds >= on_air_s), None)
    return TransferPlan(name, size, on_air_s, needed)


def packed_bytes(program: ConductanceProgram) -> int:
    """Bytes of a program as it goes up: description, levels, rules and tables, compressed (LZMA).

    Calibration images, keys of training images and the chip's description stay on the ground.
    """
    record, arrays = to_record(replace(program, trained_on=NO_KEYS, calibration_keys=NO_KEYS))
    plain = json.dumps(record, separators=(",", ":")).encode()
    plain += b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
    return len(lzma.compress(plain, format=lzma.FORMAT_RAW, filters=[PACKED]))


def passes_table(plans: Sequence[TransferPlan]) -> Table:
    """A row for each file."""
    rows = tuple(
        (plan.name, f"{plan.bytes:,}", f"{plan.on_air_s:.2f} s", str(plan.passes or "more than there are"))
        for plan in plans
    )
    return Table("Passes", ("file", "bytes", "on air", "passes"), rows)


def passes_json(plans: Sequence[TransferPlan]) -> dict[str, object]:
    """One versioned object."""
    return {"format": "hil.passes/3.0", "files": [asdict(plan) for plan in plans]}
