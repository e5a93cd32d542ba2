"""States of cells: stuck, by SET and RESET cycles, and out of reach, by the test pattern."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import MacroSpec
from cim.fit.measured import Pattern, Stuck
from cim.record.calibration import STUCK, CellState

STUCK_MOVES = 0.08  # of the window: a cell that SET and RESET move less is stuck


def stuck_states(spec: MacroSpec, stuck: Stuck) -> NDArray[np.int8]:
    """``CellState`` GOOD, STUCK_LOW or STUCK_HIGH of every cell of a macro, (rows, columns).

    Stuck low: in the lowest third of the window both after SET and after RESET, and moved by less
    than 8 % of the window between the two. Stuck high: the same in the highest third. A cell with
    a short range of its own moves; it is no stuck cell but one that misses most targets.
    """
    low, high = spec.levels_us[0], spec.levels_us[-1]
    third, moves = (high - low) / 3, STUCK_MOVES * (high - low)
    states = np.full(stuck.high_us.shape, CellState.GOOD, np.int8)
    still = np.abs(stuck.high_us - stuck.low_us) < moves  # False where it was left alone
    states[still & (stuck.high_us < low + third) & (stuck.low_us < low + third)] = CellState.STUCK_LOW
    states[still & (stuck.high_us > high - third) & (stuck.low_us > high - third)] = CellState.STUCK_HIGH
    return states


def merge_stuck(cycles: Sequence[NDArray[np.int8]]) -> NDArray[np.int8]:
    """What most cycles say; one cycle alone stands, of two both must agree."""
    needed = len(cycles) // 2 + 1
    merged = np.full(cycles[0].shape, CellState.GOOD, np.int8)
    for state in STUCK:
        merged[sum((c == state).astype(np.int8) for c in cycles) >= needed] = state
    return merged


def cell_states(stuck: NDArray[np.int8], pattern: Pattern) -> NDArray[np.int8]:
    """Stuck cells, and those that missed their window in the test pattern without being stuck."""
    missed = ~pattern.reached & np.isfinite(pattern.targets_us) & (stuck == CellState.GOOD)
    return np.where(missed, np.int8(CellState.NOT_REACHED), stuck)
