"""Contacts of word lines and bit lines, from a bench file or a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cim.chip.field_checks import count, text
from cim.chip.spec import ChipSpec
from cim.files import read_text
from hil.server.bench.faults import BenchFileError
from hil.server.bench.roles import Contact, Crossing
from hil.server.bench.toml_tables import CheckedFile

_MOST_BYTES = 1 << 22  # of a table


@dataclass(frozen=True, slots=True)
class Wiring:
    """Contacts of every word line and bit line of a macro, in their order."""

    rows: tuple[Contact, ...]
    columns: tuple[Contact, ...]
    rows_at_once: int
    columns_at_once: int

    def crossings(
        self, macro: int, row: int | None, columns: Sequence[int], at_once: int | None = None
    ) -> Iterator[tuple[Crossing, slice]]:
        """Runs of bit lines that one order can reach, and where in ``columns`` they stand; ``row`` None: all rows."""
        at_once = at_once or self.columns_at_once
        rows = () if row is None else (self.rows[row],)
        contacts = [self.columns[c] for c in columns]
        start = 0
        for end in range(1, len(contacts) + 1):
            if end - start == at_once or end == len(contacts) or not _next_to(*contacts[end - 1 : end + 1]):
                yield Crossing(macro, rows, tuple(contacts[start:end])), slice(start, end)
                start = end


def _next_to(one: Contact, other: Contact) -> bool:
    return isinstance(one, int) and isinstance(other, int) and other == one + 1


def wiring_of(file: CheckedFile, data: Any, chip: ChipSpec, folder: Path) -> Wiring:
    macro = chip.macro
    checks = {
        "rows_at_once": count(1, macro.rows), "columns_at_once": count(1, macro.columns),
        "rows": lambda value: _contacts(value, macro.rows), "columns": lambda value: _contacts(value, macro.columns),
        "table": text,
    }  # fmt: skip
    values = file.table("wiring", data, checks, {"rows": None, "columns": None, "table": None})
    if values["table"] is not None:
        if values["rows"] or values["columns"]:
            file.fail("wiring.table", "stands beside rows or columns; one of the two says where the lines are")
        rows, columns = _table(folder / values["table"], macro.rows, macro.columns)
    else:
        rows = values["rows"] or tuple(range(macro.rows))
        columns = values["columns"] or tuple(range(macro.columns))
    return Wiring(rows, columns, values["rows_at_once"], values["columns_at_once"])


def _contacts(value: Any, lines: int) -> tuple[Contact, ...]:
    if isinstance(value, dict) and set(value) == {"first"}:
        first = count(0, 1 << 20)(value["first"])
        return tuple(range(first, first + lines))
    if not isinstance(value, list) or len(value) != lines:
        what = f"a list of {len(value)}" if isinstance(value, list) else f"{value!r:.60}"
        raise ValueError(f"{what}; the chip has {lines} such lines: a list of {lines} contacts, or {{ first = 0 }}")
    if any(isinstance(c, bool) or not isinstance(c, int | str) for c in value) or len(set(value)) < lines:
        raise ValueError("contacts are numbers or texts, each once")
    return tuple(value)


def _table(path: Path, rows: int, columns: int) -> tuple[tuple[Contact, ...], tuple[Contact, ...]]:
    """Contacts from a CSV file with a head ``line,number,contact``."""
    found: dict[str, dict[int, Contact]] = {"row": {}, "column": {}}
    for at, entry in enumerate(_csv(path, ("line", "number", "contact")), 2):
        kind, number_text, contact = entry["line"], entry["number"] or "", entry["contact"] or ""
        limit = {"row": rows, "column": columns}.get(kind)
        if limit is None:
            raise BenchFileError(str(path), at, "line", f"{kind!r:.40} is neither row nor column")
        if not number_text.isdecimal() or int(number_text) >= limit or int(number_text) in found[kind]:
            why = f"{number_text!r:.40} is not a {kind} from 0 to {limit - 1} that has no contact yet"
            raise BenchFileError(str(path), at, "number", why)
        found[kind][int(number_text)] = int(contact) if contact.isdecimal() else contact
    for kind, limit in (("row", rows), ("column", columns)):
        if missing := next((n for n in range(limit) if n not in found[kind]), None):
            raise BenchFileError(str(path), 1, kind, f"{missing} has no contact", f"{kind},{missing},CONTACT")
    return tuple(found["row"][n] for n in range(rows)), tuple(found["column"][n] for n in range(columns))


def _csv(path: Path, head: tuple[str, ...]) -> list[dict[str, str]]:
    """Lines of a CSV file with such a head."""
    try:
        lines = csv.DictReader(io.StringIO(read_text(path, _MOST_BYTES)))
        if lines.fieldnames is None or set(lines.fieldnames) != set(head):
            raise BenchFileError(str(path), 1, "head", f"is {lines.fieldnames}", ",".join(head))
        return list(lines)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BenchFileError(str(path), 1, "", f"cannot be read ({error})") from error
