"""Residual slices: lower bit slices are written for what the cells of the slices above read.

``mapping.tune.residual`` lays them out and chooses their digits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from mapping.program.limits import MOST_READS, MOST_RESIDUAL_COPIES, RESIDUAL_READS
from mapping.recipe.standing import Standing
from mapping.recipe.technique import Gave, Offer, Technique
from mapping.settings import setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cim.record.calibration import CalibrationRecord
    from mapping.layout.lay_out import LayoutOptions
    from mapping.program.conductance import ConductanceProgram
    from mapping.recipe.target import RecipeTarget


COPIES = (4, 2, 1)  # of the highest slices, where nobody asks for a number: as many as fit
READS = (2, RESIDUAL_READS, 32, 128, 256)  # the first is enough for networks of few layers


@dataclass(frozen=True, slots=True)
class LowerSlices(Technique):
    """Write ``copies`` of each highest slice, read ``reads`` times in a product. Each lower slice is written ``wait_s``
    after the slice above and corrects its errors, measured as the mean of ``cell_reads`` readings."""

    name: ClassVar[str] = "residual"
    words: ClassVar[str] = "lower bit slices take up the errors of the highest"
    rank: ClassVar[int] = 30
    treats_cells: ClassVar[bool] = True
    excludes: ClassVar[tuple[str, ...]] = ("rewrite", "reads", "repeat")
    offers: ClassVar[tuple[Offer, ...]] = tuple(
        Offer(2, tuple({"copies": n, "reads": reads} for n in COPIES), leads=True) for reads in READS
    )
    gave: ClassVar[tuple[Gave, ...]] = (
        Gave(
            9.5, 7.5, 11.5, "ResNet-8 W4A8, 4 copies of the highest, beside copies on idle cells, 20 and 4 chips",
            "hil simulate r8.pt --calibration rec.h5 --data cifar10 --with residual=4 (docs/benchmarks.md)",
            settings="4",
        ),
    )  # fmt: skip

    copies: int = setting(1, "copies of each highest bit slice", low=1, high=MOST_RESIDUAL_COPIES)
    reads: int = setting(RESIDUAL_READS, "reads of every product with a highest slice", low=1, high=MOST_READS)
    wait_s: float = setting(3600.0, "chip time before the next lower slices are written", low=1e-9, high=1e8, unit="s")
    cell_reads: int = setting(32, "readings that are averaged for each cell", low=1, high=255)

    def laid_out(self, options: LayoutOptions) -> LayoutOptions:
        return replace(options, residual=self.copies, residual_reads=self.reads)

    def holds_up_s(self, program: ConductanceProgram) -> float:
        from mapping.tune.residual import writings

        return self.wait_s * writings(program)

    def first(self, program: ConductanceProgram, record: CalibrationRecord) -> ConductanceProgram:
        """Choose the levels of all slices around cells that the record lists as stuck."""
        from mapping.tune.residual import around_stuck

        return around_stuck(program, stuck_cells(program, record))

    def treat(self, standing: Standing, target: RecipeTarget) -> None:
        from mapping.tune.residual import residual, writings

        program, stuck, left = standing.program, stuck_cells(standing.program, target.record), 0.0
        for settled in range(1, writings(program) + 1):
            with target.stage("waiting"):
                target.wait(self.wait_s)
            with target.stage("reading back"):
                readings = {}
                for at, slot in enumerate(program.slots):
                    target.step(at, len(program.slots), f"macro {program.macro_of(slot)}")
                    readings[slot] = target.read(program, slot, self.cell_reads, settled - 1)
            found = residual(program, readings, settled, stuck)
            with target.stage("programming"):
                for at, (slot, targets) in enumerate(found.targets_us.items()):
                    target.step(at, len(found.targets_us), f"lower slices of macro {program.macro_of(slot)}")
                    target.write_again(program, slot, targets, settled)
                target.hold(found.program)
            program, standing.wanted, left = found.program, found.wanted, found.left
        standing.program = program
        target.note(
            f"residual slices: lower slices hold what those above missed, {left:.2f} levels (rms) of the highest left"
        )


def stuck_cells(program: ConductanceProgram, record: CalibrationRecord) -> dict[int, NDArray[np.float32]]:
    """By slot, mean readings of stuck cells, (rows, columns) µS, NaN elsewhere."""
    return {slot: record.macro(program.macro_of(slot)).stuck_us for slot in program.slots}
