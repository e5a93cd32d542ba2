"""Idle copies: layers stand again on cells that would be idle, and their sums are added."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from mapping.recipe.technique import Technique

if TYPE_CHECKING:
    from mapping.layout.lay_out import LayoutOptions


@dataclass(frozen=True, slots=True)
class IdleCopies(Technique):
    """Layers stand again on cells that the network's macros leave idle."""

    name: ClassVar[str] = "copies"
    words: ClassVar[str] = "layers stand again on cells that would be idle, their sums are added"
    rank: ClassVar[int] = 20

    def laid_out(self, options: LayoutOptions) -> LayoutOptions:
        return replace(options, averaged=True)
