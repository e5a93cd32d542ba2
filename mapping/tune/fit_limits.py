"""Limits of the fits of a tune: places of an output map that they look at, gains that they give."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

GAINS = (0.2, 5.0)  # least and largest gain of a channel
PLACES = 256  # of a layer's output map at most, evenly taken

Number = TypeVar("Number", bound=np.generic)


def some_places(values: NDArray[Number]) -> NDArray[Number]:
    """Values (n, channels, …) at evenly taken places of the output map, (n, channels, places)."""
    flat = values.reshape(*values.shape[:2], -1)
    take = -(-flat.shape[2] // PLACES)
    if take > 1:
        take |= 1  # odd, so that every column of the map has its turn
    return np.ascontiguousarray(flat[:, :, ::take])
