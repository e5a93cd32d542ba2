"""Cells of a bench through the roles of its instruments: currents of cells and lines, and pulses."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import Encoding, MacroSpec, PairSubtraction
from firmware_protocols.messages import CellBlock
from hil.server.bench.bench_file import BenchFile
from hil.server.bench.instrument import Instrument
from hil.server.bench.roles import Answer, Crossing, OrderStep, Value, carry_out

Place: TypeAlias = tuple[slice, int, tuple[int, slice]]  # steps of measurements, how many, and of which row and columns

_ROWS_TOGETHER = 64  # that are written turn by turn
_STEPS_A_SLICE, _SLICE_S = 256, 0.2  # at most, and about, between two looks at the link
_FIRST_PER_S = 50.0  # readings, or pulses, of an instrument whose pace is not known yet
_FASTER = 4.0  # times its pace until now that one may be trusted to have


@dataclass
class BenchCells:
    """What instruments measure and pulse; outputs are the chip's matter, those of ``alone`` go on within each message.

    Generators yield between two orders, as a chip role does: how many readings, or pulses, of cells there were since.

    ``alone``: the one instrument that has every role.
    """

    bench: BenchFile
    address: Instrument
    drive: Instrument
    sense: Instrument
    pulser: Instrument
    alone: Instrument | None
    _connected: Crossing | None = field(default=None, init=False)  # lines that are known to be, of several instruments
    _per_s: float = field(default=_FIRST_PER_S, init=False)  # readings or pulses, by the slice before
    _offs: int = field(default=0, init=False)  # how many times the outputs went off
    _prepared: dict[str, OrderStep] = field(default_factory=dict, init=False)  # lines and voltages now, by order

    @property
    def one_gives_all(self) -> bool:
        """One instrument drives, pulses and senses: outputs need not go off between a pulse and its verify."""
        return self.drive is self.sense is self.pulser

    def forget_lines(self) -> None:
        """Forget which lines are connected: the outputs are off, or were switched off."""
        self._connected = None
        self._offs += 1

    def together(self, cells: CellBlock) -> list[tuple[slice, slice]]:
        """Parts of a block that are written turn by turn, each by itself.

        What a dialogue of several instruments reaches one after the other is done one after the other: lines stay.
        """
        if self.alone is not None or not self.one_gives_all:
            starts = range(0, cells.rows, _ROWS_TOGETHER)
            return [(slice(row, min(row + _ROWS_TOGETHER, cells.rows)), slice(0, cells.columns)) for row in starts]
        columns = range(cells.column0, cells.column0 + cells.columns)
        runs = [here for _, here in self.bench.wiring.crossings(cells.macro, None, columns)]
        return [(slice(row, row + 1), here) for row in range(cells.rows) for here in runs]

    def currents_a(
        self,
        macro: int,
        rows: Sequence[int],
        columns: Sequence[int],
        reads: int,
        wanted: NDArray[np.bool_] | None = None,
    ) -> Generator[int, None, NDArray[np.float64]]:
        """Current of each cell by itself at the read voltage, mean of ``reads``; (rows, columns) in A.

        ``wanted``: cells that are needed, others may stay 0; None: all.
        """
        wanted = np.ones((len(rows), len(columns)), np.bool_) if wanted is None else wanted
        found_a = yield from self.readings_a(macro, rows, columns, reads, wanted.astype(np.intp))
        return np.asarray(found_a[0])

    def products_a(
        self, macro: int, units: NDArray[np.int16], rows: Sequence[int], columns: Sequence[int], reads: int
    ) -> Generator[int, None, NDArray[np.float64]]:
        """Currents of bit lines from those of their cells, (vectors, planes, columns) in A.

        A cell is read anew for each plane that drives its row, as a product of all rows does: one reading for all
        planes of a code would have its error weighted by the whole code, up to 1.7 times that of a product. These
        readings follow each other, so that lines are connected once for all of them.
        """
        needed = units.any(0)  # (planes, word lines)
        times = np.repeat(needed.sum(0)[:, None], len(columns), axis=1)
        cells_a = yield from self.readings_a(macro, rows, columns, reads, times)
        numbers = np.cumsum(needed, axis=0) - 1  # of the reading of each word line for each plane
        planes_a = [
            driven @ cells_a[number, np.arange(len(rows))]
            for driven, number in zip(units.swapaxes(0, 1), numbers, strict=True)
        ]
        return np.stack(planes_a, axis=1)

    def readings_a(
        self, macro: int, rows: Sequence[int], columns: Sequence[int], reads: int, times: NDArray[np.intp]
    ) -> Generator[int, None, NDArray[np.float64]]:
        """Currents of cells as ``currents_a``, of some again: (most of ``times``, rows, columns) in A.

        ``times``: how often each cell is wanted, (rows, columns); what is not asked for may stay 0.
        """
        found_a, read_v = np.zeros((max(1, times.max()), *times.shape)), self.bench.chip.macro.v_read_v
        steps, places = list[OrderStep](), list[Place]()
        for number, row in enumerate(rows):
            driven: dict[str, Value] = {"volts_v": read_v}
            if self.sense.model.uses("currents", "rows_volts_v"):
                driven["rows_volts_v"] = read_v * (np.arange(self.bench.chip.macro.rows) == row)
            for crossing, here in self.bench.wiring.crossings(macro, row, columns):
                if not (again := int(times[number, here].max())):
                    continue
                prepare = self._connect(crossing) + self.drive.volts(crossing, read_v) + self._settle()
                measured = self.sense.currents_a(crossing, reads * self.bench.averages, **driven) * again
                group = self._group(prepare, measured)
                places.append((slice(len(steps), len(steps) + len(group)), again, (number, here)))
                steps += group
                if len(steps) >= _STEPS_A_SLICE:
                    yield from self._measure(steps, places, found_a)
        yield from self._measure(steps, places, found_a)
        return found_a

    def line_currents_a(
        self, macro: int, units: NDArray[np.int16], rows: NDArray[np.intp], columns: Sequence[int]
    ) -> Generator[int, None, NDArray[np.float64]]:
        """Currents of bit lines while all rows of a product are driven; (vectors, planes, columns) in A."""
        driven = units.reshape(-1, units.shape[-1])
        found_a = np.zeros((1, len(driven), len(columns)))
        steps, places = list[OrderStep](), list[Place]()
        for number, plane in enumerate(driven):
            volts_v = np.zeros(self.bench.chip.macro.rows)
            volts_v[rows] = plane * self.bench.chip.macro.v_read_v
            prepare = self.drive.rows_volts(macro, volts_v) + self._settle()
            for crossing, here in self.bench.wiring.crossings(macro, None, columns):
                measured = self.sense.currents_a(crossing, self.bench.averages, rows_volts_v=volts_v)
                group = self._group(prepare, measured)
                places.append((slice(len(steps), len(steps) + len(group)), 1, (number, here)))
                steps += group
                prepare = prepare if self.alone is not None else []
            if len(steps) >= _STEPS_A_SLICE:
                yield from self._measure(steps, places, found_a)
        yield from self._measure(steps, places, found_a)
        return found_a.reshape(*units.shape[:-1], len(columns))

    def pulses(
        self, macro: int, rows: range, columns: range, volts_v: NDArray[np.float64], width_s: float
    ) -> Generator[int, None, None]:
        """One pulse on each cell whose voltage, (rows, columns), is not zero: above SET, below RESET."""
        at_once = self.bench.wiring.columns_at_once if self.pulser.model.uses("pulse", "count") else 1
        steps: list[OrderStep] = []
        for number, row in enumerate(rows):
            for crossing, here in self.bench.wiring.crossings(macro, row, columns, at_once):
                if (volts := volts_v[number, here]).any():
                    steps += self._group(self._connect(crossing), self.pulser.pulse(crossing, volts, width_s))
            if len(steps) >= _STEPS_A_SLICE:
                yield from self._in_slices(steps)
                steps = []
        yield from self._in_slices(steps)

    def _measure(
        self, steps: list[OrderStep], places: list[Place], found_a: NDArray[np.float64]
    ) -> Generator[int, None, None]:
        """Carry out steps, put the means of their answers in their places, and begin anew."""
        answers = yield from self._in_slices(steps)
        for at, times, here in places:
            measured = [_numbers(a) for a, step in zip(answers[at], steps[at], strict=True) if step.works]
            found_a[:times, *here] = np.reshape(measured, (times, len(measured) // times, -1)).mean(1)
        steps.clear()
        places.clear()

    def _in_slices(self, steps: list[OrderStep]) -> Generator[int, None, list[Answer]]:
        """Carry out steps, and look at the link after about ``_SLICE_S``, however long an instrument integrates.

        Where the outputs went off meanwhile (work was held up, and goes on), lines and voltages are given again.
        """
        answers, offs = list[Answer](), self._offs
        while part := self._slice(steps[len(answers) : len(answers) + _STEPS_A_SLICE]):
            again = list(self._prepared.values()) if offs != self._offs and self.alone is None else []
            began_s, offs = time.monotonic(), self._offs
            answers += self._carry_out([*again, *part])[len(again) :]
            self._note(part)
            took_s = max(time.monotonic() - began_s, 1e-6)
            self._per_s = min(sum(map(_readings, part)) / took_s, _FASTER * self._per_s)
            yield round(sum(_readings(step) * _cells(step) for step in part if step.works))
        return answers

    def _note(self, steps: list[OrderStep]) -> None:
        """Note which lines and voltages are set after these steps."""
        for step in steps:
            if step.order == "select":
                self._prepared = {"select": step}
            elif not step.works:
                self._prepared[step.order] = step

    def _group(self, prepare: list[OrderStep], works: list[OrderStep]) -> list[OrderStep]:
        """Orders that measure or pulse with what prepares them; once, unless outputs may go off between two of them."""
        if self.alone is None:
            return [*prepare, *works]
        return [step for work in works for step in (*prepare, work)]

    def _slice(self, steps: list[OrderStep]) -> list[OrderStep]:
        """The first steps that take a time slice together, with their preparation; at least one reading or pulse."""
        readings, whole = 0.0, 0
        for number, step in enumerate(steps, 1):
            readings += _readings(step)
            if whole and readings > self._per_s * _SLICE_S:
                break
            whole = number if step.works else whole
        return steps[: whole or len(steps)]

    def _carry_out(self, steps: list[OrderStep]) -> list[Answer]:
        return carry_out(steps) if self.alone is None else self.alone.with_outputs(steps)

    def _connect(self, at: Crossing) -> list[OrderStep]:
        """Steps that connect lines; none if they are connected already, to spare relays and messages."""
        if self.alone is None and at == self._connected:
            return []
        self._connected = at
        return self.address.select(at)

    def _settle(self) -> list[OrderStep]:
        return self.drive.settle(self.bench.settle_s) if self.bench.settle_s else []


def _readings(step: OrderStep) -> float:
    """Readings that an order averages; one for any other order, as long as one may take."""
    return float(np.asarray(step.values.get("reads", 1.0), np.float64))


def _cells(step: OrderStep) -> float:
    return float(np.asarray(step.values.get("count", 1.0), np.float64))


def _numbers(answer: Answer) -> NDArray[np.float64]:
    if answer is None or isinstance(answer, str):
        raise TypeError(f"an order that measures answers {answer!r:.40}")
    return answer


def on_word_lines(planes: NDArray[np.int16], macro: MacroSpec) -> NDArray[np.int16]:
    """Inputs of logical rows on their word lines, (…, word lines): a row pair's minus line gets the opposite sign."""
    if macro.encoding is not Encoding.ROW_PAIRS:
        return planes
    return np.stack([planes, -planes], axis=-1).reshape(*planes.shape[:-1], -1)


def converted(lines_us: NDArray[np.float64], macro: MacroSpec) -> NDArray[np.float64]:
    """Values of a read in the order of ``cim.chip.converters.conversions``, from those of its bit lines."""
    if macro.encoding is not Encoding.DIFFERENTIAL_COLUMNS:
        return lines_us
    plus, minus = lines_us[..., 0::2], lines_us[..., 1::2]
    if macro.pair_subtraction is PairSubtraction.DIGITAL:
        return np.concatenate([plus, minus], axis=-1)
    return plus - minus
