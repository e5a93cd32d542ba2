"""Two accounts side by side: rows of their tables that differ, and what forbids a comparison."""

from __future__ import annotations

import re

from hil.pages.account import Account
from hil.pages.tables import Table

NOTHING = "—"
NUMBER = re.compile(r"([−+]?[\d,]+(?:\.\d+)?) ?([^\s\d]*)")  # a whole cell: a number and its unit


def side_by_side(names: tuple[str, str], one: Account, other: Account) -> tuple[Table, ...]:
    """One table for each that differs between two accounts; a row that only one of them has is beside a dash."""
    first, second = ({_title(table): _rows(table) for table in account.tables} for account in (one, other))
    found = []
    for title in dict.fromkeys((*first, *second)):
        a, b = first.get(title, {}), second.get(title, {})
        pairs = [(label, a.get(label, NOTHING), b.get(label, NOTHING)) for label in dict.fromkeys((*a, *b))]
        rows = tuple((*row, difference(*row[1:])) for row in pairs if row[1] != row[2])
        same = len(pairs) - len(rows)
        note = f"{NOTHING}: only one of them has it. " if any(NOTHING in row[1:3] for row in rows) else ""
        if rows:
            found.append(Table(title, ("", *names, "difference"), rows, f"{note}Rows that are the same: {same}."))
    return tuple(found)


def warnings(one: Account, other: Account) -> tuple[str, ...]:
    """Why numbers of the two must not be compared as they stand: "age: 1 h beside 30 d, …"."""
    pairs = zip(one.basis, other.basis, strict=True)
    return tuple(f"{label}: {a} beside {b}, {apart}" for (label, a, apart), (_, b, _) in pairs if a != b)


def difference(one: str, other: str) -> str:
    """Difference of two cells that are numbers of one unit, with sign and unit; else "differs"."""
    if NOTHING in (one, other):
        return NOTHING
    a, b = NUMBER.fullmatch(one), NUMBER.fullmatch(other)
    if a is None or b is None or a[2] != b[2]:
        return "differs"
    before, after = (float(found[1].replace(",", "").replace("−", "-")) for found in (a, b))
    digits = max(len(found[1].partition(".")[2]) for found in (a, b))
    return f"{after - before:+,.{digits}f} {a[2].replace('%', 'points')}".replace("-", "−").strip()


def _title(table: Table) -> str:
    return f"{table.title}: {table.compared}" if table.compared else table.title


def _rows(table: Table) -> dict[str, str]:
    """Values of the compared column of a table, by the first cell of each row."""
    at = table.header.index(table.compared) if table.compared in table.header[1:] else 1
    return {row[0]: row[at] for row in reversed(table.rows)}
