"""Calibration through the driver: the procedure a lab would follow, and the record it leaves.

Only what can be told apart through the chip's own read path is reported (``GainKnown``). What is
measured, and in which order, is in ``hil.calibration.steps``; how much, in ``hil.calibration.plan``;
the measurements themselves in ``hil.calibration.measurements``; the estimators in ``cim.fit``.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cim.array.input_drive import InputDrive
from cim.array.wire_law import Wire
from cim.cells.programming_law import ProgrammingLaw
from cim.cells.read_noise import ReadNoise
from cim.cells.temperature import Thermal
from cim.cells.write_statistics import write_statistics
from cim.chip.converters import conversions
from cim.chip.file import description_words
from cim.chip.spec import MacroSpec
from cim.fit.aged_readings import Readings
from cim.fit.column_checks import NetworkCheck, idle_disagreement
from cim.fit.column_products import ColumnProducts, fit_wires_and_drive, gain_known
from cim.fit.columns import ColumnFit, combine
from cim.fit.pattern_cells import cell_states, fit_law, pattern_readings, read_noise, with_flicker
from cim.fit.temperature import expected_drift_us, fit_conductance_per_k, fit_variance_per_k
from cim.record.calibration import STUCK, CalibrationRecord, CellState, NotCalibrated
from hil.calibration.dry_run import COLUMNS, LAWS, usual_sets
from hil.calibration.plan import PLANS, Budget
from hil.calibration.steps import CalibrationSteps, Measured, SecondTemperature
from hil.driver.chip_driver import ChipDriver
from hil.errors import Interrupted, MismatchError
from hil.report.work_folder import GO_ON, WorkFolder
from hil.simulation.cores import BackgroundPool, in_threads
from hil.watch import Watch

METHOD = "hil.calibrate 2.0"


def calibrate(
    driver: ChipDriver,
    macros: tuple[int, ...],
    *,
    seed: int = 0,
    age_s: float = 3600.0,
    budget: Budget = Budget.DEFAULT,
    second_temperature_c: float | None = None,
    partial: Path | None = None,
    date: datetime.datetime | None = None,
    watch: Watch | None = None,
) -> CalibrationRecord:
    """Measure ``macros`` of the chip behind ``driver`` and give their record.

    Args:
        driver: of an open chip whose cells may be written.
        macros: numbers of the macros to measure.
        seed: of the test patterns and vectors; the chip's noise is its own.
        age_s: chip time after programming at which cells and columns are measured.
        budget: how much each step may spend, and how precise it must be to stop earlier.
        second_temperature_c: cells and products are measured once more when the chip's status
            tells this temperature; the bench must bring it there.
        partial: folder for finished steps (``hil.calibration.store``), to be removed once the
            record is saved; None keeps none. Steps that are there, of this chip and settings, are taken.
        date: of the record; None: now.
        watch: hears stages and progress; None: nobody does.

    Returns:
        the record: cells, columns, converters, wires and read noise, each with its error.

    Raises:
        hil.errors.Interrupted: by Ctrl-C, with finished steps in ``partial``.
        hil.errors.DeviceError, hil.errors.LinkError: the chip refused or fell silent.
        cim.fit.cells.TooFewCells, cim.fit.columns.TooFewVectors: a macro gave too little to fit.

    Example:
        >>> calibrate(driver, (0, 1), seed=7, age_s=3600.0)
    """
    watch = watch or Watch()
    about = {
        "serial number": driver.description.serial,
        "chip description": driver.spec.digest,
        "macros": list(macros),
        "seed": seed,
        "age": age_s,
        "budget": budget.value,
    }
    work = WorkFolder(partial, about, kind="hil.calibration")
    if done := work.parts("*.h5"):
        watch.note(f"{len(done)} finished steps of {partial} are taken, begun {work.begun} (--restart forgets them)")
    for macro in macros:
        driver.check_formed(macro, np.ones((driver.spec.macro.rows, driver.spec.macro.columns), np.bool_))
    plan, hot = PLANS[budget], second_temperature_c is not None
    try:
        with watch.stage("calibrating", usual_sets(driver, macros, plan, age_s, hot)):
            measured = CalibrationSteps(driver, macros, plan, seed, work, watch).run(age_s, second_temperature_c)
            return make_record(driver, macros, measured, seed=seed, budget=budget, date=date, watch=watch)
    except KeyboardInterrupt:
        done = work.parts("*.h5")
        if not done:
            raise
        raise Interrupted(f"calibration interrupted; {len(done)} finished steps are in {partial}", hint=GO_ON) from None


def make_record(
    driver: ChipDriver,
    macros: tuple[int, ...],
    found: Measured,
    *,
    seed: int,
    budget: Budget,
    date: datetime.datetime | None = None,
    watch: Watch,
) -> CalibrationRecord:
    """Run all estimators on the measurements and gather their results in a calibration record."""
    spec, about = driver.spec.macro, driver.description
    states = {m: cell_states(found.states[m], found.pattern[m]) for m in macros}
    cells = pattern_readings(found.pattern, PLANS[budget].early_reads, found.aged, states, macros)
    levels = np.array(spec.levels_us)
    assert found.noise is not None
    noise = with_flicker(found.noise, found.repeats, found.good_targets(found.repeats))
    aged = found.aged[-1]
    with BackgroundPool() as cores:  # wires and row drivers ask nothing of the law
        begun = cores.begin(
            lambda blocks: fit_wires_and_drive(spec, found.transfer, blocks, found.steps, aged, noise), (found.blocks,)
        )
        law, distances, floor = fit_law(cells, noise, levels, partial(_report_law, watch))
        wire, drive = begun[0].result()
    if len(law.levels_us) < len(levels):
        kept = ", ".join(f"{level:g}" for level in law.levels_us)
        watch.note(f"too few cells for each of {len(levels)} levels: the law is fitted at {kept} µS, and runs between")

    estimates = fit_macros(spec, found, macros, noise, wire, drive, watch)
    parts = {}
    for m, estimate in estimates.items():
        stuck_us = np.where(np.isin(states[m], STUCK), aged[m].readings_us, np.nan).astype(np.float32)
        parts[m] = estimate.columns.calibration(m, states[m], stuck_us, gain_known(spec))
    finals = {m: estimate.columns for m, estimate in estimates.items()}
    thermal: Thermal | None = None
    thermal_goodness: dict[str, float] = {}
    if found.hot is not None:
        thermal, thermal_goodness = fit_thermal(found, found.hot, cells, law, noise, spec, finals, wire, drive)
    written = np.concatenate(list(found.good_targets(macros).values()))
    return CalibrationRecord(
        chip_name=about.name,
        revision=about.revision,
        serial=about.serial,
        firmware=about.firmware,
        kind=about.kind,
        spec_digest=driver.spec.digest,
        temperature_c=found.temperature_c,
        date=(date or datetime.datetime.now(datetime.UTC)).isoformat(timespec="seconds"),
        method=f"{METHOD}, budget {budget.value}",
        seed=seed,
        age_s=float(cells.ages_s[-1]),
        macros=parts,
        programming=law,
        read_noise=noise,
        wire=wire,
        goodness={
            **law_goodness(cells, distances, floor),
            **column_goodness(list(estimates.values())),
            "idle_codes_off": idle_disagreement(spec, found.idle, finals),
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


@dataclass(frozen=True, slots=True)
class MacroEstimate:
    """Columns of one macro, R² on products kept out of their fit, and a check on a network's products."""

    columns: ColumnFit
    held_out_r2: float
    check: NetworkCheck


