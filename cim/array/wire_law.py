"""The simulator's law of wire resistance in gated arrays (1T1R, inputs on the gates).

A driven cell hangs between a bit line and a source line. Both have ``Wire.ohm`` per cell pitch and
end on the same side, so the two together act as one line of twice that. To first order a column loses

    loss = r · Σ_segments D · T        r = 2 · ohm · 1e-6 / u_max

D: converted sum (µS times unit) of the rows beyond the segment, T: conductance driven there. For a
pair of columns the difference of the two losses S₊² − S₋² = (S₊ − S₋)(S₊ + S₋) has the same form.

First order is not enough: at 1 Ω, 128 rows of 2-40 µS lose a fifth. ``WireTable`` starts instead from
the exact ladder with the *mean* load of n driven rows and goes to second order about it: rms error
0.05 % of the largest sum at 1 Ω and 128 rows, 0.07 % at 256 (``benchmarks/studies/cells/wire_accuracy.py``).
``line_bend`` is a coarser form, one number a tile: loss / (1 + bend · n), with T ≈ τ · n.
``cim.array.wires`` has the exact solution.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.array.cell_iv import line_halves_us, unit_parts
from cim.chip.spec import Encoding, MacroSpec, PairSubtraction, SignedInput

Floats = NDArray[np.float64]

GROUP = 8  # rows whose sums are formed at once
LINES = 2  # bit line and source line


class WireEnd(enum.StrEnum):
    """At which end of the word-line numbering the column currents leave the array."""

    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Wire:
    """Resistance per cell pitch of each of bit line and source line, and the end where both leave."""

    ohm: float
    ohm_se: float
    end: WireEnd = WireEnd.LAST


@dataclass(frozen=True, slots=True)
class Line:
    """Connection of a conversion to its lines: the part of encoding and input coding that the law needs.

    ``load_us`` (rows, conversions): conductance that a driven row hangs on the conversion's lines.
    ``lines``: lines that share it. ``own``: the load is the converted sum itself. ``power``: 2 where
    a cell's own conductance changes the voltage it sees (I = G V on the loaded line), 1 where drives
    of both signs share a line, so that net current and load are separate. ``share``: part of D · T
    that counts, ½ where two lines carry signed inputs.
    """

    load_us: Floats
    lines: int
    own: bool
    power: int
    share: float


def conversion_cells(spec: MacroSpec, halves_us: NDArray[np.floating]) -> Floats:
    """Cells that each conversion of a read sums: (rows, conversions) µS in raw order.

    Args:
        halves_us: (2, rows, outputs) of ``cim.chip.encoding.tile_halves_us``.
    """
    plus, minus = np.asarray(halves_us, np.float64)
    if spec.encoding is Encoding.OFFSET_COLUMN:
        return np.hstack([plus, minus[:, :1]])
    if not spec.paired:
        return np.asarray(plus)
    if spec.pair_subtraction is PairSubtraction.DIGITAL:
        return np.hstack([plus, minus])
    return np.asarray(plus - minus)


def conversion_line(spec: MacroSpec, halves_us: NDArray[np.floating]) -> Line:
    """Load of each conversion's lines per driven row, and the constants of the wire law for the encoding."""
    signed = spec.inputs.signed is SignedInput.TERNARY
    if not (spec.paired and spec.pair_subtraction is PairSubtraction.ANALOG):
        return Line(conversion_cells(spec, halves_us), 1, not signed, 1 if signed else 2, 1.0)
    both = np.asarray(halves_us, np.float64).sum(0)
    if spec.encoding is Encoding.ROW_PAIRS:  # one line carries the difference
        return Line(both, 1, False, 1, 1.0)
    return Line(both, 2, False, 1 if signed else 2, 0.5 if signed else 1.0)


def conversion_load(spec: MacroSpec, halves_us: NDArray[np.floating]) -> Floats:
    """2 τ of each conversion, (conversions,) µS: mean conductance per driven row, times the two lines of a column."""
    line = conversion_line(spec, halves_us)
    return np.asarray(line.load_us.mean(0) * (LINES * line.share))


