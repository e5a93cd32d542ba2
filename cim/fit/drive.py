"""Estimator of the row drivers' drive for each input unit, from reads in which all driven rows have one unit.

    reads = [StepReads(...), ...]                 # one for each macro
    drive = fit_drive(straight_drive(spec), reads)

A driver that gives d[u] for u moves every sum of such a read alike: code ≈ expected + slope · (d[u] − d₀[u]), slope
being the code's change per unit of drive at d₀. Full drive is exact by definition: a deviation at full drive is a gain,
common to all units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.array.input_drive import InputDrive
from cim.array.wire_law import max_unit
from cim.chip.spec import MacroSpec
from cim.errors import CimMeasurementError

Floats = NDArray[np.float64]


class NoDriveFit(CimMeasurementError, ValueError):
    """No read has a usable conversion for an input unit; field ``unit``."""

    def __init__(self, unit: int) -> None:
        super().__init__(f"no usable conversion of a read at input unit {unit}: its drive is not known")
        self.unit = unit


@dataclass(frozen=True, slots=True)
class StepReads:
    """Reads of one macro; arrays (vectors, conversions) but for ``units`` (vectors,) and ``adc`` (conversions,).

    ``expected`` codes and their ``slopes`` (codes per unit) belong to the present drive estimate; ``unsure`` is the
    change of ``expected`` by one standard error of the wires, which all macros share; ``weights`` 1 / variance, 0 for
    conversions that are not used.
    """

    units: NDArray[np.int64]
    codes: NDArray[np.int32]
    expected: Floats
    slopes: Floats
    unsure: Floats
    weights: Floats
    adc: NDArray[np.int64]


def straight_drive(spec: MacroSpec) -> InputDrive:
    """Drivers without errors: where a fit starts."""
    units = np.arange(max_unit(spec) + 1.0)
    return InputDrive(units, np.zeros_like(units))


def fit_drive(start: InputDrive, reads: Sequence[StepReads]) -> InputDrive:
    """The drive that the reads show, one step of Gauss and Newton from ``start``.

        δ[u] = Σ w s (code − expected) / Σ w s²        d[u] = (d₀[u] + δ[u]) · U / (U + δ[U])

    for each converter separately: curve residuals and column gains are independent between converters, so their scatter
    gives the standard error, which includes errors of the cell readings.

    Raises:
        NoDriveFit: an input unit has no usable conversion.

    Example: reads at unit 7 of 15 lie 6 codes above the straight line where a unit more is 20 codes: 7.3.
    """
    found: list[Floats] = []
    shifted: list[Floats] = []
    information = []
    for part in reads:
        for values, rest in ((found, part.codes - part.expected), (shifted, part.codes - part.expected - part.unsure)):
            upper, lower = _by_converter(part, part.weights * part.slopes * rest, part.weights * part.slopes**2)
            values.append(upper / np.maximum(lower, 1e-30))
        information.append(lower)
    weight = np.concatenate(information)  # (converters, U + 1)
    if not (weight[:, 1:] > 0.0).any(0).all():
        raise NoDriveFit(1 + int(np.argmin((weight[:, 1:] > 0.0).any(0))))
    weight = weight * (weight[:, -1:] > 0.0)  # a converter without a read at full drive has no scale
    drive = _combined(start, np.concatenate(found), weight)
    each = _scaled(start, np.concatenate(found))
    n = np.maximum((weight > 0.0).sum(0), 2)
    scatter = np.sqrt((weight**2 * (each - drive) ** 2).sum(0) * n / (n - 1)) / np.maximum(weight.sum(0), 1e-30)
    error = np.hypot(scatter, _combined(start, np.concatenate(shifted), weight) - drive)
    ends = [0, len(drive) - 1]
    drive[ends], error[ends] = start.units[ends], 0.0
    return InputDrive(drive, error)


def _by_converter(part: StepReads, *values: Floats) -> list[Floats]:
    """Sums over the reads of each unit and the columns of each converter, (converters, U + 1)."""
    converters, top = int(part.adc.max()) + 1, int(part.units.max())
    summed = []
    for value in values:
        by_unit = np.zeros((top + 1, value.shape[1]))
        np.add.at(by_unit, part.units, value)
        by_converter = np.zeros((converters, top + 1))
        np.add.at(by_converter, part.adc, by_unit.T)
        summed.append(by_converter)
    return summed


def _scaled(start: InputDrive, delta: Floats) -> Floats:
    """Drives of each converter, (converters, U + 1), on a line that ends at full drive."""
    top = start.units[-1]
    return np.asarray((start.units + delta) * (top / (top + delta[:, -1:])))


def _combined(start: InputDrive, delta: Floats, weight: Floats) -> Floats:
    mean = (weight * delta).sum(0) / np.maximum(weight.sum(0), 1e-30)
    return np.asarray(_scaled(start, mean[None])[0])
