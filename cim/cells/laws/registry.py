"""Shapes by name: ours, those of installed packages under the entry point ``hil.cell_laws``, and those of single files.

A file is named by the environment, ``HIL_CELL_LAWS=my_law.py:NAME`` (several with commas): its code then runs in every
command that fits, reads or draws laws. Nothing else names one, least of all a record.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import cache

from cim.cells.laws.tail import Tail
from cim.errors import CimUsageError
from cim.plug_ins import installed

GROUP = "hil.cell_laws"
FILES = "HIL_CELL_LAWS"
OURS = {
    "student": "cim.cells.laws.student:STUDENT",
    "mixture": "cim.cells.laws.mixture:MIXTURE",
    "student mixture": "cim.cells.laws.student_mixture:STUDENT_MIXTURE",
}


@cache
def tails() -> tuple[Tail, ...]:
    """All shapes, which a fit tries in this order.

    Raises:
        CimUsageError: one that cannot be loaded, or two of a name.
    """
    found: dict[str, Tail] = {}
    places: dict[str, str] = {}
    for place, tail in (*_installed(), *_of_files()):
        if not isinstance(tail, Tail):
            raise CimUsageError(f"{place} is not a cell law")
        if found.setdefault(tail.name, tail) is not tail:
            raise CimUsageError(f"two cell laws are named {tail.name}: {places[tail.name]} and {place}; take one out")
        places[tail.name] = place
    return tuple(found.values())


def _installed() -> Iterator[tuple[str, object]]:
    """Cell laws of this package and of installed ones, each with the module and name that it was loaded from."""
    for entry, law in installed(GROUP, OURS, lambda _, found: isinstance(found, Tail)):
        yield entry.value, law


def _of_files() -> Iterator[tuple[str, object]]:
    """Those that the environment names, each with its place."""
    for place in filter(None, os.environ.get(FILES, "").split(",")):
        path, _, name = place.rpartition(":")
        spec = importlib.util.spec_from_file_location("cell_law", path) if path else None
        try:
            if spec is None or spec.loader is None:
                raise ValueError("write FILE.py:NAME")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            yield place, getattr(module, name)
        except (Exception, SystemExit) as error:  # code of others
            raise CimUsageError(f"cell law {place} of {FILES} cannot be loaded: {error}") from error


def tail_named(name: str) -> Tail:
    """Raises ``ValueError`` for a name that nothing installed has."""
    for tail in tails():
        if tail.name == name:
            return tail
    known = ", ".join(tail.name for tail in tails())
    raise ValueError(f"no cell law {name!r} is installed or named by {FILES}; there are {known}")
