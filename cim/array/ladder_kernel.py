"""Ladders of gated columns as a numba kernel: same results, bit for bit, as ``cim.array.wires.ladder_sums``.

Lines lie side by side, so that a vector register holds a node of several of them, and no array of vectors times
lines times rows is made. Imports numba and compiles at first use (cached on disk): import this module late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_options: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
MICRO = 1e-6


@njit(**_options)
def admittances(drive: Any, load: Any, falls: Any, out: Any) -> None:
    """Admittance of each line at the converter for every input vector, µS: the current at 1 V on all driven cells.

    Args:
        drive: (vectors, rows) share 0 … 1 of full drive at which each row's cells conduct, farthest row first.
        load: (rows, lines) µS; ``falls`` (rows,) ohm of both lines to the next row.
        out: (vectors, lines), filled.
    """
    vectors, rows, lines = drive.shape[0], load.shape[0], load.shape[1]
    y = np.empty(lines)
    for v in range(vectors):
        y[:] = 0.0
        for i in range(rows):
            u, fall = drive[v, i], falls[i]
            for k in range(lines):
                here = y[k] + u * load[i, k] * MICRO
                y[k] = here / (1.0 + fall * here)
        for k in range(lines):
            out[v, k] = y[k] / MICRO


@njit(**_options)
def currents(drive: Any, load: Any, net: Any, falls: Any, out: Any) -> None:
    """Current of each line at the converter for every input vector, µS times volts, where drives may be negative.

    ``net`` (rows, lines) µS: cells that drive current; the other arguments are those of ``admittances``.
    """
    vectors, rows, lines = drive.shape[0], load.shape[0], load.shape[1]
    y, j = np.empty(lines), np.empty(lines)
    for v in range(vectors):
        y[:] = 0.0
        j[:] = 0.0
        for i in range(rows):
            u, fall = drive[v, i], falls[i]
            size = abs(u)
            for k in range(lines):
                here = y[k] + size * load[i, k] * MICRO
                more = 1.0 + fall * here
                y[k] = here / more
                j[k] = (j[k] + u * net[i, k] * MICRO) / more
        for k in range(lines):
            out[v, k] = j[k] / MICRO


@njit(**_options)
def voltages(per_row: Any, resistance: Any) -> Any:
    """Node voltages (steps, rows) of ladders; see ``cim.array.wire_law.mean_voltages`` for loads and resistances."""
    steps, rows = per_row.size, resistance.size
    found = np.empty((steps, rows))
    for s in range(steps):
        y = 0.0
        for i in range(rows):
            y = y + per_row[s]
            y = y / (1.0 + resistance[i] * y)
            found[s, i] = 1.0 - resistance[i] * y
        for i in range(rows - 2, -1, -1):
            found[s, i] *= found[s, i + 1]
    return found


@njit(**_options)
def grouped(per_row: Any, resistance: Any, group: int, power: int) -> Any:
    """Ladder voltages as means over groups of rows, the input of ``cim.array.wire_segments.segment_law``.

    Returns:
        means over groups, (steps, segments), of the arriving share w^power, of w² and of the position along the line
        (with one more column for the line's end); (steps,) mean arriving share; w (rows,) and position (rows + 1,) of
        the middle step.
    """
    w = voltages(per_row, resistance)
    steps, rows = w.shape
    segments = (rows + group - 1) // group
    keep, load_keep = np.zeros((steps, segments)), np.zeros((steps, segments))
    place, arrived = np.zeros((steps, segments + 1)), np.zeros(steps)
    middle = np.zeros(rows + 1)
    for s in range(steps):
        at = 0.0
        for g in range(segments):
            first, stop = g * group, min((g + 1) * group, rows)
            sum_keep, sum_load, sum_place = 0.0, 0.0, 0.0
            for i in range(first, stop):
                here = w[s, i]
                square = here * here
                share = square if power == 2 else here
                sum_keep += share
                sum_load += square
                sum_place += at
                if s == rows // 2:
                    middle[i] = at
                at += resistance[i] / (here * (w[s, i + 1] if i + 1 < rows else 1.0))
            arrived[s] += sum_keep
            keep[s, g], load_keep[s, g] = sum_keep / (stop - first), sum_load / (stop - first)
            place[s, g] = sum_place / (stop - first)
        place[s, segments] = at
        if s == rows // 2:
            middle[rows] = at
        arrived[s] /= rows
    return keep, load_keep, place, arrived, w[rows // 2], middle
