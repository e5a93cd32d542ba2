"""The change of scale at the end of nearly every integer rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Requantise:
    """q = clamp(round(acc · multiplier / 2^shift), low, high); round half away from zero.

    ``multiplier`` int32 and ``shift`` int32 per channel, (channels,) or (1,).
    """

    multiplier: Ints
    shift: Ints
    low: int
    high: int
