"""A bench of instruments as a chip: the verbs of a macro, done through the roles of its instruments."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import code_limits, quantise_adc, split_planes
from cim.chip.encoding import cell_lines
from firmware_protocols.capability import COMPUTED_PRODUCTS
from firmware_protocols.extensions.write_rounds import LEAVE_ALONE, WriteRounds
from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    CellReadings,
    Description,
    Done,
    ErrorCode,
    Mvm,
    MvmResult,
    Polarity,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Request,
    Returns,
    StatusReply,
    TileProgrammed,
)
from firmware_protocols.outputs import Known, OutputState
from hil.errors import HilError, LinkError
from hil.server.bench.bench_file import BenchFile, load_bench
from hil.server.bench.cells import BenchCells, converted, on_word_lines
from hil.server.bench.faults import ComplianceTrip
from hil.server.bench.guard import Guard
from hil.server.bench.instrument import Instrument
from hil.server.bench.roles import Contact, carry_out
from hil.server.board import Board
from hil.server.request_checks import check_request
from hil.transports import open_transport
from hil.transports.dies import Happened, judge, note, refuse_quarantined
from hil.transports.locks import Lock

T = TypeVar("T")
EMULATED = "EMULATED"  # stands in the identity of every stand-in
_MOST_COUNTS = 0xFFFE  # of a cell reading
_TELLS_S = 0.2  # between two signs of progress
_MV_PER_V, _NS_PER_S, _ROUNDING = 1e3, 1e9, 1e-9


class BenchChip(Board):
    """``ChipHandlers`` before the instruments of a bench.

    Limits are set and read back, and timers set, before outputs go on. Of one instrument that does everything they are
    on only while it works through one message, which ends with the order that switches them off; of several, while a
    request is carried out, and off at its end, whatever that is.
    """

    capabilities = Capability.PROGRAM_TILE | Capability.PULSE | Capability.RAW

    def __init__(self, bench: BenchFile) -> None:
        """Raises ``PortError``, ``InstrumentSilent``, ``InstrumentFault``: an instrument is taken, or not it."""
        super().__init__(bench.chip)
        self.bench, self._lines_open = bench, True
        self.instruments: dict[str, Instrument] = {}
        with contextlib.ExitStack() as opened:
            self._locks: list[Lock] = []
            for what in (f"bench {Path(bench.path).resolve()}", *(e.port for e in bench.instruments.values())):
                self._locks.append(Lock(what))
                opened.callback(self._locks[-1].release)
            for name, entry in bench.instruments.items():
                line = open_transport(entry.line)
                several = len(bench.instruments) > 1
                self.instruments[name] = Instrument(entry, line, bench.current_a, beside_others=several)
                opened.callback(self.instruments[name].close)
            self.identities = [instrument.hello() for instrument in self.instruments.values()]
            emulated = any(EMULATED in identity for identity in self.identities)
            self._die = "" if emulated else bench.serial
            self._guard = Guard.of(bench, self._die)
            self._guard.watch()
            opened.pop_all()
        drive, pulser = (self.instruments[entry.name] for entry in bench.drives)
        self._power = [self.instruments[name] for name in bench.roles["power"]]
        waits = bench.settle_s and not drive.can("settle")  # by the host, between two messages
        self._alone = drive if len(self.instruments) == 1 and not waits else None
        self.outputs = OutputState(Known.UNKNOWN)
        self._using: list[Instrument] = []  # whose outputs are on for the request under way
        self._cells = BenchCells(bench, self._one("address"), drive, self._one("sense"), pulser, self._alone)
        self._take_over()

    def _take_over(self) -> None:
        """Outputs off; only then are locks cleared that a program left which did not end by itself."""
        try:
            self.outputs_off()
        except HilError as error:
            self.close()
            error.add_note(str(self.outputs))
            raise
        left_by = next((lock.left_by for lock in self._locks if lock.left_by), None)
        if left_by is not None and self._die:
            timers = (entry.model.has_timer for entry in self.bench.instruments.values())
            judge(self._die, left_by, "its instruments' timers" * all(timers))
        for lock in self._locks:
            lock.clear(str(self.outputs))

    def _one(self, role: str) -> Instrument:
        return self.instruments[self.bench.roles[role][0]]

    # --- who it is ----------------------------------------------------------------------------

    def describe(self) -> Description:
        macro, products = self.spec.macro, f"; {COMPUTED_PRODUCTS}" if self.bench.computes_products else ""
        return Description(
            name=self.spec.name,
            revision=self.spec.revision,
            serial=self.bench.serial,
            firmware=f"bench {self.bench.name}: {', '.join(i.model.name for i in self.instruments.values())}{products}",
            kind="silicon" if self._die else "emulated",
            macros=self.spec.macros,
            rows=macro.rows,
            columns=macro.columns,
            spec_digest=bytes.fromhex(self.spec.digest),
            program_digest=bytes(32),
        )

    def status(self) -> StatusReply:
        temperature = math.nan
        for name in self.bench.roles.get("thermal", ()):
            answer = carry_out(self.instruments[name].temperature_c())[-1]
            temperature = math.nan if answer is None or isinstance(answer, str) else float(answer[0])
        return StatusReply(temperature, self.outputs_on or self.outputs.known is Known.UNKNOWN, 0, 0)

    def prepare(self, request: Request[Any]) -> None:
        """Refuse pulses shorter than the instrument can give (the chip file sets the widths), then as every board."""
        check_request(request, self.spec)
        if isinstance(request, Pulse | ProgramTile):
            width_ns = request.width_ns if isinstance(request, Pulse) else request.pulse_width_ns
            model = self._cells.pulser.model
            shortest_ns = model.ranges["width_s"].low * _NS_PER_S
            if width_ns < shortest_ns * (1.0 - _ROUNDING):
                raise Refusal(ErrorCode.OUT_OF_RANGE, f"a pulse too short for {model.name}, ns", width_ns, shortest_ns)
        super().prepare(request)

    # --- verbs --------------------------------------------------------------------------------

    def read_cells(self, request: ReadCells) -> Generator[Progress | None, None, CellReadings]:
        cells, steps = request.cells, self._cells.currents_a(*_lines(request.cells), request.reads)
        with self._outputs(self._cells.drive, self._cells.sense):
            currents_a = yield from _Telling().of(
                steps, cells.rows * cells.columns * request.reads * self.bench.averages
            )
        return CellReadings(request.unit_ns, self._counts(currents_a, request.unit_ns))

    def program_tile(self, request: ProgramTile) -> Generator[Progress | None, None, TileProgrammed]:
        """Write-verify here, part by part: lines and outputs stay as they are between a pulse and its verify."""
        shape, asked = request.targets.shape, request.targets != LEAVE_ALONE
        readings, pulses, reached = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16), np.ones(shape, np.bool_)
        done = told = failed = 0
        telling = _Telling()
        with self._outputs(self._cells.drive) if self._cells.one_gives_all else contextlib.nullcontext():
            for at in self._cells.together(request.cells):
                so_far = Progress(done, int(asked.sum()), failed)
                outcome = yield from self._write(_part(request, at), so_far, telling)
                readings[at], pulses[at], reached[at] = outcome.readings, outcome.pulses, outcome.reached
                done, failed = done + int(asked[at].sum()), failed + int((~outcome.reached).sum())
                if done - told >= request.cells.columns:
                    told = done
                    yield Progress(done, int(asked.sum()), failed)
        return TileProgrammed(request.unit_ns, readings, pulses, reached)

    def _write(
        self, request: ProgramTile, so_far: Progress, telling: _Telling
    ) -> Generator[Progress | None, None, TileProgrammed]:
        """Write the cells of a part in rounds, each on cells outside the window; ``so_far``: progress of all parts."""
        rounds, bench, width_s = WriteRounds(request), self._cells, request.pulse_width_ns / _NS_PER_S
        cells = int(rounds.open.sum())

        def tell(_: int) -> Progress:
            return Progress(so_far.done + cells - int(rounds.open.sum()), so_far.total, so_far.failed)

        kept = contextlib.nullcontext() if bench.one_gives_all else None  # outputs are on already
        while rounds.open.any():
            with kept or self._outputs(bench.drive, bench.sense):
                steps = bench.currents_a(*_lines(request.cells), request.verify_reads, rounds.open)
                found_a = yield from telling.of(steps, 0, tell)
            rounds.verify(self._counts(found_a, request.unit_ns))
            volts_v = rounds.next_millivolts() / _MV_PER_V
            if volts_v.any():
                with kept or self._outputs(bench.pulser):
                    yield from telling.of(bench.pulses(*_lines(request.cells), volts_v, width_s), 0, tell)
        return rounds.outcome()

    def pulse(self, request: Pulse) -> Generator[Progress | None, None, Done]:
        sign = 1.0 if request.polarity is Polarity.SET else -1.0
        volts_v = sign * request.millivolts.astype(np.float64) / _MV_PER_V
        with self._outputs(self._cells.pulser):
            steps = self._cells.pulses(*_lines(request.cells), volts_v, request.width_ns / _NS_PER_S)
            yield from _Telling().of(steps, volts_v.size)
        return Done()

    def mvm(self, request: Mvm) -> Generator[Progress | None, None, MvmResult]:
        macro, tile = self.spec.macro, request.tile
        assert tile is not None  # a chip without layers is asked for tiles only
        rows, columns = cell_lines(macro, tile.row0, tile.rows, tile.output0, tile.outputs)
        planes = split_planes(request.codes, macro.inputs, request.input_bits, request.input_signed).swapaxes(0, 1)
        units = on_word_lines(planes, macro)  # (vectors, planes, word lines)
        with self._outputs(self._cells.drive, self._cells.sense):
            if self.bench.computes_products:
                computed = self._cells.products_a(tile.macro, units, rows.tolist(), columns.tolist(), request.reads)
                lines_a = yield from _Telling().of(
                    computed, int(units.any(0).sum()) * columns.size * request.reads * self.bench.averages
                )
            else:
                measured = self._cells.line_currents_a(tile.macro, units, rows, columns.tolist())
                lines_a = yield from _Telling().of(measured, units.shape[0] * units.shape[1] * columns.size)
        sums_us = converted(lines_a / macro.v_read_v * 1e6, macro)
        codes = quantise_adc(sums_us, macro.lsb_us(request.range_code), macro.adc.bits, macro.adc_signed)
        at_an_end = np.isin(codes, code_limits(macro.adc.bits, macro.adc_signed))
        return MvmResult(Returns.RAW, int(at_an_end.sum()), codes.size, codes)

    def outputs_off(self) -> Done:
        """Switch off every instrument, even after errors of others; then raise the first error. ``outputs``: resulting
        state.

        If one does not answer, the guard process switches it off over its own line.
        """
        if not self._lines_open:
            self._guard.rest()
        known, troubles = {Known.OFF}, dict[str, HilError]()
        self._cells.forget_lines()
        for instrument in self._power:
            entry = instrument.entry
            try:
                if not self._lines_open:
                    instrument.connect(open_transport(entry.line))
                known.add(instrument.make_safe())
            except HilError as error:
                troubles[f"{entry.name} ({entry.model.name}) at {entry.port}"] = error
        self.outputs_on = False
        self.outputs = OutputState(Known.TOLD if Known.TOLD in known else Known.OFF)
        if troubles:
            self.outputs = OutputState(Known.UNKNOWN, ", ".join(troubles))
        if troubles or not self._lines_open:
            self._hand_over()
        for trouble in troubles.values():
            raise trouble
        return Done()

    def _hand_over(self) -> None:
        """Give the lines free for the guard; ``switch_on`` opens them anew."""
        for instrument in self.instruments.values():
            instrument.close()
        self._guard.act()  # nothing, where it acts already
        self._lines_open = False

    def close(self) -> None:
        """Outputs off, lines closed; the bench cannot be used any more."""
        try:
            if self._lines_open:
                self.outputs_off()
        finally:
            self._lines_open = False  # work that was given up may be told so behind this
            for instrument in self.instruments.values():
                instrument.close()
            self._guard.dismiss()
            for lock in self._locks:
                lock.release(clean=self.outputs.known is not Known.UNKNOWN)

    # --- outputs ------------------------------------------------------------------------------

    def switch_on(self) -> None:
        """Write the chip file's limits into all instruments, read them back and set timers; then outputs may go on."""
        refuse_quarantined(self._die)
        if not self._lines_open:
            self._guard.rest()
            for instrument in self.instruments.values():
                instrument.connect(open_transport(instrument.entry.line))
                instrument.hello()
            self._lines_open = True
        self._guard.watch()
        width_s = self.spec.limits.pulse_width_ns / _NS_PER_S
        for instrument in self._power:
            volts_v = self.bench.highest_v(instrument.entry.name)
            instrument.set_limits(volts_v, self.bench.current_a, width_s, self.bench.off_within_s)
        carry_out(step for instrument in self._using for step in instrument.on())  # a request that was held up goes on

    @contextlib.contextmanager
    def _outputs(self, *using: Instrument) -> Iterator[None]:
        """Outputs may be on while the block runs, and are off behind it however it ends.

        Of several instruments those that are used are on: a pulse generator that rests does not shunt a reading.
        """
        powered = self._using = [i for i in self._power if i in using] if self._alone is None else []
        self._cells.forget_lines()
        try:
            carry_out(step for instrument in powered for step in instrument.on())
            yield
            for instrument in powered:
                instrument.finish()
            if self._cells.address not in powered and self._alone is None:
                self._cells.address.check_errors("when lines were connected")
            self.outputs_on = False
        except ComplianceTrip as trip:
            self.outputs_off()
            text = self._trip_text(trip)
            if self._die:
                note(self._die, Happened.QUARANTINED, text)
            raise Refusal(ErrorCode.FAULT, text) from None
        except LinkError:  # also of an instrument that has no outputs
            try:
                self.outputs_off()
            finally:
                self._hand_over()
            raise
        except BaseException:
            self.outputs_off()
            raise
        finally:
            self._using = []

    def _trip_text(self, trip: ComplianceTrip) -> str:
        values, bench = trip.step.values, self.bench
        first = int(np.flatnonzero(trip.held)[0])
        column = _line(bench.wiring.columns, values.get("column"), first)
        row = _line(bench.wiring.rows, values.get("row"), 0)
        where = f"macro {values.get('macro', 0)}, {row and f'row {row}, '}column {column}"
        at_v = np.resize(np.asarray(values.get("volts_v", self.spec.macro.v_read_v), np.float64), len(trip.held))[first]
        reading_a = min(abs(float(trip.readings[first])), bench.current_a)
        return (
            f"the compliance of {bench.current_a:g} A holds the current of {where}, at "
            f"{at_v:g} V: {reading_a:g} A; {int(trip.held.sum())} of {len(trip.held)} readings; "
            f"{self.outputs}"
        )

    # --- currents -----------------------------------------------------------------------------

    def _counts(self, currents_a: NDArray[np.float64], unit_ns: int) -> NDArray[np.uint16]:
        """Conductances of cells at the read voltage as a message has them."""
        counts = np.rint(currents_a / self.spec.macro.v_read_v * _NS_PER_S / unit_ns)
        return np.clip(counts, 0, _MOST_COUNTS).astype(np.uint16)


