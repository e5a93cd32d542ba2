"""What temperature does to cells: conductance, read noise, and the pace of relaxation."""

from __future__ import annotations

from dataclasses import dataclass


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