def fit_macros(
    spec: MacroSpec,
    found: Measured,
    macros: tuple[int, ...],
    noise: ReadNoise,
    wire: Wire,
    drive: InputDrive | None,
    watch: Watch,
) -> dict[int, MacroEstimate]:
    """Columns of every macro from its products, with wires and row drivers known."""
    aged = found.aged[-1]

    def fitted(m: int) -> MacroEstimate:
        columns = ColumnProducts.of(spec, found.transfer[m], aged[m].readings_us, noise, aged[m].reads, drive)
        final = columns.final(wire, found.small[m], found.idle[m])
        check = NetworkCheck.of(spec, found.network[m], aged[m].readings_us, noise, final, wire, drive)
        return MacroEstimate(final, columns.held_out_r2(final, wire), check)

    estimates: dict[int, MacroEstimate] = {}
    for m, estimate in zip(macros, in_threads(fitted, macros), strict=True):
        watch.step(len(estimates), len(macros), f"{COLUMNS} of macro {m}", of=COLUMNS)
        estimates[m] = estimate
    return estimates


def law_goodness(cells: Readings, distances: Sequence[float], floor: float) -> dict[str, float]:
    """How far the law lies from the cells that were measured, at each age (Kolmogorov-Smirnov)."""
    ages = {f"programming_ks_{age:.3g}s": d for age, d in zip(cells.ages_s, distances, strict=True)}
    return {"programming_ks": distances[-1], "programming_ks_floor": floor, **ages}


