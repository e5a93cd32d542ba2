"""Adaptation to one chip: weights go around the stuck cells and poor columns that calibration found.

``mapping.adapt`` does it, before the chip is written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from mapping.recipe.technique import Technique

if TYPE_CHECKING:
    from mapping.layout.lay_out import LayoutOptions


@dataclass(frozen=True, slots=True)
class AroundDefects(Technique):
    """The program goes around stuck cells and poor columns; each layer stands once."""

    name: ClassVar[str] = "adapt"
    words: ClassVar[str] = "weights go around the stuck cells and poor columns that calibration found"
    rank: ClassVar[int] = 40

    def laid_out(self, options: LayoutOptions) -> LayoutOptions:
        return replace(options, averaged=False)
