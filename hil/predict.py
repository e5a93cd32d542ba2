"""Prediction without a chip on the wire: what such a chip, programmed again, will score.

Each virtual chip is drawn from a record alone: of a chip (``hil calibrate``), of tables of its
cells (``hil fit``), or of the models that the chip file names. Chips are drawn, run and let go one
after the other, so that a thousand take the memory of a few. Chip n has the same seeds at every age.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.calibration import CalibrationRecord, CellState, MacroCalibration, nominal_macro
from cim.spec import ChipSpec
from hil.agreement import correct_answers
from hil.calibrate import check_macros
from hil.corrections import LayerInputs, training_inputs
from hil.data import Dataset
from hil.errors import MismatchError, UsageError
from hil.job import DeployOptions
from hil.looks import plan_images
from hil.report_tables import duration
from hil.simulate import VirtualChips, in_threads
from hil.watch import Watch
from hil.yields import BETWEEN_CHIPS, QUANTILES, Distribution, Yield, histogram
from mapping.execute import IdealMultiply, run
from mapping.program import ConductanceProgram

OF_CELLS = ("table", "model")  # kinds of records without a chip behind them
MOST_CHIPS = 1_000_000
STUCK = 0x57AC  # purpose tag of the host's seeds: stuck cells of chips that nobody measured


@dataclass(frozen=True, slots=True)
class Prediction:
    """Accuracies of virtual chips on the same images, at one age or several; (ages, S) fractions."""

    ideal: float
    accuracies: NDArray[np.float64]
    images: int
    ages_s: tuple[float, ...]
    temperature_c: float
    engine: str
    source: str
    notes: tuple[str, ...] = ()
    target: float | None = None

    @property
    def chips(self) -> NDArray[np.float64]:
        """Accuracies (S,) at the first age."""
        first: NDArray[np.float64] = self.accuracies[0]
        return first

    @property
    def age_s(self) -> float:
        return self.ages_s[0]

    def at(self, age: int) -> Distribution:
        return Distribution(self.accuracies[age], self.images)

    def reached(self, age: int) -> Yield | None:
        return None if self.target is None else Yield.of(self.accuracies[age], self.target)

    def lines(self) -> list[str]:
        """The prediction in words."""
        count = self.accuracies.shape[1]
        lines = [
            f"source         {self.source}",
            *(f"note           {note}" for note in self.notes),
            f"ideal          {self.ideal:.2%} of {self.images} images",
            f"chips          {count} virtual chips, each programmed again; {self.engine} simulation at "
            f"{self.temperature_c:g} °C",
        ]
        if len(self.ages_s) > 1:
            return [*lines, "", *self._table()]
        one, reached = self.at(0), self.reached(0)
        low, high = one.one_chip
        shown = " · ".join(f"{100 * q:g} % {v:.2%}" for q, v in zip(QUANTILES, one.quantiles(), strict=True))
        lines += [
            f"simulated      {one.mean:.2%} ± {100 * one.sd:.2f} points (sd between chips), {duration(self.age_s)} "
            "after programming",
            f"one chip       {low:.2%} to {high:.2%}, 95 % prediction interval",
            f"quantiles      {shown}",
        ]
        if reached:
            lines.append(f"yield          {reached.words()}")
        if count >= BETWEEN_CHIPS:
            lines += ["", *histogram(self.chips, self.images)]
        return lines

    def _table(self) -> list[str]:
        """One line an age."""
        head = f"{'age':>8}  {'simulated':>9}  {'sd':>5}  {'one chip, 95 %':>18}  {'median':>7}"
        head += f"  {'yield at ' + format(self.target, '.1%'):>18}" if self.target is not None else ""
        lines = [head]
        for k, age in enumerate(self.ages_s):
            one, reached = self.at(k), self.reached(k)
            low, high = one.one_chip
            text = f"{duration(age):>8}  {one.mean:>9.2%}  {100 * one.sd:>5.2f}  {low:>8.2%} {high:>9.2%}"
            text += f"  {float(np.median(one.chips)):>7.2%}"
            if reached:
                share = f"{reached.reached / reached.chips:.0%} ({reached.low:.0%}-{reached.high:.0%})"
                text += f"  {share:>18}"
            lines.append(text)
        return lines

    def to_json(self) -> dict[str, Any]:
        ages = []
        for k, age in enumerate(self.ages_s):
            reached = self.reached(k)
            ages.append({"age_s": age, **self.at(k).to_json(), "yield": reached.to_json() if reached else None})
        return {
            "source": self.source,
            "notes": list(self.notes),
            "engine": self.engine,
            "temperature_c": self.temperature_c,
            "accuracy": {"ideal": self.ideal, "simulated": self.at(0).to_json()},
            "images": self.images,
            "age_s": self.age_s,
            "ages": ages,
        }


def predict(
    program: ConductanceProgram,
    data: Dataset,
    record: CalibrationRecord | None,
    options: DeployOptions,
    watch: Watch,
    *,
    ages_s: Sequence[float] = (),
    temperature_c: float | None = None,
    target: float | None = None,
    engine: str = "exact",
) -> Prediction:
    """Run virtual chips drawn from ``record`` alone.

    Args:
        record: None takes the models that the chip file names.
        ages_s: times after programming; empty takes ``options.age_s``.
        temperature_c: of the reads; None takes that of the record.
        target: accuracy (fraction) for the yield.

    Raises:
        MismatchError: the record is of a chip of another description, lacks a macro in use, or
            lacks temperature coefficients that are needed.
        UsageError: ages, chips or target that make no sense.
    """
    ages = tuple(sorted(set(ages_s))) or (options.age_s,)
    if target is not None and not 0 < target <= 1:
        raise UsageError(f"target accuracy {100 * target:g} %, not between 0 and 100")
    if options.virtual_chips > MOST_CHIPS:
        raise UsageError(f"{options.virtual_chips} virtual chips, over {MOST_CHIPS:,}")
    known, source, notes = believed(program, record)
    temperature = known.temperature_c if temperature_c is None else temperature_c
    if abs(temperature - known.temperature_c) > 0.01 and known.thermal is None:
        raise MismatchError(
            f"the record was measured at {known.temperature_c:g} °C and has no temperature coefficients",
            hint=f"hil calibrate at {temperature:g} °C, or leave --temperature out",
        )
    order, _ = plan_images(data, program, options)
    images, labels = data.images[order], data.labels[order]
    filled = tuple(m for m in program.macros if record is None or m not in record.macros)
    row = VirtualRow(program, known, filled, ages, temperature, options, engine)
    accuracies = np.empty((len(ages), options.virtual_chips))
    with watch.stage("simulating"):
        for number, logits in enumerate(row.run(images)):
            accuracies[:, number] = correct_answers(logits, labels).mean(axis=1)
            watch.step(number + 1, options.virtual_chips, f"virtual chip {number + 1} of {options.virtual_chips}")
    ideal = float(correct_answers(run(program, images, IdealMultiply(program)), labels).mean())
    return Prediction(ideal, accuracies, len(order), ages, temperature, engine, source, notes, target)


def believed(
    program: ConductanceProgram, record: CalibrationRecord | None
) -> tuple[CalibrationRecord, str, tuple[str, ...]]:
    """The record to draw from, whole for this program, where it comes from, and what was assumed.

    Raises:
        MismatchError: a measured chip's record that does not fit the program.
    """
    spec = program.spec
    if record is None:
        from cim.published import nominal_record

        return with_nominal_macros(nominal_record(spec), spec, program.macros), PUBLISHED.format(spec.name), (ASSUMED,)
    if record.kind not in OF_CELLS:
        if record.spec_digest != spec.digest:
            raise MismatchError(
                f"the record is of chip description {record.spec_digest[:16]}…, the program of {spec.digest[:16]}…",
                hint="compile for the chip that the record measured",
            )
        check_macros(record, program.macros)
        return record, f"calibration of {record.kind} {record.chip_name}, serial {record.serial}, {record.date}", ()
    notes = []
    missing = [m for m in program.macros if m not in record.macros]
    if missing:
        notes.append(ASSUMED)
    low, high = record.programming.levels_us[[0, -1]]
    bottom, top = spec.macro.levels_us[0], spec.macro.levels_us[-1]
    step = (top - bottom) / max(len(spec.macro.levels_us) - 1, 1)
    if bottom < low - step / 2 or top > high + step / 2:
        notes.append(
            f"levels of the chip file are {bottom:g} to {top:g} µS, those of the cells {low:.3g} to {high:.3g} µS: "
            "beyond them the nearest level stands"
        )
    return (
        with_nominal_macros(record, spec, program.macros),
        f"cells of {record.chip_name} ({record.method})",
        tuple(notes),
    )


PUBLISHED = "simulated from published models of {}, no chip measured"
ASSUMED = "columns and wires as the chip file says: no macro was measured, so gain, offset and INL are assumed ideal"


def with_nominal_macros(record: CalibrationRecord, spec: ChipSpec, macros: Sequence[int]) -> CalibrationRecord:
    """A record of cells alone, with columns as the chip file says for the macros that it lacks."""
    missing = {m: nominal_macro(spec.macro, m) for m in macros if m not in record.macros}
    return replace(record, macros={**missing, **record.macros}) if missing else record


def with_stuck_cells(
    part: MacroCalibration, record: CalibrationRecord, spec: ChipSpec, rng: np.random.Generator
) -> MacroCalibration:
    """A macro that nobody measured, with cells stuck at the lowest or highest level in the record's shares."""
    law, levels = record.programming, spec.macro.levels_us
    chance = rng.random(part.cells.shape)
    low = chance < law.stuck_low_share
    high = ~low & (chance < law.stuck_low_share + law.stuck_high_share)
    cells = np.where(low, CellState.STUCK_LOW, np.where(high, CellState.STUCK_HIGH, part.cells)).astype(np.int8)
    stuck_us = np.where(low, levels[0], np.where(high, levels[-1], part.stuck_us)).astype(np.float32)
    return replace(part, cells=cells, stuck_us=stuck_us)


