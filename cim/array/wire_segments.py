"""The wire law as the simulator's engines run it: one product a segment of the line, one correction a conversion.

    y = D − (1 + swing[n] · T′) · Σ_g (fall[n, g] + rise[n, g] · N_g) · D_g

D_g: converted sum of the rows from the far end to the end of segment g, N_g the driven rows among
them, D and n those of all rows. T′: how much more than the mean the driven rows hang on the
conversion's lines. The terms:

* with the mean load τ of n driven rows spread evenly, row i's current arrives by the share wᵢᵖ
  (w the voltages of that ladder): (keep of segment g + 1 − keep of segment g) · D_g summed is lost;
* driven rows that are not spread evenly change segment g's loss by drop · τ (N_g − n f_g), with
  f_g the share of rows in it, as in ``WireTable``; later segments are expected to make up for it evenly;
* a conversion whose driven rows hang T′ more on its lines than the mean loses swing · T′ more. T′ weighs
  each row by how much its load changes the loss; swing is the loss's logarithmic slope in the load.

So sums of loads enter by one number a conversion, which may be coarse. Of more than four planes the look-up engine
takes those below the upper four by ``even_loss``, with swing · T′ of the lowest of the four
(``cim.simulator.exact.lookup_sums``).
Against the exact ladder at 1 Ω and segments of 8 rows: rms error 0.05 % of the largest sum at 128 rows and 0.12 %
at 256, largest 0.27 and 0.64 % (``tests/cim/array/test_wire_segments.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import LINES, Wire, conversion_line, line_gaps
from cim.chip.spec import MacroSpec

Floats = NDArray[np.float64]

SEGMENT_ROWS = 8


@dataclass(frozen=True, slots=True)
class SegmentLaw:
    """Tables of one tile, n = 0..rows driven rows (Σ |u| / u_max), segments farthest first.

    ``row_keep`` (rows,) factor of each row's cells, ``fall`` and ``rise`` (rows + 1, segments),
    ``swing`` (rows + 1,) per µS of T′, ``extra_us`` (rows, conversions) what a fully driven row adds to T′;
    ``group`` rows in a segment.
    """

    row_keep: Floats
    fall: Floats
    rise: Floats
    swing: Floats
    extra_us: Floats
    group: int

    @property
    def segments(self) -> int:
        return int(self.fall.shape[1])

    def even_loss(self) -> Floats:
        """Share of a sum that is lost where driven rows and their currents are spread evenly, (rows + 1,)."""
        rows = len(self.row_keep)
        share = np.minimum(np.arange(1, self.segments + 1) * self.group, rows) / rows
        n = np.arange(rows + 1.0)[:, None]
        return np.asarray(((self.fall + self.rise * n * share) * share).sum(1))


def segment_law(
    spec: MacroSpec, row0: int, halves_us: NDArray[np.floating], wire: Wire, group: int = SEGMENT_ROWS
) -> SegmentLaw:
    """The law of one tile; ``halves_us`` (2, rows, outputs) µS.

    Example: one driven row of 50 µS, the farthest of 128 at 1 Ω: 2 · 128 Ω · 50 µS = 1.3 % lost.
    """
    from cim.array.ladder_kernel import grouped  # numba is large

    line = conversion_line(spec, halves_us)
    rows = len(line.load_us)
    order, gaps = line_gaps(spec, row0, rows, wire.end)
    n = np.arange(rows + 1.0)
    load = np.asarray(line.load_us, np.float64)[order]
    tau = float(load.mean())
    per_row = tau / line.lines * n / rows
    r = LINES * wire.ohm * 1e-6 * gaps
    power = 1 if line.own else line.power
    keep, load_keep, place, arrived, w, middle = grouped(per_row, r, group, power)
    count = np.diff(np.append(np.arange(0, rows, group), rows))
    drop = np.diff(place, axis=1) * line.share
    share = np.cumsum(count) / rows  # f
    ahead = drop * (1.0 - share)
    later = (ahead.sum(1, keepdims=True) - np.cumsum(ahead, axis=1)) / np.maximum(1.0 - share, 1e-9)
    later[:, -1] = 0.0
    steps = np.diff(np.hstack([keep, np.ones((rows + 1, 1))]), axis=1)
    heavy = tau * np.cumsum(load_keep * count, axis=1) / np.cumsum(count)
    rise = heavy * (keep * drop - steps * later)
    lost = 1.0 - arrived
    rate = np.gradient(lost) if rows > 1 else np.zeros(2)
    known = np.abs(lost) > 1e-12  # a resistance drawn within its error may be negative, and so is what it loses
    swing = np.where(known, rate / (tau * np.where(known, lost, 1.0)), 0.0)
    swing[0] = 0.0
    half, arrives = rows // 2, w**power
    left = middle[-1] - middle[:-1]
    weight = w**2 * (np.minimum(left[:, None], left) @ arrives)
    return SegmentLaw(
        row_keep=arrives / np.repeat(keep[half], count),
        fall=steps - rise * share * n[:, None],
        rise=rise,
        swing=swing,
        extra_us=(weight / (float(weight.mean()) or 1.0))[:, None] * (load - tau),
        group=group,
    )