def column_goodness(estimates: Sequence[MacroEstimate]) -> dict[str, float]:
    """How well fitted columns explain the products of the fit, and the network-like products kept out of it."""
    finals, checks = [e.columns for e in estimates], [e.check for e in estimates]
    return {
        "columns_r2": float(np.mean([e.held_out_r2 for e in estimates])),
        "columns_residual_codes": float(np.mean([f.residual_codes for f in finals])),
        "read_variance_ratio": float(np.mean([f.read_scale for f in finals])),
        "network_r2": float(np.mean([c.r2 for c in checks])),
        "network_slope": float(np.mean([c.slope for c in checks])),
        "network_residual_over_expected": float(np.mean([c.residual_codes / c.expected_codes for c in checks])),
    }


def _report_law(watch: Watch, done: int, total: int, what: str) -> None:
    watch.step(done, total, f"{LAWS}, {what}", of=LAWS)


def fit_thermal(
    found: Measured,
    hot: SecondTemperature,
    cells: Readings,
    law: ProgrammingLaw,
    noise: ReadNoise,
    spec: MacroSpec,
    finals: dict[int, ColumnFit],
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
    drift = expected_drift_us(law, cells.targets_us[good], cold - earlier, ages)
    per_k, per_k_se = fit_conductance_per_k(cold, warm, drift, cells.targets_us[good], kelvin)
    hot_noise = read_noise(np.array(spec.levels_us), hot.repeats, found.good_targets(hot.repeats))
    variance_k, variance_k_se = fit_variance_per_k(noise, hot_noise, kelvin)
    changes, errors = [], []
    for m in macros:
        reading = hot.hot[m]
        again = ColumnProducts.of(spec, hot.products[m], reading.readings_us, noise, reading.reads, drive).final(wire)
        changes.append((again.gain / finals[m].gain - 1.0) / kelvin)
        errors.append(np.hypot(again.gain_se, finals[m].gain_se) / kelvin)
    change, error = combine(np.concatenate(changes).tolist(), np.concatenate(errors).tolist())
    thermal = Thermal(hot.cold_c, per_k, per_k_se, variance_k, variance_k_se)
    return thermal, {"gain_per_k": change, "gain_per_k_se": error}


def check_record(record: CalibrationRecord, driver: ChipDriver, macros: tuple[int, ...]) -> None:
    """Refuse a record of another chip, description or set of macros.

    Raises:
        MismatchError: with both values.
    """
    about, spec = driver.description, driver.spec
    pairs = (
        ("chip", record.chip_name, about.name),
        ("serial number", record.serial, about.serial),
        (
            "chip description",
            description_words(record.spec_digest, spec),
            description_words(spec.digest, spec),
        ),
    )
    for what, has, wanted in pairs:
        if has != wanted:
            raise MismatchError(
                f"the calibration record is of another {what}: {has!r}, this chip says {wanted!r}",
                hint="hil calibrate -o record.h5 measures one of this chip",
            )
    check_macros(record, macros, spec.macro)


def check_macros(record: CalibrationRecord, macros: tuple[int, ...], spec: MacroSpec) -> None:
    """Refuse a record that lacks one of these macros, or has one of another size.

    Raises:
        MismatchError: with the missing one and those that it has, or with both sizes.
    """
    try:
        for macro in macros:
            part = record.macro(macro)
            has = (part.cells.shape, len(part.gain), part.macro)
            wanted = ((spec.rows, spec.columns), conversions(spec, spec.outputs), macro)
            if has != wanted:
                raise MismatchError(
                    f"macro {macro} of the calibration record: cells, conversions and number are {has}, "
                    f"this chip has {wanted}",
                    hint="hil calibrate -o record.h5 for this chip, or hil deploy without --calibration",
                )
    except NotCalibrated as error:
        raise MismatchError(str(error), hint="hil calibrate without --only measures all macros") from error
