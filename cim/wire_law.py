"""The simulator's first-order law of wire resistance, one coefficient for a chip.

Cells of a column feed one line; segment after segment carries the currents of all rows
beyond it, and every row there sees the drop. To first order a column loses

    loss_us = ohm · 1e-6 · τ · Σ_segments D · n / u_max

D: converted sum (µS times unit) of the rows beyond the segment, n: Σ |unit| of those rows,
τ: mean conductance that one driven row hangs on the line (both cells of a pair). For a pair
of columns the difference of the two losses S₊² − S₋² = (S₊ − S₋)(S₊ + S₋) has the same form.
Rows are taken in groups of eight, lines counted in cell pitches to the column's end.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.spec import Encoding, InputCoding, MacroSpec, PairSubtraction

GROUP = 8  # rows whose sums are formed at once


class WireEnd(enum.StrEnum):
    """At which end of the word-line numbering the column currents leave the array."""

    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Wire:
    """Resistance per cell pitch of the simulator's first-order wire law (``cim.simulator``)."""

    ohm: float
    ohm_se: float
    end: WireEnd = WireEnd.LAST


def conversion_cells(spec: MacroSpec, halves_us: NDArray[np.floating]) -> NDArray[np.float64]:
    """What each conversion of a read sums: (rows, conversions) µS in raw order.

    Args:
        halves_us: (2, rows, outputs) of ``cim.encoding.tile_halves_us``.
    """
    plus, minus = np.asarray(halves_us, np.float64)
    if spec.encoding is Encoding.OFFSET_COLUMN:
        return np.hstack([plus, minus[:, :1]])
    if not spec.paired:
        return np.asarray(plus)
    if spec.pair_subtraction is PairSubtraction.DIGITAL:
        return np.hstack([plus, minus])
    return np.asarray(plus - minus)


def conversion_load(spec: MacroSpec, halves_us: NDArray[np.floating]) -> NDArray[np.float64]:
    """τ of each conversion, (conversions,) µS: mean conductance per driven row on its line."""
    if spec.paired and spec.pair_subtraction is PairSubtraction.ANALOG:
        load = np.asarray(halves_us, np.float64).sum(0).mean(0)
        if spec.encoding is Encoding.DIFFERENTIAL_COLUMNS and spec.inputs.coding is InputCoding.TERNARY:
            load = load / 2.0  # two lines, and signed inputs cancel in (S₊ + S₋)
        return np.asarray(load)
    return np.asarray(conversion_cells(spec, halves_us).mean(0))


def far_first(spec: MacroSpec, row0: int, rows: int, end: WireEnd) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Order of a tile's rows along the line, and how many pitches each group's sum travels.

    Returns:
        (rows,) row indices, farthest from the column's end first; (groups,) lengths in cell
        pitches. Within a group the sum is taken to grow evenly from row to row.
    """
    lines = np.array([float(np.mean(w)) for w in spec.word_lines[row0 : row0 + rows]])
    distance = lines + 1.0 if end is WireEnd.FIRST else spec.rows - lines
    order = np.argsort(-distance, kind="stable")
    reach = np.append(distance[order], 0.0)
    lengths = np.zeros(-(-rows // GROUP))
    for i in range(rows):
        group, first = i // GROUP, i // GROUP * GROUP
        done = (i - first + 1) / (min(first + GROUP, rows) - first)
        lengths[group] += done * (reach[i] - reach[i + 1])
        if group:
            lengths[group - 1] += (1.0 - done) * (reach[i] - reach[i + 1])
    return order.astype(np.int64), lengths


def wire_loss_us(
    spec: MacroSpec,
    row0: int,
    halves_us: NDArray[np.floating],
    units: NDArray[np.integer],
    end: WireEnd = WireEnd.LAST,
) -> NDArray[np.float64]:
    """Loss of converted quantity per ohm of cell pitch: the regressor of ``cim.fit.fit_wire``.

    Args:
        units: input units driven in one read, (vectors, rows).

    Returns:
        (vectors, conversions) µS times unit, per ohm.
    """
    cells, load = conversion_cells(spec, halves_us), conversion_load(spec, halves_us)
    rows = cells.shape[0]
    order, lengths = far_first(spec, row0, rows, end)
    starts = np.arange(0, rows, GROUP)
    ordered = np.asarray(units, np.float64)[:, order]
    loads = np.cumsum(np.add.reduceat(np.abs(ordered), starts, axis=1), axis=1) * lengths
    # Σ_g n_g ℓ_g D_g with D_g = Σ_(rows of groups ≤ g) G u  =  Σ_rows G u · Σ_(g ≥ group of row) n_g ℓ_g
    beyond = np.cumsum(loads[:, ::-1], axis=1)[:, ::-1]
    weighted = ordered * np.repeat(beyond, np.diff(np.append(starts, rows)), axis=1)
    loss: NDArray[np.float64] = weighted @ cells[order] * (load * 1e-6 / max_unit(spec))
    return loss


def max_unit(spec: MacroSpec) -> int:
    """Largest input unit of one read."""
    return 1 if spec.inputs.coding is InputCoding.TERNARY else (1 << spec.inputs.bits_per_cycle) - 1
