"""Non-linear cells: closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from cim.array.cell_iv import CellCurrent, amplitude_parts

LAW = CellCurrent(np.array([10.0, 100.0]), np.array([2.0, 0.1]), np.zeros(2))


def test_k_is_linear_in_the_logarithm_between_its_points() -> None:
    assert LAW.k_at(np.array([1.0, 10.0, np.sqrt(1000.0), 1000.0])) == pytest.approx([2.0, 2.0, 1.05, 0.1])


def test_amplitude_parts_sum_to_the_cell_as_it_was_read_and_to_the_law_below() -> None:
    g = np.array([[10.0, 50.0], [100.0, 3.0]])
    linear, cubic = amplitude_parts(g, LAW, 0.2, 3)
    for u in (1, 2, 3):
        k = LAW.k_at(g)
        expected = g * u * (1 + k * (0.2 * u / 3) ** 2) / (1 + k * 0.2**2)
        assert linear * u + cubic * u**3 == pytest.approx(expected)
    assert (linear * 3 + cubic * 27) == pytest.approx(3 * g)


def test_amplitude_parts_have_their_worked_values() -> None:
    linear, cubic = amplitude_parts(np.array([10.0]), LAW, 0.2, 3)
    assert (float(linear[0]), float(cubic[0])) == pytest.approx((9.2593, 0.082305), rel=1e-4)
