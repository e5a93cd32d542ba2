"""Drive of a row for each input unit of a read, where a read takes several bits.

    y = Σ_r G_r · d[u_r]        d[0] = 0, d[U] = U

A row driver (DAC, or pulse generator) of U steps makes errors in between. An error at full drive scales all currents
alike and cannot be separated from the gains of the columns: so d[0] and d[U] are exact by definition, and d is in steps
of the line between them. One table holds for all rows and macros of a chip. One-bit reads need no table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import max_unit
from cim.chip.spec import MacroSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class InputDrive:
    """Drive d[u] of a row and its standard error for the input units u = 0 … U, arrays (U + 1,), in steps.

    Example: ``units`` (0, 1.1, 1.9, 3): of four levels the lower step is 0.1 too large, the middle one 0.2 too small.
    """

    units: Floats
    units_se: Floats

    def __post_init__(self) -> None:
        if self.units.ndim != 1 or len(self.units) < 4 or self.units_se.shape != self.units.shape:
            raise ValueError(f"input drive: {self.units.shape} units and {self.units_se.shape} errors")
        first, last, top = self.units[0], self.units[-1], len(self.units) - 1
        if not np.isfinite(self.units).all() or first != 0.0 or last != top:
            raise ValueError(f"input drive: finite units from {first} to {last}, not from 0 to {top}")

    @property
    def errors(self) -> Floats:
        """Error of the drive for each input unit, d[u] − u."""
        return np.asarray(self.units - np.arange(float(len(self.units))))

    def of(self, units: NDArray[np.integer]) -> Floats:
        """Drive d[u] that the row drivers give for input units u, an array of any shape."""
        return np.asarray(self.units[units])


def check_drive(spec: MacroSpec, drive: InputDrive | None) -> None:
    """Refuse a drive table whose number of input units differs from that of the macro.

    Raises:
        ValueError: the message names the units of the table and those of the macro.
    """
    if drive is not None and len(drive.units) != max_unit(spec) + 1:
        raise ValueError(
            f"a drive table of units 0 to {len(drive.units) - 1}; a read of this macro drives 0 to {max_unit(spec)}"
        )


def driven_units(units: NDArray[np.integer], drive: InputDrive | None) -> NDArray[np.integer] | Floats:
    """Drive of rows for whole units; the units themselves without a table."""
    return units if drive is None else drive.of(units)
