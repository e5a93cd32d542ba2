"""Write-verify run by the host, for boards that only give single pulses and read cells.

The recipe is the one that a chip with ``PROGRAM_TILE`` runs by itself: read every cell, give
those outside the window one pulse, read again. A cell below its window gets SET pulses, one
above it RESET pulses; the voltage starts at the recipe's start, grows by its step while the
direction stays, is held at its stop, and starts anew when the direction turns. A cell is done
when a verify finds it inside, and has failed after ``max_pulses`` pulses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.spec import ChipSpec
from firmware_protocols.messages import CellReadings, Polarity, ProgramTile, Pulse, ReadCells, Reply, Request
from hil.driver_requests import LEAVE_ALONE

_VERIFY = 1 << 63  # verify reads draw their noise from sample numbers that nothing else uses


@dataclass(frozen=True, slots=True)
class BlockOutcome:
    """Last verify readings (counts), pulses and outcome of one block, (rows, columns)."""

    readings: NDArray[np.uint16]
    pulses: NDArray[np.uint16]
    reached: NDArray[np.bool_]


def write_verify(
    recipe: ProgramTile,
    spec: ChipSpec,
    ask: Callable[[Request], Reply],
    progress: Callable[[int, int, int], None] | None = None,
) -> BlockOutcome:
    """Bring the cells of ``recipe`` to their targets with single pulses.

    Args:
        recipe: the request that a chip with write-verify would have got.
        spec: whose absolute limits hold.
        ask: sends one request and gives its answer.
        progress: called with (cells done, cells in all, cells failed) after each round.
    """
    wanted = recipe.targets != LEAVE_ALONE
    targets = recipe.targets.astype(np.int32)
    pulses = np.zeros(wanted.shape, np.uint16)
    direction = np.zeros(wanted.shape, np.int8)  # +1 SET, −1 RESET, 0 none yet
    millivolts = np.zeros(wanted.shape, np.int32)
    total = int(wanted.sum())
    most = min(recipe.max_pulses, spec.limits.pulses_per_cell)
    for round_number in range(most + 1):
        readings = _verify(recipe, round_number, ask)
        error = readings.astype(np.int32) - targets
        open_cells = wanted & (np.abs(error) > recipe.tolerance)
        if progress is not None:
            progress(total - int(open_cells.sum()), total, 0)
        if not open_cells.any() or round_number == most:
            break
        turn = np.where(error < 0, 1, -1).astype(np.int8)
        millivolts = _next_voltage(recipe, millivolts, same=direction == turn, turn=turn)
        direction = np.where(open_cells, turn, direction)
        for polarity, sign in ((Polarity.SET, 1), (Polarity.RESET, -1)):
            chosen = open_cells & (turn == sign)
            if chosen.any():
                ask(_pulse(recipe, polarity, np.where(chosen, millivolts, 0).astype(np.uint16), round_number))
        pulses += open_cells
    return BlockOutcome(readings, pulses, ~open_cells)


def _next_voltage(
    recipe: ProgramTile, millivolts: NDArray[np.int32], *, same: NDArray[np.bool_], turn: NDArray[np.int8]
) -> NDArray[np.int32]:
    up = turn > 0
    start = np.where(up, recipe.set_start_mv, recipe.reset_start_mv)
    step = np.where(up, recipe.set_step_mv, recipe.reset_step_mv)
    stop = np.where(up, recipe.set_stop_mv, recipe.reset_stop_mv)
    return np.where(same, np.minimum(millivolts + step, stop), start).astype(np.int32)


def _verify(recipe: ProgramTile, round_number: int, ask: Callable[[Request], Reply]) -> NDArray[np.uint16]:
    sample = _sample(recipe, round_number)
    answer = ask(ReadCells(recipe.cells, recipe.unit_ns, recipe.verify_reads, sample))
    if not isinstance(answer, CellReadings):  # the session has checked the kind; this tells mypy
        raise TypeError(f"{type(answer).__name__} is not an answer to ReadCells")
    return answer.readings


def _pulse(recipe: ProgramTile, polarity: Polarity, millivolts: NDArray[np.uint16], round_number: int) -> Pulse:
    return Pulse(recipe.cells, polarity, recipe.pulse_width_ns, _sample(recipe, round_number), millivolts)


def _sample(recipe: ProgramTile, round_number: int) -> int:
    """Each round needs noise of its own, the same in every repetition of the same programming."""
    return (_VERIFY | (recipe.sample * (recipe.max_pulses + 1) + round_number)) & 0xFFFF_FFFF_FFFF_FFFF
