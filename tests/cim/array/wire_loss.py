"""The first order of what wires take from a sum, as closed form: what fits and ladders are held against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import GROUP, WireEnd, conversion_cells, conversion_load, line_gaps, max_unit
from cim.chip.spec import MacroSpec

Floats = NDArray[np.float64]


def wire_loss_us(
    spec: MacroSpec,
    row0: int,
    halves_us: NDArray[np.floating],
    units: NDArray[np.integer],
    end: WireEnd = WireEnd.LAST,
) -> Floats:
    """First-order loss of converted quantity per ohm of cell pitch, Σ_groups length · D · 2 τ n.

    Args:
        units: input units driven in one read, (vectors, rows).

    Returns:
        (vectors, conversions) µS times unit, per ohm.
    """
    cells, load = conversion_cells(spec, halves_us), conversion_load(spec, halves_us)
    rows = cells.shape[0]
    order, gaps = line_gaps(spec, row0, rows, end)
    lengths = segment_lengths(gaps, GROUP)
    starts = np.arange(0, rows, GROUP)
    ordered = np.asarray(units, np.float64)[:, order]
    loads = np.cumsum(np.add.reduceat(np.abs(ordered), starts, axis=1), axis=1) * lengths
    # Σ_g n_g ℓ_g D_g with D_g = Σ_(rows of groups ≤ g) G u  =  Σ_rows G u · Σ_(g ≥ group of row) n_g ℓ_g
    beyond = np.cumsum(loads[:, ::-1], axis=1)[:, ::-1]
    weighted = ordered * np.repeat(beyond, np.diff(np.append(starts, rows)), axis=1)
    loss: Floats = weighted @ cells[order] * (load * 1e-6 / max_unit(spec))
    return loss


def segment_lengths(gaps: NDArray[np.float64], group: int) -> NDArray[np.float64]:
    """Pitches that the running sum of each segment of ``group`` rows counts, the sum growing evenly within it."""
    rows = len(gaps)
    row = np.arange(rows)
    first = row // group * group
    done = (row - first + 1) / (np.minimum(first + group, rows) - first)
    lengths = np.bincount(row // group, done * gaps)
    lengths[:-1] += np.bincount(row // group, (1.0 - done) * gaps)[1:]
    return np.asarray(lengths)
