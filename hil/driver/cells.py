"""Verbs on single cells: program them to a conductance, read them back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import encode_tile
from firmware_protocols.capability import SINCE
from firmware_protocols.extensions.write_rounds import LEAVE_ALONE, WriteRounds
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    Polarity,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Reply,
    Request,
    TileAddress,
    TileProgrammed,
)
from hil.driver import requests as make
from hil.driver.checked_chip import OpenChip
from hil.errors import DeviceError, UsageError

FRESH_READS, MOST_FRESH = 64, 0.25  # averaged; share of the cells of a write that may read as never formed
CellProgress = Callable[[int, int, int], None]
"""Called with (cells done, cells in all, cells failed so far)."""


@dataclass(frozen=True, slots=True)
class CellOutcome:
    """What programming did; arrays (rows, columns) of the whole macro.

    ``readings_us``: last verify readings in µS, NaN where the cell was left alone;
    ``pulses``: uint16; ``reached``: inside the window at the last verify (true where left alone).
    """

    readings_us: NDArray[np.float32]
    pulses: NDArray[np.uint16]
    reached: NDArray[np.bool_]


class CellVerbs(OpenChip):
    """Programming and reading of cells."""

    def offer_writes(self, writes: Iterable[tuple[int, NDArray[np.floating]]], *, sample: int = 0) -> None:
        """Announce the next writes, (macro, targets as for ``program_cells``), so that a chip with room stores them.

        After a loss of power they need not be sent again.
        """
        if self._session.image is not None:
            made = (make.program_requests(self.spec, macro, targets, sample, self._most) for macro, targets in writes)
            self._session.image.offer(itertools.chain.from_iterable(made))

    def check_formed(self, macro: int, chosen: NDArray[np.bool_]) -> None:
        """Refuse to pulse cells, (rows, columns) of a macro, most of which were never formed.

        Only on a chip whose file says ``formed = false``, once a macro and session; by readings, without a pulse.
        """
        form = self.spec.form
        if form is None or form.formed or self.description.kind == "paper":
            return
        if macro not in self._fresh:
            self._fresh[macro] = self.read_cells(macro, reads=FRESH_READS) < form.fresh_us
        fresh = int((self._fresh[macro] & chosen).sum())
        if fresh > MOST_FRESH * chosen.sum():
            raise DeviceError(
                f"{fresh:,} of {int(chosen.sum()):,} cells of macro {macro} were never formed; they were not pulsed",
                where=self.address,
                likely=f"they read below {form.fresh_us:g} µS, and {self.spec.source} says that its cells come fresh",
                hint=f"hil board form formed.json {macro} --port {self.address} --chip {self.spec.source}",
            )

    def program_cells(
        self,
        macro: int,
        targets_us: NDArray[np.floating],
        *,
        sample: int = 0,
        progress: CellProgress | None = None,
    ) -> CellOutcome:
        """Bring cells to their targets by write-verify, on the chip or, pulse by pulse, from here.

        Args:
            targets_us: conductances in µS, (rows, columns) of the macro; NaN leaves a cell alone.
            sample: number of this programming; an emulated chip keys its noise with it.

        Raises:
            UsageError: targets outside the chip's levels; DeviceError: above an absolute limit, or
            refused; LinkError: silent or lost.
        """
        requests = make.program_requests(self.spec, macro, targets_us, sample, self._most)
        self.check_formed(macro, np.isfinite(targets_us))
        self._held = bytes(len(self._held))
        readings = np.full(targets_us.shape, np.nan, np.float32)
        pulses = np.zeros(targets_us.shape, np.uint16)
        reached = np.ones(targets_us.shape, np.bool_)
        for request, outcome in zip(requests, self._programmed(requests, progress), strict=True):
            at = make.block_slices(request.cells)
            used = request.targets != LEAVE_ALONE
            readings[at] = np.where(used, make.to_microsiemens(outcome.readings, outcome.unit_ns), np.nan)
            pulses[at] = np.where(used, outcome.pulses, 0)
            reached[at] = outcome.reached | ~used
        return CellOutcome(readings, pulses, reached)

    def program_tile(
        self,
        tile: TileAddress,
        levels: NDArray[np.int8],
        *,
        cells: NDArray[np.int8] | None = None,
        sample: int = 0,
        progress: CellProgress | None = None,
    ) -> CellOutcome:
        """Write signed weight levels, (rows, outputs), as the chip's encoding stores them; the rest is left alone.

        ``cells``, (2, rows, outputs), are levels of plus and minus cells instead of the sign form.
        """
        make.check_macro(self.spec, tile.macro)
        if levels.shape != (tile.rows, tile.outputs):
            raise UsageError(f"levels are {levels.shape}, the tile is {(tile.rows, tile.outputs)} (rows, outputs)")
        macro = self.spec.macro
        try:
            encoded = encode_tile(levels, macro, tile.row0, tile.output0, cells)
        except ValueError as error:
            raise UsageError(str(error)) from error
        targets = np.full((macro.rows, macro.columns), np.nan, np.float32)
        targets[np.ix_(encoded.word_lines, encoded.bit_lines)] = encoded.targets_us
        return self.program_cells(tile.macro, targets, sample=sample, progress=progress)

    def _programmed(self, requests: list[ProgramTile], progress: CellProgress | None) -> Sequence[TileProgrammed]:
        sizes = [int((r.targets != LEAVE_ALONE).sum()) for r in requests]
        outcomes: list[TileProgrammed] = []

        def report(done: int, _: int, failed: int) -> None:
            if progress is not None:
                before = sum(sizes[: len(outcomes)])
                missed = sum(int((~o.reached).sum()) for o in outcomes)
                progress(before + done, sum(sizes), missed + failed)

        if Capability.PROGRAM_TILE in self.capabilities:

            def watch(now: Progress) -> None:
                report(now.done, now.total, now.failed)

            for reply in self._session.ask_all(requests, watch):
                outcomes.append(reply)
                report(0, 0, 0)
        elif Capability.PULSE in self.capabilities:
            self.fall_back("write-verify: pulses chosen by the host (the chip has no PROGRAM_TILE)")
            for request in requests:
                outcomes.append(write_verify(request, self._session.ask, report))
        else:
            raise self._unable("programming", "neither PROGRAM_TILE nor PULSE")
        return outcomes

    def read_cells(
        self, macro: int, *, reads: int = 1, sample: int = 0, lines: range | None = None, rounded: bool = False
    ) -> NDArray[np.float32]:
        """Mean of ``reads`` readings of every cell of a macro through its read path, µS, (rows, columns).

        Args:
            lines: the word lines that are read; the rest is NaN.
            rounded: to a small part of the range of levels (``requests.reading_unit_ns``), over every line alike, since
                finer digits are noise that cannot be packed. A chip without packed bodies gets an unrounded request.
        """
        coarse = rounded and self._session.hello.version >= SINCE[Capability.PACKED]
        unit_ns = (make.reading_unit_ns if coarse else make.conductance_unit_ns)(self.spec.macro)
        requests = make.read_requests(self.spec, macro, reads, sample, self._most, lines, unit_ns)
        cells = np.full((self.spec.macro.rows, self.spec.macro.columns), np.nan, np.float32)
        for request, reply in zip(requests, self._session.ask_all(requests), strict=True):
            cells[make.block_slices(request.cells)] = make.to_microsiemens(reply.readings, reply.unit_ns)
        return cells

    def read_single(self, cells: Sequence[CellBlock], *, reads: int = 1, sample: int = 0) -> NDArray[np.float32]:
        """Mean of ``reads`` readings of each of some single cells, µS, in their order."""
        unit_ns = make.conductance_unit_ns(self.spec.macro)
        replies = self._session.ask_all([ReadCells(cell, unit_ns, reads, sample) for cell in cells])
        return np.array([make.to_microsiemens(r.readings, r.unit_ns)[0, 0] for r in replies], np.float32)

    def pulse_cells(
        self, macro: int, chosen: NDArray[np.bool_], polarity: Polarity, volts_v: float, width_s: float, sample: int
    ) -> None:
        """One pulse on each chosen cell, (rows, columns), of a macro; refused beyond the chip's limits."""
        millivolts = np.where(chosen, round(volts_v * 1e3), 0).astype(np.uint16)
        self._give(
            Pulse(b, polarity, round(width_s * 1e9), sample, millivolts[make.block_slices(b)])
            for b in make.blocks(macro, chosen, self._most, bytes_per_cell=2)
        )

    def _give(self, pulses: Iterable[Pulse]) -> None:
        if Capability.PULSE not in self.capabilities:
            raise self._unable("single pulses", "no PULSE")
        for _ in self._session.ask_all(pulses):
            pass

    def pulse_single(
        self, cells: Sequence[CellBlock], polarity: Polarity, volts_v: float, width_s: float, *, sample: int = 0
    ) -> None:
        """One pulse on each of some single cells, voltage and width as they are; refused beyond the chip's limits."""
        millivolts = np.full((1, 1), round(volts_v * 1e3), np.uint16)
        self._give(Pulse(cell, polarity, round(width_s * 1e9), sample, millivolts) for cell in cells)


