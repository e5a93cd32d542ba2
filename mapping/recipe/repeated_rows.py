"""Repeated rows: a layer's rows stand several times in one array, so that its sums fill a coarse converter's range."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from mapping.recipe.technique import Technique
from mapping.settings import setting

if TYPE_CHECKING:
    from mapping.layout.lay_out import LayoutOptions


@dataclass(frozen=True, slots=True)
class RepeatedRows(Technique):
    """Repeat rows in an array: one read sums the repetitions, whose errors average. Codes are sent for each row."""

    name: ClassVar[str] = "repeat"
    words: ClassVar[str] = "rows of a layer stand several times in one array, one read adds them"
    rank: ClassVar[int] = 15
    excludes: ClassVar[tuple[str, ...]] = ("residual",)

    times: int = setting(64, "largest number of repetitions of a row in an array", low=2, high=64)

    def laid_out(self, options: LayoutOptions) -> LayoutOptions:
        return replace(options, repeat=self.times)
