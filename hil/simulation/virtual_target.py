"""A virtual chip as the target of a recipe: cells follow the laws of a record, and are read with its noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cim.cells.history import CellHistory, RankedErrors
from cim.cells.programming_law import ProgrammingLaw
from cim.record.calibration import CalibrationRecord
from cim.record.device import Columns, draw_columns, draw_programming
from hil.simulation.virtual_chip import TUNE_IMAGES, VirtualChip
from mapping.layout.place import targets_by_slot_us
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import Corrections
from mapping.program.training_inputs import LayerInputs
from mapping.recipe.standing import Standing, Written
from mapping.recipe.target import corrected
from mapping.tune.channel_affine import ChannelTune, Tuned

if TYPE_CHECKING:
    from mapping.recipe.standing import Cells


class VirtualTarget:
    """One virtual chip of a record, written now; satisfies ``mapping.recipe.target.RecipeTarget``.

    Cells that nobody looks at before they are read back are drawn at that age at once; those that are treated on the
    way keep their history. Once read back, ``cells_us`` are the conductances by slot and ``columns`` the converters.

    Args:
        law: of this chip's cells (``redraw_law``).
        temperature_c: of waiting and reading; None: that of the record.
        treated: whether cells are read or written again before they are read back.
        targets_of: those of a slot in the program that is to be written, where they are known already.
        chip: makes the chip that answers, once its columns are corrected; None: it is asked nothing.
    """

    pulses = 0

    def __init__(
        self,
        record: CalibrationRecord,
        law: ProgrammingLaw,
        rng: np.random.Generator,
        *,
        temperature_c: float | None = None,
        treated: bool = False,
        targets_of: Callable[[int], NDArray[np.float32]] | None = None,
        chip: Callable[[VirtualTarget, Corrections], VirtualChip] | None = None,
    ) -> None:
        self.record, self.time_s = record, 0.0
        self.cells_us: dict[int, NDArray[np.float32]] = {}
        self.columns: dict[int, Columns] = {}
        self._law, self._rng, self._temperature_c, self._treated = law, rng, temperature_c, treated
        self._chip = chip
        self._targets_of, self._targets_us = targets_of, dict[int, NDArray[np.float32]]()
        self._used: dict[int, NDArray[np.bool_]] = {}
        self._histories: dict[int, CellHistory] = {}
        self._ranked = RankedErrors(law)
        self._converters: dict[int, Columns] = {}  # of a macro, the same in every round

    def targets_us(self, slot: int) -> NDArray[np.float32]:
        return self._targets_us[slot]

    def parts(self, program: ConductanceProgram) -> Iterator[tuple[None, ConductanceProgram]]:
        yield None, program

    def write(self, program: ConductanceProgram) -> tuple[int, ...]:
        known = self._targets_of
        targets_of = targets_by_slot_us(program) if known is None else ((slot, known(slot)) for slot in program.slots)
        for slot, targets in targets_of:
            self._targets_us[slot] = targets
            if self._treated:
                self._histories[slot] = self._history(program, slot)
        return program.slots

    def write_again(self, program: ConductanceProgram, slot: int, targets_us: NDArray[np.float32], number: int) -> None:
        used, cells = self._used[slot], self._histories[slot]
        asked = targets_us[used]
        again = np.isfinite(asked)
        cells.refresh(again, self.time_s, asked[again])
        self._targets_us[slot] = np.where(np.isfinite(targets_us), targets_us, self._targets_us[slot])

    def hold(self, program: ConductanceProgram) -> None:
        """Do nothing: a virtual chip keeps no cell readings of a program."""

    def wait(self, seconds: float) -> None:
        self.time_s += seconds

    def let_age(self, planned_s: float) -> float:
        self.wait(planned_s)
        return planned_s

    def read(self, program: ConductanceProgram, slot: int, reads: int, number: int) -> NDArray[np.floating]:
        used = self._used[slot]
        g = self._histories[slot].read(self.time_s)
        cells = np.full(used.shape, np.nan, np.float32)
        seen: NDArray[np.float32] = np.full(used.shape, np.nan, np.float32)
        cells[used], seen[used] = g, with_read_noise(g, self.record, reads, self._rng)
        self.cells_us[slot] = cells
        return seen

    def read_back(self, program: ConductanceProgram, reads: int) -> dict[int, NDArray[np.floating]]:
        if self._treated:
            seen: dict[int, NDArray[np.floating]] = {slot: self.read(program, slot, reads, 0) for slot in program.slots}
            for slot in program.slots:
                self._convert(program, slot)
            return seen
        for slot in program.slots:
            targets, macro = self._targets_us[slot], program.macro_of(slot)
            self.cells_us[slot] = draw_programming(
                targets, self.record, macro, self.time_s, self._rng, self._law, self._temperature_c
            )
            self._convert(program, slot)
        return {slot: with_read_noise(cells, self.record, reads, self._rng) for slot, cells in self.cells_us.items()}

    def correct(self, standing: Standing, readings_us: Cells, inputs: LayerInputs) -> Corrections:
        return corrected(self, standing, readings_us, inputs)

    def tune(self, tune: ChannelTune, written: Written) -> Tuned | None:
        if self._chip is None:
            return None
        self._histories.clear()  # more than the chip that answers; its cells are not treated any more
        tune.run(self._chip(self, written.corrections), sample=TUNE_IMAGES)
        return tune.tuned

    def stage(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def step(self, done: int, total: int, what: str) -> None: ...

    def note(self, text: str) -> None: ...

    def _history(self, program: ConductanceProgram, slot: int) -> CellHistory:
        targets, record = self._targets_us[slot], self.record
        used = self._used[slot] = np.isfinite(targets)
        stuck_us = record.macro(program.macro_of(slot)).stuck_us[used]
        cells = CellHistory(
            targets[used], self._law, self._rng, stuck_us=stuck_us, thermal=record.thermal, ranked=self._ranked
        )
        if record.thermal is not None and self._temperature_c is not None:
            cells.set_temperature(0.0, self._temperature_c)
        return cells

    def _convert(self, program: ConductanceProgram, slot: int) -> None:
        macro = program.macro_of(slot)
        if macro not in self._converters:
            self._converters[macro] = draw_columns(self.record, macro, self._rng)
        self.columns[slot] = self._converters[macro]


def with_read_noise(
    cells_us: NDArray[np.floating], record: CalibrationRecord, reads: int, rng: np.random.Generator
) -> NDArray[np.floating]:
    """Mean of ``reads`` readings of cells of any shape, µS; NaN stays."""
    noise = np.sqrt(record.read_noise.at(np.nan_to_num(cells_us)) / reads)
    return np.asarray(cells_us + noise * rng.standard_normal(cells_us.shape))
