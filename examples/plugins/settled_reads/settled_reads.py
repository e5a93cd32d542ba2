"""Settle: once, after a wait, the cells that are farthest off are written again, a share of them at most.

Where ``rewrite`` asks for a window, this asks for a budget: so many percent of the cells are worth a second write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mapping.recipe.standing import Standing
from mapping.recipe.target import RecipeTarget
from mapping.recipe.technique import Technique
from mapping.settings import setting


@dataclass(frozen=True, slots=True)
class SettledReads(Technique):
    """The ``share`` of the cells that lie farthest from their targets ``wait_s`` after writing, written again."""

    name: ClassVar[str] = "settle"
    words: ClassVar[str] = "the share of the cells that is farthest off is written again"
    rank: ClassVar[int] = 65
    treats_cells: ClassVar[bool] = True
    excludes: ClassVar[tuple[str, ...]] = ("residual",)

    share: float = setting(5.0, "most cells that are written again", low=0.1, high=100.0, unit="%")
    wait_s: float = setting(60.0, "chip time before they are read", low=1e-3, high=1e6, unit="s")

    def treat(self, standing: Standing, target: RecipeTarget) -> None:
        with target.stage("settling"):
            target.wait(self.wait_s)
            for at, slot in enumerate(standing.slots):
                target.step(at, len(standing.slots), f"macro {standing.program.macro_of(slot)}")
                wanted = target.targets_us(slot)
                off = np.abs(target.read(standing.program, slot, 8, 1) - wanted)
                far = np.nan_to_num(off) > np.nanpercentile(off, 100.0 - self.share)
                if far.any():
                    target.write_again(standing.program, slot, np.where(far, wanted, np.float32(np.nan)), 1)
            target.hold(standing.program)
