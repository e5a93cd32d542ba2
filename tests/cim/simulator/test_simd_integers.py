"""Integer vectors in numba kernels, against plain integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from cim.simd.integers import WIDTH, load_halves, load_shorts, rounded
from cim.simd.vectors import store

LOW, HIGH = -(1 << 15), (1 << 15) - 1


@njit
def _of_shorts(x: Any, y: Any, out: Any) -> None:
    store(out, 0, rounded(load_shorts(x, 0), load_shorts(y, 0)))


@njit
def _of_halves(x: Any, y: Any, out: Any) -> None:
    store(out, 0, rounded(load_halves(x, 0), load_halves(y, 0)))


@pytest.mark.parametrize(("product", "lanes"), [(_of_shorts, WIDTH), (_of_halves, WIDTH // 2)])
def test_a_rounded_product_is_the_nearest_whole_number(product: Any, lanes: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y = rng.integers(LOW, HIGH + 1, (2, lanes)).astype(np.int16)
        x[:4], y[:4] = (LOW, HIGH, 0, 1), (HIGH, HIGH, LOW, 1 << 14)
        out = np.zeros(lanes, np.int16)
        product(x, y, out)
        np.testing.assert_array_equal(out, np.floor(x.astype(np.float64) * y / (1 << 15) + 0.5))
