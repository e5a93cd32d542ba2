"""Cell levels that come closest to the wanted weights where some cells are stuck.

A pair with one stuck cell still has the levels of its partner to choose from:

    plus stuck at g:    held = (g − levels_us[p]) / step,   p = 0..k_max
    minus stuck at g:   held = (levels_us[p] − g) / step

What no pair of a column can hold, its other pairs can make up for, because inputs are alike:
with M the mean of x xᵀ over input vectors and e = held − wanted of one column, the expected squared error is

    E = eᵀ M e

and moving row r by d changes it by 2 d (M e)_r + d² M_rr. The move that gains most is made,
again and again, until none gains (coordinate descent); E never rises.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import WeightForm, form_cells
from cim.chip.spec import MacroSpec

MOVES = 4  # of each row of a column at most, on average

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Choices:
    """Levels that each pair of a tile can hold.

    ``held`` float32 (choices, rows, outputs) in levels, NaN where there are fewer choices;
    ``plus``, ``minus`` int8 of the same shape: the cell levels to write, for a stuck cell the one nearest to it.
    """

    held: NDArray[np.float32]
    plus: NDArray[np.int8]
    minus: NDArray[np.int8]

    def nearest(self, wanted: NDArray[np.floating]) -> NDArray[np.intp]:
        """Index of the choice nearest to ``wanted`` (rows, outputs); the first of equals, which has the lower cells."""
        return np.asarray(np.nanargmin(np.abs(self.held - wanted), axis=0))

    def held_at(self, index: NDArray[np.intp]) -> Floats:
        held: Floats = np.take_along_axis(self.held, index[None], 0)[0].astype(np.float64)
        return held

    def cells_at(self, index: NDArray[np.intp]) -> NDArray[np.int8]:
        """Plus and minus levels, int8 (2, rows, outputs)."""
        return np.stack([np.take_along_axis(part, index[None], 0)[0] for part in (self.plus, self.minus)])


def pair_choices(stuck_us: NDArray[np.floating], spec: MacroSpec, form: WeightForm = WeightForm.SIGN) -> Choices:
    """Choices of every pair of a tile whose stuck cells are at ``stuck_us`` (2, rows, outputs), NaN where good."""
    if not spec.paired:
        raise ValueError(f"{spec.encoding} cells have no partner that could make up for a stuck one")
    table, step, top = np.array(spec.levels_us), spec.level_step_us, spec.max_level
    k = np.arange(-top, top + 1)
    plus, minus = form_cells(k, form, top)[:, :, None, None]
    shape = (len(k), *stuck_us.shape[1:])
    partner = np.minimum(np.arange(len(k)), top)[:, None, None]
    beyond = (np.arange(len(k)) > top)[:, None, None]
    stuck, at = np.isfinite(stuck_us), np.nan_to_num(stuck_us).astype(np.float64)
    nearest = np.abs(at[..., None] - table).argmin(-1)
    both, one = stuck.all(0), stuck.any(0)
    cells, us = [], []
    for half, good in ((0, plus), (1, minus)):
        level = np.where(stuck[half], nearest[half], np.where(one, partner, good))
        cells.append(np.broadcast_to(level, shape).astype(np.int8))
        us.append(np.where(stuck[half], at[half], table[level]))
    held = np.where((one & beyond) | (both & (np.arange(len(k)) > 0)[:, None, None]), np.nan, (us[0] - us[1]) / step)
    return Choices(held.astype(np.float32), cells[0], cells[1])


def loss_table(stuck_us: NDArray[np.floating], spec: MacroSpec) -> Floats:
    """Squared distance to every level k in −k_max..k_max of pairs with stuck cells.

    Args:
        stuck_us: (2, pairs): plus and minus cells in µS, NaN where good.

    Returns:
        (pairs, 2 k_max + 1).
    """
    held = pair_choices(stuck_us[:, :, None], spec).held[:, :, 0].astype(np.float64)  # (choices, pairs)
    k = np.arange(-spec.max_level, spec.max_level + 1)
    return np.asarray(np.nanmin((held[:, :, None] - k) ** 2, axis=0))


def column_errors(errors: Floats, moments: Floats) -> Floats:
    """eᵀ M e of every column, (outputs,)."""
    return np.asarray(np.einsum("ro,ro->o", errors, moments @ errors))


def rebalanced(choices: Choices, index: NDArray[np.intp], wanted: Floats, moments: Floats) -> NDArray[np.intp]:
    """Choices with less error eᵀ M e in every column than ``index``, or as much; ``wanted`` (rows, outputs)."""
    index = index.copy()
    held = choices.held_at(index)
    slope = moments @ (held - wanted)  # M e
    own = np.diagonal(moments)[:, None]
    driven = np.maximum(own, 1e-12)
    columns = np.arange(wanted.shape[1])
    scale = np.maximum(column_errors(wanted, moments), 1e-12)
    for _ in range(MOVES * len(wanted)):
        held_now = held[:, columns]
        ideal = held_now - slope[:, columns] / driven
        distance = np.abs(choices.held[:, :, columns] - ideal.astype(np.float32))
        best = np.nanargmin(distance, axis=0)
        move = np.take_along_axis(choices.held[:, :, columns], best[None], 0)[0] - held_now
        change = np.where(own > 0, 2.0 * move * slope[:, columns] + move**2 * own, 0.0)
        row = change.argmin(0)
        here = np.arange(len(columns))
        gains = change[row, here] < -1e-9 * scale[columns]
        if not gains.any():
            break
        columns, row, here = columns[gains], row[gains], here[gains]
        step = move[row, here]
        index[row, columns] = best[row, here]
        held[row, columns] += step
        slope[:, columns] += moments[:, row] * step
    return index
