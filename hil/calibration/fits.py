"""From the arrays of a calibration to what the estimators of ``cim`` take, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.array.input_drive import InputDrive, driven_units
from cim.array.wire_law import Wire, WireEnd
from cim.array.wires import converted_sums_us, gated_sums_us
from cim.cells.read_noise import ReadNoise
from cim.chip.converters import code_limits, conversions, input_planes, split_planes
from cim.chip.encoding import tile_halves_us
from cim.chip.spec import MacroSpec, ReadPath, WordLine
from cim.fit import columns as fit
from cim.fit.drive import StepReads
from cim.fit.offset import idle_clipped, idle_noise, without_misfit, zero_input
from cim.fit.wire import fit_wire
from cim.record.calibration import CellState, GainKnown
from hil.calibration.measurements import Idle, NetworkProducts, Pattern, Products, Stuck

STUCK = (CellState.STUCK_LOW, CellState.STUCK_HIGH)
STUCK_MOVES = 0.08  # of the window: a cell that SET and RESET move less is stuck
SLOPE_STEP = 0.1  # half of the distance in units over which a drive's slope is taken
WIRE_DOUBT = 0.01  # of the resistance: no array is a perfect ladder of equal segments (assumed)
HELD_OUT = 4  # every fourth vector is kept from the fits, for the goodness

Floats = NDArray[np.float64]


def stuck_states(spec: MacroSpec, stuck: Stuck) -> NDArray[np.int8]:
    """``CellState`` GOOD, STUCK_LOW or STUCK_HIGH of every cell of a macro, (rows, columns).

    Stuck low: in the lowest third of the window both after SET and after RESET, and moved by less
    than 8 % of the window between the two. Stuck high: the same in the highest third. A cell with
    a short range of its own moves; it is no stuck cell but one that misses most targets.
    """
    low, high = spec.levels_us[0], spec.levels_us[-1]
    third, moves = (high - low) / 3, STUCK_MOVES * (high - low)
    states = np.full(stuck.high_us.shape, CellState.GOOD, np.int8)
    still = np.abs(stuck.high_us - stuck.low_us) < moves  # False where it was left alone
    states[still & (stuck.high_us < low + third) & (stuck.low_us < low + third)] = CellState.STUCK_LOW
    states[still & (stuck.high_us > high - third) & (stuck.low_us > high - third)] = CellState.STUCK_HIGH
    return states


def merge_stuck(cycles: Sequence[NDArray[np.int8]]) -> NDArray[np.int8]:
    """What most cycles say; one cycle alone stands, of two both must agree."""
    needed = len(cycles) // 2 + 1
    merged = np.full(cycles[0].shape, CellState.GOOD, np.int8)
    for state in STUCK:
        merged[sum((c == state).astype(np.int8) for c in cycles) >= needed] = state
    return merged


def cell_states(stuck: NDArray[np.int8], pattern: Pattern) -> NDArray[np.int8]:
    """Stuck cells, and those that missed their window in the test pattern without being stuck."""
    missed = ~pattern.reached & np.isfinite(pattern.targets_us) & (stuck == CellState.GOOD)
    return np.where(missed, np.int8(CellState.NOT_REACHED), stuck)


@dataclass(frozen=True, slots=True)
class ColumnProducts:
    """What the column fits of one macro start from; arrays (vectors, conversions)."""

    spec: MacroSpec
    halves_us: Floats
    units: NDArray[np.integer] | Floats  # what rows are driven with
    variance_us2: Floats
    codes: NDArray[np.int32]
    setup: fit.Converters
    readings: fit.MeanReadings

    @classmethod
    def of(
        cls,
        spec: MacroSpec,
        products: Products,
        readings_us: NDArray[np.float32],
        noise: ReadNoise,
        reads: int,
        drive: InputDrive | None = None,
    ) -> ColumnProducts:
        halves = tile_halves_us(np.nan_to_num(readings_us), spec, 0, spec.logical_rows, 0, spec.outputs)
        adc = np.arange(conversions(spec, spec.outputs)) // spec.adc.shared_by
        units = driven_units(products.inputs, drive)
        return cls(
            spec,
            np.asarray(halves, np.float64),
            units,
            fit.predicted_variance_us2(spec, halves, units, noise),
            products.codes,
            fit.Converters.of(
                spec.lsb_us(products.range_code), spec.adc.bits, code_limits(spec.adc.bits, spec.adc_signed), adc
            ),
            fit.MeanReadings.of(spec, halves, units, noise, reads),
        )

    @property
    def fitted(self) -> NDArray[np.bool_]:
        return np.asarray(np.arange(len(self.codes)) % HELD_OUT != 0)

    def _kept(self, at: NDArray[np.bool_]) -> ColumnProducts:
        """Some of the vectors."""
        return replace(
            self,
            units=self.units[at],
            variance_us2=self.variance_us2[at],
            codes=self.codes[at],
            readings=replace(self.readings, units=self.readings.units[at]),
        )

    def law_us(self, wire: Wire) -> Floats:
        """What is converted by the simulator's law of wires, (vectors, conversions)."""
        return converted_sums_us(self.spec, 0, self.halves_us, self.units, wire)

    def sums_us(self, wire: Wire) -> Floats:
        """The same from the exact solution of the lines: test patterns are more uneven than networks."""
        if self.spec.word_line is WordLine.ROW:
            return self.law_us(wire)
        return np.asarray(gated_sums_us(self.spec, 0, self.halves_us, self.units, wire), np.float64)

    def quick(self) -> fit.ColumnFit:
        """A fit without wires, for its standard errors."""
        none = Wire(0.0, 0.0)
        return fit.fit_columns(self.law_us(none), self.codes, self.variance_us2, self.setup, self.readings)

    def quick_wire(self, end: WireEnd) -> tuple[float, float, float]:
        """Wire resistance by the law if columns leave at that end: ohm, its error, residual in codes."""
        part = self._kept(self.fitted)
        first = fit.fit_columns(part.law_us(Wire(0.0, 0.0)), part.codes, part.variance_us2, part.setup)

        def predicted_us(ohm: float) -> Floats:
            return part.law_us(Wire(ohm, 0.0, end))

        ohm, error = fit_wire(predicted_us, *part._measured, first)
        after = fit.fit_columns(part.law_us(Wire(ohm, 0.0, end)), *part._measured)
        return ohm, error, after.residual_codes

    def wire(self, guess: Wire) -> tuple[float, float]:
        """Wire resistance seen by this macro by the exact lines, ohm, and its error."""
        part = self._kept(self.fitted)
        first = fit.fit_columns(part.sums_us(guess), *part._measured)

        def predicted_us(ohm: float) -> Floats:
            return part.sums_us(replace(guess, ohm=ohm))

        return fit_wire(predicted_us, *part._measured, first, guess.ohm)

    @property
    def _measured(self) -> tuple[NDArray[np.int32], Floats, fit.Converters]:
        return self.codes, self.variance_us2, self.setup

    def final(self, wire: Wire, small: Products | None = None, idle: Idle | None = None) -> fit.ColumnFit:
        """Gain, offset, INL and noise with known wires; their error is part of the errors.

        ``small`` and ``idle`` reads tell the code of zero input and the noise without input where there are any.
        """
        part = self._kept(self.fitted)
        sums = part.sums_us(wire)
        zero = None
        if small is not None and idle is not None:
            first = fit.fit_columns(sums, *part._measured)
            near = converted_sums_us(self.spec, 0, self.halves_us, small.inputs, wire)
            still = (idle.mean_codes, idle.sd_codes, int(idle.vectors))
            zero = zero_input(near, small.codes, first.gain, self.setup, *still)
        unsure = None
        if wire.ohm_se > 0.0:
            unsure = part.sums_us(replace(wire, ohm=wire.ohm + wire.ohm_se)) - sums
        found = fit.fit_columns(sums, part.codes, part.variance_us2, part.setup, part.readings, unsure, zero)
        quiet = (
            idle_noise(idle.sd_codes, idle_clipped(idle.mean_codes, self.setup.limits)) if idle is not None else None
        )
        if quiet is None:
            return found
        return replace(found, conversion_noise_codes=without_misfit(found.conversion_noise_codes, quiet))

    def step_reads(self, inputs: NDArray[np.int16], final: fit.ColumnFit, wire: Wire) -> StepReads:
        """What ``cim.fit.drive`` takes, of reads whose driven rows have one unit (``inputs``: the whole units)."""
        on = inputs > 0
        per_us, (low, high) = final.gain / self.setup.lsb_us, self.setup.limits
        sums = self.sums_us(wire)
        up, down = (replace(self, units=self.units + step * on).sums_us(wire) for step in (SLOPE_STEP, -SLOPE_STEP))
        expected = final.expected_codes(sums, self.setup)
        more = replace(wire, ohm=wire.ohm + wire.ohm_se)
        variance = final.conversion_noise_codes**2 + fit.QUANTISATION
        variance = variance + final.read_scale * per_us**2 * self.variance_us2
        margin = fit.MARGIN_SIGMA * np.sqrt(variance) + 1.0
        inside = (expected + margin < high) & ((expected - margin > low) | (low >= 0))
        return StepReads(
            inputs.max(1).astype(np.int64),
            self.codes,
            expected,
            (up - down) * per_us / (2.0 * SLOPE_STEP),
            final.expected_codes(self.sums_us(more), self.setup) - expected,
            inside / variance,
            self.setup.adc,
        )

    def held_out_r2(self, final: fit.ColumnFit, wire: Wire) -> float:
        """R² of the vectors that the fit has not seen, unsaturated codes only."""
        part = self._kept(~self.fitted)
        low, high = self.setup.limits
        expected = final.expected_codes(part.sums_us(wire), self.setup)
        codes = part.codes
        inside = (codes < high) & ((codes > low) | (low == 0)) & (expected < high) & (expected > low - 1)
        rest = (codes - expected)[inside]
        return float(1.0 - np.square(rest).mean() / codes[inside].var())


