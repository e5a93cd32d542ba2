"""All operations in one table: ours, and those of packages (entry point ``hil.operators``)."""

from __future__ import annotations

from functools import cache

from mapping.network.operations import codes, elementwise, moves, products, statistics, windows
from mapping.operators.family import NamedOperation
from mapping.operators.registry import installed_operations


@cache
def operations() -> tuple[NamedOperation, ...]:
    ours = (family.OPERATIONS for family in (codes, elementwise, moves, products, statistics, windows))
    return (*(operation for family in ours for operation in family), *installed_operations())
