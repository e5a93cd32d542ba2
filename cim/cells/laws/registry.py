"""Shapes of cell errors by name: built in, of packages with the entry point ``hil.cell_laws``, and of single files.

A file is named by the environment, ``HIL_CELL_LAWS=my_law.py:NAME`` (several with commas): its code then runs in every
command that fits, reads or draws laws. No other setting loads a file; a calibration record in particular never does.
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
    """All known shapes; a fit tries them in this order.

    Raises:
        CimUsageError: a shape cannot be loaded, or two shapes have one name.
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
    """Cell laws of the files that HIL_CELL_LAWS names, each with its FILE.py:NAME."""
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
    """The shape of that name; ``ValueError`` lists the known names where it is unknown."""
    for tail in tails():
        if tail.name == name:
            return tail
    known = ", ".join(tail.name for tail in tails())
    raise ValueError(f"no cell law {name!r} is installed or named by {FILES}; there are {known}")
