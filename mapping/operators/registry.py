"""Operators by the names of their kinds in files."""

from __future__ import annotations

from functools import cache

from mapping.operators import activations, affine, joins, moves, norms, padding, pools, products, resampling
from mapping.operators.node import Node
from mapping.operators.step import Step

FAMILIES = (products, affine, activations, pools, joins, moves, padding, resampling, norms)


@cache
def node_kinds() -> dict[str, type[Node]]:
    """All kinds of nodes, by name."""
    return {kind.kind: kind for family in FAMILIES for kind in family.NODES}


@cache
def step_kinds() -> dict[str, type[Step]]:
    """All kinds of integer steps that no array multiplies, by name."""
    return {kind.kind: kind for family in FAMILIES for kind in family.STEPS}
