"""A chip that a recipe is carried out on: its cells are written, waited for and read."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from cim.record.calibration import CalibrationRecord
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import Corrections
from mapping.program.training_inputs import LayerInputs
from mapping.recipe.standing import Standing, Written
from mapping.tune.channel_affine import ChannelTune, Tuned
from mapping.tune.columns import column_corrections

if TYPE_CHECKING:
    from mapping.recipe.standing import Cells


class ProgressObserver(Protocol):
    """Receives progress: stages, steps within them, and notes."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Context of a named part of the work."""

    def step(self, done: int, total: int, what: str) -> None: ...

    def note(self, text: str) -> None: ...


class RecipeTarget(ProgressObserver, Protocol):
    """A chip that a recipe is carried out on.

    ``number``: which writing or reading of cells it is after the first, for noise of its own.
    """

    @property
    def record(self) -> CalibrationRecord:
        """What is known of this chip."""

    @property
    def pulses(self) -> int:
        """Programming pulses given so far."""

    @property
    def time_s(self) -> float:
        """Chip time now, s."""

    def targets_us(self, slot: int) -> NDArray[np.float32]:
        """What the cells of a slot were last written to, (rows, columns) µS, NaN where there is none."""

    def parts(self, program: ConductanceProgram) -> Iterable[tuple[int | None, ConductanceProgram]]:
        """What stands on the chip at once, with the number of its round; a chip that holds all rounds has no number."""

    def write(self, program: ConductanceProgram) -> tuple[int, ...]:
        """Write and verify all its cells, macros by number.

        Slots in the order of writing; none: the chip holds the program already.
        """

    def write_again(self, program: ConductanceProgram, slot: int, targets_us: NDArray[np.float32], number: int) -> None:
        """Write some cells of a slot to ``targets_us`` (rows, columns), NaN for the others."""

    def hold(self, program: ConductanceProgram) -> None:
        """Let the chip remember what it holds: it forgets it when it is written."""

    def wait(self, seconds: float) -> object: ...

    def let_age(self, planned_s: float) -> float:
        """Wait until cells have the planned age; the age that they have by a clock that was looked at, s."""

    def read(self, program: ConductanceProgram, slot: int, reads: int, number: int) -> NDArray[np.floating]:
        """Mean of ``reads`` readings of each cell of a slot, (rows, columns) µS."""

    def read_back(self, program: ConductanceProgram, reads: int) -> Cells:
        """Readings of all slots at the age at which the network is to run."""

    def correct(self, standing: Standing, readings_us: Cells, inputs: LayerInputs) -> Corrections:
        """Column corrections from what cells read at the age."""

    def tune(self, tune: ChannelTune, written: Written) -> Tuned | None:
        """Go on with a tune by the chip's answers to its images; None: nothing answers."""


def corrected(target: RecipeTarget, standing: Standing, readings_us: Cells, inputs: LayerInputs) -> Corrections:
    """Corrections from readings by the record of a chip, wired or virtual alike."""
    return column_corrections(standing.program, target.record, readings_us, inputs, wanted=standing.wanted)
