"""Calibration through the driver: the procedure a lab would follow, and the record it leaves.

Order: stuck cells (all SET, all RESET), a test pattern programmed and aged, cell readings,
then random multiplications whose sums are known from those readings. Only what can be told
apart through the chip's own read path is reported (``GainKnown``). The measurements are in
``hil.probes``, the estimators in ``cim.fit``.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim import fit
from cim import fit_wire as wire_fit
from cim.calibration import CalibrationRecord, CellState, GainKnown, NotCalibrated
from cim.converters import code_limits, conversions
from cim.encoding import tile_halves_us
from cim.programming_law import ProgrammingLaw
from cim.read_noise import ReadNoise
from cim.spec import MacroSpec, ReadPath, WordLine
from cim.wire_law import Wire, WireEnd
from cim.wires import converted_sums_us, gated_sums_us
from hil.driver import ChipDriver
from hil.errors import MismatchError
from hil.probes import Pattern, Probes, Products, Stuck
from hil.watch import Watch

EARLY_S = 1.0  # first age at which cells are read
EARLY_READS, AGED_READS = 8, 64  # averaged on the chip: more cost chip time, not bytes
WIRE_MACROS = 3  # one resistance for all macros: a few of them tell it
HELD_OUT = 4  # every fourth vector and cell is kept from the fits, for the goodness


def calibrate(
    driver: ChipDriver,
    macros: tuple[int, ...],
    *,
    seed: int = 0,
    age_s: float = 3600.0,
    effort: int = 1,
    watch: Watch | None = None,
) -> CalibrationRecord:
    """Measure ``macros`` of the chip behind ``driver`` and give their record.

    Args:
        seed: of the test patterns and vectors; the chip's noise is its own.
        age_s: chip time after programming at which cells and columns are measured.
        effort: 1 takes 2,048 vectors a macro and 64 reads a cell; more take more (255 reads at most).

    Raises:
        hil.errors.DeviceError, hil.errors.LinkError: the chip refused or fell silent.
        cim.fit.TooFewCells, cim.fit.TooFewVectors: a macro gave too little to fit.
    """
    probes = Probes(driver, macros, seed, effort, watch or Watch())
    temperature_c = driver.status().temperature_c
    stuck = probes.stuck_cells()
    pattern = probes.write_pattern()
    driver.wait(EARLY_S)
    early = probes.read(EARLY_READS, "early cells")
    driver.wait(max(age_s - EARLY_S, 0.0))
    aged_reads = min(AGED_READS * effort, 255)
    aged = probes.read(aged_reads, "aged cells")
    pairs = probes.read_pairs()
    products = probes.multiply()

    spec = driver.spec.macro
    states = {m: cell_states(spec, stuck[m], pattern[m]) for m in macros}
    ages = tuple(float(np.mean([r[m].time_s - pattern[m].time_s for m in macros])) for r in (early, aged))
    cells = Cells(
        np.concatenate([pattern[m].targets_us.ravel() for m in macros]),
        np.stack([np.concatenate([r[m].readings_us.ravel() for m in macros]) for r in (early, aged)]),
        np.concatenate([pairs[m].reshape(2, -1) for m in macros], axis=1),
        np.concatenate([states[m].ravel() for m in macros]),
    )
    levels = np.array(spec.levels_us)
    noise = fit.fit_read_variance(cells.pairs_us, cells.targets_us, levels)
    law, distance = fit_law(cells, noise, ages, (EARLY_READS, aged_reads), levels)
    wire = fit_wire(spec, [(products[m], aged[m].readings_us) for m in macros], noise, aged_reads)
    columns = [Columns.of(spec, products[m], aged[m].readings_us, noise, aged_reads, wire.end) for m in macros]
    parts, fits = {}, []
    for m, c in zip(macros, columns, strict=True):
        predicted = c.exact_us(wire.ohm)
        final = c.solved(predicted)
        stuck_us = np.where(np.isin(states[m], STUCK), aged[m].readings_us, np.nan).astype(np.float32)
        parts[m] = final.calibration(m, states[m], stuck_us, gain_known(spec))
        fits.append((final, c.held_out_r2(final, predicted)))
    about = driver.description
    return CalibrationRecord(
        chip_name=about.name,
        revision=about.revision,
        serial=about.serial,
        firmware=about.firmware,
        kind=about.kind,
        spec_digest=driver.spec.digest,
        temperature_c=temperature_c,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        method=f"hil.calibrate 1.0, effort {effort}",
        seed=seed,
        age_s=ages[1],
        macros=parts,
        programming=law,
        read_noise=noise,
        wire=wire,
        goodness={
            "programming_ks": distance,
            "columns_r2": float(np.mean([r2 for _, r2 in fits])),
            "columns_residual_codes": float(np.mean([f.residual_codes for f, _ in fits])),
            "read_variance_ratio": float(np.mean([f.read_scale for f, _ in fits])),
        },
        pulses=sum(pattern[m].pulses + stuck[m].pulses for m in macros),
    )


STUCK = (CellState.STUCK_LOW, CellState.STUCK_HIGH)


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of all macros, flattened: targets (n,), mean readings (ages, n), single reads (2, n), states (n,)."""

    targets_us: NDArray[np.float32]
    readings_us: NDArray[np.float32]
    pairs_us: NDArray[np.float32]
    states: NDArray[np.int8]


