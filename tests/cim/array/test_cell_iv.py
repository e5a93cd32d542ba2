"""Non-linear cells: closed forms, the fit, and a bench's sweeps."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cim.array.cell_iv import (
    CellCurrent,
    VoltageSweep,
    amplitude_parts,
    fit_cell_current,
    fit_cells,
)
from hil.device_fit.inputs import voltage_sweep
from hil.device_fit.public_sets import read_bench

LAW = CellCurrent(np.array([10.0, 100.0]), np.array([2.0, 0.1]), np.zeros(2))
VOLTS = np.linspace(0.0, 0.35, 36, dtype=np.float64)


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


def test_conductance_and_curvature_of_exact_currents_come_back() -> None:
    amps = 1e-5 * VOLTS * (1 + 1.9 * VOLTS**2) + 1e-6
    g, gk = fit_cells(VOLTS, amps[None])
    assert (float(g[0]), float(gk[0])) == pytest.approx((10.0, 19.0))


def made(noise_a: float, cells: int = 2000) -> VoltageSweep:
    rng = np.random.default_rng(0)
    g = np.exp(rng.uniform(np.log(6.0), np.log(180.0), cells))
    k = LAW.k_at(g)[:, None]
    amps = 1e-6 * g[:, None] * VOLTS * (1 + k * VOLTS**2) + 3e-7 * rng.standard_normal((cells, 1))
    return VoltageSweep(VOLTS, amps + noise_a * rng.standard_normal(amps.shape))


def test_k_is_found_within_its_error_in_noise_and_offsets_of_a_bench() -> None:
    found = fit_cell_current(made(3.5e-7))
    expected = LAW.k_at(found.conductance_us)
    assert (np.abs(found.k_per_v2 - expected) < 4 * found.se_per_v2 + 0.05).all()


def test_too_few_cells_in_a_class_are_refused() -> None:
    with pytest.raises(ValueError, match="a class needs"):
        fit_cell_current(made(0.0, 30))


def test_curvature_of_real_cells_falls_with_the_conductance() -> None:
    if "HIL_DATA" not in os.environ:
        pytest.skip("HIL_DATA not set: the bench's read voltage sweep is needed")
    law = fit_cell_current(voltage_sweep(read_bench(Path(os.environ["HIL_DATA"])).iv))
    assert (np.diff(law.k_per_v2) < 0).all()
    assert 1.5 < law.k_per_v2[0] < 4.5
    assert 0.0 < law.k_per_v2[-1] < 0.15
