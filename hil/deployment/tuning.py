"""Judge a tune: by the chip without it, and by virtual chips that are tuned to their own answers."""

from __future__ import annotations

from hil.errors import MismatchError
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.recipe import Recipe
from mapping.tune.aims import aimed


def note_aims(program: ConductanceProgram, recipe: Recipe, watch: Watch) -> None:
    """Note if the program's targets are offset for another age than that at which the run reads the cells."""
    read_s = recipe.read_s(program)
    if program.aims is not None and program.aims.age_s != read_s:
        watch.note(
            f"the program's targets are for {program.aims.age_s:g} s after programming ({program.aims.source}), "
            f"this run reads at {read_s:g} s"
        )


def source_digest(given: ConductanceProgram, prepared: ConductanceProgram) -> str:
    """Digest of the deployed program before its targets were offset: as given, or as adapted to this chip."""
    same = prepared.adapted_to == given.adapted_to
    return given.digest if same else aimed(prepared, None).digest


def check_untuned(program: ConductanceProgram) -> None:
    """Refuse a program that holds the gains and biases of one chip already.

    Raises:
        MismatchError: with the serial number of that chip.
    """
    if program.tuned_to is not None:
        raise MismatchError(
            f"the program is tuned to chip {program.tuned_to}: its digital part is that chip's own",
            hint="take the program or network that it was made from; it is tuned again",
        )
