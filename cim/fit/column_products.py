"""Measured products of a macro as input of the column estimators, and the fits of wires and row drivers from them."""

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
    """Measured products of one macro, and all that a fit of its columns needs; arrays (vectors, conversions)."""

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
        """Column fit with wire resistance taken as 0, of which only the standard errors are used."""
        none = Wire(0.0, 0.0)
        return fit_columns(self.law_us(none), self.codes, self.variance_us2, self.setup, self.readings)

    def quick_wire(self, end: WireEnd) -> tuple[float, float, float]:
        """Wire resistance in ohm by the approximate law for that line end, its error, and the residual in codes."""
        part = self._kept(self.fitted)
        first = fit_columns(part.law_us(Wire(0.0, 0.0)), part.codes, part.variance_us2, part.setup)

        def predicted_us(ohm: float) -> Floats:
            return part.law_us(Wire(ohm, 0.0, end))

        ohm, error = fit_wire(predicted_us, *part._measured, first)
        after = fit_columns(part.law_us(Wire(ohm, 0.0, end)), *part._measured)
        return ohm, error, after.residual_codes

    def wire(self, guess: Wire) -> tuple[float, float]:
        """Wire resistance in ohm of this macro by the exact ladder, and its error; starts from ``guess``."""
        part = self._kept(self.fitted)
        first = fit_columns(part.sums_us(guess), *part._measured)

        def predicted_us(ohm: float) -> Floats:
            return part.sums_us(replace(guess, ohm=ohm))

        return fit_wire(predicted_us, *part._measured, first, guess.ohm)

    @property
    def _measured(self) -> tuple[NDArray[np.int32], Floats, Converters]:
        return self.codes, self.variance_us2, self.setup

    def final(self, wire: Wire, small: Products | None = None, idle: Idle | None = None) -> ColumnFit:
        """Gain, offset, INL and noise for known wires; the standard errors include that of the wire resistance.

        Where ``small`` and ``idle`` reads are given, they fix the code of zero input and the noise without input.
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
        """Input of ``cim.fit.drive`` from reads in which all driven rows have one unit; ``inputs``: those units."""
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
        """R² of the fit on vectors that it has not seen, unsaturated codes only."""
        part = self._kept(~self.fitted)
        low, high = self.setup.limits
        expected = final.expected_codes(part.sums_us(wire), self.setup)
        codes = part.codes
        inside = (codes < high) & ((codes > low) | (low == 0)) & (expected < high) & (expected > low - 1)
        rest = (codes - expected)[inside]
        return float(1.0 - np.square(rest).mean() / codes[inside].var())


def fit_wires(columns: Sequence[ColumnProducts], guess: Wire | None = None) -> Wire:
    """Wire resistance from some macros, and the end of the array at which the columns are converted.

    The approximate law on the first macro chooses the end and a start value, the exact ladder refines it. A given
    ``guess`` replaces the first step.
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
    """Wire resistance, and the drive table where a read takes several bits; each is fitted with the other held.

    Args:
        transfer: ramps and random vectors of every macro.
        blocks: driven blocks of neighbouring rows, near and far, of the macros from which wires are fitted.
        steps: reads whose driven rows all have one unit, for every unit, of the same macros; empty for one-bit reads.
        aged: mean readings of the cells at the age of these products.
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
