"""The wire law of a tile in the integers of the look-up kernels (``cim.array.wire_segments`` has the law)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_segments import SEGMENT_ROWS, SegmentLaw, segment_law
from cim.simulator.exact.level_sums import zeros_behind
from cim.simulator.exact.lookup_sums import FACTOR_BITS, GROUP
from cim.simulator.layer import PreparedTile, SimulatedLayer

EIGHTS = 8  # segments whose factors are formed at once
MOST_BASE = 13000  # leaves a conversion room to lose a quarter more than the mean
MOST = (1 << 15) - 1


@dataclass(frozen=True)
class IntegerWires:
    """Tables of the wire law in integers: Σ factor · D / 2^15, times ``base`` / 2^15, is the loss of a sum in steps.

    ``fall``, ``rise`` int32 (rows + 1, segments in eights): factor = (fall[n] + rise[n] · N_g) >> FACTOR_BITS. ``even``
    int16 (rows + 1,): half of the factor by which D loses where rows are driven evenly. ``extra`` (rows, conversions):
    contribution of each row to T′, in steps so coarse that every sum fits a byte. ``step`` (conversions,) · ``swing``
    (rows + 1,): change of ``base`` by 2^−8 of such a step.
    """

    fall: NDArray[np.int32]
    rise: NDArray[np.int32]
    even: NDArray[np.int16]
    base: int
    row_keep: NDArray[np.float64]
    extra: NDArray[np.float64]
    step: NDArray[np.float64]
    swing: NDArray[np.float64]


def integer_wires(layer: SimulatedLayer, prepared: PreparedTile) -> IntegerWires | None:
    """Wire law of a tile in integers; None where its losses exceed their range."""
    tile = prepared.tile
    law = segment_law(layer.spec, tile.row0, tile.halves_us, layer.wire)
    scale = _scale(law)
    base = 2.0**30 / scale
    if base > MOST_BASE:
        return None
    groups = -(-len(law.row_keep) // GROUP)
    worst = np.maximum(law.extra_us.clip(0).sum(0), -law.extra_us.clip(max=0).sum(0))
    step = np.maximum(worst, 1e-9) / (127 - groups / 2)  # entries are rounded
    more = -law.segments % EIGHTS
    one = scale * (1 << FACTOR_BITS)
    fall = zeros_behind(np.rint(law.fall * one + (1 << FACTOR_BITS >> 1)).astype(np.int32), more)  # ½ for the shift
    rise = zeros_behind(np.rint(law.rise * one).astype(np.int32), more)
    return IntegerWires(
        fall=fall,
        rise=rise,
        even=np.rint(law.even_loss() * scale / 2.0).astype(np.int16),
        base=int(np.rint(base)),
        row_keep=law.row_keep,
        extra=law.extra_us / step,
        step=step,
        swing=law.swing * (base * 128.0),
    )


def _scale(law: SegmentLaw) -> float:
    """Largest scale at which 16 bits hold the loss factors of segments, and the losses summed over segments."""
    rows = len(law.row_keep)
    n = np.arange(rows + 1.0)[:, None]
    most = np.minimum(n, np.minimum(np.arange(1, law.segments + 1) * SEGMENT_ROWS, rows))
    largest = np.maximum(np.abs(law.fall), np.abs(law.fall + law.rise * most)).max(0)
    return float(min(MOST / max(largest.max(), 1e-9), 2.0**16 / max(largest.sum(), 1e-9)))
