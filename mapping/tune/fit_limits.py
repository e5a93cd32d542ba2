"""Limits of the fits of a tune: places of an output map that they look at, gains that they give."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

GAINS = (0.2, 5.0)  # least and largest gain of a channel
PLACES = 256  # of a layer's output map at most, evenly taken

Number = TypeVar("Number", bound=np.generic)


def place_step(places: int) -> int:
    """Every how-manieth place of an output map is looked at."""
    take = -(-places // PLACES)
    return take | 1 if take > 1 else 1  # odd, so that every column of the map has its turn


def some_places(values: NDArray[Number]) -> NDArray[Number]:
    """Values (n, channels, …) at evenly taken places of the output map, (n, channels, places)."""
    flat = values.reshape(*values.shape[:2], -1)
    return np.ascontiguousarray(flat[:, :, :: place_step(flat.shape[2])])
