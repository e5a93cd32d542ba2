"""Intervals of shares, of means, and of one more of a few."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


def wilson(right: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of a share ``right / n``; ``right`` may be fractional (a mean over repeats).

        (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n)

    E. B. Wilson, doi:10.1080/01621459.1927.10502953. Example: 994 of 1,000: 0.987 to 0.997.
    """
    from scipy.special import ndtri  # late: an estimate of costs needs no scipy

    if n < 1 or not 0 <= right <= n:
        raise ValueError(f"a share needs 0 <= right <= n and n >= 1, got {right} of {n}")
    z = float(ndtri(0.5 + confidence / 2))
    p = right / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the mean of values (n,), by Student's t."""
    n = len(values)
    half = _t(n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return float(values.mean()) - half, float(values.mean()) + half


def one_more_half_width(n: int, deviation: float = 1.0) -> float:
    """Half of the 95 % prediction interval of one more beside n of that standard deviation: t(n − 1) s √(1 + 1/n).

    Example: beside 20 virtual chips, 2.145 standard deviations.
    """
    return _t(n - 1) * deviation * math.sqrt(1.0 + 1.0 / n)


def _t(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2))
