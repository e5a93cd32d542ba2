"""Relax and rewrite: cells that left their window soon after they were written are written again.

A cell relaxes most in its first second. After a wait its reading is compared with where the law expects
the mean cell of its target by then; cells that lie farther off than the write-verify window are written
again, and so on. A cell that is left alone lies inside the window at that age, and so do most a day later.
Three rounds took the spread of doi 10.1038/s41586-022-04992-8 from 2.8 to 2 µS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from mapping.recipe.standing import Standing
from mapping.recipe.technique import ABLATION, Gave, Offer, Technique
from mapping.settings import setting

if TYPE_CHECKING:
    from cim.cells.programming_law import ProgrammingLaw
    from mapping.recipe.target import RecipeTarget

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rewrite(Technique):
    """Rewrite in ``times`` rounds, ``after_s`` apart, the cells outside their window; ``reads`` readings average."""

    name: ClassVar[str] = "rewrite"
    words: ClassVar[str] = "cells that left their window are written again"
    rank: ClassVar[int] = 60
    treats_cells: ClassVar[bool] = True
    offers: ClassVar[tuple[Offer, ...]] = (Offer(effort=2),)
    gave: ClassVar[tuple[Gave, ...]] = (Gave(1.0, -1.1, 3.0, *ABLATION),)

    times: int = setting(3, "rounds of rewriting", low=1, high=100)
    after_s: float = setting(1.0, "chip time before each round", low=1e-9, high=1e6, unit="s")
    reads: int = setting(8, "readings that are averaged for each cell", low=1, high=255)

    def treat(self, standing: Standing, target: RecipeTarget) -> None:
        """Rewrite, in ``times`` rounds, the cells outside their window; cells that the record lists as stuck get no
        pulse."""
        program, record = standing.program, target.record
        window, pulses, time_s, cells = program.spec.macro.tolerance_us, target.pulses, target.time_s, 0
        targets = {slot: target.targets_us(slot) for slot in standing.slots}
        expected = {slot: expected_us(record.programming, targets[slot], self.after_s) for slot in standing.slots}
        with target.stage("rewriting"):
            for turn in range(1, self.times + 1):
                target.wait(self.after_s)
                for at, slot in enumerate(standing.slots):
                    target.step(at, len(standing.slots), f"rewrite {turn} of {self.times}")
                    readings = target.read(program, slot, self.reads, turn)
                    off = left_window(readings, expected[slot], window)
                    off &= np.isnan(record.macro(program.macro_of(slot)).stuck_us)
                    if off.any():
                        again = np.where(off, targets[slot], np.float32(np.nan))
                        target.write_again(program, slot, again, turn)
                        cells += int(off.sum())
            target.hold(program)
        written = sum(int(np.isfinite(t).sum()) for t in targets.values())
        target.note(
            f"rewritten: {cells} of {written} cells in {self.times} rounds, {target.pulses - pulses} pulses, "
            f"{target.time_s - time_s:.1f} s of chip time"
        )


def expected_us(law: ProgrammingLaw, targets_us: NDArray[np.floating], after_s: float) -> Floats:
    """Where the middle cell of each target lies after the wait, µS; any shape, NaN stays."""
    from cim.cells.programming_law import law_at

    found = np.full(targets_us.shape, np.nan)
    used = np.isfinite(targets_us)
    targets = np.asarray(targets_us, np.float64)[used]
    levels = np.unique(targets)
    if len(levels):
        found[used] = (levels + law_at(law, levels, after_s).loc_us)[np.searchsorted(levels, targets)]
    return found


def left_window(readings_us: NDArray[np.floating], expected: Floats, tolerance_us: float) -> NDArray[np.bool_]:
    """Cells whose reading lies farther from where they should be than the window; False where nothing is written."""
    return np.asarray(np.abs(np.nan_to_num(readings_us - expected)) > tolerance_us)
