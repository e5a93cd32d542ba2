"""Estimators of a calibration, on plain arrays measured through the driver.

The whole flow for one macro, cells and vectors as arrays:

    from cim.array.wire_law import Wire
    from cim.array.wires import gated_sums_us
    from cim.chip.encoding import tile_halves_us
    from cim.fit.cells import fit_read_variance
    from cim.fit.columns import MeanReadings, combine, fit_columns, predicted_variance_us2
    from cim.fit.curves import Converters
    from cim.fit.programming import fit_programming
    from cim.fit.wire import fit_wire

    # cells (n = rows · columns flattened, several macros concatenated)
    noise = fit_read_variance(single_reads_us, targets_us, levels_us)            # (reads, n), (n,)
    law = fit_programming(targets_us, readings_us, states, ages_s=(1.0, 3600.0),
                          reads=(8, 16), levels_us=levels_us, read_noise=noise)

    # columns: units (vectors, rows) driven in one read each, codes (vectors, conversions)
    halves = tile_halves_us(mean_readings_us, spec, 0, rows, 0, outputs)
    def predicted(ohm): return gated_sums_us(spec, 0, halves, units, Wire(ohm, 0.0))
    variance = predicted_variance_us2(spec, halves, units, noise)
    readings = MeanReadings.of(spec, halves, units, noise, reads=16)
    setup = Converters(spec.lsb_us(range_code), code_limits(spec.adc.bits, spec.adc_signed), adc)
    columns = fit_columns(predicted(0.0), codes, variance, setup)                # wires unknown yet
    ohm, ohm_se = fit_wire(predicted, codes, variance, setup, columns)           # combine macros:
    ohm, ohm_se = combine([ohm, ...], [ohm_se, ...])
    columns = fit_columns(predicted(ohm), codes, variance, setup, readings)
    part = columns.calibration(macro, cells, stuck_us, gain_known)               # MacroCalibration
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import conversion_cells
from cim.cells.read_noise import ReadNoise
from cim.chip.spec import MacroSpec, PairSubtraction
from cim.errors import CimMeasurementError
from cim.fit.curves import Converters, ReadingErrors, solve_curves
from cim.fit.offset import ZeroInput
from cim.record.calibration import GainKnown, MacroCalibration
from cim.record.inl import inl_at

Floats = NDArray[np.float64]

ROUNDS = 5  # alternations of lines, curves, noise and weights
HELD_CODES = 1e-3
QUANTISATION = 1.0 / 12.0  # codes², variance of rounding
MIN_VECTORS = 16
MARGIN_SIGMA = 4.0  # vectors expected this close to an end of the scale are left out
WIDEST_EDGE = 0.25  # share of the scale that is left out at an end, at most: a noisy column keeps its middle


class TooFewVectors(CimMeasurementError, ValueError):
    """A column has too few usable conversions; fields ``column``, ``found``, ``needed``."""

    def __init__(self, column: int, found: int) -> None:
        super().__init__(f"{found} usable conversions in column {column}; a fit needs {MIN_VECTORS}")
        self.column, self.found, self.needed = column, found, MIN_VECTORS


@dataclass(frozen=True, slots=True)
class ColumnFit:
    """Estimates per conversion (fields as in ``MacroCalibration``) and how good they are.

    ``read_scale`` is the read variance that the columns show, relative to the cells' (1 when
    the two agree), with its error; ``r2`` and ``residual_codes`` (robust sigma) are of the
    vectors used.
    """

    gain: Floats
    gain_se: Floats
    offset_codes: Floats
    offset_se: Floats
    conversion_noise_codes: Floats
    adc: NDArray[np.int64]
    inl_codes: Floats
    inl_se: Floats
    read_scale: float
    r2: float
    residual_codes: float

    def calibration(
        self, macro: int, cells: NDArray[np.int8], stuck_us: NDArray[np.float32], gain_known: GainKnown
    ) -> MacroCalibration:
        """The fit as the entry of one macro in a calibration record."""
        return MacroCalibration(
            macro,
            self.gain,
            self.gain_se,
            self.offset_codes,
            self.offset_se,
            self.conversion_noise_codes,
            self.adc,
            self.inl_codes,
            self.inl_se,
            cells,
            stuck_us,
            gain_known,
        )

    def expected_codes(self, predicted_us: NDArray[np.floating], setup: Converters) -> Floats:
        """Mean unclipped codes (vectors, conversions): for held-out vectors and their R²."""
        y = predicted_us * (self.gain / setup.lsb_us) + self.offset_codes
        return y + inl_at(y, self.inl_codes, self.adc, setup.limits)


def predicted_variance_us2(
    spec: MacroSpec, halves_us: NDArray[np.floating], units: NDArray[np.integer] | Floats, noise: ReadNoise
) -> Floats:
    """Read variance of each conversion, Σ u² · read variance(G), (vectors, conversions); u as driven."""
    plus, minus = noise.at(halves_us)
    if spec.paired and spec.pair_subtraction is PairSubtraction.ANALOG:
        minus = -minus
    squares = np.asarray(units, np.float64) ** 2
    return np.asarray(squares @ conversion_cells(spec, np.stack([plus, minus])))


@dataclass(frozen=True, slots=True)
class MeanReadings:
    """Readings behind predicted sums: units (vectors, rows), and the variance of each mean reading, (rows,
    conversions) µS², summed over both cells of a pair that is subtracted before the converter."""

    units: NDArray[np.integer] | Floats
    variance_us2: Floats

    @classmethod
    def of(
        cls,
        spec: MacroSpec,
        halves_us: NDArray[np.floating],
        units: NDArray[np.integer] | Floats,
        noise: ReadNoise,
        reads: int,
    ) -> MeanReadings:
        """Products of ``units`` with cells that were read ``reads`` times: what the noise of the mean readings adds to
        the variance of each sum."""
        rows = np.eye(halves_us.shape[1], dtype=np.int64)
        return cls(units, predicted_variance_us2(spec, halves_us, rows, noise) / reads)


def fit_columns(
    predicted_us: NDArray[np.floating],
    codes: NDArray[np.integer],
    variance_us2: NDArray[np.floating],
    setup: Converters,
    readings: MeanReadings | None = None,
    unsure_us: NDArray[np.floating] | None = None,
    zero: ZeroInput | None = None,
) -> ColumnFit:
    """Gain, offset, INL and noise of every conversion, from vectors of known converted sums.

        code = gain · x / lsb + offset + inl_adc(y) + N(0, noise² + 1/12 + read_scale · (gain/lsb)² v)

    Weighted least squares per conversion, alternated with one curve per converter (hat functions
    on the nodes, without slope, 0 at the code of zero input) and with the split of the residual
    variance; Huber weights keep outliers from pulling, conversions near an end of the
    scale are left out.

    Args:
        predicted_us: x, (vectors, conversions) µS times unit, wire loss taken off if known.
        codes: (vectors, conversions).
        variance_us2: v of ``predicted_variance_us2``.
        readings: adds the errors of the cell readings to those of gain and offset (they are
            the same in every vector, so no scatter shows them).
        unsure_us: what one standard error of something common to all vectors (the wires) adds to
            x; the line in it goes into the errors of gain and offset.
        zero: code of zero input where it was measured (``cim.fit.offset``): one more vector, of x = 0.
    """
    zero = zero or ZeroInput(np.zeros(np.shape(codes)[1]), np.full(np.shape(codes)[1], np.inf))
    nothing = np.zeros((1, np.shape(codes)[1]))
    x = np.concatenate([np.asarray(predicted_us, np.float64) / setup.lsb_us, nothing])
    v = np.concatenate([np.asarray(variance_us2, np.float64) / setup.lsb_us**2, nothing])
    t = np.concatenate([np.asarray(codes, np.float64), zero.codes[None]])
    still = np.arange(len(t)) == len(t) - 1  # the vector of zero input has an error of its own
    known = np.isfinite(zero.se)
    own2 = np.where(known, zero.se, 1e6) ** 2  # what its error does to gain and offset
    held2 = np.where(known, HELD_CODES**2, own2)  # the line goes through it all the same: that defines the offset
    low, high = setup.limits
    usable = (t > low) & (t < high) if low < 0 else t < high
    usable[-1] = True
    offset = zero.codes
    curves = np.zeros((int(setup.adc.max()) + 1, setup.nodes))
    noise2, scale = np.full(t.shape[1], 0.25), 1.0
    y = x
    bend = np.zeros_like(t)
    gain = np.ones(t.shape[1])
    huber = np.ones_like(t)
    for turn in range(ROUNDS):
        spread2 = np.where(still[:, None], held2, noise2 + QUANTISATION + max(scale, 0.0) * gain**2 * v)
        weights = usable * huber / spread2
        _check_count(weights)
        if turn:
            solved = solve_curves(x, y, t, weights, setup, offset)
            curves = solved.curves
            bend = inl_at(y, curves, setup.adc, setup.limits)
        gain, offset, gain_se, offset_se = _lines(x, t - bend, weights, own2)
        y = gain * x + offset
        residual = t - y - bend
        size = np.abs(residual) / np.sqrt(spread2)
        huber = np.minimum(1.0, 2.5 / np.maximum(size, 1e-9))
        huber[-1] = 1.0
        trusted = usable & (size < 6.0) & ~still[:, None]
        noise2, scale = _noise(residual**2, gain**2 * v, trusted)
        usable = np.ones_like(usable)
        edge = MARGIN_SIGMA * np.sqrt(noise2 + QUANTISATION + max(scale, 0.0) * gain**2 * v) + 1.0
        edge = np.minimum(edge, WIDEST_EDGE * (high - low))
        usable &= y + edge < high
        if low < 0:
            usable &= y - edge > low
        usable[-1] = True
    if readings is not None:
        spread2 = np.where(still[:, None], held2, noise2 + QUANTISATION + max(scale, 0.0) * gain**2 * v)
        weights = usable * huber / spread2
        per_us = gain / setup.lsb_us
        units = np.concatenate([readings.units, np.zeros((1, np.shape(readings.units)[1]))])
        extra = _reading_errors(x, weights, MeanReadings(units, readings.variance_us2), per_us)
        gain_se, offset_se = np.hypot(gain_se, extra[0]), np.hypot(offset_se, extra[1])
        cells = ReadingErrors(units, readings.variance_us2 * per_us**2)
        solved = solve_curves(x, y, t, weights, setup, offset, cells)
    gain_se, offset_se = np.hypot(gain_se, solved.line_se[0]), np.hypot(offset_se, solved.line_se[1])
    if unsure_us is not None:
        more = np.concatenate([np.asarray(unsure_us, np.float64) / setup.lsb_us, nothing])
        slope, shift, _, _ = _lines(x, more, weights, own2)
        gain_se, offset_se = np.hypot(gain_se, gain * slope), np.hypot(offset_se, gain * shift)
    usable[-1] = False
    total = (usable * (t - (usable * t).sum(0) / usable.sum(0)) ** 2).sum()
    return ColumnFit(
        gain=gain,
        gain_se=gain_se,
        offset_codes=offset,
        offset_se=offset_se,
        conversion_noise_codes=np.sqrt(np.maximum(noise2, 0.0)),
        adc=setup.adc,
        inl_codes=curves,
        inl_se=solved.curve_se,
        read_scale=scale,
        r2=float(1.0 - (usable * residual**2).sum() / total),
        residual_codes=float(1.4826 * np.median(np.abs(residual[usable]))),
    )


def combine(values: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """Mean of independent estimates weighted by 1 / error², and its error (at least that of their scatter)."""
    value, error = np.asarray(values, np.float64), np.asarray(errors, np.float64)
    weight = 1.0 / np.maximum(error, 1e-12) ** 2
    mean = float((weight * value).sum() / weight.sum())
    plain = float(1.0 / np.sqrt(weight.sum()))
    if len(value) < 2:
        return mean, plain
    excess = float((weight * (value - mean) ** 2).sum()) / (len(value) - 1)
    return mean, plain * max(1.0, float(np.sqrt(excess)))


def _check_count(w: Floats) -> None:
    """Raises ``TooFewVectors`` where a column has too few vectors of weight."""
    count = (w > 0).sum(0)
    if int(count.min()) < MIN_VECTORS:
        column = int(count.argmin())
        raise TooFewVectors(column, int(count[column]))


def _lines(x: Floats, t: Floats, w: Floats, own2: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Weighted least squares t = gain · x + offset per column, with standard errors: those of the scatter (sandwich
    estimate), and for the last row, the vector of zero input, from its own variance ``own2``."""
    count = (w > 0).sum(0)
    total = w.sum(0)
    mean_x, mean_t = (w * x).sum(0) / total, (w * t).sum(0) / total
    dx, dt = x - mean_x, t - mean_t
    square = (w * dx * dx).sum(0)
    gain = (w * dx * dt).sum(0) / square
    offset = mean_t - gain * mean_x
    score = w * (dt - gain * dx)
    score[-1] = w[-1] * np.sqrt(own2)
    freedom = np.sqrt(count / (count - 2.0))
    gain_se = np.sqrt(((score * dx) ** 2).sum(0)) / square * freedom
    offset_se = np.sqrt(((score * (1.0 / total - mean_x * dx / square)) ** 2).sum(0)) * freedom
    return gain, offset, gain_se, offset_se


