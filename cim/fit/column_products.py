"""Products of the columns of one macro, from measured arrays to what the estimators take; wires and row drivers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.array.input_drive import InputDrive, driven_units
from cim.array.wire_law import Wire, WireEnd
from cim.array.wires import converted_sums_us, gated_sums_us
from cim.cells.read_noise import ReadNoise
from cim.chip.converters import code_limits, conversions
from cim.chip.encoding import tile_halves_us
from cim.chip.spec import MacroSpec, ReadPath, WordLine
from cim.fit.columns import (
    MARGIN_SIGMA,
    QUANTISATION,
    ColumnFit,
    MeanReadings,
    combine,
    fit_columns,
    predicted_variance_us2,
)
from cim.fit.curves import Converters
from cim.fit.drive import StepReads, fit_drive, straight_drive
from cim.fit.measured import Idle, MeanReading, Products, first_of, joined
from cim.fit.offset import idle_clipped, idle_noise, without_misfit, zero_input
from cim.fit.wire import fit_wire
from cim.record.calibration import GainKnown

SLOPE_STEP = 0.1  # half of the distance in units over which a drive's slope is taken
WIRE_DOUBT = 0.01  # of the resistance: no array is a perfect ladder of equal segments (assumed)
HELD_OUT = 4  # every fourth vector is kept from the fits, for the goodness
DRIVE_TURNS = 2  # of wires and row drivers; another one moves a table by a hundredth of its errors
WIRE_VECTORS = 640  # of the transfer's that the wires are fitted on too

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ColumnProducts:
    """The data of one macro that column fits start from; arrays (vectors, conversions)."""

    spec: MacroSpec
    halves_us: Floats
    units: NDArray[np.integer] | Floats  # what rows are driven with
    variance_us2: Floats
    codes: NDArray[np.int32]
    setup: Converters
    readings: MeanReadings

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
            predicted_variance_us2(spec, halves, units, noise),
            products.codes,
            Converters.of(
                spec.lsb_us(products.range_code), spec.adc.bits, code_limits(spec.adc.bits, spec.adc_signed), adc
            ),
            MeanReadings.of(spec, halves, units, noise, reads),
        )

    @property
    def fitted(self) -> NDArray[np.bool_]:
        return np.asarray(np.arange(len(self.codes)) % HELD_OUT != 0)

    def _kept(self, at: NDArray[np.bool_]) -> ColumnProducts:
        """Products of the input vectors at which ``at`` is true."""
        return replace(
            self,
            units=self.units[at],
            variance_us2=self.variance_us2[at],
            codes=self.codes[at],
            readings=replace(self.readings, units=self.readings.units[at]),
        )

    def law_us(self, wire: Wire) -> Floats:
        """Sums at the converters by the simulator's law of wires, µS, (vectors, conversions)."""
        return converted_sums_us(self.spec, 0, self.halves_us, self.units, wire)

    def sums_us(self, wire: Wire) -> Floats:
        """Sums from the exact solution of the lines, as test patterns are more uneven than a network's inputs."""
        if self.spec.word_line is WordLine.ROW:
            return self.law_us(wire)
        return np.asarray(gated_sums_us(self.spec, 0, self.halves_us, self.units, wire), np.float64)

    def quick(self) -> ColumnFit:
        """A fit without wires, for its standard errors."""
        none = Wire(0.0, 0.0)
        return fit_columns(self.law_us(none), self.codes, self.variance_us2, self.setup, self.readings)

    def quick_wire(self, end: WireEnd) -> tuple[float, float, float]:
        """Wire resistance by the law if columns leave at that end: ohm, its error, residual in codes."""
        part = self._kept(self.fitted)
        first = fit_columns(part.law_us(Wire(0.0, 0.0)), part.codes, part.variance_us2, part.setup)

        def predicted_us(ohm: float) -> Floats:
            return part.law_us(Wire(ohm, 0.0, end))

        ohm, error = fit_wire(predicted_us, *part._measured, first)
        after = fit_columns(part.law_us(Wire(ohm, 0.0, end)), *part._measured)
        return ohm, error, after.residual_codes

    def wire(self, guess: Wire) -> tuple[float, float]:
        """Wire resistance seen by this macro by the exact lines, ohm, and its error."""
        part = self._kept(self.fitted)
        first = fit_columns(part.sums_us(guess), *part._measured)

        def predicted_us(ohm: float) -> Floats:
            return part.sums_us(replace(guess, ohm=ohm))

        return fit_wire(predicted_us, *part._measured, first, guess.ohm)

    @property
    def _measured(self) -> tuple[NDArray[np.int32], Floats, Converters]:
        return self.codes, self.variance_us2, self.setup

    def final(self, wire: Wire, small: Products | None = None, idle: Idle | None = None) -> ColumnFit:
        """Gain, offset, INL and noise with known wires; their error is part of the errors.

        ``small`` and ``idle`` reads tell the code of zero input and the noise without input where there are any.
        """
        part = self._kept(self.fitted)
        sums = part.sums_us(wire)
        zero = None
        if small is not None and idle is not None:
            first = fit_columns(sums, *part._measured)
            near = converted_sums_us(self.spec, 0, self.halves_us, small.inputs, wire)
            still = (idle.mean_codes, idle.sd_codes, int(idle.vectors))
            zero = zero_input(near, small.codes, first.gain, self.setup, *still)
        unsure = None
        if wire.ohm_se > 0.0:
            unsure = part.sums_us(replace(wire, ohm=wire.ohm + wire.ohm_se)) - sums
        found = fit_columns(sums, part.codes, part.variance_us2, part.setup, part.readings, unsure, zero)
        quiet = (
            idle_noise(idle.sd_codes, idle_clipped(idle.mean_codes, self.setup.limits)) if idle is not None else None
        )
        if quiet is None:
            return found
        return replace(found, conversion_noise_codes=without_misfit(found.conversion_noise_codes, quiet))

    def step_reads(self, inputs: NDArray[np.int16], final: ColumnFit, wire: Wire) -> StepReads:
        """What ``cim.fit.drive`` takes, of reads whose driven rows have one unit (``inputs``: the whole units)."""
        on = inputs > 0
        per_us, (low, high) = final.gain / self.setup.lsb_us, self.setup.limits
        sums = self.sums_us(wire)
        up, down = (replace(self, units=self.units + step * on).sums_us(wire) for step in (SLOPE_STEP, -SLOPE_STEP))
        expected = final.expected_codes(sums, self.setup)
        more = replace(wire, ohm=wire.ohm + wire.ohm_se)
        variance = final.conversion_noise_codes**2 + QUANTISATION
        variance = variance + final.read_scale * per_us**2 * self.variance_us2
        margin = MARGIN_SIGMA * np.sqrt(variance) + 1.0
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

    def held_out_r2(self, final: ColumnFit, wire: Wire) -> float:
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
    ohm, error = combine(*zip(*[c.wire(guess) for c in columns], strict=True))
    return Wire(ohm, float(np.hypot(error, WIRE_DOUBT * ohm)), guess.end)