_VERIFY = 1 << 63  # verify reads draw their noise from sample numbers that nothing else uses

R = TypeVar("R", bound=Reply)


class Ask(Protocol):
    """Sends one request and gives its answer (``Session.ask``)."""

    def __call__(self, request: Request[R]) -> R: ...


def write_verify(
    recipe: ProgramTile, ask: Ask, progress: Callable[[int, int, int], None] | None = None
) -> TileProgrammed:
    """Bring the cells of ``recipe`` to their targets with single pulses.

    Args:
        recipe: the request that a chip with write-verify would have got.
        ask: sends one request and gives its answer.
        progress: called with (cells done, cells in all, cells failed) after each round.
    """
    rounds, turn = WriteRounds(recipe), 0
    total, readings = int(rounds.open.sum()), np.zeros(recipe.targets.shape, np.uint16)
    while rounds.open.any():
        block, at = _around(recipe.cells, rounds.open)
        sample = _sample(recipe, turn)
        readings[at] = ask(ReadCells(block, recipe.unit_ns, recipe.verify_reads, sample)).readings
        rounds.verify(readings)
        if progress is not None:
            progress(total - int(rounds.open.sum()), total, rounds.missed)
        millivolts = rounds.next_millivolts()
        for polarity, sign in ((Polarity.SET, 1), (Polarity.RESET, -1)):
            chosen = millivolts * sign > 0
            if chosen.any():
                block, at = _around(recipe.cells, chosen)
                volts = np.where(chosen, np.abs(millivolts), 0).astype(np.uint16)[at]
                ask(Pulse(block, polarity, recipe.pulse_width_ns, sample, volts))
        turn += 1
    return rounds.outcome()


def _around(cells: CellBlock, chosen: NDArray[np.bool_]) -> tuple[CellBlock, tuple[slice, slice]]:
    """The smallest rectangle around the chosen cells, as a block of the macro and as slices of ``cells``."""
    rows, columns = np.flatnonzero(chosen.any(1)), np.flatnonzero(chosen.any(0))
    row0, row1, column0, column1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    block = CellBlock(cells.macro, cells.row0 + row0, row1 - row0, cells.column0 + column0, column1 - column0)
    return block, (slice(row0, row1), slice(column0, column1))


def _sample(recipe: ProgramTile, turn: int) -> int:
    """Sample number of a round's pulses and readings, which makes its noise distinct and repeatable."""
    return (_VERIFY | (recipe.sample * (recipe.max_pulses + 1) + turn)) & 0xFFFF_FFFF_FFFF_FFFF
