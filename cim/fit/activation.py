"""Activation energy of relaxation from the spread of cells after bakes at several temperatures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.cells.temperature import BOLTZMANN_EV, KELVIN

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Activation:
    """``ev`` ± ``ev_se`` (jackknife over levels and over bakes); ``by_level_ev`` each level alone, (levels,);
    ``r2`` of one energy for all levels, 1 if it explained the change with temperature fully."""

    ev: float
    ev_se: float
    by_level_ev: Floats
    r2: float


def fit_activation(
    temperatures_c: NDArray[np.floating],
    variance_us2: NDArray[np.floating],
    growth_us2: NDArray[np.floating],
) -> Activation:
    """Ea of relaxation, when the duration of the bakes is not known but was the same for all.

    The spread grows linearly with the logarithm of the effective time, var = C₂ + C₁ log₁₀ t_eff,
    and log₁₀ t_eff = log₁₀ t_bake + Ea / (k ln 10) · (1/T₀ − 1/T). Everything that does not
    depend on temperature, t_bake and C₂ among it, is one unknown offset per level:

        var(x, T) = offset(x) + C₁(x) · Ea · u(T),    u = −1 / (k T ln 10)

    With C₁ from relaxation at room temperature, Ea is one number for all levels, by least
    squares: Ea = Σ C₁ (var − mean) (u − mean) / Σ C₁² (u − mean)².

    Args:
        temperatures_c: (bakes,), two or more.
        variance_us2: of the shifts after each bake, (bakes, levels) µS².
        growth_us2: C₁, growth of the variance per decade of time at room temperature, (levels,).

    Example: C₁ = 10 µS², variances of 100 µS² after 100 °C and 121.5 µS² after 140 °C: the bakes
    lie 1.31 decades per eV apart, so Ea = 2.15 / 1.31 = 1.64 eV.
    """
    u = -1.0 / (BOLTZMANN_EV * np.log(10.0) * (np.asarray(temperatures_c, np.float64) + KELVIN))
    growth, variance = np.asarray(growth_us2, np.float64), np.asarray(variance_us2, np.float64)
    ev, by_level, r2 = _pooled(u, variance, growth)
    levels = [np.delete(np.arange(len(growth)), k) for k in range(len(growth))] if len(growth) > 1 else []
    bakes = [np.delete(np.arange(len(u)), k) for k in range(len(u))] if len(u) > 2 else []
    error = np.hypot(
        _jackknife([_pooled(u, variance[:, k], growth[k])[0] for k in levels]),
        _jackknife([_pooled(u[k], variance[k], growth)[0] for k in bakes]),
    )
    return Activation(ev, float(error), by_level, r2)


def _pooled(u: Floats, variance: Floats, growth: Floats) -> tuple[float, Floats, float]:
    """Ea of all levels, of each alone, and R²."""
    u, moved = u - u.mean(), variance - variance.mean(0)
    slope = u @ moved / (u @ u)  # C₁ Ea of each level
    ev = float(slope @ growth / (growth @ growth))
    rest = moved - np.outer(u, ev * growth)
    return ev, slope / growth, float(1.0 - np.sum(rest**2) / np.sum(moved**2))


def _jackknife(values: list[float]) -> float:
    """Standard error of an estimate from its values with one part left out each; 0 of fewer than two."""
    n = len(values)
    return float(np.sqrt((n - 1) * np.var(values))) if n > 1 else 0.0