def fit_wires(columns: Sequence[ColumnProducts], guess: Wire | None = None) -> Wire:
    """Wire resistance from some macros, and the end of the array by which the columns leave.

    The fast law, on one macro, chooses the end that fits and starts; the exact lines end. A ``guess``
    takes its place.
    """
    if guess is None:
        found = []
        for end in WireEnd:
            ohm, _, residual = columns[0].quick_wire(end)
            found.append((residual, Wire(ohm, 0.0, end)))
        _, guess = min(found, key=lambda f: f[0])
    ohm, error = fit.combine(*zip(*[c.wire(guess) for c in columns], strict=True))
    return Wire(ohm, float(np.hypot(error, WIRE_DOUBT * ohm)), guess.end)


@dataclass(frozen=True, slots=True)
class NetworkCheck:
    """How well the record predicts products with inputs like a network's: every conversion's line
    fitted on half of the vectors, tested on the other half."""

    r2: float
    slope: float  # of measured over predicted, mean over conversions
    residual_codes: float
    expected_codes: float  # the noise that the record predicts

    @classmethod
    def of(
        cls,
        spec: MacroSpec,
        products: NetworkProducts,
        readings_us: NDArray[np.float32],
        noise: ReadNoise,
        final: fit.ColumnFit,
        wire: Wire,
        drive: InputDrive | None = None,
    ) -> NetworkCheck:
        """Sums over planes, Σ weight · code, of each conversion, measured and predicted."""
        halves = np.asarray(
            tile_halves_us(np.nan_to_num(readings_us), spec, 0, spec.logical_rows, 0, spec.outputs), np.float64
        )
        bits = spec.inputs.bits
        units = driven_units(split_planes(products.inputs, spec.inputs, bits, False), drive)
        limits = code_limits(spec.adc.bits, spec.adc_signed)
        lsb = spec.lsb_us(products.range_code)
        setup = fit.Converters(lsb, limits, final.adc)
        measured = np.zeros((len(products.inputs), len(final.gain)))
        predicted, variance = np.zeros_like(measured), np.zeros_like(measured)
        for number, plane in enumerate(input_planes(spec.inputs, bits, False)):
            sums = converted_sums_us(spec, 0, halves, units[number], wire)
            measured += plane.weight * products.codes[:, number]
            predicted += plane.weight * np.clip(final.expected_codes(sums, setup), *limits)
            reads = fit.predicted_variance_us2(spec, halves, units[number], noise)
            code2 = (
                final.conversion_noise_codes**2 + fit.QUANTISATION + final.read_scale * (final.gain / lsb) ** 2 * reads
            )
            variance += plane.weight**2 * code2
        half = np.arange(len(measured)) % 2 == 0
        x, y = predicted[half], measured[half]
        slope = ((x - x.mean(0)) * (y - y.mean(0))).sum(0) / ((x - x.mean(0)) ** 2).sum(0)
        offset = y.mean(0) - slope * x.mean(0)
        rest = measured[~half] - slope * predicted[~half] - offset
        total = np.square(measured[~half] - measured[~half].mean(0)).sum()
        return cls(
            float(1.0 - np.square(rest).sum() / total),
            float(slope.mean()),
            float(np.sqrt(np.square(rest).mean())),
            float(np.sqrt(variance.mean())),
        )


def gain_known(spec: MacroSpec) -> GainKnown:
    return GainKnown.SENSE if spec.read_path is ReadPath.SENSE else GainKnown.PRODUCT
