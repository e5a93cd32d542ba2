"""Integral nonlinearity (INL) of converters between the nodes at which a record has it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def inl_nodes(y: Floats, nodes: int, limits: tuple[int, int]) -> tuple[NDArray[np.int64], Floats]:
    """Node left of each code, and the share of the way to the next one; ``nodes`` lie evenly over ``limits``."""
    low, high = limits
    at = np.clip((y - low) / (high - low), 0.0, 1.0) * (nodes - 1)
    left = np.minimum(at.astype(np.int64), nodes - 2)
    return left, at - left


def inl_at(y: Floats, inl_codes: Floats, adc: NDArray[np.int64], limits: tuple[int, int]) -> Floats:
    """INL of codes ``y`` (..., conversions), linear between nodes evenly spaced over the scale.

    ``inl_codes`` (curves, nodes); ``adc`` (conversions,) the curve of each conversion.

    Example: nodes 0 and 2 on a scale from 0 to 100 give 0.5 at code 25.
    """
    left, share = inl_nodes(y, inl_codes.shape[1], limits)
    curve = inl_codes[adc]
    column = np.arange(len(adc))
    return np.asarray(curve[column, left] * (1.0 - share) + curve[column, left + 1] * share)
