"""The error of an operation that no graph has, and of what a rule cannot translate."""

from __future__ import annotations

import math
from typing import NoReturn

from mapping.errors import NotMappable
from mapping.operators.node import LARGEST_MAP

BROKEN = "the file as its exporter wrote it: this one contradicts itself"
ELSEWHERE = "what docs/my-network.md lists in its place, or the part before it as the network"
"""Of operations that nothing more is known of."""


class UnsupportedOperation(NotMappable):
    """The network does something that has no node: ``operation``, ``where`` in the module, ``reason``."""

    def __init__(self, operation: str, where: str, reason: str, hint: str) -> None:
        place = f" in {where}" if where else ""
        super().__init__(f"{operation}{place}: {reason}\n  try     {hint}")
        self.operation, self.where, self.reason, self.hint = operation, where, reason, hint


class CannotCompose(NotMappable):
    """Nodes for this operation do not exist; its reader adds operation and place (``UnsupportedOperation``)."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


class Unfit(CannotCompose):
    """Sizes that no program could run either: the file is broken, not the rules too few."""


def fit(good: bool, reason: str) -> None:
    """Call the network broken unless ``good``."""
    if not good:
        raise Unfit(reason, BROKEN)


def within(*sizes: int) -> None:
    """Call the network broken if so many elements are more than a feature map may have, before memory is taken."""
    if math.prod(max(size, 1) for size in sizes) > LARGEST_MAP:
        raise Unfit(f"{' x '.join(map(str, sizes))} elements, more than {LARGEST_MAP}", "a smaller map")


def need(good: bool, reason: str, hint: str) -> None:
    """Refuse the operation at hand unless ``good``; ``hint`` says what to write instead."""
    if not good:
        refuse(reason, hint)


def refuse(reason: str, hint: str) -> NoReturn:
    raise CannotCompose(reason, hint)
