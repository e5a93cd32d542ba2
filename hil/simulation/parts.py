"""A program on a chip that has only some parts of its error (``cim.record.parts``)."""

from __future__ import annotations

import dataclasses

from cim.record.calibration import CalibrationRecord
from cim.record.parts import Part, record_with_parts, spec_with_parts
from mapping.program.conductance import ConductanceProgram


def with_parts(
    program: ConductanceProgram, record: CalibrationRecord, parts: Part
) -> tuple[ConductanceProgram, CalibrationRecord]:
    """Program and record of a chip that has only these parts; cells are the business of ``CellSteps``."""
    own = program.spec.macro
    macro = spec_with_parts(own, parts)
    if macro is not own:
        program = dataclasses.replace(program, spec=dataclasses.replace(program.spec, macro=macro))
    return program, record_with_parts(record, own, parts)
