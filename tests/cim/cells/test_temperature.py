"""Heat: effective age and conductance."""

from __future__ import annotations

import pytest

from cim.cells.temperature import Thermal, accelerated_age, conductance_factor


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
