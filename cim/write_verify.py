"""Write-verify: what a calibration measured of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WriteStatistics:
    """How write-verify went, by level.

    ``levels_us``, ``cells`` and ``reached`` (levels,): cells written (stuck ones left out) and
    how many ended in their window. ``pulses`` (levels, points): quantiles of the pulses a
    cell took, at the shares ``pulse_points`` (points,).
    """

    levels_us: Floats
    cells: NDArray[np.int64]
    reached: NDArray[np.int64]
    pulse_points: Floats
    pulses: Floats
