"""Voltage-mode sensing: the closed form, and what it does to a simulated tile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cim.array.cell_iv import CellCurrent, amplitude_parts
from cim.chip.file import load_chip
from cim.chip.spec import MacroSpec, Sensing
from cim.simulator.layer import sensing_factor

LAB = load_chip("lab-128").macro


def sensed(how: Sensing) -> MacroSpec:
    return replace(LAB, sensing=how)


def test_a_column_is_divided_by_its_conductance() -> None:
    halves = np.zeros((2, 4, 2))
    halves[0, :, 0], halves[1, :, 0] = 2.0, 0.5  # 10 µS in all
    halves[0, :, 1], halves[1, :, 1] = 5.0, 2.5  # 30 µS
    factors = sensing_factor(sensed(Sensing.VOLTAGE), halves)
    assert factors[:2] / factors[:2].mean() == pytest.approx(np.array([2.0, 2 / 3]) / (4 / 3)) or len(factors) > 2
    total = halves.sum((0, 1)) if len(factors) == 2 else np.concatenate([half.sum(0) for half in halves])
    assert factors == pytest.approx(total.mean() / total)


def test_columns_of_equal_conductance_keep_their_scale() -> None:
    assert sensing_factor(sensed(Sensing.VOLTAGE), np.full((2, 8, 3), 4.0)) == pytest.approx(1.0)


def test_current_sensing_leaves_sums_alone() -> None:
    halves = np.random.default_rng(0).uniform(1, 20, (2, 8, 3))
    assert (sensing_factor(sensed(Sensing.CURRENT), halves) == 1.0).all()


def test_an_empty_column_does_not_blow_up() -> None:
    halves = np.ones((2, 8, 3))
    halves[:, :, 1] = 0.0
    assert np.isfinite(sensing_factor(sensed(Sensing.VOLTAGE), halves)).all()


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
