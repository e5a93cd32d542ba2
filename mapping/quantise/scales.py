"""From real numbers to integers: fixed-point factors and the scale of one activation code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapping.operators.integer.digital_ops import INT32_HIGH, INT32_LOW
from mapping.operators.integer.scales import CodeScale

CLIPS = np.concatenate([np.geomspace(0.02, 0.25, 24, endpoint=False), np.linspace(0.25, 1.0, 76)])
"""Ends of scale that are tried, as shares of the largest magnitude."""
BINS = 4096


def code_limits(bits: int, signed: bool, symmetric: bool) -> tuple[int, int]:
    """Lowest and highest activation code; ``symmetric`` leaves out −2^(bits−1) (sign and magnitude)."""
    if not signed:
        return 0, (1 << bits) - 1
    return -(1 << (bits - 1)) + symmetric, (1 << (bits - 1)) - 1


def best_scale(values: NDArray[np.float32], largest: float, low: int, high: int) -> float:
    """The scale of one code with the least mean squared error of rounding and clipping.

    Args:
        values: a sample of the tensor.
        largest: largest magnitude ever seen; the widest end of scale that is tried.
        low, high: the codes there are.
    """
    if largest == 0.0:
        return 1.0 / high
    counts, edges = np.histogram(values[values != 0], BINS, (-largest if low < 0 else 0.0, largest))
    centres = (edges[:-1] + edges[1:]) / 2
    errors = []
    for clip in CLIPS:
        scale = clip * largest / high
        error = centres - scale * np.clip(np.rint(centres / scale), low, high)
        errors.append(float((counts * error**2).sum()))
    return float(CLIPS[int(np.argmin(errors))]) * largest / high


def wide_scale(largest: float, bits: int = 20) -> CodeScale:
    """The scale of logits: 32-bit codes, the largest magnitude seen near 2^bits."""
    return CodeScale((largest or 1.0) / float(1 << bits), INT32_LOW, INT32_HIGH, True)