def line_gaps(
    spec: MacroSpec, row0: int, rows: int, end: WireEnd = WireEnd.LAST
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows of a tile farthest from the column's end first, and pitches from each to the next, the last to the end."""
    return _gaps_of(spec.word_lines[row0 : row0 + rows], spec.rows, end)


@functools.lru_cache(maxsize=1024)
def _gaps_of(
    word_lines: tuple[tuple[int, ...], ...], array_rows: int, end: WireEnd
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Cached ``line_gaps`` of these word lines; the arrays are read-only, since all chips of one kind share them."""
    lines = np.array([sum(w) / len(w) for w in word_lines])
    distance = lines + 1.0 if end is WireEnd.FIRST else array_rows - lines
    order = np.argsort(-distance, kind="stable").astype(np.int64)
    gaps = -np.diff(np.append(distance[order], 0.0))
    order.flags.writeable = gaps.flags.writeable = False
    return order, gaps


@dataclass(frozen=True, slots=True)
class WireTable:
    """The law of one tile: second order about the ladder with the mean load of n driven rows.

    With group sums D_g of ``row_keep`` · G u and T_g of ``row_load`` · load |u|, farthest group first:

        D̂ += keep[n, g] · D_g        T̂ += load_keep[n, g] · T_g − load_mean[n, g]
        Q += drop[n, g] · D̂ · T̂
        y  = D̂ − share · Q           or, where the load is the sum itself (``own``; D is not needed):
        y  = base[n] + T̂ − Σ drop[n, g] · T̂²

    n = round(Σ |u| / u_max). Sums in µS times unit (a D in codes gives y in codes), ``drop`` in their
    inverse. Derivation: in a ladder of loads m with voltages w, a change δ of the loads changes the
    current by Σ w² δ − Σ_ij w_i Z_ij w_j δ_i δ_j, and Z_ij / (w_i w_j) grows along the line by
    r / (w_a w_b) from node a to node b: a sum over segments as at first order, only weighted.

    ``order``, ``row_keep``, ``row_load``: (rows,), in the order farthest first; the rest of the tables
    (rows + 1, groups), ``base`` (rows + 1,). ``load_us`` (conversions,): mean load of a driven row.
    """

    order: NDArray[np.int64]
    row_keep: Floats
    row_load: Floats
    keep: Floats
    load_keep: Floats
    load_mean: Floats
    drop: Floats
    base: Floats
    load_us: Floats
    share: float
    own: bool


def wire_table(
    spec: MacroSpec, row0: int, halves_us: NDArray[np.floating], wire: Wire, group: int = GROUP
) -> WireTable:
    """The law's tables for one tile; ``halves_us`` (2, rows, outputs) µS, ``group`` rows summed at once."""
    line = conversion_line(spec, halves_us)
    rows = len(line.load_us)
    order, gaps = line_gaps(spec, row0, rows, wire.end)
    unit = max_unit(spec)
    mean = float(line.load_us.mean()) / line.lines  # µS that a driven row hangs on one line
    per_row = mean * unit * np.arange(rows + 1.0) / rows
    r = LINES * wire.ohm * 1e-6 / unit * gaps
    w = mean_voltages(per_row, r)
    ends = np.hstack([w, np.ones((rows + 1, 1))])
    segments = r / (ends[:, :-1] * ends[:, 1:])
    place = np.hstack([np.zeros((rows + 1, 1)), np.cumsum(segments, axis=1)])
    starts = np.arange(0, rows, group)
    count = np.diff(np.append(starts, rows))

    def by_group(values: Floats) -> Floats:
        return np.asarray(np.add.reduceat(values, starts, axis=1) / count)

    keep, load_keep = by_group(w**line.power), by_group(w**2)
    middle = np.hstack([by_group(place[:, :-1]), place[:, -1:]])
    half = rows // 2  # within a group rows differ as they do with half of them driven
    return WireTable(
        order=order,
        row_keep=w[half] ** line.power / np.repeat(keep[half], count),
        row_load=w[half] ** 2 / np.repeat(load_keep[half], count),
        keep=keep,
        load_keep=load_keep,
        load_mean=load_keep * count * (per_row * line.lines)[:, None],
        drop=np.diff(middle, axis=1),
        base=per_row * w.sum(1),
        load_us=line.load_us.mean(0),
        share=line.share,
        own=line.own,
    )


def mean_voltages(per_row: Floats, resistance: Floats) -> Floats:
    """Node voltages (steps, rows) of ladders with equal loads, relative to 1 at the converter; the last row is nearest.

    Args:
        per_row: (steps,) load of every node.
        resistance: (rows,) from each node to the next, of the last node to the end; resistance · load is without unit.
    """
    from cim.array.ladder_kernel import voltages  # numba is large

    found: Floats = voltages(np.asarray(per_row, np.float64), np.asarray(resistance, np.float64))
    return found


def wired_sums_us(
    spec: MacroSpec,
    row0: int,
    halves_us: NDArray[np.floating],
    units: NDArray[np.integer] | Floats,
    wire: Wire,
    group: int = GROUP,
    mean_load: bool = False,
) -> Floats:
    """Converted sums of reads with wires by the law, (vectors, conversions) µS times unit.

    Cubic cells (``cim.array.cell_iv``) load the lines as they do on average.

    Args:
        units: input units of the rows in one read, (vectors, rows).
        group: rows whose sums are formed at once.
        mean_load: take for T_g what the n_g driven rows of the group hang on the column on average,
            ``load_us`` · n_g: needs no sums of loads. Coarser.
    """
    linear, cubic = unit_parts(spec, halves_us)
    cells, bent = conversion_cells(spec, linear), None if cubic is None else conversion_cells(spec, cubic)
    u = np.asarray(units, np.float64)
    if wire.ohm == 0.0:
        return np.asarray(u @ cells if bent is None else u @ cells + u**3 @ bent)
    loads_us = line_halves_us(spec, halves_us)
    table = wire_table(spec, row0, loads_us, wire, group)
    u = u[:, table.order]
    n = np.minimum(np.rint(np.abs(u).sum(1) / max_unit(spec)).astype(np.int64), u.shape[1])
    load = conversion_line(spec, loads_us).load_us[table.order] * table.row_load[:, None]
    cells = cells[table.order] * table.row_keep[:, None]
    own = table.own and bent is None  # the load is the converted sum itself

    def sums(rows: slice) -> Floats:
        part = u[:, rows] @ cells[rows]
        if bent is not None:
            part += u[:, rows] ** 3 @ (bent[table.order[rows]] * table.row_keep[rows, None])
        return np.asarray(part)

    d, t, q = (np.zeros((len(u), cells.shape[1])) for _ in range(3))
    for g in range(table.keep.shape[1]):
        rows = slice(g * group, (g + 1) * group)
        if mean_load and not own:
            driven = np.abs(u[:, rows]).sum(1)[:, None]
            t += table.load_keep[n, g, None] * (driven * table.load_us) - table.load_mean[n, g, None]
            d += table.keep[n, g, None] * sums(rows)
            q += table.drop[n, g, None] * d * t
            continue
        t += table.load_keep[n, g, None] * (np.abs(u[:, rows]) @ load[rows]) - table.load_mean[n, g, None]
        if own:
            q += table.drop[n, g, None] * t * t
        else:
            d += table.keep[n, g, None] * sums(rows)
            q += table.drop[n, g, None] * d * t
    return np.asarray(table.base[n, None] + t - q if own else d - table.share * q)


def line_bend(spec: MacroSpec, halves_us: NDArray[np.floating], wire: Wire, row0: int = 0) -> float:
    """Second order in one number, per driven unit: first-order loss / (1 + bend · n), n = Σ |u| of the read.

    Chosen so that evenly spread currents lose what they lose in the exact ladder with half of the
    rows driven: 1 − mean w² of a pair, 1 − mean w of a line whose load is its own sum or of separate
    net currents, against their first-order loss.

    Example: lab-128, levels at random, 1 Ω: bend ≈ 0.0018, so 64 driven rows lose 10 % less than first order.
    """
    line = conversion_line(spec, halves_us)
    rows = len(line.load_us)
    if wire.ohm == 0.0 or not line.load_us.any():
        return 0.0
    _, gaps = line_gaps(spec, row0, rows, wire.end)
    per_row = np.array([float(line.load_us.mean()) / line.lines / 2.0])
    resistance = LINES * wire.ohm * 1e-6 * gaps
    pair = line.power == 2 and not line.own
    w = mean_voltages(per_row, resistance)
    exact = 1.0 - float(np.mean(w**2 if pair else w))
    count = np.arange(1.0, rows + 1.0)
    first = float(np.sum(resistance * count * count)) / rows * float(per_row[0]) * (2.0 if pair else 1.0)
    return (first / exact - 1.0) / (rows / 2.0 * max_unit(spec))


def max_unit(spec: MacroSpec) -> int:
    """Largest input unit of one read."""
    return 1 if spec.inputs.signed is SignedInput.TERNARY else (1 << spec.inputs.bits_per_cycle) - 1
