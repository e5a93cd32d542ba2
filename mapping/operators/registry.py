"""Operators by the names of their kinds in files: ours, and those of packages (entry point ``hil.operators``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import TypeVar

from cim.plug_ins import installed
from mapping.errors import MappingUsageError
from mapping.operators.family import Family, NamedOperation
from mapping.operators.node import Node
from mapping.operators.step import Step

GROUP = "hil.operators"
OURS = {
    "products": "mapping.operators.products:OPERATORS",
    "affine": "mapping.operators.affine:OPERATORS",
    "activations": "mapping.operators.activations:OPERATORS",
    "pools": "mapping.operators.pools:OPERATORS",
    "joins": "mapping.operators.joins:OPERATORS",
    "moves": "mapping.operators.moves:OPERATORS",
    "padding": "mapping.operators.padding:OPERATORS",
    "resampling": "mapping.operators.resampling:OPERATORS",
    "norms": "mapping.operators.norms:OPERATORS",
}
Kind = TypeVar("Kind", type[Node], type[Step])


class OperatorError(MappingUsageError, ValueError):
    """Two installed operators of a name."""


@cache
def node_kinds() -> dict[str, type[Node]]:
    """All kinds of nodes, by name; raises ``OperatorError``."""
    return _by_name(kind for family in _families() for kind in family.nodes)


@cache
def step_kinds() -> dict[str, type[Step]]:
    """All kinds of integer steps that no array multiplies, by name; raises ``OperatorError``."""
    return _by_name(kind for family in _families() for kind in family.steps)


@cache
def installed_operations() -> tuple[NamedOperation, ...]:
    """Operations of networks that families name themselves, with their names in the formats of networks."""
    return tuple(operation for family in _families() for operation in family.operations)


def _families() -> Iterator[Family]:
    for _, family in installed(GROUP, OURS, lambda _, found: isinstance(found, Family)):
        yield family


def _by_name(kinds: Iterable[Kind]) -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for kind in kinds:
        if found.setdefault(kind.kind, kind) is not kind:
            place = f"{kind.__module__}.{kind.__name__}"
            raise OperatorError(f"two operators are of kind {kind.kind}: {place} is one of them")
    return found
