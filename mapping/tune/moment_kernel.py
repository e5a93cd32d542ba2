"""Means, variances and covariance of two sets of level sums, channel by channel, as a numba kernel.

It reads both once for the means and once for the rest and makes no array on the way: a tune of a virtual chip is
mostly this. Imports numba and compiles at first use (cached on disk): import this module late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

MEAN_Y, MEAN_Z, VAR_Y, VAR_Z, BOTH = range(5)  # rows of the result


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})  # sums of several lanes
def channel_moments(y: Any, z: Any) -> Any:
    """Moments of ``y`` and ``z``, both int32 (n, channels, places), of every channel: float64 (5, channels)."""
    images, channels, places = y.shape
    total_y, total_z = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
    for i in range(images):
        for c in range(channels):
            sum_y, sum_z = np.int64(0), np.int64(0)
            for p in range(places):
                sum_y += y[i, c, p]
                sum_z += z[i, c, p]
            total_y[c] += sum_y
            total_z[c] += sum_z
    found = np.zeros((5, channels), np.float64)
    count = float(images * places)
    found[MEAN_Y], found[MEAN_Z] = total_y / count, total_z / count
    for i in range(images):
        for c in range(channels):
            mean_y, mean_z = found[MEAN_Y, c], found[MEAN_Z, c]
            yy, zz, yz = 0.0, 0.0, 0.0
            for p in range(places):
                dy, dz = y[i, c, p] - mean_y, z[i, c, p] - mean_z
                yy += dy * dy
                zz += dz * dz
                yz += dy * dz
            found[VAR_Y, c] += yy
            found[VAR_Z, c] += zz
            found[BOTH, c] += yz
    found[VAR_Y:] /= count
    return found
