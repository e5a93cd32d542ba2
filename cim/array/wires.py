"""Resistance of the lines of an array, solved exactly: what laws and engines are checked against.

Two arrays, two kinds of mathematics.

*Row-driven* (passive cells, or every gate open): inputs are voltages on the word lines, bit lines
end in virtual grounds. The network does not depend on the input, so one matrix of effective
conductances says everything:

    I_j = Σ_i E_ij V_i

``effective_conductances`` gives E exactly.

*Gated* (1T1R, inputs on the gates): a cell that is not driven is disconnected, so the network depends on the input.
Each column is a ladder of its own: ``ladder_sums`` solves it for any drive, ``gated_sums_us`` for the reads of a tile;
``cim.array.wire_law`` is the fast law.

Ohms are per cell pitch. A line's end lies one pitch beyond its last cell.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from cim.array.cell_iv import unit_parts
from cim.array.wire_law import Wire, WireEnd, conversion_cells, line_gaps, max_unit, wired_sums_us
from cim.chip.encoding import cell_lines, tile_halves_us
from cim.chip.spec import Encoding, MacroSpec, PairSubtraction, WordLine

Floats = NDArray[np.float64]
MICRO = 1e-6
VECTORS = 64  # inputs whose ladders are solved at once


def effective_conductances(
    conductances_us: NDArray[np.floating],
    row_ohm: float,
    column_ohm: float,
    *,
    driven_first: bool = True,
    sensed_last: bool = True,
) -> Floats:
    """E in µS, (rows, columns): current into the ground of column j per volt on word line i, exact.

    Column j, seen from its word-line nodes, is the dense symmetric admittance

        K_j = g − g (C + g)⁻¹ g        g = diag(cells of the column), C: chain of the bit line

    with (C + g)⁻¹ in closed form, because C is tridiagonal. Columns are then taken off from the far
    end of the word lines; Y is what a column and all beyond it draw:

        Z = (1/row_ohm + Y_j)⁻¹ Y_j      p_j = (1 − Z) p_(j−1)      Y_(j−1) = K_(j−1) + Z / row_ohm

    One Cholesky factor of (rows x rows) per column. The network is reciprocal, so an array taller
    than wide is solved on its side.

    Args:
        conductances_us: (rows, columns) µS; zeros are open cells.
        driven_first: word lines driven before column 0 (else beyond the last column).
        sensed_last: bit lines sensed beyond the last row (else before row 0).

    Example: one cell of 1000 µS behind 100 Ω and 400 Ω gives 1 / (1000 + 500) Ω = 666.7 µS.
    """
    g = np.asarray(conductances_us, np.float64) * MICRO
    g = g if driven_first else g[:, ::-1]
    g = g if sensed_last else g[::-1]
    if g.shape[0] > g.shape[1]:  # rows and columns change places; near ends stay near
        effective = _row_driven(g.T[::-1, ::-1], column_ohm, row_ohm).T[::-1, ::-1]
    else:
        effective = _row_driven(g, row_ohm, column_ohm)
    effective = effective if sensed_last else effective[::-1]
    effective = effective if driven_first else effective[:, ::-1]
    return np.ascontiguousarray(effective) / MICRO


def _row_driven(g: Floats, row_ohm: float, column_ohm: float) -> Floats:
    rows, columns = g.shape
    inverse = _chain_inverse(g, column_ohm)  # (columns, rows, rows) ohm, or None without resistance
    if row_ohm == 0.0:
        return g if inverse is None else g * inverse[:, -1, :].T / column_ohm
    diagonal = np.arange(rows)
    drawn = np.zeros((rows, rows))  # Y' of the columns beyond, S
    answers = np.empty((0, rows))  # outputs so far, per volt on the nodes of the present column
    for j in range(columns - 1, -1, -1):
        if inverse is None:
            admittance, sensed = np.diag(g[:, j]), g[:, j]
        else:
            admittance = -g[:, j, None] * inverse[j] * g[:, j]
            admittance[diagonal, diagonal] += g[:, j]
            sensed = inverse[j, -1] * g[:, j] / column_ohm
        admittance += drawn
        answers = np.vstack([sensed, answers])
        whole = admittance.copy()
        whole[diagonal, diagonal] += 1.0 / row_ohm
        z = cho_solve(cho_factor(whole, overwrite_a=True, check_finite=False), admittance, check_finite=False)
        answers = answers - answers @ z
        drawn = (z + z.T) / (2.0 * row_ohm)
    return answers.T


def _chain_inverse(g: Floats, ohm: float) -> Floats | None:
    """(C + g)⁻¹ of every column's bit line with all word-line nodes at ground, (columns, rows, rows) ohm.

    Element (i, j ≥ i) is the element (j, j) times the ratios of voltage from each node to the next
    one away from the sensed end.
    """
    if ohm == 0.0:
        return None
    rows, columns = g.shape
    far, near = np.zeros((rows, columns)), np.zeros((rows, columns))  # admittances looking away, S
    y = np.zeros(columns)
    for i in range(rows):
        far[i] = y
        y = (y + g[i]) / (1.0 + ohm * (y + g[i]))
    y = np.full(columns, 1.0 / ohm)
    for i in range(rows - 1, -1, -1):
        near[i] = y
        y = (y + g[i]) / (1.0 + ohm * (y + g[i]))
    own = 1.0 / (far + near + g)
    ratio = np.log1p(ohm * (far + g))[:-1]  # of voltages, node i + 1 over node i
    place = np.vstack([np.zeros(columns), np.cumsum(ratio, axis=0)]).T  # (columns, rows)
    upper = np.triu(np.exp(np.minimum(place[:, :, None] - place[:, None, :], 0.0)) * own.T[:, None, :])
    return np.asarray(upper + np.triu(upper, 1).transpose(0, 2, 1))


def ladder_sums(
    load: NDArray[np.floating],
    net: NDArray[np.floating] | None,
    gaps: NDArray[np.floating],
    bit_ohm: float,
    source_ohm: float,
    source_lead: float | None = None,
) -> Floats:
    """Exact output of the bit line of a gated column; cells along the last axis, farthest first.

    Cell i between its bit and source line has the conductance ``load`` and would drive ``net`` (its
    load times its drive in volts) through a short. Taken node by node towards the converter, all
    beyond is one admittance Y and one current source J between the lines:

        Y, J ← Y + load_i, J + net_i          at the cell
        Y, J ← Y / (1 + r Y), J / (1 + r Y)   over a gap, r = gap · (bit_ohm + source_ohm)

    because with both ends on the same side the currents of the two lines are equal and opposite.

    Args:
        load, net: (..., rows) µS; ``net`` None where every drive is 1 V, so that J = Y.
        gaps: (rows,) pitches from each cell to the next, the last one to the end.
        source_lead: None when the source line ends where the bit line does. Else it ends at the far
            side, so many pitches before the first cell: two-by-two matrices take the place of Y.

    Returns:
        (...,) µS times volts.

    Example: 1000 µS, 1 pitch, 1000 µS, 1 pitch at 100 Ω in all: Y = 1000 → 909.1 → 1909.1 → 1603.1 µS.
    """
    g = np.asarray(load, np.float64) * MICRO
    d = g if net is None else np.asarray(net, np.float64) * MICRO
    if source_lead is None or source_ohm == 0.0 or bit_ohm == 0.0:
        if source_lead is not None and bit_ohm == 0.0 and source_ohm != 0.0:  # the source line alone, from its own end
            g, d = g[..., ::-1], d[..., ::-1]
            gaps = np.append(np.asarray(gaps)[-2::-1], source_lead)
        y, j = np.zeros(g.shape[:-1]), np.zeros(g.shape[:-1])
        for i, gap in enumerate(gaps):
            y += g[..., i]
            fall = 1.0 + gap * (bit_ohm + source_ohm) * y
            y /= fall
            if net is not None:
                j += d[..., i]
                j /= fall
        return np.asarray((y if net is None else j) / MICRO)
    # Y = ((a, b), (b, c)) of bit and source terminal, J = (j, k); the source is grounded on the far side.
    a = b = j = k = np.zeros(g.shape[:-1])
    c = np.full(g.shape[:-1], 1.0 / (source_lead * source_ohm))
    for i, gap in enumerate(gaps):
        a, b, c = a + g[..., i], b - g[..., i], c + g[..., i]
        j, k = j + d[..., i], k - d[..., i]
        if i == len(gaps) - 1:  # beyond its last cell the source line carries nothing
            a, j = a - b * b / c, j - b * k / c
            b, k = np.zeros_like(b), np.zeros_like(k)
        p, s = gap * bit_ohm, gap * source_ohm  # (1 + Y Z)⁻¹ applied from the left
        m11, m12, m21, m22 = 1.0 + a * p, b * s, b * p, 1.0 + c * s
        det = m11 * m22 - m12 * m21
        j, k = (m22 * j - m12 * k) / det, (m11 * k - m21 * j) / det
        a, b, c = (m22 * a - m12 * b) / det, (m22 * b - m12 * c) / det, (m11 * c - m21 * b) / det
    return np.asarray(j / MICRO)


def gated_sums_us(
    spec: MacroSpec,
    row0: int,
    halves_us: NDArray[np.floating],
    units: NDArray[np.integer] | Floats,
    wire: Wire,
    *,
    source_opposite: bool = False,
) -> Floats:
    """Converted sums of reads of a gated tile, exact: (vectors, conversions) µS times unit, raw order.

    A unit is a share |u| / u_max of the time (or of the conductance) that a cell conducts; cubic cells
    (``cim.array.cell_iv.unit_parts``) conduct, and load, accordingly.

    Args:
        halves_us: (2, rows, outputs) µS; the rest of the column is not driven.
        units: (vectors, rows).
        source_opposite: source lines end beyond the other end of the array (the law takes the same end).
    """
    linear, cubic = unit_parts(spec, halves_us)
    order, gaps = line_gaps(spec, row0, linear.shape[1], wire.end)
    unit = max_unit(spec)
    drive = np.asarray(units, np.float64)[:, order] / unit
    signed = bool((drive < 0).any())
    lead = spec.rows + 1.0 - float(gaps.sum()) if source_opposite else None

    def driven(u: Floats, cells: Callable[[Floats], Floats]) -> Floats:
        """Currents (vectors, lines, rows) of ``cells`` at ``u`` (rows, vectors, 1), the share of full drive."""
        sums = u * cells(linear)[order, None]
        if cubic is not None:
            sums = sums + (unit * unit) * u**3 * cells(cubic)[order, None]
        return np.moveaxis(sums, 0, -1)

    def column(load: Callable[[Floats], Floats], net: Callable[[Floats], Floats] | None = None) -> Floats:
        """Solve the ladder of each line; ``load`` and ``net`` map half conductances to those of lines (rows, lines)."""
        net = load if net is None and signed else net
        if cubic is None and lead is None:
            from cim.array.ladder_kernel import admittances, currents  # numba is large

            found = np.empty((len(drive), load(linear).shape[1]))
            cells, falls = load(linear)[order], np.asarray(gaps * (2.0 * wire.ohm))
            if net is None:
                admittances(np.abs(drive), cells, falls, found)
            else:
                currents(drive, cells, net(linear)[order], falls, found)
            return unit * found
        parts = []
        for first in range(0, len(drive), VECTORS):
            u = drive[first : first + VECTORS].T[:, :, None]
            up = driven(np.abs(u), load)
            down = None if net is None else driven(u, net)
            parts.append(ladder_sums(up, down, gaps, wire.ohm, wire.ohm, lead))
        return unit * np.concatenate(parts)

    if spec.paired and spec.pair_subtraction is PairSubtraction.ANALOG:
        if spec.encoding is Encoding.ROW_PAIRS:  # one line carries the difference
            return column(lambda halves: halves[0] + halves[1], lambda halves: halves[0] - halves[1])
        return column(lambda halves: halves[0]) - column(lambda halves: halves[1])
    return column(lambda halves: conversion_cells(spec, halves))


def row_driven_halves_us(
    spec: MacroSpec, row0: int, output0: int, halves_us: NDArray[np.floating], wire: Wire
) -> NDArray[np.float32]:
    """Effective conductances of a tile whose inputs are voltages on the word lines, (2, rows, outputs) µS.

    Word lines are driven before column 0, all of them (undriven inputs hold 0 V); bit lines end at
    ``wire.end``; both have ``wire.ohm`` per pitch. Cells outside the tile rest at the lowest level.
    """
    rows, outputs = np.shape(halves_us)[1:]
    word_lines, bit_lines = cell_lines(spec, row0, rows, output0, outputs)
    plus, minus = np.asarray(halves_us, np.float64)
    if spec.encoding is Encoding.DIFFERENTIAL_COLUMNS:
        block = np.stack([plus, minus], 2).reshape(rows, -1)
    elif spec.encoding is Encoding.ROW_PAIRS:
        block = np.stack([plus, minus], 1).reshape(-1, outputs)
    else:
        block = conversion_cells(spec, halves_us)
    cells = np.full((spec.rows, spec.columns), spec.levels_us[0])
    cells[np.ix_(word_lines, bit_lines)] = block
    effective = effective_conductances(cells, wire.ohm, wire.ohm, sensed_last=wire.end is WireEnd.LAST)
    return tile_halves_us(effective, spec, row0, rows, output0, outputs)


def converted_sums_us(
    spec: MacroSpec,
    row0: int,
    halves_us: NDArray[np.floating],
    units: NDArray[np.integer] | Floats,
    wire: Wire,
    output0: int = 0,
) -> Floats:
    """Converted sums with simulated wire loss: approximate law for gated arrays, exact for row-driven ones."""
    if spec.word_line is WordLine.GATE:
        return wired_sums_us(spec, row0, halves_us, units, wire)
    u = np.asarray(units, np.float64)
    effective = row_driven_halves_us(spec, row0, output0, halves_us, wire)
    linear, cubic = unit_parts(spec, halves_us)
    if cubic is None:
        return np.asarray(u @ conversion_cells(spec, effective))
    left = effective / np.maximum(halves_us, 1e-9)  # of each cell's current
    return np.asarray(u @ conversion_cells(spec, linear * left) + u**3 @ conversion_cells(spec, cubic * left))
