"""All operations in one table: ours, and those of packages (entry point ``hil.operators``)."""

from __future__ import annotations

from functools import cache

from mapping.network.operations import elementwise, statistics
from mapping.operators.family import NamedOperation
from mapping.operators.registry import installed_operations


@cache
def operations() -> tuple[NamedOperation, ...]:
    return (*elementwise.OPERATIONS, *statistics.OPERATIONS, *installed_operations())