def cell_states(spec: MacroSpec, stuck: Stuck, pattern: Pattern) -> NDArray[np.int8]:
    """``CellState`` of every cell of a macro, (rows, columns).

    Stuck low: a third of the window or less both after SET and after RESET. Stuck high: two
    thirds or more in both. Not reached: the test pattern's target was missed, not stuck.
    """
    low, high = spec.levels_us[0], spec.levels_us[-1]
    third = (high - low) / 3
    states = np.where(pattern.reached | ~np.isfinite(pattern.targets_us), CellState.GOOD, CellState.NOT_REACHED)
    states[(stuck.high_us < low + third) & (stuck.low_us < low + third)] = CellState.STUCK_LOW
    states[(stuck.high_us > high - third) & (stuck.low_us > high - third)] = CellState.STUCK_HIGH
    return states.astype(np.int8)


def fit_law(
    cells: Cells, noise: ReadNoise, ages: tuple[float, ...], reads: tuple[int, ...], levels: NDArray[np.float64]
) -> tuple[ProgrammingLaw, float]:
    """The programming law, and its distance (KS) from cells that the fit has not seen."""
    test = np.arange(len(cells.targets_us)) % HELD_OUT == 0
    law = fit.fit_programming(
        cells.targets_us[~test],
        cells.readings_us[:, ~test],
        cells.states[~test],
        ages_s=ages,
        reads=reads,
        levels_us=levels,
        read_noise=noise,
    )
    held = test & (cells.states == CellState.GOOD) & np.isfinite(cells.targets_us)
    distance = fit.programming_distance(
        law, cells.targets_us[held], cells.readings_us[-1, held], age_s=ages[-1], reads=reads[-1], read_noise=noise
    )
    return law, distance


