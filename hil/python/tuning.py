"""``tune`` from Python: a chip's gains and biases fitted to its present outputs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from hil.driver.chip_driver import ChipDriver
from hil.errors import UsageError
from hil.improvement.retune import RetuneReport, retune
from hil.python.files import Known, known_record
from hil.python.networks import CompiledNetwork, program_of
from hil.python.progress import progress
from hil.python.runs import record_of
from hil.report.terminal.quantities import seconds
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.tune import TunedChannels


@dataclass(frozen=True)
class Retuned(RetuneReport):
    """A chip tuned again: shares and errors before and after, and ``program`` with the new gains and biases.

    After a ``harmful`` tune ``program`` is unchanged.

    Example:
        >>> retuned.chip, retuned.images
        ('emulated lab-128 rev A', 128)
    """

    program: CompiledNetwork | None = None

    def show(self) -> None:
        """Print what ``hil tune`` prints.

        Example:
            >>> retuned.show()    # doctest: +ELLIPSIS
            chip ... NOT SILICON
            ...
        """
        from hil.report.terminal.answers import show_answer

        show_answer(*(f"{line}\n" for line in self.lines()))


def tune(
    network: CompiledNetwork | ConductanceProgram | str | Path,
    chip: ChipDriver,
    *,
    record: Known = None,
    images: int = TunedChannels().images,
    age: str | float = "1h",
    watch: Watch | None = None,
) -> Retuned:
    """Fit gains and biases of a chip that holds a program to its answers now, as ``hil tune`` does: no cell is written.

    Args:
        network: the program that the chip holds.
        chip: an open chip.
        record: of this chip; None: that of ``chip.calibrate()``.
        images: most stored training images to tune with.
        age: that the cells were written for, "1h" or s.
        watch: hears stages and progress; None: nobody does.

    Returns:
        before and after, and the tuned program.

    Raises:
        hil.UsageError: no record, or too few stored images. hil.MismatchError: the chip holds another program.

    Example:
        >>> retuned = hil.tune(program, chip)
        >>> retuned.harmful, retuned.held_out > 0
        (False, True)
    """
    known = known_record(record, chip)
    if known is None:
        raise UsageError("a record of the chip is needed", hint="chip.calibrate(), or record=cim.load_record(…)")
    measured = record_of(known)
    assert measured is not None
    given = program_of(network)
    age_s = seconds(age) if isinstance(age, str) else age
    with progress(watch) as observer:
        tuned, found = retune(chip, given, measured, images=images, age_s=age_s, watch=observer)
    name = network.name if isinstance(network, CompiledNetwork) else "program"
    file = network.file if isinstance(network, CompiledNetwork) else None
    kept = CompiledNetwork(name, given if found.harmful else tuned.program, file)
    return Retuned(**{f.name: getattr(found, f.name) for f in fields(found)}, program=kept)
