"""Write-verify run by the host (``WriteRounds``), for boards that only give single pulses and read cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.extensions.write_rounds import WriteRounds
from firmware_protocols.messages import (
    CellBlock,
    Polarity,
    ProgramTile,
    Pulse,
    ReadCells,
    Reply,
    Request,
    TileProgrammed,
)

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
