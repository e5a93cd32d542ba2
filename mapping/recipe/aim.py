"""Aims: cells are written off their levels, so that drift brings them to the levels at the planned age."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mapping.recipe.technique import Gave, Offer, Technique, gave_each

if TYPE_CHECKING:
    from cim.record.calibration import CalibrationRecord
    from mapping.program.conductance import ConductanceProgram
    from mapping.recipe.target import ProgressObserver


@dataclass(frozen=True, slots=True)
class AgedTargets(Technique):
    """Targets beside the levels by the mean drift of the record's law until the planned age."""

    name: ClassVar[str] = "aims"
    words: ClassVar[str] = "cells are written beside their levels, right at the planned age"
    rank: ClassVar[int] = 50
    offers: ClassVar[tuple[Offer, ...]] = (Offer(effort=1),)
    gave: ClassVar[tuple[Gave, ...]] = gave_each(
        (0.05, -0.12, 0.22), (0.06, -0.11, 0.22), (0.05, -0.18, 0.29), (-0.08, -0.79, 0.64)
    )  # fmt: skip

    def prepare(
        self, program: ConductanceProgram, record: CalibrationRecord, read_s: float, progress: ProgressObserver
    ) -> ConductanceProgram:
        if program.aims is not None:
            return program
        from mapping.tune.aims import aimed, aims_of

        return aimed(program, aims_of(record.programming, program.spec.macro, read_s, record.origin))
