"""Column corrections of the tiles of a program, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping

from cim.chip.correction import Correction, nominal_correction
from mapping.program.conductance import ConductanceProgram

Corrections = Mapping[str, tuple[Correction, ...]]
"""For each matrix step one correction per tile of its group, in order."""


def nominal_corrections(program: ConductanceProgram) -> Corrections:
    """Corrections of a chip that does exactly what its file says."""
    spec = program.spec.macro
    return {
        step.name: tuple(
            nominal_correction(
                spec, step.group.range_code, t.held, step.group.input_bits, step.group.input_signed, t.signs
            )
            for t in step.group.tiles
        )
        for step in program.matrices
    }
