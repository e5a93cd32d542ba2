"""Voltage-mode sensing: a column that floats settles at the mean of its inputs, weighted by conductance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import conversion_cells
from cim.chip.spec import MacroSpec, PairSubtraction, Sensing


def sensing_factor(spec: MacroSpec, halves_us: NDArray[np.floating]) -> NDArray[np.float64]:
    """Factor on the sum of each conversion of a tile, (conversions,), of its cells (2, rows, outputs) in µS.

        V_j ∝ Σ_i G_ij u_i / Σ_i G_ij,    factor_j = mean_j Σ_i G_ij / Σ_i G_ij

    so that a tile's mean column has the full scale of the chip file: a column of much conductance gives fewer codes
    for the same sum, and the converter's steps and noise weigh more on it. All ones where currents are sensed.

    Example: two columns of 10 and 30 µS in all give factors of 2 and 0.667.
    """
    plus, minus = (np.asarray(half, np.float64) for half in halves_us)
    if spec.paired and spec.pair_subtraction is PairSubtraction.ANALOG:
        minus = -minus  # currents are subtracted there, what loads the line adds
    total = conversion_cells(spec, np.stack([plus, minus])).sum(0)
    if spec.sensing is Sensing.CURRENT or not total.any():
        return np.ones(len(total))
    return np.asarray(total.mean() / np.maximum(total, 1e-3 * total.mean()))
