"""What stands behind the stand-ins of a bench: selected lines, voltages, and the cells of an emulated chip."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.handlers import ChipHandlers, call
from firmware_protocols.messages import CellBlock, CellReadings, Polarity, Pulse, ReadCells, Wait
from hil.server.bench.bench_file import BenchFile

_MOST_COUNTS = 0xFFFE
_OUTLIERS = 1.6  # times the highest level that a cell may have and still be told
_LET_PASS_NS = 10_000_000  # less time than this is not given to the chip by itself


@dataclass(slots=True)
class OpenLines:
    """Lines that an address order connected."""

    macro: int = 0
    row: int | None = None
    column: int = 0
    count: int = 1


@dataclass
class Fixture:
    """Socket and cables: one for all instruments of a bench. Wires have no resistance.

    ``cells`` is asked by the verbs of a chip role; chip time follows ``clock_ns``.
    """

    bench: BenchFile
    cells: ChipHandlers
    clock_ns: Callable[[], int] = time.monotonic_ns
    lines: OpenLines = field(default_factory=OpenLines)
    volts_v: float = 0.0
    rows_v: NDArray[np.float64] | None = None  # of every word line, where they are driven at once
    temperature_c: float = 25.0
    _sample: int = 0
    _since_ns: int = 0

    def __post_init__(self) -> None:
        self._since_ns = self.clock_ns()
        self._cells_us(0, 1, 0, 1, 1)  # kernels are compiled before an instrument's time-out runs

    @property
    def unit_ns(self) -> int:
        return int(np.ceil(_OUTLIERS * self.bench.chip.macro.levels_us[-1] * 1e3 / _MOST_COUNTS))

    def open(self, macro: int, row: object, column: object, count: int) -> None:
        """Connect lines by their contacts; raises ``ValueError`` where nothing is wired."""
        wiring = self.bench.wiring
        at = OpenLines(macro, _index(wiring.rows, row), _index(wiring.columns, column), count)
        if not (0 <= macro < self.bench.chip.macros and at.column + count <= len(wiring.columns)):
            raise ValueError(f"nothing is wired to macro {macro}, column {column} and {count - 1} after it")
        self.lines, self.rows_v = at, None

    def currents_a(self, reads: int, column: object, count: int) -> NDArray[np.float64]:
        """Currents of selected bit lines, mean of ``reads``."""
        first = self.lines.column if column is None else _index(self.bench.wiring.columns, column)
        if self.rows_v is not None:
            driven = np.flatnonzero(self.rows_v)
            if not len(driven):
                return np.zeros(count)
            low, high = int(driven[0]), int(driven[-1]) + 1
            cells_us = self._cells_us(low, high - low, first, count, reads)
            return np.asarray(self.rows_v[low:high] @ cells_us * 1e-6)
        if self.lines.row is None:
            return np.zeros(count)
        return np.asarray(self._cells_us(self.lines.row, 1, first, count, reads)[0] * 1e-6 * self.volts_v)

    def pulse(self, volts_v: NDArray[np.float64], width_s: float) -> None:
        """One pulse on the selected cells."""
        if self.lines.row is None:
            raise ValueError("no word line is selected")
        self._let_time_pass()
        for polarity, sign in ((Polarity.SET, 1), (Polarity.RESET, -1)):
            chosen = np.where(volts_v * sign > 0, np.abs(volts_v), 0.0)
            if chosen.any():
                block = CellBlock(self.lines.macro, self.lines.row, 1, self.lines.column, len(volts_v))
                millivolts = np.rint(chosen[None] * 1e3).astype(np.uint16)
                self._sample += 1
                call(self.cells, Pulse(block, polarity, round(width_s * 1e9), self._sample, millivolts))

    def _cells_us(self, row: int, rows: int, column: int, columns: int, reads: int) -> NDArray[np.float64]:
        self._let_time_pass()
        self._sample += 1
        block = CellBlock(self.lines.macro, row, rows, column, columns)
        reply = call(self.cells, ReadCells(block, self.unit_ns, reads, self._sample))
        assert isinstance(reply, CellReadings)
        return np.asarray(reply.readings * (self.unit_ns / 1e3), np.float64)

    def _let_time_pass(self) -> None:
        now_ns = self.clock_ns()
        if now_ns - self._since_ns > _LET_PASS_NS:
            call(self.cells, Wait(now_ns - self._since_ns))
            self._since_ns = now_ns


def _index(contacts: tuple[int | str, ...], contact: object) -> int:
    """Where a contact stands in a wiring; in an order a number and a text of digits are the same."""
    wanted, texts = str(int(contact)) if isinstance(contact, float) else str(contact), list(map(str, contacts))
    if wanted not in texts:
        raise ValueError(f"nothing is wired to contact {wanted}")
    return texts.index(wanted)
