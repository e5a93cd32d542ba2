"""Shapes by name: ours, and those of installed packages under the entry point ``hil.cell_laws``."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from cim.cells.laws.tail import Tail

GROUP = "hil.cell_laws"
OURS = {
    "student": "cim.cells.laws.student:STUDENT",
    "mixture": "cim.cells.laws.mixture:MIXTURE",
    "student mixture": "cim.cells.laws.student_mixture:STUDENT_MIXTURE",
}


@cache
def tails() -> tuple[Tail, ...]:
    """All shapes, which a fit tries in this order.

    Raises:
        ValueError: one that cannot be loaded, or two of a name.
    """
    found: dict[str, Tail] = {}
    for entry in (*(EntryPoint(name, value, GROUP) for name, value in OURS.items()), *entry_points(group=GROUP)):
        try:
            tail = entry.load()
        except Exception as error:  # code of others: whatever it raises, its name is said
            raise ValueError(f"cell law {entry.name} ({entry.value}) cannot be loaded: {error}") from error
        if not isinstance(tail, Tail):
            raise ValueError(f"{entry.value} is not a cell law")
        if found.setdefault(tail.name, tail) is not tail:
            raise ValueError(f"two cell laws are named {tail.name}: {entry.value} is one of them")
    return tuple(found.values())


def tail_named(name: str) -> Tail:
    """Raises ``ValueError`` for a name that nothing installed has."""
    for tail in tails():
        if tail.name == name:
            return tail
    known = ", ".join(tail.name for tail in tails())
    raise ValueError(f"no cell law {name!r} is installed; there are {known}")
