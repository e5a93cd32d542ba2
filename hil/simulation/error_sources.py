"""A program on a chip that has only some sources of error (``cim.record.error_sources``)."""

from __future__ import annotations

import dataclasses

from cim.record.calibration import CalibrationRecord
from cim.record.error_sources import ErrorSource, record_with_sources, spec_with_sources
from mapping.program.conductance import ConductanceProgram


def with_sources(
    program: ConductanceProgram, record: CalibrationRecord, parts: ErrorSource
) -> tuple[ConductanceProgram, CalibrationRecord]:
    """Program and record of a chip that has only these parts; cells are the business of ``CellSteps``."""
    own = program.spec.macro
    macro = spec_with_sources(own, parts)
    if macro is not own:
        program = dataclasses.replace(program, spec=dataclasses.replace(program.spec, macro=macro))
    return program, record_with_sources(record, own, parts)
