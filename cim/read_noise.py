"""The part of a cell's conductance that changes from read to read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ReadNoise:
    """Variance of the part of a cell's conductance that is new at every read, µS², by level."""

    levels_us: Floats
    variance_us2: Floats
    se_us2: Floats

    def at(self, conductance_us: NDArray[np.floating]) -> Floats:
        """Variance at any conductance, linear between levels, constant outside."""
        return np.asarray(np.interp(conductance_us, self.levels_us, self.variance_us2))
