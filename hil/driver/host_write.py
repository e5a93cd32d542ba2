"""Write-verify run by the host, for boards that only give single pulses and read cells.

The recipe is the one that a chip with ``PROGRAM_TILE`` runs by itself: read every open cell,
give those outside the window one pulse, read again. A cell below its window gets SET pulses,
one above it RESET pulses; the voltage starts at the recipe's start, grows by its step while
the direction stays, is held at its stop, and starts anew when the direction turns. A cell is
done, and no longer touched, when a verify finds it inside; it has failed after ``max_pulses``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from firmware_protocols.messages import CellBlock, Polarity, ProgramTile, Pulse, ReadCells, Reply, Request
from hil.driver.requests import LEAVE_ALONE

_VERIFY = 1 << 63  # verify reads draw their noise from sample numbers that nothing else uses

R = TypeVar("R", bound=Reply)


class Ask(Protocol):
    """Sends one request and gives its answer (``Session.ask``)."""

    def __call__(self, request: Request[R]) -> R: ...


@dataclass(frozen=True, slots=True)
class BlockOutcome:
    """Last verify readings (counts), pulses and outcome of one block, (rows, columns)."""

    readings: NDArray[np.uint16]
    pulses: NDArray[np.uint16]
    reached: NDArray[np.bool_]


def write_verify(
    recipe: ProgramTile, spec: ChipSpec, ask: Ask, progress: Callable[[int, int, int], None] | None = None
) -> BlockOutcome:
    """Bring the cells of ``recipe`` to their targets with single pulses.

    Args:
        recipe: the request that a chip with write-verify would have got.
        spec: whose absolute limits hold.
        ask: sends one request and gives its answer.
        progress: called with (cells done, cells in all, cells failed) after each round.
    """
    shape = recipe.targets.shape
    targets = recipe.targets.astype(np.int32)
    still = recipe.targets != LEAVE_ALONE  # not yet inside its window
    total = int(still.sum())
    readings, pulses = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
    direction, millivolts = np.zeros(shape, np.int8), np.zeros(shape, np.int32)  # +1 SET, −1 RESET, 0 none yet
    most = min(recipe.max_pulses, spec.limits.pulses_per_cell)
    for turn in range(most + 1):
        if not still.any():
            break
        block, at = _around(recipe.cells, still)
        sample = _sample(recipe, turn)
        answer = ask(ReadCells(block, recipe.unit_ns, recipe.verify_reads, sample))
        readings[at] = np.where(still[at], answer.readings, readings[at])
        error = readings.astype(np.int32) - targets
        still &= np.abs(error) > recipe.tolerance
        failed = int(still.sum()) if turn == most else 0
        if progress is not None:
            progress(total - int(still.sum()) + failed, total, failed)
        if turn == most:
            break
        way = np.where(error < 0, 1, -1).astype(np.int8)
        millivolts = _next_voltage(recipe, millivolts, way, same=direction == way)
        direction = np.where(still, way, direction)
        for polarity, sign in ((Polarity.SET, 1), (Polarity.RESET, -1)):
            chosen = still & (way == sign)
            if chosen.any():
                block, at = _around(recipe.cells, chosen)
                volts = np.where(chosen, millivolts, 0).astype(np.uint16)[at]
                ask(Pulse(block, polarity, recipe.pulse_width_ns, sample, volts))
        pulses += still
    return BlockOutcome(readings, pulses, ~still)


def _next_voltage(
    recipe: ProgramTile, millivolts: NDArray[np.int32], way: NDArray[np.int8], *, same: NDArray[np.bool_]
) -> NDArray[np.int32]:
    up = way > 0
    start = np.where(up, recipe.set_start_mv, recipe.reset_start_mv)
    step = np.where(up, recipe.set_step_mv, recipe.reset_step_mv)
    stop = np.where(up, recipe.set_stop_mv, recipe.reset_stop_mv)
    return np.where(same, np.minimum(millivolts + step, stop), start).astype(np.int32)


def _around(cells: CellBlock, chosen: NDArray[np.bool_]) -> tuple[CellBlock, tuple[slice, slice]]:
    """The smallest rectangle around the chosen cells: as a block of the macro, and within this block."""
    rows, columns = np.flatnonzero(chosen.any(1)), np.flatnonzero(chosen.any(0))
    row0, row1, column0, column1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    block = CellBlock(cells.macro, cells.row0 + row0, row1 - row0, cells.column0 + column0, column1 - column0)
    return block, (slice(row0, row1), slice(column0, column1))


def _sample(recipe: ProgramTile, turn: int) -> int:
    """Each round needs noise of its own, the same in every repetition of the same programming."""
    return (_VERIFY | (recipe.sample * (recipe.max_pulses + 1) + turn)) & 0xFFFF_FFFF_FFFF_FFFF
