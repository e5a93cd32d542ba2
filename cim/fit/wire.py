"""Wire resistance from measured products.

from cim.array.wires import converted_sums_us
from cim.fit.columns import combine, fit_columns
from cim.fit.wire import fit_wire

def predicted_us(ohm): return converted_sums_us(spec, 0, halves, units, Wire(ohm, 0.0, end))
columns = fit_columns(predicted_us(0.0), codes, variance, setup)           # wires unknown yet
ohm, ohm_se = fit_wire(predicted_us, codes, variance, setup, columns)      # of one macro; then
ohm, ohm_se = combine([ohm, ...], [ohm_se, ...])                           # all macros together
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cim.errors import CimMeasurementError
from cim.fit.columns import ColumnFit
from cim.fit.curves import Converters

Floats = NDArray[np.float64]

MOST_STEPS = 20  # of Gauss-Newton, each with the law at the last ohm
MOST_OHM = 8.0  # of one step
CLOSE_OHM = 1e-3
SLOPE_OHM = 0.05  # half of the distance over which the law's slope is taken
CURVE_SD = 2.0  # codes, prior of an INL node
QUANTISATION = 1.0 / 12.0  # codes², variance of rounding
MARGIN_SIGMA = 4.0  # conversions expected this close to an end of the scale are left out


class NoWireFit(CimMeasurementError, ValueError):
    """The iteration of the resistance does not converge; field ``ohm`` is its last value."""

    def __init__(self, ohm: float) -> None:
        super().__init__(
            f"wire resistance does not settle (last {ohm:.3g} ohm): products and cells do not fit together"
        )
        self.ohm = ohm


def fit_wire(
    predicted_us: Callable[[float], NDArray[np.floating]],
    codes: NDArray[np.integer],
    variance_us2: NDArray[np.floating],
    setup: Converters,
    columns: ColumnFit,
    start_ohm: float = 0.0,
) -> tuple[float, float]:
    """Resistance per cell pitch in ohm, and its standard error.

        code = gain · x(ohm) + offset + inl_adc(y) + noise

    Gauss-Newton in ohm: codes and dx/dohm are both cleared of what gain, offset and INL can take,
    the rests regressed on each other, the law taken again at the new ohm. Huber weights keep
    outliers from pulling. The error is that of the scatter between converters, whose curves are
    independent; it holds errors of the cell readings too.

    Args:
        predicted_us: converted sums (vectors, conversions) µS times unit for an ohm, below 0 too.
        codes: (vectors, conversions).
        variance_us2: ``cim.fit.columns.predicted_variance_us2``.
        columns: a fit without wires on the same vectors (for gains, noise and usable range).
        start_ohm: a first guess; saves steps where ``predicted_us`` is dear (``cim.array.wires.gated_sums_us``).

    Raises:
        NoWireFit.

    Example: 1 Ω per cell and 128 rows give 1.00 ± 0.01 from 512 vectors of one macro.
    """
    t = np.asarray(codes, np.float64)
    spread2 = columns.conversion_noise_codes**2 + QUANTISATION
    spread2 = spread2 + columns.read_scale * columns.gain**2 * variance_us2 / setup.lsb_us**2
    ohm = start_ohm
    x = np.asarray(predicted_us(ohm), np.float64) / setup.lsb_us
    y = columns.gain * x + columns.offset_codes
    low, high = setup.limits
    margin = MARGIN_SIGMA * np.sqrt(spread2) + 1.0
    usable = (y + margin < high) & ((y - margin > low) | (low >= 0))
    weights = usable / spread2
    before: tuple[float, float] | None = None  # ohm of the last turn, and its step
    for _ in range(MOST_STEPS):
        up, down = predicted_us(ohm + SLOPE_OHM), predicted_us(ohm - SLOPE_OHM)
        slope = columns.gain * np.asarray(up - down, np.float64) / (2.0 * SLOPE_OHM * setup.lsb_us)
        t_rest, z_rest = _rests(x, y, (t, slope), weights, setup)
        step = float((weights * z_rest * t_rest).sum() / (weights * z_rest**2).sum())
        off = np.abs(t_rest - step * z_rest) / np.sqrt(spread2)
        weights = usable * np.minimum(1.0, 2.5 / np.maximum(off, 1e-9)) / spread2
        turn = 1.0  # how the step changes by an ohm: lines of high resistance overshoot, and a secant tells by how much
        if before is not None and ohm != before[0]:
            turn = float(np.clip((before[1] - step) / (ohm - before[0]), 0.5, 5.0))
        before = (ohm, step)
        step = float(np.clip(step / turn, -MOST_OHM, MOST_OHM))
        ohm += step
        x = np.asarray(predicted_us(ohm), np.float64) / setup.lsb_us
        if abs(step) < CLOSE_OHM:
            break
    else:
        raise NoWireFit(ohm)
    n = int(setup.adc.max()) + 1
    upper = np.bincount(setup.adc, (weights * z_rest * (t_rest - step * z_rest)).sum(0), n)
    lower = float((weights * z_rest**2).sum())
    if n < 4:
        return ohm, float(np.sqrt(1.0 / lower))
    return ohm, float(np.sqrt((upper**2).sum() * n / (n - 1)) / lower)


def _rests(x: Floats, y: Floats, values: tuple[Floats, ...], w: Floats, setup: Converters) -> list[Floats]:
    """Residuals of each of ``values`` after a line in x per column and an INL curve per converter are fitted.

    Curves are hat functions b_k(y) on the INL nodes. With X = (x, 1), B the hats and S = Bᵀ W X
    of a column, curve c = (Σ_columns Bᵀ W B − S A⁻¹ Sᵀ + 1/σ²)⁻¹ Σ_columns (Bᵀ − S A⁻¹ Xᵀ) W t.
    """
    rests = [np.empty_like(v) for v in values]
    node = np.clip((y - setup.limits[0]) / (setup.limits[1] - setup.limits[0]), 0.0, 1.0) * (setup.nodes - 1)
    for adc in range(int(setup.adc.max()) + 1):
        mine = np.flatnonzero(setup.adc == adc)
        normal, right = np.eye(setup.nodes) / CURVE_SD**2, np.zeros((setup.nodes, len(values)))
        kept = []
        for j in mine:
            hats = np.maximum(1.0 - np.abs(node[:, j, None] - np.arange(setup.nodes)), 0.0)
            line = np.stack([x[:, j], np.ones(len(x))], 1)
            root = np.sqrt(w[:, j, None])
            basis, _ = np.linalg.qr(root * line)
            goal = root * np.stack([v[:, j] for v in values], 1)
            free = root * hats - basis @ (basis.T @ (root * hats))
            normal += free.T @ free
            right += free.T @ goal
            kept.append((root, basis, goal, free))
        curve = np.linalg.solve(normal, right)
        for j, (root, basis, goal, free) in zip(mine, kept, strict=True):
            rest = (goal - basis @ (basis.T @ goal) - free @ curve) / np.maximum(root, 1e-12)
            for k, r in enumerate(rests):
                r[:, j] = rest[:, k] * (root[:, 0] > 0)
    return rests
