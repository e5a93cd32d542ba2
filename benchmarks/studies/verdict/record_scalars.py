"""The scalars of a calibration record, each with its standard error and its 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.cells.programming_law import ProgrammingLaw, law_at, redraw_law
from cim.intervals import wilson
from cim.record.calibration import CalibrationRecord, CellState

Z95 = 1.959964
QUARTILE = 0.674490  # standard normal score of the upper quartile
DENSITY_MIDDLE, DENSITY_QUARTILE = 0.398942, 0.317777  # of the standard normal distribution
REDRAWS = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number that was measured; ``low`` and ``high`` bound its 95 % interval."""

    value: float
    se: float
    low: float
    high: float

    @classmethod
    def normal(cls, value: float, se: float) -> Estimate:
        return cls(value, se, value - Z95 * se, value + Z95 * se)

    @classmethod
    def share(cls, found: int, of: int) -> Estimate:
        """A share with its Wilson interval. Example: 3 of 1,000: 0.0010 to 0.0088."""
        low, high = wilson(found, of)
        return cls(found / of, (high - low) / 2 / Z95, low, high)


def scalar_estimates(record: CalibrationRecord) -> dict[str, Estimate]:
    """What one record says in single numbers.

    Shares of cells; spread of column gains within a macro, with the errors of the gains taken
    out; rms of the INL curves; read variance (the lowest level left out, whose readings end at
    zero); median shift and half interquartile range of programmed cells at the last age, mean
    over levels but the lowest; wire; change with temperature where it was measured.

    Args:
        record: of a chip or of a table of cells.

    Returns:
        value and standard error by name.

    Example:
        >>> sorted(scalar_estimates(record))[:2]
        ['column_gain_sigma', 'half_iqr_us']
    """
    states = np.concatenate([m.cells.ravel() for m in record.macros.values()])
    stuck_low, stuck_high = (int((states == s).sum()) for s in (CellState.STUCK_LOW, CellState.STUCK_HIGH))
    missed = int((states == CellState.NOT_REACHED).sum())
    found = {
        "stuck_low_share": Estimate.share(stuck_low, states.size),
        "stuck_high_share": Estimate.share(stuck_high, states.size),
        "unreached_share": Estimate.share(missed, states.size - stuck_low - stuck_high),
        "column_gain_sigma": _gain_sigma(record),
        "inl_rms_codes": _inl_rms(record),
        "read_variance_us2": _read_variance(record),
        **_law(record),
        "wire_ohm": Estimate.normal(record.wire.ohm, record.wire.ohm_se),
    }
    if record.thermal is not None:
        found["conductance_per_k"] = Estimate.normal(
            record.thermal.conductance_per_k, record.thermal.conductance_per_k_se
        )
    return found


def _gain_sigma(record: CalibrationRecord) -> Estimate:
    """√(variance within macros − mean error²); its error is that of a sample's standard deviation."""
    parts = record.macros.values()
    freedom = sum(len(m.gain) - 1 for m in parts)
    total = sum(float(((m.gain - m.gain.mean()) ** 2).sum()) for m in parts) / freedom
    noise = float(np.mean([np.mean(m.gain_se**2) for m in parts]))
    sigma = float(np.sqrt(max(total - noise, 1e-12)))
    return Estimate.normal(sigma, total * float(np.sqrt(2.0 / freedom)) / (2.0 * sigma))


def _inl_rms(record: CalibrationRecord) -> Estimate:
    """Root mean square of INL curves about their means: a curve's value at zero input depends on the offset's error.

    Curves are drawn towards 0 by what is not known of them, and hold errors of the cell readings: their mean
    square may lack the square of their errors or hold it. That is the standard error, besides the scatter of
    a sample; nodes of a curve are related over a quarter of the scale, so a converter counts as four.
    """
    curves = np.concatenate([m.inl_codes for m in record.macros.values()])
    square = float(np.mean((curves - curves.mean(1, keepdims=True)) ** 2))
    error2 = float(np.mean(np.concatenate([m.inl_se for m in record.macros.values()]) ** 2))
    rms = float(np.sqrt(max(square, 1e-12)))
    scatter = float(np.sqrt(error2 / (4 * len(curves))))
    return Estimate.normal(rms, float(np.hypot(error2 / (2.0 * rms), scatter)))


def _read_variance(record: CalibrationRecord) -> Estimate:
    noise = record.read_noise
    value, error = noise.variance_us2[1:], np.maximum(noise.se_us2[1:], 1e-9)
    weight = 1.0 / error**2
    return Estimate.normal(float((weight * value).sum() / weight.sum()), float(1.0 / np.sqrt(weight.sum())))


def _law(record: CalibrationRecord) -> dict[str, Estimate]:
    """From the law at its last age; errors from laws redrawn within theirs, always the same ones, and from
    what is left of the distance to cells that the fit has not seen (KS) beyond its sampling floor:
    a distribution function that is off by half of it, at each quartile by itself."""
    law = record.programming
    ks, floor = (record.goodness.get(name, 0.0) for name in ("programming_ks", "programming_ks_floor"))
    off = float(np.sqrt(max(ks**2 - floor**2, 0.0))) / 2.0
    rng = np.random.default_rng(0)
    middle, half = _quartiles(law)
    drawn = np.array([_quartiles(redraw_law(law, rng)) for _ in range(REDRAWS)])
    errors = drawn.std(axis=0, ddof=1)
    sigma = half / QUARTILE  # densities are about those of a normal distribution
    misfit = np.array([off * sigma / DENSITY_MIDDLE, off * sigma / DENSITY_QUARTILE / np.sqrt(2.0)])
    errors = np.hypot(errors, misfit)
    return {
        "shift_us": Estimate.normal(middle, float(errors[0])),
        "half_iqr_us": Estimate.normal(half, float(errors[1])),
    }


def _quartiles(law: ProgrammingLaw) -> tuple[float, float]:
    """Median and half interquartile range of the errors at the last age, means over levels but the lowest."""
    levels = law.levels_us[1:]
    here = law_at(law, levels, float(law.ages_s[-1]))
    low, middle, high = (here.quantile(np.full(len(levels), z)) for z in (-QUARTILE, 0.0, QUARTILE))
    return float(middle.mean()), float((high - low).mean() / 2.0)