def fit_wire(
    spec: MacroSpec, measured: list[tuple[Products, NDArray[np.float32]]], noise: ReadNoise, reads: int
) -> Wire:
    """Wire resistance from some macros, and the end of the array by which the columns leave: the one that fits.

    The fast law chooses the end and starts the fit; the exact solution of the lines ends it.
    """
    chosen = measured[:: max(1, len(measured) // WIRE_MACROS)][:WIRE_MACROS]
    found = []
    for end in WireEnd:
        columns = [Columns.of(spec, products, readings_us, noise, reads, end) for products, readings_us in chosen]
        ohm, _ = fit.combine(*zip(*[c.quick_wire() for c in columns], strict=True))
        residual = float(np.mean([c.solved(c.believed_us(ohm)).residual_codes for c in columns]))
        found.append((residual, ohm, columns))
    _, guess, columns = min(found, key=lambda f: f[0])
    ohm, ohm_se = fit.combine(*zip(*[c.wire(guess) for c in columns], strict=True))
    return Wire(ohm, ohm_se, columns[0].end)


@dataclass(frozen=True, slots=True)
class Columns:
    """What the column fits of one macro start from; arrays (vectors, conversions), halves (2, rows, outputs)."""

    spec: MacroSpec
    halves_us: NDArray[np.float32]
    units: NDArray[np.integer]
    end: WireEnd
    variance_us2: NDArray[np.float64]
    codes: NDArray[np.int32]
    setup: fit.Converters
    readings: fit.CellReadings

    @classmethod
    def of(
        cls,
        spec: MacroSpec,
        products: Products,
        readings_us: NDArray[np.float32],
        noise: ReadNoise,
        reads: int,
        end: WireEnd,
    ) -> Columns:
        halves = tile_halves_us(np.nan_to_num(readings_us), spec, 0, spec.logical_rows, 0, spec.outputs)
        units = products.inputs
        adc = np.arange(conversions(spec, spec.outputs)) // spec.adc.shared_by
        return cls(
            spec,
            halves,
            units,
            end,
            fit.predicted_variance_us2(spec, halves, units, noise),
            products.codes,
            fit.Converters(spec.lsb_us(products.range_code), code_limits(spec.adc.bits, spec.adc_signed), adc),
            fit.CellReadings.of(spec, halves, units, noise, reads),
        )

    @property
    def fitted(self) -> NDArray[np.bool_]:
        return np.asarray(np.arange(len(self.codes)) % HELD_OUT != 0)

    def believed_us(self, ohm: float) -> NDArray[np.float64]:
        """Converted sums by the simulator's law."""
        return converted_sums_us(self.spec, 0, self.halves_us, self.units, Wire(ohm, 0.0, self.end))

    def exact_us(self, ohm: float) -> NDArray[np.float64]:
        """The same from the exact solution of the lines: test patterns are more uneven than networks."""
        if self.spec.word_line is WordLine.ROW:
            return self.believed_us(ohm)
        return gated_sums_us(self.spec, 0, self.halves_us, self.units, Wire(ohm, 0.0, self.end))

    def quick_wire(self) -> tuple[float, float]:
        """Wire resistance by the law, ohm, and its error."""
        at = self.fitted
        return wire_fit.fit_wire(
            lambda ohm: self.believed_us(ohm)[at],
            self.codes[at],
            self.variance_us2[at],
            self.setup,
            self.solved(self.believed_us(0.0), with_readings=False),
        )

    def wire(self, guess_ohm: float) -> tuple[float, float]:
        """Wire resistance seen by this macro, ohm, and its error."""
        at = self.fitted
        return wire_fit.fit_wire(
            lambda ohm: self.exact_us(ohm)[at],
            self.codes[at],
            self.variance_us2[at],
            self.setup,
            self.solved(self.exact_us(guess_ohm), with_readings=False),
            guess_ohm,
        )

    def solved(self, predicted_us: NDArray[np.float64], with_readings: bool = True) -> fit.ColumnFit:
        """Column fits of the vectors kept for it; predicted sums of all vectors."""
        at = self.fitted
        readings = fit.CellReadings(self.readings.units[at], self.readings.variance_us2) if with_readings else None
        return fit.fit_columns(predicted_us[at], self.codes[at], self.variance_us2[at], self.setup, readings)

    def held_out_r2(self, final: fit.ColumnFit, predicted_us: NDArray[np.float64]) -> float:
        """R² of the vectors that the fit has not seen, unsaturated codes only."""
        at = ~self.fitted
        low, high = self.setup.limits
        expected = final.expected_codes(predicted_us[at], self.setup)
        codes = self.codes[at]
        inside = (codes < high) & ((codes > low) | (low == 0)) & (expected < high) & (expected > low - 1)
        rest = (codes - expected)[inside]
        return float(1.0 - np.square(rest).mean() / codes[inside].var())


def gain_known(spec: MacroSpec) -> GainKnown:
    return GainKnown.SENSE if spec.read_path is ReadPath.SENSE else GainKnown.PRODUCT


def check_record(record: CalibrationRecord, driver: ChipDriver, macros: tuple[int, ...]) -> None:
    """Refuse a record of another chip, description or set of macros.

    Raises:
        MismatchError: with both values.
    """
    about, spec = driver.description, driver.spec
    pairs = (
        ("chip", record.chip_name, about.name),
        ("serial number", record.serial, about.serial),
        ("chip description", record.spec_digest, spec.digest),
    )
    for what, has, wanted in pairs:
        if has != wanted:
            raise MismatchError(
                f"the calibration record is of another {what}: {has!r}, this chip says {wanted!r}",
                hint="hil calibrate -o record.h5 for this chip, or leave --calibration out",
            )
    check_macros(record, macros)


def check_macros(record: CalibrationRecord, macros: tuple[int, ...]) -> None:
    """Refuse a record that lacks one of these macros.

    Raises:
        MismatchError: with the missing one and those that it has.
    """
    try:
        for macro in macros:
            record.macro(macro)
    except NotCalibrated as error:
        raise MismatchError(str(error), hint="hil calibrate without --only measures all macros") from error
