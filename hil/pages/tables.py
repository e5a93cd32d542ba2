"""Tables of words, and numbers as words: a true minus, a dash for nothing, times in the unit that reads best."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    compared: str = ""  # header of the column that two tables are compared by; "": the second


def labelled(title: str, *rows: tuple[str, ...]) -> Table:
    """Lines behind their labels: a table without a header."""
    return Table(title, ("",) * len(rows[0]), rows)


def without_empty(table: Table, reason: str) -> Table:
    """A table without columns that hold only dashes; its note names them, with the reason."""
    empty = [k for k in range(1, len(table.header)) if table.rows and all(row[k] in ("—", "") for row in table.rows)]
    if not empty:
        return table
    kept = [k for k in range(len(table.header)) if k not in empty]
    left_out = f"Left out: {', '.join(table.header[k] for k in empty)}; {reason}."
    return replace(
        table,
        header=tuple(table.header[k] for k in kept),
        rows=tuple(tuple(row[k] for k in kept) for row in table.rows),
        note=f"{table.note} {left_out}".strip(),
    )


def with_reason(table: Table, reason: str) -> Table:
    """A table with a note that says why some cells hold a dash, if some do."""
    if not any("—" in row[1:] for row in table.rows):
        return table
    return replace(table, note=f"{table.note} —: {reason}.".strip())


def markdown(table: Table) -> str:
    """A table in Markdown."""
    ruler = "| " + " | ".join("---" for _ in table.header) + " |"
    lines = [f"## {as_markdown(table.title)}", "", _line(table.header), ruler, *map(_line, table.rows)]
    return "\n".join([*lines, *(["", as_markdown(table.note)] if table.note else []), ""])


def as_markdown(text: str) -> str:
    """Text as Markdown shows it, on one line: foreign text cannot act as HTML, link or column."""
    one_line = " ".join(text.splitlines()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`|]|\](?=[(\[:]))", r"\\\1", one_line)


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(map(as_markdown, texts)) + " |"


def percent(share: float | None, digits: int = 2) -> str:
    return "—" if share is None else f"{_signed(100 * share, digits)} %"


def points(share: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{round(100 * share, 2) + 0.0:+.2f}".replace("-", "−")


def number(value: float | None, digits: int = 2) -> str:
    return "—" if value is None else _signed(value, digits)


def _signed(value: float, digits: int) -> str:
    """A signed number: a true minus sign, and no sign for zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def span(ends: tuple[float, float]) -> str:
    return f"{points(ends[0])} … {points(ends[1])}"


def duration(seconds: float) -> str:
    """3600 -> "1 h"; 90 -> "1.5 min"; 0.038 -> "38 ms"."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1e3 * seconds:.3g} ms" if 0 < seconds < 0.9995 else f"{seconds:.3g} s"