@dataclass(frozen=True)
class VirtualRow:
    """A row of virtual chips, each at every age, made when it is needed."""

    program: ConductanceProgram
    record: CalibrationRecord
    filled: tuple[int, ...]  # macros that nobody measured: each chip draws its own stuck cells
    ages_s: tuple[float, ...]
    temperature_c: float
    options: DeployOptions
    engine: str

    def run(self, images: NDArray[np.uint8]) -> Iterator[NDArray[np.int32]]:
        """Logit codes (ages, n, classes), chip after chip; as many at a time as there are cores."""
        inputs = training_inputs(self.program)

        def chip(number: int) -> NDArray[np.int32]:
            record = self._record_of(number)
            chips = [self._chips(record, age, inputs).chip(number) for age in self.ages_s]
            return np.stack([run(self.program, images, c) for c in chips])

        yield from in_threads(chip, range(self.options.virtual_chips))

    def _record_of(self, number: int) -> CalibrationRecord:
        if not self.filled:
            return self.record
        rng = np.random.default_rng(np.random.SeedSequence([self.options.seed, STUCK, number]))
        parts = {m: with_stuck_cells(self.record.macros[m], self.record, self.program.spec, rng) for m in self.filled}
        return replace(self.record, macros={**self.record.macros, **parts})

    def _chips(self, record: CalibrationRecord, age_s: float, inputs: LayerInputs) -> VirtualChips:
        return VirtualChips(
            self.program,
            record,
            age_s,
            self.options.virtual_chips,
            self.options.seed,
            self.options.read_back_reads,
            inputs=inputs,
            device=self.options.device,
            engine=self.engine,
            temperature_c=self.temperature_c,
        )
