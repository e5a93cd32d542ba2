"""Heat: effective age, conductance, and the activation energy behind bakes."""

from __future__ import annotations

import numpy as np
import pytest

from cim.cells.temperature import BOLTZMANN_EV, KELVIN, Thermal, accelerated_age, conductance_factor
from cim.fit.activation import fit_activation


def test_a_day_at_85_degrees_counts_as_26_at_25() -> None:
    thermal = Thermal(25.0, -1e-3, 0.0, activation_ev=0.5)
    assert accelerated_age(86_400.0, 85.0, thermal) == pytest.approx(26.06 * 86_400, rel=1e-3)
    assert accelerated_age(86_400.0, 25.0, thermal) == 86_400.0
    assert accelerated_age(86_400.0, 0.0, thermal) < 86_400.0
    assert accelerated_age(5.0, 85.0, Thermal(25.0, 0.0, 0.0)) == 5.0


def test_conductance_is_linear_in_temperature_and_never_negative() -> None:
    thermal = Thermal(25.0, -1e-3, 0.0)
    assert conductance_factor(60.0, thermal) == pytest.approx(0.965)
    assert conductance_factor(25.0, thermal) == 1.0
    assert conductance_factor(5000.0, thermal) > 0.0


def test_activation_energy_is_found_though_the_duration_of_the_bakes_is_not_known() -> None:
    temperatures = np.array([100.0, 140.0, 180.0, 220.0])
    growth = np.array([2.0, 8.0, 15.0, 5.0])
    for duration in (60.0, 86_400.0):
        lift = 1.1 / (BOLTZMANN_EV * np.log(10)) * (1 / 298.15 - 1 / (temperatures + KELVIN))
        variance = 3.0 + growth * (np.log10(duration) + lift)[:, None]
        found = fit_activation(temperatures, variance, growth)
        assert found.ev == pytest.approx(1.1)
        assert found.r2 == pytest.approx(1.0)
    noisy = fit_activation(temperatures, variance + np.random.default_rng(0).normal(0, 1.0, variance.shape), growth)
    assert abs(noisy.ev - 1.1) < 3 * noisy.ev_se < 0.5
    two = fit_activation(np.array([100.0, 140.0]), np.array([[100.0], [121.5]]), np.array([10.0]))
    assert two.ev == pytest.approx(1.64, abs=0.01)


def test_levels_that_do_not_share_one_energy_are_shown_by_r2_and_error() -> None:
    temperatures = np.array([100.0, 140.0, 180.0])
    lift = 1.0 / (BOLTZMANN_EV * np.log(10)) * -1.0 / (temperatures + KELVIN)
    growth = np.array([4.0, 5.0, 6.0])
    found = fit_activation(temperatures, growth * np.array([0.2, 1.0, 3.0]) * lift[:, None], growth)
    assert found.r2 < 0.8
    assert found.ev_se > 0.3
    np.testing.assert_allclose(found.by_level_ev, [0.2, 1.0, 3.0])
