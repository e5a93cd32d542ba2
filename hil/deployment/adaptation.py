"""Adapting a program to the chip that a calibration record was measured on, and in which order to write it."""

from __future__ import annotations

import numpy as np

from cim.cells.programming_law import law_at
from cim.record.calibration import CalibrationRecord
from hil.calibration.procedure import check_macros
from hil.deployment.options import DeployOptions
from hil.errors import MismatchError, UsageError
from hil.watch import Watch
from mapping.adapt.adaptation import Adaptation, AdaptOptions, adapt
from mapping.adapt.defects import record_defects
from mapping.layout.place import macro_targets_us
from mapping.program.conductance import ConductanceProgram
from mapping.program.training_inputs import training_inputs

OF_A_CHIP = ("silicon", "emulated")  # kinds of records; others know no single cell


def adapt_to_record(
    program: ConductanceProgram, record: CalibrationRecord, options: AdaptOptions | None = None
) -> Adaptation:
    """The program around the stuck cells and poor columns that the record lists.

    Raises:
        MismatchError: the record is of no single chip, of another description, or lacks a macro in use.
        mapping.errors.CannotMap: the chip holds no pairs, or the program is adapted already.
    """
    if record.kind not in OF_A_CHIP:
        raise MismatchError(
            f"a record of kind {record.kind!r} knows no single chip's cells", hint="hil calibrate -o record.h5"
        )
    if record.spec_digest != program.spec.digest:
        raise MismatchError(
            f"the calibration record is of another chip description: {record.spec_digest[:12]}…, "
            f"the program is for {program.spec.digest[:12]}…",
            hint="hil compile with the --chip and --macros that the record was measured with",
        )
    check_macros(record, program.macros, program.spec.macro)
    defects = record_defects(record, program.spec.macro)
    return adapt(program, defects, training_inputs(program), serial=record.serial, options=options)


def adapted(
    program: ConductanceProgram, record: CalibrationRecord, options: DeployOptions, watch: Watch
) -> tuple[ConductanceProgram, tuple[int, ...]]:
    """The program around the poor cells that the record lists, noted, and its macros in the order of writing."""
    with watch.stage("adapting"):
        found = adapt_to_record(program, record)
        order = write_order(found.program, record, options.age_s)
        for line in found.lines():
            watch.note(line)
    return found.program, order


def check_adapted(program: ConductanceProgram, serial: str | None) -> None:
    """Refuse a program that was adapted to another chip than ``serial`` (None: to no chip in particular).

    Raises:
        MismatchError: with both serial numbers.
    """
    if program.adapted_to is not None and program.adapted_to != serial:
        raise MismatchError(
            f"the program is adapted to chip {program.adapted_to}, this is {serial or 'no single chip'}",
            likely="it goes around the stuck cells of the other one, or was trained on what that one's cells hold",
            hint="hil compile it again without --record, or with this chip's; hil finetune --port trains on this chip",
        )


def refuse_residual(program: ConductanceProgram, what: str) -> None:
    """Refuse a program whose lower slices depend on the chip that they are written to.

    Raises:
        UsageError: the program has residual slices.
    """
    if program.residual:
        raise UsageError(
            f"{what}: the program has residual slices, whose lower digits each chip gets for its own highest ones",
            hint="hil deploy and hil simulate take it; elsewhere a program compiled without residual slices",
        )


def write_order(program: ConductanceProgram, record: CalibrationRecord, age_s: float) -> tuple[int, ...]:
    """Macros in the order in which they are to be written: those whose cells move most by ``age_s`` last.

    Of a cell at level k the expected squared movement since the first age of the record's law is

        (loc_k(age) − loc_k(first))² + |spread_k(age)² − spread_k(first)²|      µS²

    and a macro's is the mean over the cells that are used.
    """
    law, levels = record.programming, np.array(program.spec.macro.levels_us)
    first, late = law_at(law, levels, float(law.ages_s[0])), law_at(law, levels, age_s)
    moved = (late.loc_us - first.loc_us) ** 2 + np.abs(late.spread_us() ** 2 - first.spread_us() ** 2)

    def movement(macro: int) -> float:
        targets = macro_targets_us(program, macro)
        used = targets[np.isfinite(targets)]
        return float(moved[np.abs(used[:, None] - levels).argmin(1)].mean())

    return tuple(sorted(program.macros, key=lambda macro: (movement(macro), macro)))
