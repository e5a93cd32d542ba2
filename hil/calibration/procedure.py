"""Calibration through the driver: the procedure a lab would follow, and the record it leaves.

Only what can be told apart through the chip's own read path is reported (``GainKnown``). What is
measured, and in which order, is in ``hil.calibration.steps``; how much, in ``hil.calibration.plan``;
the measurements themselves in ``hil.calibration.measurements``; the estimators in ``cim.fit``.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cim.array.input_drive import InputDrive
from cim.array.wire_law import Wire
from cim.cells.programming_law import ProgrammingLaw, law_at
from cim.cells.read_noise import ReadNoise
from cim.cells.temperature import Thermal
from cim.cells.write_verify import write_statistics
from cim.chip.converters import code_limits
from cim.chip.spec import MacroSpec
from cim.fit import columns as fit
from cim.fit.drive import fit_drive, straight_drive
from cim.fit.read_noise import fit_flicker
from cim.fit.temperature import fit_conductance_per_k, fit_variance_per_k
from cim.record.calibration import CalibrationRecord, CellState, MacroCalibration, NotCalibrated
from hil.calibration.fits import STUCK, ColumnProducts, NetworkCheck, cell_states, fit_wires, gain_known
from hil.calibration.measurements import Products
from hil.calibration.plan import PLANS, Budget
from hil.calibration.steps import CalibrationSteps, Hot, Measured, first_of, good_targets, joined, read_noise
from hil.calibration.store import StepStore
from hil.driver.chip_driver import ChipDriver
from hil.errors import Interrupted, MismatchError
from hil.watch import Watch

DRIVE_TURNS = 2  # of wires and row drivers; another one moves a table by a hundredth of its errors
WIRE_VECTORS = 640  # of the transfer's that the wires are fitted on too
METHOD = "hil.calibrate 2.0"
HELD_OUT = 4  # every fourth cell is kept from the law's fit, for the goodness
LAW_CELLS = 32768  # more cells than this tell no more about one law for the whole chip


def calibrate(
    driver: ChipDriver,
    macros: tuple[int, ...],
    *,
    seed: int = 0,
    age_s: float = 3600.0,
    budget: Budget = Budget.DEFAULT,
    second_temperature_c: float | None = None,
    partial: Path | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> CalibrationRecord:
    """Measure ``macros`` of the chip behind ``driver`` and give their record.

    Args:
        seed: of the test patterns and vectors; the chip's noise is its own.
        age_s: chip time after programming at which cells and columns are measured.
        budget: how much each step may spend, and how precise it must be to stop earlier.
        second_temperature_c: cells and products are measured once more when the chip's status
            tells this temperature; the bench must bring it there.
        partial: folder for finished steps (``hil.calibration.store``), to be removed once the
            record is saved; None keeps none.
        resume: go on with the steps in ``partial``.

    Raises:
        hil.errors.Interrupted: by Ctrl-C, with finished steps in ``partial``.
        hil.errors.DeviceError, hil.errors.LinkError: the chip refused or fell silent.
        cim.fit.columns.TooFewCells, cim.fit.columns.TooFewVectors: a macro gave too little to fit.
    """
    watch = watch or Watch()
    about = {
        "format": "hil.calibration.partial 1.0",
        "serial number": driver.description.serial,
        "chip description": driver.spec.digest,
        "macros": list(macros),
        "seed": seed,
        "age": age_s,
        "budget": budget.value,
    }
    store = StepStore(partial, about, resume=resume, watch=watch)
    try:
        measured = CalibrationSteps(driver, macros, PLANS[budget], seed, store, watch).run(age_s, second_temperature_c)
        return make_record(driver, macros, measured, seed=seed, budget=budget, watch=watch)
    except KeyboardInterrupt:
        if partial is None or not store.done:
            raise
        raise Interrupted(
            f"calibration interrupted; {len(store.done)} finished steps are in {partial}",
            hint="the same command with --resume",
        ) from None


def make_record(
    driver: ChipDriver, macros: tuple[int, ...], found: Measured, *, seed: int, budget: Budget, watch: Watch
) -> CalibrationRecord:
    """All estimators, on what was measured."""
    spec, about = driver.spec.macro, driver.description
    states = {m: cell_states(found.states[m], found.pattern[m]) for m in macros}
    cells = Cells.of(found, states, macros, PLANS[budget].early_reads)
    levels = np.array(spec.levels_us)
    assert found.noise is not None
    noise = with_flicker(found.noise, found)
    law, distances, floor = fit_law(cells, noise, levels)
    aged = found.aged[-1]
    wire, drive = wires_and_drive(spec, found, noise)
    parts: dict[int, MacroCalibration] = {}
    finals, scores, checks = {}, [], []
    for done, m in enumerate(macros):
        watch.step(done, len(macros), f"fitting macro {m}")
        columns = ColumnProducts.of(spec, found.transfer[m], aged[m].readings_us, noise, aged[m].reads, drive)
        finals[m] = columns.final(wire, found.small[m], found.idle[m])
        stuck_us = np.where(np.isin(states[m], STUCK), aged[m].readings_us, np.nan).astype(np.float32)
        parts[m] = finals[m].calibration(m, states[m], stuck_us, gain_known(spec))
        scores.append(columns.held_out_r2(finals[m], wire))
        checks.append(NetworkCheck.of(spec, found.network[m], aged[m].readings_us, noise, finals[m], wire, drive))
    thermal: Thermal | None = None
    thermal_goodness: dict[str, float] = {}
    if found.hot is not None:
        thermal, thermal_goodness = fit_thermal(found, found.hot, cells, law, noise, spec, finals, wire, drive)
    written = np.concatenate([good_targets(found, m) for m in macros])
    return CalibrationRecord(
        chip_name=about.name,
        revision=about.revision,
        serial=about.serial,
        firmware=about.firmware,
        kind=about.kind,
        spec_digest=driver.spec.digest,
        temperature_c=found.temperature_c,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        method=f"{METHOD}, budget {budget.value}",
        seed=seed,
        age_s=cells.ages_s[-1],
        macros=parts,
        programming=law,
        read_noise=noise,
        wire=wire,
        goodness={
            "programming_ks": distances[-1],
            "programming_ks_floor": floor,
            **{f"programming_ks_{age:.3g}s": d for age, d in zip(cells.ages_s, distances, strict=True)},
            "columns_r2": float(np.mean(scores)),
            "columns_residual_codes": float(np.mean([f.residual_codes for f in finals.values()])),
            "read_variance_ratio": float(np.mean([f.read_scale for f in finals.values()])),
            "network_r2": float(np.mean([c.r2 for c in checks])),
            "network_slope": float(np.mean([c.slope for c in checks])),
            "network_residual_over_expected": float(np.mean([c.residual_codes / c.expected_codes for c in checks])),
            "idle_codes_off": idle_disagreement(spec, found, finals),
            **{f"precision_{p.step.replace(' ', '_')}": p.reached for p in found.precision},
            **{f"target_{p.step.replace(' ', '_')}": p.target for p in found.precision},
            **thermal_goodness,
        },
        pulses=sum(found.pattern[m].pulses for m in macros) + found.stuck_pulses,
        thermal=thermal,
        drive=drive,
        writes=write_statistics(
            written,
            np.concatenate([found.pattern[m].reached.ravel() for m in macros]),
            np.concatenate([found.pattern[m].cell_pulses.ravel() for m in macros]),
            levels,
        ),
    )


def wires_and_drive(spec: MacroSpec, found: Measured, noise: ReadNoise) -> tuple[Wire, InputDrive | None]:
    """Wire resistance, and what row drivers give where a read takes several bits; each fitted with the other known."""
    aged, macros = found.aged[-1], tuple(found.blocks)

    def columns(products: Products, m: int, drive: InputDrive | None) -> ColumnProducts:
        return ColumnProducts.of(spec, products, aged[m].readings_us, noise, aged[m].reads, drive)

    def wired(drive: InputDrive | None) -> list[ColumnProducts]:
        near = {m: joined(first_of(found.transfer[m], WIRE_VECTORS), found.blocks[m]) for m in macros}
        return [columns(near[m], m, drive) for m in macros]

    wire = fit_wires(wired(None))
    if not found.steps:
        return wire, None
    drive = straight_drive(spec)
    for turn in range(DRIVE_TURNS):
        if turn:
            wire = fit_wires(wired(drive), wire)
        reads = [
            columns(found.steps[m], m, drive).step_reads(
                found.steps[m].inputs, columns(found.transfer[m], m, drive).final(wire), wire
            )
            for m in macros
        ]
        drive = fit_drive(drive, reads)
    return wire, drive


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of all macros, flattened: targets and states (n,), mean readings (ages, n), reads and ages (ages,)."""

    targets_us: NDArray[np.float32]
    states: NDArray[np.int8]
    readings_us: NDArray[np.float32]
    reads: tuple[int, ...]
    ages_s: tuple[float, ...]

    @classmethod
    def of(cls, found: Measured, states: dict[int, NDArray[np.int8]], macros: Sequence[int], early_reads: int) -> Cells:
        pattern = found.pattern
        first = np.concatenate([pattern[m].early_us.ravel() for m in macros])
        later = [np.concatenate([reading[m].readings_us.ravel() for m in macros]) for reading in found.aged]
        ages = [float(np.mean([pattern[m].early_s for m in macros]))]
        ages += [float(np.mean([reading[m].time_s - pattern[m].time_s for m in macros])) for reading in found.aged]
        one = macros[0]
        reads = (early_reads, *(reading[one].reads for reading in found.aged))
        return cls(
            np.concatenate([pattern[m].targets_us.ravel() for m in macros]),
            np.concatenate([states[m].ravel() for m in macros]),
            np.stack([first, *later]),
            reads,
            tuple(ages),
        )


