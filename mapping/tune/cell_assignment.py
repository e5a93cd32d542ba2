"""Pairs of cells in several bit slices that hold given weights, around cells that are stuck and what others missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import WeightForm, form_cells

REWRITE_ERROR = 0.5  # levels: about what a cell that is written again errs by
Levels = NDArray[np.float64]
Cells = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class CellAssignment:
    """Levels that pairs are written to, int8 (2, rows, outputs), and their weights, (rows, outputs).

    ``anew``: pairs that are written again whether or not their levels changed, (rows, outputs); None: none.
    """

    cells: Cells
    stands: Levels
    anew: NDArray[np.bool_] | None = None


def taken_up(
    whole: Levels,
    multipliers: Sequence[int],
    now: Sequence[Cells],
    read: Sequence[Levels],
    stuck: Sequence[Levels],
    top: int,
    *,
    anew: bool,
) -> tuple[list[CellAssignment], Levels]:
    """Pairs of slices that hold ``whole`` (rows, outputs), and what they cannot hold.

    Args:
        multipliers: of the slices, falling.
        now: levels that pairs of the slices are written to, each (2, rows, outputs).
        read: levels that the first slices read, as far as these are settled.
        stuck: by slice, levels of stuck cells (2, rows, outputs), NaN where a cell moves.
        top: highest level of a cell.
        anew: the last settled slice is written again for weights that come nearer by more than ``REWRITE_ERROR`` of its
            levels.
    """
    settled = len(read)
    missing = whole - sum((m * y for m, y in zip(multipliers, read, strict=False)), np.zeros_like(whole))
    below, left = held_pairs(missing, multipliers[settled:], stuck[settled:], top)
    found = [*(CellAssignment(cells, y) for cells, y in zip(now, read, strict=False)), *below]
    if not anew:
        return found, left
    first = list(multipliers).index(multipliers[settled - 1])
    missing = missing + sum(m * y for m, y in zip(multipliers[first:settled], read[first:], strict=True))
    other, rest = held_pairs(missing, multipliers[first:], stuck[first:], top)
    again = np.abs(left) - np.abs(rest) > REWRITE_ERROR * multipliers[first] * np.sqrt(settled - first)
    for i, (new, old) in enumerate(zip(other, found[first:], strict=True), first):
        stands = np.where(again, new.stands, old.stands)
        found[i] = CellAssignment(np.where(again, new.cells, old.cells), stands, again)
    return found, np.where(again, rest, left)


def held_pairs(
    whole: Levels, multipliers: Sequence[int], stuck: Sequence[Levels], top: int
) -> tuple[list[CellAssignment], Levels]:
    """What slices of falling multipliers hold of ``whole``, and what is left; the rest as ``taken_up`` has it.

    Equal slices share evenly, pairs with stuck cells first. Each slice leaves to those below the middle of what they
    reach: zero, but where a cell there is stuck.
    """
    middles = [m * np.mean([nearest_pairs(end, s, top).stands for end in _ends(whole, top)], 0) for m, s in
               zip(multipliers, stuck, strict=True)]  # fmt: skip
    found: dict[int, CellAssignment] = {}
    for multiplier in sorted(set(multipliers), reverse=True):
        alike = [i for i, m in enumerate(multipliers) if m == multiplier]
        later = [middles[i] for i, m in enumerate(multipliers) if m < multiplier]
        rest = whole - sum(later, np.zeros_like(whole))
        caught = [np.isfinite(stuck[i]).any(0) for i in alike]
        share = rest / (multiplier * len(alike))
        first = [nearest_pairs(share, stuck[i], top) for i in alike]
        free = np.full(whole.shape, len(alike))
        for pairs, held in zip(first, caught, strict=True):
            rest = rest - multiplier * np.where(held, pairs.stands, 0.0)
            free -= held
        for i, pairs, held in zip(alike, first, caught, strict=True):
            own = nearest_pairs(rest / (multiplier * np.maximum(free, 1)), stuck[i], top)
            pairs = CellAssignment(np.where(held, pairs.cells, own.cells), np.where(held, pairs.stands, own.stands))
            rest = rest - multiplier * np.where(held, 0.0, pairs.stands)
            free = free - ~held
            whole = whole - multiplier * pairs.stands
            found[i] = pairs
    return [found[i] for i in range(len(multipliers))], whole


def _ends(like: Levels, top: int) -> tuple[Levels, Levels]:
    return np.full(like.shape, -2.0 * top), np.full(like.shape, 2.0 * top)


def nearest_pairs(wanted: Levels, stuck: Levels, top: int) -> CellAssignment:
    """Pairs that come nearest to ``wanted`` levels.

    Args:
        stuck: levels of stuck plus and minus cells, (2, rows, outputs), NaN where a cell moves.

    Example: wanted 3, the plus cell stuck at 5.2: the minus cell is written to 2, and the pair stands for 3.2.
    """
    fixed = np.isfinite(stuck)
    digit = np.clip(np.rint(wanted), -top, top)
    plus, minus = np.maximum(digit, 0.0), np.maximum(-digit, 0.0)
    held = np.where(fixed, stuck, 0.0)
    plus = np.where(fixed[1], np.clip(np.rint(wanted + held[1]), 0, top), plus)
    minus = np.where(fixed[0], np.clip(np.rint(held[0] - wanted), 0, top), minus)
    cells = np.where(fixed, np.clip(np.rint(held), 0, top), np.stack([plus, minus])).astype(np.int8)
    real = np.where(fixed, held, cells)
    return CellAssignment(cells, real[0] - real[1])


def plain_cells(levels: Cells, cells: Cells | None, top: int) -> Cells:
    """Levels that pairs of a tile are written to: its own, or the sign form."""
    return form_cells(levels, WeightForm.SIGN, top) if cells is None else cells
