"""Accuracy over the years in orbit: virtual chips with the dose and all upsets that stay, by mitigation scenario.

*scrubbing*: cells are rewritten from the stored image every interval, with the levels that upsets left there.
*register-readback*: registers are reloaded every interval. *ecc*: stored words carry a SECDED code, are decoded at
each use and written back every interval; upset bits are really flipped and decoded
(``hil.payload.radiation.stored_words``). *re-tuning*: gains and biases are fitted again to stored images
(``mapping.tune``). Parts without mitigation keep all upsets since the launch; corrections are of the first hour, and
the dose of converters stays. *scrubbed* has the first three, *scrubbed and tuned* all four. Transient upsets during an
image are not included. Ages past 1e5 s extrapolate every law of relaxation that was measured so far. With D the dose
in Mrad(Si), W the window of levels and m its middle,

    ΔG = −s D W · (G − m) / (W / 2) + v D W · N(0, 1)       per cell, s shift and v spread
    gain · (1 − g D),   offset + o D                         per converter

so that outermost states move to the middle most: shifts that depend on the state are what an analogue array under gamma
rays showed (doi 10.1109/TNS.2025.3537985); this linear form for metal-oxide cells is assumed.
Example: s = 0.1, D = 0.01, W = 38 µS: the highest level loses 0.038 µS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import MacroSpec
from cim.record.calibration import CalibrationRecord
from cim.simulator.modes import SimulationMode
from hil.datasets.image_set import Dataset
from hil.deployment.options import USUAL_RECIPE
from hil.payload.orbit import DoseEffects, OrbitFile
from hil.payload.radiation.faults import (
    CELLS,
    REGISTERS,
    STORED,
    ChipUnderTest,
    Fault,
    FaultSpace,
    fault_space,
    inject,
    strike,
    strike_cells,
)
from hil.payload.radiation.stored_words import CODE_SHARE, stored_words
from hil.payload.settings import DAY_S, MENDING, SCENARIOS, FaultKind, Mitigation, OrbitSettings
from hil.report.work_folder import WorkFolder, load_json
from hil.simulation.virtual_chip import SampledDevice, build_chip
from hil.simulation.virtual_chips import VirtualChips
from hil.verdict.agreement import correct_answers
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import run
from mapping.program.training_inputs import training_inputs
from mapping.tune.channel_affine import TuneTargets

FORMAT = "hil.timeline/1.0"
DAYS = 365.25
FIRST_S = 3600.0  # when corrections are fitted
MEASURED_S = 1e5  # the longest that relaxation was measured
YEARS, YEAR_DOSE, YEAR_ORDER = 0x9EA5, 0xD05E, 0x0D3B  # purpose tags of the host's seeds
MOST_UPSETS = 100_000  # of one chip and kind
SCRUB, ECC, READBACK, TUNE = Mitigation.SCRUB, Mitigation.ECC, Mitigation.REGISTERS, Mitigation.TUNE


@dataclass(frozen=True)
class Timeline:
    """Accuracies (scenarios, years, chips), fractions, on the same images."""

    options: OrbitSettings
    accuracies: NDArray[np.float64]
    images: int
    orbit: str

    def band(self, scenario: str, year: int) -> tuple[float, float, float]:
        """5th percentile, mean and 95th over chips."""
        values = self.accuracies[self.options.scenarios.index(scenario), year]
        low, high = np.percentile(values, [5, 95])
        return float(low), float(values.mean()), float(high)

    def to_json(self) -> dict[str, Any]:
        bands = {
            scenario: [
                dict(zip(("low", "mean", "high"), self.band(scenario, y), strict=True))
                for y in range(len(self.options.years))
            ]
            for scenario in self.options.scenarios
        }
        return {
            "format": FORMAT,
            "orbit": self.orbit,
            "years": list(self.options.years),
            "images": self.images,
            "chips": self.options.chips,
            "scrub_s": self.options.scrub_s,
            "left_out": [str(kind) for kind in self.options.left_out],
            "extrapolated": [year * DAYS * DAY_S > MEASURED_S for year in self.options.years],
            "scenarios": bands,
        }


def chosen_images(data: Dataset, options: OrbitSettings) -> Dataset:
    """Images of the accuracy over the years, by seed."""
    order = np.random.default_rng(np.random.SeedSequence([options.seed, YEAR_ORDER])).permutation(len(data))
    return data.part(order[: options.year_images])


def simulate_years(
    program: ConductanceProgram,
    data: Dataset,
    record: CalibrationRecord,
    orbit: OrbitFile,
    options: OrbitSettings,
    watch: Watch,
    kept: WorkFolder | None = None,
) -> Timeline:
    """Simulate every scenario for every chip and year.

    Args:
        kept: folder with the counts of correct answers, one file a virtual chip; existing counts are reused.

    Raises:
        FileError, OutputError: a stored file is damaged, or cannot be written.
    """
    part = chosen_images(data, options)
    row = OrbitRow(program, record, orbit, options, watch)
    accuracies = np.empty((len(options.scenarios), len(options.years), options.chips))
    with watch.stage("years"):
        for number in range(options.chips):
            name = f"{number:05d}.json"
            known = {} if kept is None or not kept.has(name) else kept.load(name, lambda p: right_answers(p, len(part)))
            for y, year in enumerate(options.years):
                for c, scenario in enumerate(options.scenarios):
                    # Before the first upset only a tune makes a difference.
                    mended = SCENARIOS[scenario] if year > 0 else SCENARIOS[scenario] & {TUNE}
                    key = f"{year!r} {' + '.join(sorted(mended)) or 'nothing'}"
                    if key not in known:
                        answers = row.answers(number, year, SCENARIOS[scenario], part.images)
                        known[key] = int(correct_answers(answers, part.labels).sum())
                        if kept is not None:
                            kept.keep_json(name, known)
                    accuracies[c, y, number] = known[key] / len(part)
            watch.step(number + 1, options.chips, f"virtual chip {number + 1} of {options.chips}")
    return Timeline(options, accuracies, len(part), orbit.name)


def right_answers(path: Any, images: int) -> dict[str, int]:
    """Read counts of correct answers of a virtual chip, by year and mitigations; each at most ``images``."""
    found: dict[str, int] = load_json(path)
    for value in found.values():
        if type(value) is not int or not 0 <= value <= images:
            raise ValueError(f"{value!r:.40} right answers of {images}")
    return found


def with_dose(
    drawn: SampledDevice, spec: MacroSpec, effects: DoseEffects, years: float, rng: np.random.Generator
) -> SampledDevice:
    """The sampled chip after some years of dose in orbit: its cells and converters are shifted."""
    mrad, low, high = effects.krad_per_year * years * 1e-3, spec.levels_us[0], spec.levels_us[-1]
    window, middle = high - low, (high + low) / 2
    cells = {}
    for slot, values in drawn.cells_us.items():
        pull = -effects.cell_shift_per_mrad * mrad * 2.0 * (np.asarray(values) - middle)
        spread = effects.cell_spread_per_mrad * mrad * window * rng.standard_normal(values.shape)
        cells[slot] = np.maximum(values + pull + spread, 0.0).astype(np.float32)
    columns = {
        slot: replace(
            part,
            gain=part.gain * max(0.0, 1.0 - effects.converter_gain_per_mrad * mrad),
            offset_codes=part.offset_codes + effects.converter_offset_codes_per_mrad * mrad,
        )
        for slot, part in drawn.columns.items()
    }
    return replace(drawn, cells_us=cells, columns=columns)


class OrbitRow:
    """Virtual chips in orbit; each is drawn from its number, so that it is the same at every call."""

    def __init__(
        self,
        program: ConductanceProgram,
        record: CalibrationRecord,
        orbit: OrbitFile,
        options: OrbitSettings,
        watch: Watch,
    ) -> None:
        program = replace(options.recipe, age_s=FIRST_S).prepared(program, record, watch)
        self.program, self.record, self.orbit, self.options = program, record, orbit, options
        self.first_targets = options.recipe.targets(program, watch)
        self.space: FaultSpace = fault_space(program)
        self.inputs = training_inputs(program)
        self._noise_seed = self._chips(FIRST_S).noise_seed
        self._number, self._ages = -1, dict[float, SampledDevice]()  # of the last chip that was asked for
        self._first = program  # of that chip, as the recipe left it in the first hour
        self.targets: TuneTargets | None = self.first_targets
        if self.targets is None and any(TUNE in SCENARIOS[scenario] for scenario in options.scenarios):
            self.targets = USUAL_RECIPE.targets(program, watch)

    def answers(
        self, number: int, year: float, mended: frozenset[Mitigation], images: NDArray[np.uint8]
    ) -> NDArray[np.int32]:
        """Logit codes (n, classes) of virtual chip ``number`` after some years, with mitigations of ``MENDING``."""
        assert mended <= frozenset(MENDING)
        since_s = year * DAYS * DAY_S
        scrub_s = min(since_s, self.options.scrub_s)
        written_s = scrub_s if SCRUB in mended else since_s
        drawn = self._aged(number, max(written_s, FIRST_S))
        rng = self._rng(YEAR_DOSE, number, year)
        effects, spec = self.orbit.dose, self.program.spec.macro
        dosed = with_dose(drawn, spec, effects, year, rng)
        if SCRUB in mended:  # cells were written anew; converters keep their dose
            fresh = with_dose(drawn, spec, effects, written_s / DAY_S / DAYS, rng)
            dosed = replace(dosed, cells_us=fresh.cells_us)
        days = dict.fromkeys(CELLS, written_s / DAY_S)
        days |= dict.fromkeys(REGISTERS, (scrub_s if READBACK in mended else since_s) / DAY_S)
        days |= dict.fromkeys(STORED, (scrub_s if ECC in mended else since_s) / DAY_S)
        if SCRUB not in mended:
            del days[FaultKind.IMAGE_LEVEL]  # it matters when cells are written from it
        begun = self.program if TUNE in mended else self._first
        program, held = self._struck(begun, dosed, days, number, year, code=ECC in mended)
        chip = build_chip(program, self.record, held, seed=self._noise_seed, number=number, mode=SimulationMode.FAST)
        if TUNE in mended and self.targets is not None:
            program = chip.tuned(program, self.targets).program
        return run(program, images, chip)

    def _rng(self, tag: int, number: int, year: float, *more: int) -> np.random.Generator:
        words = [self.options.seed, tag, number, round(1e6 * year), *more]
        return np.random.default_rng(np.random.SeedSequence(words))

    def _struck(
        self,
        program: ConductanceProgram,
        drawn: SampledDevice,
        days: Mapping[FaultKind, float],
        number: int,
        year: float,
        *,
        code: bool = False,
    ) -> tuple[ConductanceProgram, SampledDevice]:
        """Program and chip after the persistent upsets of some days, by kind.

        Args:
            code: read stored words through their ECC, so that only uncorrectable upsets have an effect.
        """
        faults: dict[FaultKind, list[Fault]] = {}
        expected = {kind: self.space.per_day(kind, self.orbit.upsets) * known for kind, known in days.items()}
        for kind in days:
            rng = self._rng(YEARS, number, year, list(FaultKind).index(kind))
            count = 0 if kind in self.options.left_out else min(int(rng.poisson(expected[kind])), MOST_UPSETS)
            faults[kind] = [self.space.draw(kind, rng, self.orbit.upsets.high_share) for _ in range(count)]
        chip = ChipUnderTest(program, self.record, drawn)
        drawn = strike_cells(chip, drawn, [fault for kind in CELLS for fault in faults.pop(kind, [])])
        stored = [fault for kind in STORED for fault in faults.get(kind, [])]
        if code:  # check bits are struck, too
            rng = self._rng(YEARS, number, year, 0xECC)
            struck = CODE_SHARE * sum(expected.get(kind, 0.0) for kind in STORED)
            checks = min(int(rng.poisson(struck)), MOST_UPSETS)
            faults = {kind: found for kind, found in faults.items() if kind not in STORED}
            if stored:
                words = stored_words(program, drawn.corrections, self.space)
                beyond = list(rng.integers(8 * words.coded.data.size, words.coded.bits, checks))
                for bit in words.read_after([*map(words.bit_of, stored), *beyond]).wrong:
                    fault = words.fault_of(bit)
                    faults.setdefault(fault.kind, []).append(fault)
        for fault in (fault for found in faults.values() for fault in found):
            chip = ChipUnderTest(program, self.record, drawn)
            if fault.kind in (FaultKind.REQUANTISE, FaultKind.IMAGE_TABLE):
                changed = inject(chip, fault)
                steps = tuple(changed.steps.get(step.name, step) for step in program.steps)
                program = replace(program, steps=steps, input=changed.table or program.input)
            else:
                drawn = strike(chip, drawn, fault) or drawn
        return program, drawn

    def _aged(self, number: int, age_s: float) -> SampledDevice:
        """A chip at an age, s, with the corrections made at one hour."""
        if number != self._number:
            young = self._chips(FIRST_S)
            self._number, self._ages, self._first = number, {FIRST_S: young.draw(number)}, self.program
            if self.first_targets is not None:
                self._first = young.tune(number, young.chip(number)).program
        if age_s not in self._ages:
            aged = self._chips(age_s).uncorrected(number)
            self._ages[age_s] = replace(aged, corrections=self._ages[FIRST_S].corrections)
        return self._ages[age_s]

    def _chips(self, age_s: float) -> VirtualChips:
        return VirtualChips(
            self.program,
            self.record,
            replace(self.options.recipe, age_s=age_s),
            self.options.chips,
            self.options.seed,
            inputs=self.inputs,
            mode=SimulationMode.FAST,
            targets=self.first_targets if age_s == FIRST_S else None,
        )
