"""The current of a cell at other voltages than the one it is read at: I = G V (1 + k V²).

k falls with the conductance, so a chip whose inputs are voltages (amplitude coding) sees a
cell of low conductance grow with its input. One-amplitude inputs do not: there the factor is
part of the conductance, which is read at the same voltage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import CellIv, InputCoding, MacroSpec

MIN_CELLS = 20

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CellCurrent:
    """Coefficient k of I = G V (1 + k V²) against conductance, arrays (points,) in V⁻² and ascending µS."""

    conductance_us: Floats
    k_per_v2: Floats
    se_per_v2: Floats

    def __post_init__(self) -> None:
        if not len(self.conductance_us) or np.any(np.diff(self.conductance_us) <= 0):
            raise ValueError("cell current: conductances must ascend")
        if self.k_per_v2.shape != self.conductance_us.shape or self.se_per_v2.shape != self.conductance_us.shape:
            raise ValueError(f"cell current: k {self.k_per_v2.shape}, conductances {self.conductance_us.shape}")

    def k_at(self, conductance_us: NDArray[np.floating]) -> Floats:
        """Coefficient k in V⁻², linear in ln(conductance) between the points, constant beyond them."""
        x = np.log(np.maximum(conductance_us, 1e-6))
        return np.asarray(np.interp(x, np.log(np.maximum(self.conductance_us, 1e-6)), self.k_per_v2))


def amplitude_parts(
    conductance_us: NDArray[np.floating],
    current: CellCurrent,
    drive_v: float,
    max_unit: int,
) -> tuple[Floats, Floats]:
    """Parts of an amplitude-coded read: Σ G₁ u + Σ G₃ u³ for units u = 0..U at V = V_drive · u / U.

        G₁ = G / (1 + k V_drive²),    G₃ = G₁ k V_drive² / U²

    Both parts are in µS and have the shape of ``conductance_us``, the conductances read at V_drive, that is at u = U.

    Example: G = 10 µS, k = 2 V⁻², V = 0.2 V, U = 3: 9.259 and 0.0823 µS; at u = 1, 9.342 µS.
    """
    k = current.k_at(conductance_us)
    linear = np.asarray(conductance_us, np.float64) / (1.0 + k * drive_v**2)
    return linear, np.asarray(linear * k * drive_v**2 / max_unit**2)


def levels_current(levels_us: Sequence[float], k_per_v2: Sequence[float]) -> CellCurrent:
    """Current law of a chip file (``cell.iv = "cubic"``): one k for each level; without k the cells are linear."""
    k = np.asarray(k_per_v2 if len(k_per_v2) else np.zeros(len(levels_us)), np.float64)
    return CellCurrent(np.asarray(levels_us, np.float64), k, np.zeros(len(k)))


def unit_parts(spec: MacroSpec, halves_us: NDArray[np.floating]) -> tuple[Floats, Floats | None]:
    """Coefficients G₁ and G₃ of a cell's current at u input units, G₁ u + G₃ u³, in µS and the shape of ``halves_us``.

    G₃ is None where every input meets a cell at one voltage: linear cells, pulses, one-bit reads. Elsewhere
    u = U gives a cell as it was read, at the same voltage.
    """
    halves = np.asarray(halves_us, np.float64)
    inputs = spec.inputs
    if spec.cell_iv is CellIv.LINEAR or inputs.coding is not InputCoding.AMPLITUDE or inputs.bits_per_cycle == 1:
        return halves, None
    current = levels_current(spec.levels_us, spec.cell_iv_k_per_v2)
    return amplitude_parts(halves, current, spec.v_read_v, (1 << inputs.bits_per_cycle) - 1)


def line_halves_us(spec: MacroSpec, halves_us: NDArray[np.floating]) -> NDArray[np.floating]:
    """Conductances with which cells load their lines, for inputs evenly spread over the scale: G₁ + G₃ U² / 2.

    Σ u³ / Σ u = U² / 2. Where G₃ is None, ``halves_us`` as they are.
    """
    linear, cubic = unit_parts(spec, halves_us)
    top = (1 << spec.inputs.bits_per_cycle) - 1
    return halves_us if cubic is None else (linear + cubic * (top**2 / 2.0)).astype(halves_us.dtype)
