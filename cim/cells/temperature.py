"""Effect of temperature on cells: conductance, read noise, and the pace of relaxation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KELVIN = 273.15
BOLTZMANN_EV = 8.617333262e-5  # eV/K (CODATA 2018)
LEAST_FACTOR = 0.05  # no conductance is believed to fall below this share of its value at the reference


@dataclass(frozen=True, slots=True)
class Thermal:
    """Temperature coefficients of one chip, relative to its values at ``reference_c``.

    G(T) = G(reference) · (1 + conductance_per_k · (T − reference)); read variance likewise.
    ``activation_ev`` is that of relaxation; 0 with an error of 0 where it was not measured.
    """

    reference_c: float
    conductance_per_k: float
    conductance_per_k_se: float
    read_variance_per_k: float = 0.0
    read_variance_per_k_se: float = 0.0
    activation_ev: float = 0.0
    activation_ev_se: float = 0.0


def accelerated_age(age_s: float, temperature_c: float, thermal: Thermal) -> float:
    """The age at the reference temperature that relaxes cells as far as ``age_s`` at ``temperature_c``.

        t_eff = t · exp(Ea / k · (1 / T_ref − 1 / T)),    temperatures in kelvin

    Relaxation is a walk in log time, so heat adds a constant to log t. Example: Ea = 0.5 eV,
    one day at 85 °C counts as 26 days at 25 °C.
    """
    lift = 1.0 / (thermal.reference_c + KELVIN) - 1.0 / (temperature_c + KELVIN)
    return float(age_s * np.exp(thermal.activation_ev / BOLTZMANN_EV * lift))


def conductance_factor(temperature_c: float, thermal: Thermal) -> float:
    """G(T) / G(reference) = 1 + α (T − reference). Example: α = −0.001 per K, 60 °C above 25 °C: 0.965."""
    return float(max(1.0 + thermal.conductance_per_k * (temperature_c - thermal.reference_c), LEAST_FACTOR))
