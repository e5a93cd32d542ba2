"""Operators of one file."""

from __future__ import annotations

from dataclasses import dataclass

from mapping.operators.node import Node
from mapping.operators.step import Step


@dataclass(frozen=True, slots=True)
class Family:
    """Kinds of nodes, and kinds of integer steps that they become."""

    nodes: tuple[type[Node], ...]
    steps: tuple[type[Step], ...]
