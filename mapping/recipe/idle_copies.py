"""Idle copies: layers are written again on idle cells, and the sums of all copies are added."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from mapping.recipe.technique import Gave, Offer, Technique, gave_each
from mapping.settings import setting

if TYPE_CHECKING:
    from mapping.layout.lay_out import LayoutOptions

ALL = 9999  # more macros than a chip has


@dataclass(frozen=True, slots=True)
class IdleCopies(Technique):
    """Write copies of layers on idle cells of the network's macros, and on ``macros`` further macros."""

    name: ClassVar[str] = "copies"
    words: ClassVar[str] = "layers stand again on cells that would be idle, their sums are added"
    rank: ClassVar[int] = 20
    offers: ClassVar[tuple[Offer, ...]] = (
        Offer(effort=1),
        Offer(effort=2, changes=({"macros": ALL},)),
    )
    gave: ClassVar[tuple[Gave, ...]] = gave_each(
        (0.62, 0.25, 0.98), (0.44, 0.05, 0.83), (1.64, 0.95, 2.33), (14.92, 13.16, 16.68)
    )  # fmt: skip

    macros: int = setting(0, "further macros that copies may use", low=0, high=ALL)

    def laid_out(self, options: LayoutOptions) -> LayoutOptions:
        return replace(options, averaged=True, further_macros=self.macros)
