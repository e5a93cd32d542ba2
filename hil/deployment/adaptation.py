"""Programs of one chip are refused on other chips, and in runs that know no single chip."""

from __future__ import annotations

from hil.errors import MismatchError, UsageError
from mapping.program.conductance import ConductanceProgram


def check_adapted(program: ConductanceProgram, serial: str | None) -> None:
    """Refuse a program that was adapted to another chip than ``serial`` (None: to no chip in particular).

    Raises:
        MismatchError: with both serial numbers.
    """
    if program.adapted_to is not None and program.adapted_to != serial:
        raise MismatchError(
            f"the program is adapted to chip {program.adapted_to}, this is {serial or 'no single chip'}",
            likely="it goes around the stuck cells of the other one, or was trained on what that one's cells hold",
            hint="hil compile its network again; hil finetune --port trains on this chip",
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
