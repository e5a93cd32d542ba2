"""Single numbers of a record, and temperature coefficients, with errors that hold."""

from __future__ import annotations

import numpy as np
import pytest

from cim.cells.read_noise import ReadNoise
from cim.fit.temperature import fit_conductance_per_k, fit_variance_per_k


def test_a_change_with_temperature_is_found_beside_relaxation_and_its_error_holds() -> None:
    scores = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        true = rng.uniform(2.0, 40.0, 4000)
        drift = np.full(4000, -0.05)
        cold = true + rng.normal(0.0, 0.1, 4000)
        hot = (true + drift) * (1.0 + 5e-4 * 35.0) + rng.normal(0.0, 0.1, 4000)
        hot[:5] += 30.0  # cells that jumped
        value, error = fit_conductance_per_k(cold, hot, drift, true, 35.0)
        scores.append((value - 5e-4) / error)
    assert np.abs(scores).max() < 3.0
    assert fit_conductance_per_k(np.full(50, 20.0), np.full(50, 20.35), np.zeros(50), np.full(50, 20.0), 35.0)[
        0
    ] == pytest.approx(5e-4)
    with pytest.raises(ValueError, match="one temperature"):
        fit_conductance_per_k(cold, hot, drift, true, 0.0)


def test_read_variance_over_temperature_is_relative() -> None:
    levels = np.array([2.0, 40.0])
    cold = ReadNoise(levels, np.array([1.70, 1.70]), np.array([0.02, 0.02]))
    hot = ReadNoise(levels, np.array([1.87, 1.87]), np.array([0.02, 0.02]))
    value, error = fit_variance_per_k(cold, hot, 35.0)
    assert value == pytest.approx(0.1 / 35.0)
    assert error == pytest.approx(0.02 * np.hypot(1.0, 1.1) / 1.7 / np.sqrt(2.0) / 35.0)
