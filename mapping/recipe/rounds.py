"""Rounds: a network larger than the chip is written part after part, and runs all images in each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from mapping.recipe.technique import Technique

if TYPE_CHECKING:
    from mapping.layout.lay_out import LayoutOptions


@dataclass(frozen=True, slots=True)
class Rounds(Technique):
    """The network is written part after part where it is larger than the chip."""

    name: ClassVar[str] = "rounds"
    words: ClassVar[str] = "a network larger than the chip is written part after part"
    rank: ClassVar[int] = 10
    excludes: ClassVar[tuple[str, ...]] = ("residual",)

    def laid_out(self, options: LayoutOptions) -> LayoutOptions:
        return replace(options, rounds=True)
