"""Weights verified where they count, through products, by the row patterns that take the fewest reads on this chip.

After a wait every row is read through the columns of its macro: one by one, or in orthogonal patterns of rows where
the noise behind the cells is larger than theirs (``cim.fit.row_patterns``). The record of the chip says which; weights
that lie farther from where the law expects them than the write-verify window are written again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mapping.recipe.rewrite import expected_us
from mapping.recipe.standing import Standing
from mapping.recipe.technique import Technique
from mapping.settings import setting

if TYPE_CHECKING:
    from mapping.recipe.target import RecipeTarget


@dataclass(frozen=True, slots=True)
class RowVerify(Technique):
    """``times`` rounds, each ``after_s`` after the one before; every pattern is read ``passes`` times."""

    name: ClassVar[str] = "rows"
    words: ClassVar[str] = "weights read through products, those off written again"
    rank: ClassVar[int] = 62
    treats_cells: ClassVar[bool] = True
    excludes: ClassVar[tuple[str, ...]] = ("rewrite",)

    times: int = setting(1, "times", low=1, high=100)
    after_s: float = setting(1.0, "chip time before each", low=1e-9, high=1e6, unit="s")
    passes: int = setting(1, "reads of each pattern", low=1, high=100)

    def treat(self, standing: Standing, target: RecipeTarget) -> None:
        from cim.chip.encoding import tile_halves_us
        from cim.fit.row_patterns import cheapest, seen_cells

        program, record, macro = standing.program, target.record, standing.program.spec.macro
        cells, kinds = 0, set[str]()
        with target.stage("verifying rows"):
            for turn in range(1, self.times + 1):
                target.wait(self.after_s)
                for at, slot in enumerate(standing.slots):
                    target.step(at, len(standing.slots), f"rows {turn} of {self.times}")
                    part, targets = record.macro(program.macro_of(slot)), target.targets_us(slot)
                    wanted = np.nan_to_num(expected_us(record.programming, targets, self.after_s))
                    stuck = np.isfinite(part.stuck_us)
                    wanted[stuck] = part.stuck_us[stuck]
                    halves = tile_halves_us(wanted, macro, 0, macro.logical_rows, 0, macro.outputs)
                    reading = cheapest(macro, halves, part, record.read_noise, record.wire)
                    kinds.add(reading.patterns.kind.value)
                    values = target.read_rows(program, slot, reading, self.passes, turn)
                    window = macro.tolerance_us * np.sqrt(reading.cells_each)
                    off = np.abs(np.nan_to_num(values - reading.cells_us)) > window
                    again = seen_cells(macro, off) & np.isfinite(targets) & ~stuck
                    if again.any():
                        target.write_again(program, slot, np.where(again, targets, np.float32(np.nan)), turn)
                        cells += int(again.sum())
            target.hold(program)
        target.note(f"rows read in {' and '.join(sorted(kinds))} patterns: {cells} cells written again")
