"""Temperature coefficients from the same cells read at two temperatures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cim.cells.programming_law import ProgrammingLaw, law_at
from cim.cells.read_noise import ReadNoise

OUTLIER = 6.0  # robust sigma: cells that jumped in between say nothing about temperature
DRIFT_DOUBT = 0.25  # of the drift between the two readings


def fit_conductance_per_k(
    cold_us: NDArray[np.floating],
    hot_us: NDArray[np.floating],
    drift_us: NDArray[np.floating],
    targets_us: NDArray[np.floating],
    kelvin: float,
) -> tuple[float, float]:
    """Relative change of conductance per kelvin, and its standard error.

        hot − cold − drift = α · ΔT · cold + noise

    A line through the origin over cells, weighted by their targets instead of their cold readings, whose noise is in
    both sides; outliers left out. The error contains the scatter and a quarter of the drift correction, since
    relaxation between the readings is extrapolated.

    Args:
        cold_us, hot_us: mean readings of the same good cells, (n,) µS.
        targets_us: what they were written to, (n,).
        drift_us: how far cells of their targets relax between the two readings, (n,) µS.
        kelvin: ΔT.

    Raises:
        ValueError: the two temperatures are the same.

    Example: 20 µS that read 20.35 µS at 35 K more, without drift, give 0.0005 per K.
    """
    if kelvin == 0.0:
        raise ValueError("both readings were taken at one temperature")
    x = np.asarray(cold_us, np.float64) * kelvin
    y = np.asarray(hot_us, np.float64) - cold_us - drift_us
    weight = np.asarray(targets_us, np.float64)
    kept = np.isfinite(x) & np.isfinite(y)
    for _ in range(3):
        power = (weight * x)[kept].sum()
        slope = float((weight * y)[kept].sum() / power)
        rest = y - slope * x
        spread = 1.4826 * float(np.median(np.abs(rest[kept] - np.median(rest[kept]))))
        kept = np.isfinite(rest) & (np.abs(rest) <= OUTLIER * max(spread, 1e-9))
    scatter = float(np.sqrt(((weight * rest)[kept] ** 2).sum()) / abs(power))
    by_drift = float((weight * np.broadcast_to(drift_us, x.shape))[kept].sum() / power)
    return slope, float(np.hypot(scatter, DRIFT_DOUBT * by_drift))


def fit_variance_per_k(cold: ReadNoise, hot: ReadNoise, kelvin: float) -> tuple[float, float]:
    """Relative change of read variance per kelvin, mean over levels weighted by their errors, and its error.

    Example: 1.70 µS² at 25 °C and 1.87 µS² at 60 °C: 0.1 / 35 = 0.0029 per K.
    """
    base = np.maximum(cold.variance_us2, 1e-12)
    ratio = hot.variance_us2 / base - 1.0
    error = np.hypot(hot.se_us2, hot.variance_us2 * cold.se_us2 / base) / base
    weight = 1.0 / np.maximum(error, 1e-9) ** 2
    return float((weight * ratio).sum() / weight.sum() / kelvin), float(1.0 / np.sqrt(weight.sum()) / abs(kelvin))


def expected_drift_us(
    law: ProgrammingLaw, targets_us: NDArray[np.float32], moved_us: NDArray[np.float32], ages_s: list[float]
) -> NDArray[np.float64]:
    """How far cells relax from the second age to the third, (cells,) µS: each cell's own change from the first to the
    second, continued in log time; by the law where cells were read only once before heating.
    """
    first, second, third = np.log(ages_s)
    if second - first < 1e-3:
        return np.asarray(law_at(law, targets_us, ages_s[2]).loc_us - law_at(law, targets_us, ages_s[1]).loc_us)
    return np.asarray(np.asarray(moved_us, np.float64) * (third - second) / (second - first))