def open_bench(rest: str) -> BenchChip:
    """The chip of ``--port bench:REST``; REST is the path of a bench file. It is closed at the end of this process."""
    chip = BenchChip(load_bench(rest))
    atexit.register(_close, chip)
    return chip


def _close(chip: BenchChip) -> None:
    with contextlib.suppress(HilError):  # of a line that was lost, which was said already
        chip.close()


class _Telling:
    """Time of the last progress report of a request, over all its parts."""

    def __init__(self) -> None:
        self._told_s = time.monotonic()

    def of(
        self, steps: Generator[int, None, T], total: int, tell: Callable[[int], Progress] | None = None
    ) -> Generator[Progress | None, None, T]:
        """Carry out steps that say how much they did, and tell now and then how far they are, or what ``tell`` says."""
        done = 0
        with contextlib.closing(steps):
            while True:
                try:
                    done = min(done + next(steps), total)
                except StopIteration as end:
                    found: T = end.value
                    return found
                due = time.monotonic() - self._told_s >= _TELLS_S
                self._told_s = time.monotonic() if due else self._told_s
                yield (tell(done) if tell else Progress(done, total, 0)) if due else None


def _part(request: ProgramTile, at: tuple[slice, slice]) -> ProgramTile:
    """The write of a part of a block."""
    (row, rows), (column, columns) = ((s.start, s.stop - s.start) for s in at)
    cells = CellBlock(request.cells.macro, request.cells.row0 + row, rows, request.cells.column0 + column, columns)
    return dataclasses.replace(request, cells=cells, targets=request.targets[at])


def _lines(cells: CellBlock) -> tuple[int, range, range]:
    """Macro, word lines and bit lines of a block."""
    return (
        cells.macro,
        range(cells.row0, cells.row0 + cells.rows),
        range(cells.column0, cells.column0 + cells.columns),
    )


def _line(contacts: tuple[Contact, ...], contact: object, further: int) -> str:
    """The number of a line by its contact, or by one that stands so many channels before it."""
    wanted = contact + further if isinstance(contact, int) else contact
    return str(contacts.index(wanted)) if wanted in contacts else ""
