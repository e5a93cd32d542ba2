"""Two of a kind side by side, as runs or networks of a search: what differs first, and what forbids a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hil.pages.tables import Table

NOTHING = "—"


@dataclass(frozen=True, slots=True)
class Compared:
    """One line of what is compared: its words, and its number where a difference of two means something.

    ``apart``: what a difference here means for the other lines ("accuracies are of other images"); empty: nothing.
    """

    group: str
    label: str
    words: str
    value: float | None = None
    digits: int = 2
    unit: str = ""
    apart: str = ""


def side_by_side(names: tuple[str, str], one: Sequence[Compared], other: Sequence[Compared]) -> tuple[Table, ...]:
    """A table for each group, groups and lines that differ first; what only one of them has stands beside a dash."""
    first, second = ({(f.group, f.label): f for f in facts} for facts in (one, other))
    tables = []
    for group in dict.fromkeys(group for group, _ in (*first, *second)):
        keys = dict.fromkeys(key for key in (*first, *second) if key[0] == group)
        rows = [(label, _words(a), _words(b), difference(a, b)) for label, a, b in _both(keys, first, second)]
        rows.sort(key=lambda row: row[1] == row[2])
        note = f"{NOTHING}: only one of them has it." if any(NOTHING in row for row in rows) else ""
        tables.append(Table(group, ("", *names, "difference"), tuple(rows), note))
    return tuple(sorted(tables, key=lambda table: all(row[1] == row[2] for row in table.rows)))


def warnings(one: Sequence[Compared], other: Sequence[Compared]) -> tuple[str, ...]:
    """Why numbers of the two must not be compared as they stand: "age: 1 h beside 30 d, …"."""
    second = {(f.group, f.label): f for f in other}
    pairs = [(a, second[a.group, a.label]) for a in one if a.apart and (a.group, a.label) in second]
    return tuple(f"{a.label}: {a.words} beside {b.words}, {a.apart}" for a, b in pairs if a.words != b.words)


def difference(one: Compared | None, other: Compared | None) -> str:
    """Difference of two values of one line, with sign and unit; "differs" for unequal words, and empty for equal
    ones."""
    if one is None or other is None:
        return NOTHING
    if one.value is None or other.value is None:
        return "" if one.words == other.words else "differs"
    change = round(other.value - one.value, one.digits) + 0.0
    return f"{change:+,.{one.digits}f} {one.unit}".replace("-", "−").strip()


Facts = dict[tuple[str, str], Compared]


def _both(
    keys: dict[tuple[str, str], None], first: Facts, second: Facts
) -> list[tuple[str, Compared | None, Compared | None]]:
    return [(key[1], first.get(key), second.get(key)) for key in keys]


def _words(fact: Compared | None) -> str:
    return NOTHING if fact is None else fact.words
