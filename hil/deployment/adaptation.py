"""Programs of one chip: adapted to what a record lists, and refused on other chips."""

from __future__ import annotations

from cim.chip.file import description_words
from cim.record.calibration import CalibrationRecord
from hil.calibration.procedure import check_macros
from hil.errors import MismatchError, UsageError
from mapping.adapt.adaptation import Adaptation
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.adapt import OF_A_CHIP, around_defects


def adapt_to_record(program: ConductanceProgram, record: CalibrationRecord) -> Adaptation:
    """The program around the stuck cells and poor columns that the record lists.

    Args:
        program: as compiled for any chip of the description.
        record: of the one chip that it is for.

    Returns:
        the adapted program, with what was moved and what could not be.

    Raises:
        MismatchError: the record is of no single chip, of another description, or lacks a macro in use.
        mapping.errors.CannotMap: the chip holds no pairs, or the program is adapted already.

    Example:
        >>> adapt_to_record(program, record).program
    """
    if record.kind not in OF_A_CHIP:
        raise MismatchError(
            f"a record of kind {record.kind!r} knows no single chip's cells", hint="hil calibrate -o record.h5"
        )
    if record.spec_digest != program.spec.digest:
        raise MismatchError(
            f"the calibration record is of {description_words(record.spec_digest, program.spec)}, the program is for "
            f"{description_words(program.spec.digest, program.spec)}",
            hint="hil compile with the --chip and --macros that the record was measured with",
        )
    check_macros(record, program.macros, program.spec.macro)
    return around_defects(program, record)


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
