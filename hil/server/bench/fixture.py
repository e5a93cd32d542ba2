"""The shared model behind the stand-ins of a bench: selected lines, voltages, and the cells of an emulated chip."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.handlers import ChipHandlers, call
from firmware_protocols.messages import CellBlock, CellReadings, Polarity, Pulse, ReadCells, Wait
from hil.server.bench.bench_file import BenchFile

_MOST_COUNTS = 0xFFFE
_OUTLIERS = 1.6  # times the highest level that a cell may have and still be told
_READS_OF_A_PULSE = 64  # that its current is the mean of
_LET_PASS_NS = 10_000_000  # less time than this is not given to the chip by itself


class Clock(Protocol):
    """Time of the cells, and of voltages that settle."""

    def now_ns(self) -> int: ...

    def pause(self, seconds: float) -> None: ...


class MachineClock:
    """The clock of this machine."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)


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

    A voltage that is held reaches the cells with a time constant: u(t) = u₁ + (u₀ − u₁) exp(−t / ``settling_s``).
    ``cells`` is asked by the verbs of a chip role; chip time follows ``clock``.
    """

    bench: BenchFile
    cells: ChipHandlers
    clock: Clock = field(default_factory=MachineClock)
    settling_s: float = 0.0
    lines: OpenLines = field(default_factory=OpenLines)
    rows_v: NDArray[np.float64] | None = None  # of every word line, where they are driven at once
    temperature_c: float = 25.0
    answers: int = 0  # of all instruments until now
    _sample: int = 0
    _since_ns: int = 0
    _before_v: float = 0.0
    _held_v: float = 0.0
    _held_ns: int = 0

    def __post_init__(self) -> None:
        self._since_ns = self.clock.now_ns()
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

    @property
    def volts_v(self) -> float:
        """The voltage on the selected lines now."""
        if not self.settling_s:
            return self._held_v
        left = np.exp(-(self.clock.now_ns() - self._held_ns) * 1e-9 / self.settling_s)
        return float(self._held_v + (self._before_v - self._held_v) * left)

    def hold(self, volts_v: float) -> None:
        if volts_v != self._held_v:
            self._before_v, self._held_v, self._held_ns = self.volts_v, volts_v, self.clock.now_ns()
        self.rows_v = None

    def hold_rows(self, macro: int, volts_v: NDArray[np.float64]) -> None:
        """Voltages on every word line of a macro; they are settled at once."""
        self.lines.macro, self.rows_v = macro, volts_v

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

    def pulse_currents_a(self, volts_v: NDArray[np.float64], limit_a: float) -> NDArray[np.float64]:
        """Currents that pulses begin with, where one may reach the limit; else zeros."""
        highest_us = _OUTLIERS * self.bench.chip.macro.levels_us[-1]
        if self.lines.row is None or np.abs(volts_v).max() * highest_us * 1e-6 < limit_a:
            return np.zeros(len(volts_v))
        cells_us = self._cells_us(self.lines.row, 1, self.lines.column, len(volts_v), _READS_OF_A_PULSE)[0]
        return np.asarray(np.abs(volts_v) * cells_us * 1e-6)

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
        now_ns = self.clock.now_ns()
        if now_ns - self._since_ns > _LET_PASS_NS:
            call(self.cells, Wait(now_ns - self._since_ns))
            self._since_ns = now_ns


def _index(contacts: tuple[int | str, ...], contact: object) -> int:
    """Where a contact stands in a wiring; in an order a number and a text of digits are the same."""
    wanted, texts = str(int(contact)) if isinstance(contact, float) else str(contact), list(map(str, contacts))
    if wanted not in texts:
        raise ValueError(f"nothing is wired to contact {wanted}")
    return texts.index(wanted)
