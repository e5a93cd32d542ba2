"""Contact windows of a ground station, and the time on the air and passes that files take.

``passes.csv``:

    start,end            seconds, or UTC as 2030-01-01T10:00:00Z
    0,480
    5676,6100

Its first line is a header, then follows one pass a line, ascending, none within another. Other columns are left alone.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cim.files import read_text
from hil.pages.tables import Table
from hil.payload.facts_file import FactsFileError
from hil.payload.settings import FRAME_BYTES, LinkFigures

MOST_BYTES, MOST_PASSES = 1 << 22, 100_000
LONGEST_S = 86400.0 * 40
SEGMENT = 512  # bytes of a file in a packet
PDU_BYTES = 12  # header, offset and checksum of a packet of file data
LEAST_WAIT_S = 0.2


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


@dataclass(frozen=True, slots=True)
class TransferPlan:
    """Needs of one file: seconds on the air of its data and of the answers that it waits for, and passes."""

    name: str
    bytes: int
    packets: int
    on_air_s: float
    waits_s: float
    passes: int | None  # None: more than there are


def plan_transfer(
    name: str, size: int, windows: Sequence[ContactWindow], figures: LinkFigures, *, up: bool = True
) -> TransferPlan:
    """Plan a file of CFDP class 2.

    Packets are sent 1 / (1 − p) times on average; every round of asking for what is missing waits for a round trip and
    a time-out, and as many rounds are needed as it takes until less than half a packet is missing.
    """
    packets = max(1, -(-size // SEGMENT)) + 2
    chance = figures.lost_chance(SEGMENT + PDU_BYTES)
    rate = figures.up_bit_per_s if up else figures.down_bit_per_s
    on_air_s = 8 * (size + packets * (PDU_BYTES + FRAME_BYTES)) / rate / (1.0 - chance)
    slowest_s = 8 * (SEGMENT + PDU_BYTES + FRAME_BYTES) / min(figures.up_bit_per_s, figures.down_bit_per_s)
    timeout_s = max(LEAST_WAIT_S, 1.5 * figures.round_trip_s + 2 * slowest_s)
    rounds = 1 if chance == 0 else max(1, math.ceil(math.log(2 * packets) / -math.log(chance)))
    waits_s = figures.round_trip_s + (rounds - 1) * (figures.round_trip_s + timeout_s)
    left, needed = on_air_s + waits_s, None
    for count, window in enumerate(windows, 1):
        left -= max(0.0, window.seconds - figures.round_trip_s / 2)
        if left <= 0:
            needed = count
            break
    return TransferPlan(name, size, packets, on_air_s, waits_s, needed)


def passes_table(plans: Sequence[Mapping[str, Any]]) -> Table:
    """Plans as ``dataclasses.asdict`` gives them, a row for each file."""
    rows = tuple(
        (
            plan["name"],
            f"{plan['bytes']:,}",
            f"{plan['packets']:,}",
            f"{plan['on_air_s']:.2f} s",
            f"{plan['waits_s']:.2f} s",
            "more than there are" if plan["passes"] is None else f"{plan['passes']}",
        )
        for plan in plans
    )
    return Table("Passes", ("file", "bytes", "packets", "on air", "waiting", "passes"), rows)
