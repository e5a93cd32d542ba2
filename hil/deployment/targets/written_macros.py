"""Reports on written macros and whole programs: pulses and unreached cells by level, early readings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hil.driver.cells import CellOutcome


@dataclass(frozen=True, slots=True)
class EarlyReads:
    """How cells are read right after they were written: reads to average, and the requests' sample number."""

    reads: int
    sample: int


@dataclass(frozen=True, slots=True)
class MacroReport:
    """Outcome of one macro: arrays (rows, columns); targets are NaN where no cell is used.

    ``readings_us`` are the last verify readings in µS, ``programmed_s`` the chip time in
    seconds at which the macro was finished. ``early_us`` is what the cells read right after they
    were written, at ``early_age_s`` on average; None when they were not read.
    """

    slot: int  # the macro, in its round (``ConductanceProgram.slot``)
    targets_us: NDArray[np.float32]
    readings_us: NDArray[np.float32]
    pulses: NDArray[np.uint16]
    reached: NDArray[np.bool_]
    programmed_s: float
    early_us: NDArray[np.float32] | None = None
    early_age_s: float | None = None

    @property
    def used(self) -> NDArray[np.bool_]:
        return np.isfinite(self.targets_us)

    @property
    def all_pulses(self) -> int:
        return int(self.pulses[self.used].sum(dtype=np.int64))


def written_again(
    report: MacroReport, targets_us: NDArray[np.float32], outcome: CellOutcome, time_s: float
) -> MacroReport:
    """The report after some cells of its macro were written again, to ``targets_us`` (NaN: not written); pulses add up,
    and the last verify reading of these cells replaces their early reading."""
    again = np.isfinite(targets_us)
    pulses = report.pulses.astype(np.int64) + np.where(again, outcome.pulses, 0)
    return replace(
        report,
        targets_us=np.where(again, targets_us, report.targets_us),
        readings_us=np.where(again, outcome.readings_us, report.readings_us),
        pulses=np.minimum(pulses, np.iinfo(np.uint16).max).astype(np.uint16),
        reached=np.where(again, outcome.reached, report.reached),
        programmed_s=time_s,
        early_us=None if report.early_us is None else np.where(again, outcome.readings_us, report.early_us),
    )


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
        return sum(m.all_pulses for m in self.macros)

    @property
    def words(self) -> str:
        """ "220,720 cells, 3,111 not reached, 1,860,084 pulses"."""
        return f"{self.cells:,} cells, {self.unreached:,} not reached, {self.pulses:,} pulses"

    @property
    def early_age_s(self) -> float | None:
        """Mean age of the readings right after writing; None without them."""
        ages = [m.early_age_s for m in self.macros if m.early_age_s is not None]
        return sum(ages) / len(ages) if ages else None
