"""Averaged reads: every product is the mean of several reads, whose noise falls with the root of their number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from mapping.program.limits import MOST_READS, RESIDUAL_READS
from mapping.recipe.technique import Offer, Technique
from mapping.settings import setting

if TYPE_CHECKING:
    from mapping.layout.lay_out import LayoutOptions


@dataclass(frozen=True, slots=True)
class AveragedReads(Technique):
    """Read every product with the highest bit slice ``times`` times, and products with lower slices fewer times."""

    name: ClassVar[str] = "reads"
    words: ClassVar[str] = "every product is the mean of several reads"
    rank: ClassVar[int] = 25
    excludes: ClassVar[tuple[str, ...]] = ("residual",)
    offers: ClassVar[tuple[Offer, ...]] = tuple(Offer(2, ({"times": times},)) for times in (2, RESIDUAL_READS, 32))

    times: int = setting(RESIDUAL_READS, "reads that are averaged in every product", low=2, high=MOST_READS)

    def laid_out(self, options: LayoutOptions) -> LayoutOptions:
        return replace(options, mean_reads=self.times)
