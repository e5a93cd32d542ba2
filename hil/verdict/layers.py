"""Behaviour of one layer on the chip: gain, offset, noise and worst columns of its level sums.

All arrays of one layer answer the *same input codes*, so that errors of earlier layers are no
part of them: ``ideal`` is the exact integer product of those codes, ``measured`` the corrected
sums of the chip, ``simulated`` those of the virtual chips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.verdict.fidelity import explained_share

Sums = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LayerSample:
    """Level sums of sampled images at one layer.

    ``measured`` int32 (m, k, outputs, …), ``ideal`` (k, outputs, …), ``simulated``
    (S, k, outputs, …) or None; the trailing axes are output positions. ``saturated_share``
    is the share of conversions at the end of the scale, of the chip and of the simulator.
    """

    layer: str
    measured: Sums
    ideal: Sums
    simulated: Sums | None = None
    saturated_share: float = 0.0
    simulated_saturated_share: float | None = None

    def __post_init__(self) -> None:
        if self.ideal.ndim < 2 or self.measured.shape[1:] != self.ideal.shape:
            raise ValueError(f"{self.layer}: measured {self.measured.shape} is not (m, …) of ideal {self.ideal.shape}")
        if self.simulated is not None and self.simulated.shape[1:] != self.ideal.shape:
            raise ValueError(f"{self.layer}: simulated {self.simulated.shape} is not (S, …) of {self.ideal.shape}")


@dataclass(frozen=True, slots=True)
class ColumnError:
    """One output column and how far it is from ideal, in units of a level."""

    column: int
    gain: float | None  # None where its ideal sums do not vary
    offset: float
    rms_error: float


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """measured = gain · ideal + offset + residual, over all sampled sums of a layer (unit: one level)."""

    layer: str
    values: int  # sums compared
    gain: float | None
    offset: float
    residual_sigma: float
    snr_db: float | None  # 10 log10(var ideal / mean square error); None when exact
    r2: float | None  # squared correlation
    relative_rms: float | None  # rms error / rms ideal
    exact: bool  # measured equals ideal bit for bit
    saturated_share: float
    simulated_saturated_share: float | None
    simulated_residual_sigma: float | None  # mean over virtual chips
    residual_z: float | None  # measured residual sigma, in standard deviations of the virtual chips
    explained: float | None  # η of the layer, needs two repeats
    worst_columns: tuple[ColumnError, ...]  # three, largest error first
    error_z: float | None = None  # rms error, with its gain and offset, in standard deviations of the virtual chips

    @property
    def z(self) -> float | None:
        """The larger distance from the virtual chips, of the residual sigma or of the whole error."""
        known = [z for z in (self.residual_z, self.error_z) if z is not None]
        return max(known, key=abs, default=None)


def layer_statistics(sample: LayerSample, *, conditioned: bool = True, worst: int = 3) -> LayerStatistics:
    """Compare one layer's sampled sums; η is given only for conditioned virtual chips and two repeats."""
    ideal = sample.ideal.astype(np.float64)
    measured = np.asarray(sample.measured, np.float64)
    gain, offset, residual = _fit(np.broadcast_to(ideal, measured.shape), measured)
    error = measured - ideal
    mean_square = float(np.square(error).mean())
    exact = mean_square == 0.0
    variance, power = float(ideal.var()), float(np.square(ideal).mean())
    total = float(measured.var())
    z, error_z, simulated_sigma = _against_virtual_chips(sample.simulated, ideal, residual, math.sqrt(mean_square))
    return LayerStatistics(
        layer=sample.layer,
        values=measured.size,
        gain=gain,
        offset=offset,
        residual_sigma=residual,
        snr_db=None if exact or variance == 0 else 10 * math.log10(variance / mean_square),
        r2=None if gain is None or total == 0 else max(0.0, 1 - residual**2 / total),
        relative_rms=None if power == 0 else math.sqrt(mean_square / power),
        exact=exact,
        saturated_share=sample.saturated_share,
        simulated_saturated_share=sample.simulated_saturated_share,
        simulated_residual_sigma=simulated_sigma,
        residual_z=z,
        explained=_explained(measured, ideal, sample.simulated) if conditioned else None,
        worst_columns=worst_columns(ideal, measured, worst),
        error_z=error_z,
    )


def worst_columns(ideal: Floats, measured: Floats, count: int = 3) -> tuple[ColumnError, ...]:
    """The ``count`` output columns with the largest rms error; ideal (k, outputs, …), measured (m, k, outputs, …)."""
    outputs = ideal.shape[1]
    wanted = np.moveaxis(np.broadcast_to(ideal, measured.shape), 2, 0).reshape(outputs, -1)
    got = np.moveaxis(measured, 2, 0).reshape(outputs, -1)
    rms = np.sqrt(np.square(got - wanted).mean(axis=1))
    errors = []
    for column in np.argsort(-rms, kind="stable")[:count]:
        gain, offset, _ = _fit(wanted[column], got[column])
        errors.append(ColumnError(int(column), gain, offset, float(rms[column])))
    return tuple(errors)


def _fit(x: Floats, y: Floats) -> tuple[float | None, float, float]:
    """Least squares y = gain · x + offset: gain (None when x does not vary), offset, residual sigma."""
    x_mean, y_mean = float(x.mean()), float(y.mean())
    spread = float(np.square(x - x_mean).mean())
    if spread == 0:
        return None, y_mean - x_mean, float(y.std())
    covariance = float(((x - x_mean) * (y - y_mean)).mean())
    gain = covariance / spread
    left = float(y.var()) - covariance * gain
    return gain, y_mean - gain * x_mean, math.sqrt(max(0.0, left))


def _against_virtual_chips(
    simulated: Sums | None, ideal: Floats, residual: float, error: float
) -> tuple[float | None, float | None, float | None]:
    """Distance of the residual sigma and of the rms error from the virtual chips', and their mean residual sigma."""
    if simulated is None or len(simulated) == 0:
        return None, None, None
    chips = [np.asarray(chip, np.float64) for chip in simulated]
    sigmas = [_fit(ideal, chip)[2] for chip in chips]
    errors = [math.sqrt(np.square(chip - ideal).mean()) for chip in chips]
    return _distance(residual, sigmas), _distance(error, errors), float(np.mean(sigmas))


def _distance(value: float, of_chips: list[float]) -> float | None:
    spread = float(np.std(of_chips, ddof=1)) if len(of_chips) > 1 else 0.0
    return (value - float(np.mean(of_chips))) / spread if spread > 0 else None


def _explained(measured: Floats, ideal: Floats, simulated: Sums | None) -> float | None:
    m = len(measured)
    if m < 2 or simulated is None:
        return None
    rho = float(measured.var(axis=0, ddof=1).mean())
    return explained_share(measured.mean(axis=0), np.asarray(simulated, np.float64).mean(axis=0), ideal, rho / m)