def fit_wires_and_drive(
    spec: MacroSpec,
    transfer: Mapping[int, Products],
    blocks: Mapping[int, Products],
    steps: Mapping[int, Products],
    aged: Mapping[int, MeanReading],
    noise: ReadNoise,
) -> tuple[Wire, InputDrive | None]:
    """Wire resistance, and what row drivers give where a read takes several bits; each fitted with the other known.

    Args:
        transfer: ramps and random vectors of every macro.
        blocks: rows side by side, near and far, of the macros that tell the wires.
        steps: rows driven alike with every unit in turn, of the same macros; empty where a read takes one bit.
        aged: mean readings of the cells when these products were taken.
    """
    macros = tuple(blocks)

    def columns(products: Products, m: int, drive: InputDrive | None) -> ColumnProducts:
        return ColumnProducts.of(spec, products, aged[m].readings_us, noise, aged[m].reads, drive)

    def wired(drive: InputDrive | None) -> list[ColumnProducts]:
        near = {m: joined(first_of(transfer[m], WIRE_VECTORS), blocks[m]) for m in macros}
        return [columns(near[m], m, drive) for m in macros]

    wire = fit_wires(wired(None))
    if not steps:
        return wire, None
    drive = straight_drive(spec)
    for turn in range(DRIVE_TURNS):
        if turn:
            wire = fit_wires(wired(drive), wire)
        reads = [
            columns(steps[m], m, drive).step_reads(steps[m].inputs, columns(transfer[m], m, drive).final(wire), wire)
            for m in macros
        ]
        drive = fit_drive(drive, reads)
    return wire, drive


def gain_known(spec: MacroSpec) -> GainKnown:
    return GainKnown.SENSE if spec.read_path is ReadPath.SENSE else GainKnown.PRODUCT