def _reading_errors(x: Floats, w: Floats, readings: MeanReadings, per_us: Floats) -> tuple[Floats, Floats]:
    """Errors of gain and offset from readings that are off by the same amount in every vector."""
    total = w.sum(0)
    mean_x = (w * x).sum(0) / total
    dx = x - mean_x
    square = (w * dx * dx).sum(0)
    units = np.asarray(readings.units, np.float64).T
    on_gain = units @ (w * dx / square) * per_us
    on_offset = units @ (w * (1.0 / total - mean_x * dx / square)) * per_us
    variance = readings.variance_us2
    return np.sqrt((variance * on_gain**2).sum(0)), np.sqrt((variance * on_offset**2).sum(0))


def _noise(square: Floats, v: Floats, trusted: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Residual² = noise²(column) + 1/12 + scale · v: one scale for all columns, a constant for each.

    Each side is weighted by its expected spread (∝ residual variance), from a first guess.
    """
    w = trusted / np.maximum((trusted * square).sum(0) / trusted.sum(0), 1e-6) ** 2
    total = w.sum(0)
    mean_v, mean_s = (w * v).sum(0) / total, (w * square).sum(0) / total
    dv, ds = v - mean_v, square - mean_s
    power = float((w * dv * dv).sum())
    if power <= 1e-12 * max(1.0, float((w * v * v).sum())):
        return np.maximum(mean_s - QUANTISATION - mean_v, 0.0), 1.0
    scale = float((w * dv * ds).sum()) / power
    return np.maximum(mean_s - QUANTISATION - scale * mean_v, 0.0), scale
