"""Sums over the vectors of a calibration that the INL curves are solved from, in one pass, as a numba kernel.

Imports numba and compiles at first use (cached on disk): import this module late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

NEAR, BESIDE, FAR, SLOPE, LEVEL, FOUND = range(6)  # planes of the result


@njit(nogil=True, cache=True, error_model="numpy")
def node_sums(left: Any, share: Any, x: Any, t: Any, w: Any, nodes: int) -> Any:
    """Sums of every column at every node, float64 (6, columns, nodes).

    With b the hat functions (1 − share of the node on the ``left``, share of the next one), over vectors:

        NEAR, BESIDE, FAR     Σ w (1 − share)², Σ w share (1 − share), Σ w share², at the left node
        SLOPE, LEVEL, FOUND   Σ w b x, Σ w b, Σ w b t

    Args:
        left, share, x, t, w: (vectors, columns).
    """
    vectors, columns = x.shape
    found = np.zeros((6, columns, nodes))
    for v in range(vectors):
        for j in range(columns):
            at, there, weight = left[v, j], share[v, j], w[v, j]
            here = 1.0 - there
            found[NEAR, j, at] += weight * here * here
            found[BESIDE, j, at] += weight * here * there
            found[FAR, j, at] += weight * there * there
            near, far = weight * here, weight * there
            found[SLOPE, j, at] += near * x[v, j]
            found[SLOPE, j, at + 1] += far * x[v, j]
            found[LEVEL, j, at] += near
            found[LEVEL, j, at + 1] += far
            found[FOUND, j, at] += near * t[v, j]
            found[FOUND, j, at + 1] += far * t[v, j]
    return found
