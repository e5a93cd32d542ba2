"""Programming: every macro of a compiled network written and verified, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hil.driver import ChipDriver
from mapping.place import macro_targets_us
from mapping.program import ConductanceProgram

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what)."""


@dataclass(frozen=True, slots=True)
class MacroReport:
    """Outcome of one macro: arrays (rows, columns); targets are NaN where no cell is used.

    ``readings_us`` are the last verify readings in µS, ``programmed_s`` the chip time in
    seconds at which the macro was finished.
    """

    macro: int
    targets_us: NDArray[np.float32]
    readings_us: NDArray[np.float32]
    pulses: NDArray[np.uint16]
    reached: NDArray[np.bool_]
    programmed_s: float

    @property
    def used(self) -> NDArray[np.bool_]:
        return np.isfinite(self.targets_us)


@dataclass(frozen=True, slots=True)
class ProgramReport:
    """Outcome of programming a network."""

    macros: tuple[MacroReport, ...]

    @property
    def cells(self) -> int:
        return sum(int(m.used.sum()) for m in self.macros)

    @property
    def unreached(self) -> int:
        return sum(int((m.used & ~m.reached).sum()) for m in self.macros)

    @property
    def pulses(self) -> int:
        return sum(int(m.pulses[m.used].sum(dtype=np.int64)) for m in self.macros)


def program_chip(
    driver: ChipDriver, program: ConductanceProgram, *, sample: int, progress: Progress | None = None
) -> ProgramReport:
    """Write every macro of ``program`` and let the chip hold its digest.

    Raises:
        hil.errors.DeviceError, hil.errors.LinkError: the chip refused or fell silent.
    """
    reports = []
    macros = program.macros
    for done, macro in enumerate(macros):
        if progress:
            progress(done, len(macros), f"macro {macro}")
        targets = macro_targets_us(program, macro)
        outcome = driver.program_cells(macro, targets, sample=sample)
        reports.append(
            MacroReport(
                macro, targets, outcome.readings_us, outcome.pulses, outcome.reached, driver.chip_time_ns * 1e-9
            )
        )
    driver.hold_program(bytes.fromhex(program.digest))
    if progress:
        progress(len(macros), len(macros), "programmed")
    return ProgramReport(tuple(reports))


def read_back(
    driver: ChipDriver, macros: tuple[int, ...], *, reads: int, sample: int, progress: Progress | None = None
) -> dict[int, NDArray[np.float32]]:
    """Mean of ``reads`` readings of every cell of each macro, µS, (rows, columns)."""
    readings = {}
    for done, macro in enumerate(macros):
        if progress:
            progress(done, len(macros), f"reading macro {macro}")
        readings[macro] = driver.read_cells(macro, reads=reads, sample=sample)
    return readings
