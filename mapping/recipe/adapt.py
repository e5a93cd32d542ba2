"""Adaptation to one chip: weights go around the stuck cells and poor columns that calibration found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from mapping.recipe.technique import RecipeError, Technique

if TYPE_CHECKING:
    from cim.record.calibration import CalibrationRecord
    from mapping.adapt.adaptation import Adaptation
    from mapping.layout.lay_out import LayoutOptions
    from mapping.program.conductance import ConductanceProgram
    from mapping.recipe.target import ProgressObserver

OF_A_CHIP = ("silicon", "emulated")  # kinds of records; others know no single cell


@dataclass(frozen=True, slots=True)
class AroundDefects(Technique):
    """The program goes around stuck cells and poor columns; each layer stands once."""

    name: ClassVar[str] = "adapt"
    words: ClassVar[str] = "weights go around the stuck cells and poor columns that calibration found"
    rank: ClassVar[int] = 40

    def laid_out(self, options: LayoutOptions) -> LayoutOptions:
        return replace(options, averaged=False)

    def check(self, program: ConductanceProgram, record: CalibrationRecord | None) -> None:
        from mapping.adapt.adaptation import check_adaptable

        if program.adapted_to is None:
            check_adaptable(program)
        if record is not None and record.kind not in OF_A_CHIP:
            raise RecipeError(f"adapt: a record of kind {record.kind!r} knows no single chip's cells")

    def prepare(
        self, program: ConductanceProgram, record: CalibrationRecord, read_s: float, progress: ProgressObserver
    ) -> ConductanceProgram:
        if program.adapted_to is not None or record.kind not in OF_A_CHIP:
            return program
        with progress.stage("adapting"):
            found = around_defects(program, record)
            for line in found.lines():
                progress.note(line)
        return found.program

    def order(self, program: ConductanceProgram, record: CalibrationRecord, age_s: float) -> tuple[int, ...]:
        return write_order(program, record, age_s)


def around_defects(program: ConductanceProgram, record: CalibrationRecord) -> Adaptation:
    """The program around the stuck cells and poor columns that the record of a chip lists.

    Raises:
        mapping.errors.CannotMap: the chip holds no pairs, or the program is adapted already.
    """
    from mapping.adapt.adaptation import adapt
    from mapping.adapt.defects import record_defects
    from mapping.program.training_inputs import training_inputs

    defects = record_defects(record, program.spec.macro)
    return adapt(program, defects, training_inputs(program), serial=record.serial)


def write_order(program: ConductanceProgram, record: CalibrationRecord, age_s: float) -> tuple[int, ...]:
    """Macros in the order in which they are to be written: those whose cells move most by ``age_s`` last.

    Of a cell at level k the expected squared movement since the first age of the record's law is

        (loc_k(age) − loc_k(first))² + |spread_k(age)² − spread_k(first)²|      µS²

    and a macro's is the mean over the cells that are used.
    """
    import numpy as np

    from cim.cells.programming_law import law_at
    from mapping.layout.place import macro_levels_us

    law, levels = record.programming, np.array(program.spec.macro.levels_us)
    first, late = law_at(law, levels, float(law.ages_s[0])), law_at(law, levels, age_s)
    moved = (late.loc_us - first.loc_us) ** 2 + np.abs(late.spread_us() ** 2 - first.spread_us() ** 2)

    def movement(macro: int) -> float:
        held = macro_levels_us(program, macro)
        used = held[np.isfinite(held)]
        return float(moved[np.abs(used[:, None] - levels).argmin(1)].mean())

    return tuple(sorted(program.macros, key=lambda macro: (movement(macro), macro)))