def fit_law(
    cells: Cells, noise: ReadNoise, levels_us: NDArray[np.float64]
) -> tuple[ProgrammingLaw, list[float], float]:
    """The programming law, its distance (KS) at each age from cells that the fit has not seen, and the mean
    distance of so few cells from their own law, 0.87 / √n (Kolmogorov)."""
    number = np.arange(len(cells.targets_us))
    test = number % HELD_OUT == 0
    stride = -(-len(number) // LAW_CELLS)
    fitted = ~test & (number // HELD_OUT % stride == 0)
    law = fit.fit_programming(
        cells.targets_us[fitted],
        cells.readings_us[:, fitted],
        cells.states[fitted],
        ages_s=cells.ages_s,
        reads=cells.reads,
        levels_us=levels_us,
        read_noise=noise,
        knots_s=cells.ages_s,  # no line over an age that was measured: relaxation bends in log time
    )
    held = test & (cells.states == CellState.GOOD) & np.isfinite(cells.targets_us)
    targets = cells.targets_us[held]
    return (
        law,
        [
            fit.programming_distance(law, targets, readings[held], age_s=age, reads=reads, read_noise=noise)
            for readings, age, reads in zip(cells.readings_us, cells.ages_s, cells.reads, strict=True)
        ],
        0.87 / float(np.sqrt(held.sum())),
    )


def with_flicker(noise: ReadNoise, found: Measured) -> ReadNoise:
    """Read noise with its growth over the separation of two reads, where three times were read."""
    if min(len(r.times_s) for r in found.repeats.values()) < 4:
        return noise
    times = np.mean([r.times_s - r.times_s[0] for r in found.repeats.values()], axis=0)
    readings = np.concatenate([r.readings_us.reshape(len(times), -1) for r in found.repeats.values()], axis=1)
    return fit_flicker(noise, times, readings, np.concatenate([good_targets(found, m) for m in found.repeats]))


def idle_disagreement(spec: MacroSpec, found: Measured, finals: dict[int, fit.ColumnFit]) -> float:
    """Mean distance in codes between what idle products show and what the record says; a rounding is no distance."""
    far = []
    for macro, final in finals.items():
        limits = code_limits(spec.adc.bits, spec.adc_signed)
        expected = final.expected_codes(np.zeros((1, len(final.gain))), fit.Converters(1.0, limits, final.adc))[0]
        gap = np.abs(found.idle[macro].mean_codes - np.clip(expected, *limits))
        far.append(np.maximum(gap - 0.5, 0.0))
    return float(np.mean(far))


def fit_thermal(
    found: Measured,
    hot: Hot,
    cells: Cells,
    law: ProgrammingLaw,
    noise: ReadNoise,
    spec: MacroSpec,
    finals: dict[int, fit.ColumnFit],
    wire: Wire,
    drive: InputDrive | None,
) -> tuple[Thermal, dict[str, float]]:
    """Temperature coefficients of cells, and how column gains changed with temperature."""
    macros, kelvin = tuple(hot.hot), hot.hot_c - hot.cold_c
    written = {m: found.pattern[m].time_s for m in macros}
    readings = (hot.earlier, hot.cold, hot.hot)
    ages = [float(np.mean([r[m].time_s - written[m] for m in macros])) for r in readings]
    good = (cells.states == CellState.GOOD) & np.isfinite(cells.targets_us)
    earlier, cold, warm = (np.concatenate([r[m].readings_us.ravel() for m in macros])[good] for r in readings)
    drift = drift_us(law, cells.targets_us[good], cold - earlier, ages)
    per_k, per_k_se = fit_conductance_per_k(cold, warm, drift, cells.targets_us[good], kelvin)
    variance_k, variance_k_se = fit_variance_per_k(noise, read_noise(spec.levels_us, found, hot.repeats), kelvin)
    changes, errors = [], []
    for m in macros:
        reading = hot.hot[m]
        again = ColumnProducts.of(spec, hot.products[m], reading.readings_us, noise, reading.reads, drive).final(wire)
        changes.append((again.gain / finals[m].gain - 1.0) / kelvin)
        errors.append(np.hypot(again.gain_se, finals[m].gain_se) / kelvin)
    change, error = fit.combine(np.concatenate(changes).tolist(), np.concatenate(errors).tolist())
    thermal = Thermal(hot.cold_c, per_k, per_k_se, variance_k, variance_k_se)
    return thermal, {"gain_per_k": change, "gain_per_k_se": error}


def drift_us(
    law: ProgrammingLaw, targets_us: NDArray[np.float32], moved_us: NDArray[np.float32], ages_s: list[float]
) -> NDArray[np.float64]:
    """How far cells relax from the second age to the third, (cells,): what each moved from the first to the
    second, in log time; the law where they were read once before heating.

    Not the mean of a level: its error would be common to the level's cells, and no scatter would show it.
    """
    first, second, third = np.log(ages_s)
    if second - first < 1e-3:
        return np.asarray(law_at(law, targets_us, ages_s[2]).loc_us - law_at(law, targets_us, ages_s[1]).loc_us)
    return np.asarray(np.asarray(moved_us, np.float64) * (third - second) / (second - first))


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
