"""Accuracy over the years in orbit: virtual chips with the dose and all upsets that stay, by mitigation scenario.

*scrubbing*: cells are rewritten from the stored image every interval, with the levels that upsets left there.
*register-readback*: registers are reloaded every interval. *ecc*: stored words carry a SECDED code, are decoded at
each use and written back every interval; upset bits are really turned over and really decoded
(``hil.payload.radiation.stored_words``). *re-tuning*: gains and biases are fitted again to stored images
(``mapping.tune``). What a scenario does not mitigate has all upsets since the launch; corrections are of the first
hour, and the dose of converters stays. *scrubbed* has the first three, *scrubbed and tuned* all four. Upsets that
strike a number on its way are over with the image and are not here. Ages past 1e5 s extrapolate every law of
relaxation that was measured so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.record.calibration import CalibrationRecord
from cim.simulator.modes import SimulationMode
from hil.datasets.image_set import Dataset
from hil.deployment.options import USUAL_RECIPE
from hil.payload.mitigation import Mitigation
from hil.payload.orbit import OrbitFile
from hil.payload.radiation.dose import dose_mrad, with_dose
from hil.payload.radiation.folder import KeptYears, key_of
from hil.payload.radiation.inject import ChipUnderTest, inject, strike, strike_cells
from hil.payload.radiation.kinds import FaultKind, rate_per_day
from hil.payload.radiation.space import Fault, FaultSpace, fault_space
from hil.payload.radiation.stored_words import STORED, stored_words
from hil.payload.secded import CHECK_BITS, WORD_BYTES
from hil.payload.settings import DAY_S, MitigationScenario, TimelineOptions
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
CELLS = (FaultKind.CELL_NEIGHBOUR, FaultKind.CELL_EXTREME)
REGISTERS = (FaultKind.CONVERTER_TRIM, FaultKind.CONVERTER_RANGE, FaultKind.ROW_ENABLE)
RULES = (FaultKind.REQUANTISE, FaultKind.IMAGE_TABLE)
CHECK_SHARE = CHECK_BITS / (8 * WORD_BYTES)  # check bits of a code over the bits that it guards


SCRUB, ECC, READBACK, TUNE = Mitigation.SCRUB, Mitigation.ECC, Mitigation.REGISTERS, Mitigation.TUNE
MITIGATIONS: dict[MitigationScenario, frozenset[Mitigation]] = {
    MitigationScenario.WITHOUT: frozenset(),
    MitigationScenario.SCRUBBED: frozenset((SCRUB, ECC, READBACK)),
    MitigationScenario.TUNED: frozenset((SCRUB, ECC, READBACK, TUNE)),
    MitigationScenario.SCRUB_ALONE: frozenset((SCRUB,)),
    MitigationScenario.ECC_ALONE: frozenset((ECC,)),
    MitigationScenario.REGISTERS_ALONE: frozenset((READBACK,)),
    MitigationScenario.TUNE_ALONE: frozenset((TUNE,)),
    MitigationScenario.NO_SCRUB: frozenset((ECC, READBACK, TUNE)),
    MitigationScenario.NO_ECC: frozenset((SCRUB, READBACK, TUNE)),
    MitigationScenario.NO_REGISTERS: frozenset((SCRUB, ECC, TUNE)),
}
EACH: dict[Mitigation, tuple[MitigationScenario, MitigationScenario]] = {
    SCRUB: (MitigationScenario.SCRUB_ALONE, MitigationScenario.NO_SCRUB),
    ECC: (MitigationScenario.ECC_ALONE, MitigationScenario.NO_ECC),
    READBACK: (MitigationScenario.REGISTERS_ALONE, MitigationScenario.NO_REGISTERS),
    TUNE: (MitigationScenario.TUNE_ALONE, MitigationScenario.SCRUBBED),
}
"""Each mitigation alone, and all but it."""


@dataclass(frozen=True)
class Timeline:
    """Accuracies (scenarios, years, chips), fractions, on the same images."""

    options: TimelineOptions
    accuracies: NDArray[np.float64]
    images: int
    orbit: str

    def band(self, scenario: MitigationScenario, year: int) -> tuple[float, float, float]:
        """5th percentile, mean and 95th over chips."""
        values = self.accuracies[self.options.scenarios.index(scenario), year]
        low, high = np.percentile(values, [5, 95])
        return float(low), float(values.mean()), float(high)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "orbit": self.orbit,
            "years": list(self.options.years),
            "images": self.images,
            "chips": self.options.chips,
            "scrub_s": self.options.scrub_s,
            "left_out": [str(kind) for kind in self.options.left_out],
            "extrapolated": [year * DAYS * DAY_S > MEASURED_S for year in self.options.years],
            "scenarios": {
                str(scenario): [
                    dict(zip(("low", "mean", "high"), self.band(scenario, y), strict=True))
                    for y in range(len(self.options.years))
                ]
                for scenario in self.options.scenarios
            },
        }


def simulate_years(
    program: ConductanceProgram,
    data: Dataset,
    record: CalibrationRecord,
    orbit: OrbitFile,
    options: TimelineOptions,
    watch: Watch,
    kept: KeptYears | None = None,
) -> Timeline:
    """Simulate every scenario for every chip and year.

    Args:
        kept: what is there is taken, and what is simulated goes there.

    Raises:
        FileError, OutputError: what is kept is damaged, or cannot be written.
    """
    order = np.random.default_rng(np.random.SeedSequence([options.seed, YEAR_ORDER])).permutation(len(data))
    chosen = order[: options.images]
    images, labels = data.images[chosen], data.labels[chosen]
    row = OrbitRow(program, record, orbit, options, watch)
    accuracies = np.empty((len(options.scenarios), len(options.years), options.chips))
    with watch.stage("years"):
        for number in range(options.chips):
            known = {} if kept is None else kept.load(number)
            for y, year in enumerate(options.years):
                for c, scenario in enumerate(options.scenarios):
                    # Before the first upset only a tune makes a difference.
                    key = key_of(year, MITIGATIONS[scenario] if year > 0 else MITIGATIONS[scenario] & {TUNE})
                    if key not in known:
                        known[key] = int(correct_answers(row.answers(number, year, scenario, images), labels).sum())
                        if kept is not None:
                            kept.save(number, known)
                    accuracies[c, y, number] = known[key] / len(chosen)
            watch.step(number + 1, options.chips, f"virtual chip {number + 1} of {options.chips}")
    return Timeline(options, accuracies, len(chosen), orbit.name)


class OrbitRow:
    """Virtual chips in orbit, each the same whenever it is asked for."""

    def __init__(
        self,
        program: ConductanceProgram,
        record: CalibrationRecord,
        orbit: OrbitFile,
        options: TimelineOptions,
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
        if self.targets is None and any(TUNE in MITIGATIONS[scenario] for scenario in options.scenarios):
            self.targets = USUAL_RECIPE.targets(program, watch)

    def answers(
        self, number: int, year: float, scenario: MitigationScenario, images: NDArray[np.uint8]
    ) -> NDArray[np.int32]:
        """Logit codes (n, classes) of virtual chip ``number``."""
        mitigations, since_s = MITIGATIONS[scenario], year * DAYS * DAY_S
        scrub_s = min(since_s, self.options.scrub_s)
        written_s = scrub_s if SCRUB in mitigations else since_s
        drawn = self._aged(number, max(written_s, FIRST_S))
        rng = np.random.default_rng(np.random.SeedSequence([self.options.seed, YEAR_DOSE, number, round(1e6 * year)]))
        effects, spec = self.orbit.dose, self.program.spec.macro
        dosed = with_dose(drawn, spec, effects, dose_mrad(effects, year), rng)
        if SCRUB in mitigations:  # cells were written anew; converters keep their dose
            fresh = with_dose(drawn, spec, effects, dose_mrad(effects, written_s / DAY_S / DAYS), rng)
            dosed = replace(dosed, cells_us=fresh.cells_us)
        days = dict.fromkeys(CELLS, written_s / DAY_S)
        days |= dict.fromkeys(REGISTERS, (scrub_s if READBACK in mitigations else since_s) / DAY_S)
        days |= dict.fromkeys(STORED, (scrub_s if ECC in mitigations else since_s) / DAY_S)
        if SCRUB not in mitigations:
            del days[FaultKind.IMAGE_LEVEL]  # it matters when cells are written from it
        begun = self.program if TUNE in mitigations else self._first
        program, held = self._struck(begun, dosed, days, number, year, code=ECC in mitigations)
        chip = build_chip(program, self.record, held, seed=self._noise_seed, number=number, mode=SimulationMode.FAST)
        if TUNE in mitigations and self.targets is not None:
            program = chip.tuned(program, self.targets).program
        return run(program, images, chip)

    def deployed(self, number: int, year: float, images: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Logit codes of virtual chip ``number`` as ``hil deploy --age`` treats a chip: after those years without any
        mending its cells are read, its columns corrected and its channels tuned. Only cells take upsets and dose."""
        since_s = year * DAYS * DAY_S
        chips = self._chips(max(since_s, FIRST_S))
        rng = np.random.default_rng(
            np.random.SeedSequence([self.options.seed, YEAR_DOSE, number, round(1e6 * year), 1])
        )
        drawn, effects = chips.uncorrected(number), self.orbit.dose
        dosed = with_dose(drawn, self.program.spec.macro, effects, dose_mrad(effects, year), rng)
        dosed = replace(dosed, columns=drawn.columns)
        _, held = self._struck(self.program, dosed, dict.fromkeys(CELLS, since_s / DAY_S), number, year)
        held = replace(held, corrections=chips.corrections_of(held.cells_us, rng))
        chip = build_chip(
            self.program, self.record, held, seed=chips.noise_seed, number=number, mode=SimulationMode.FAST
        )
        program = self.program
        if self.first_targets is not None:
            program = chip.tuned(program, self.first_targets).program
        return run(program, images, chip)

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
        """Program and chip after the upsets of some days of each kind that stay.

        Args:
            code: stored words are read through their code, so that only what it cannot correct does anything.
        """
        faults: dict[FaultKind, list[Fault]] = {}
        for kind, known in days.items():
            words = [self.options.seed, YEARS, number, round(1e6 * year), list(FaultKind).index(kind)]
            rng = np.random.default_rng(np.random.SeedSequence(words))
            expected = rate_per_day(kind, self.orbit.upsets) * self.space.units[kind] * known
            count = 0 if kind in self.options.left_out else min(int(rng.poisson(expected)), MOST_UPSETS)
            faults[kind] = [self.space.draw(kind, rng, self.orbit.upsets.high_share) for _ in range(count)]
        chip = ChipUnderTest(program, program, self.record, drawn)
        drawn = strike_cells(chip, drawn, [fault for kind in CELLS for fault in faults.pop(kind, [])])
        if code:
            faults = self._decoded(program, drawn, faults, days, number, year)
        for fault in (fault for found in faults.values() for fault in found):
            chip = ChipUnderTest(program, program, self.record, drawn)
            if fault.kind in RULES:
                changed = inject(chip, fault)
                steps = tuple(changed.steps.get(step.name, step) for step in program.steps)
                program = replace(program, steps=steps, input=changed.table or program.input)
            else:
                drawn = strike(chip, drawn, fault) or drawn
        return program, drawn

    def _decoded(
        self,
        program: ConductanceProgram,
        drawn: SampledDevice,
        faults: Mapping[FaultKind, list[Fault]],
        days: Mapping[FaultKind, float],
        number: int,
        year: float,
    ) -> dict[FaultKind, list[Fault]]:
        """Faults that are left after stored words were decoded; check bits are struck, too."""
        stored = [fault for kind in STORED for fault in faults.get(kind, [])]
        rng = np.random.default_rng(
            np.random.SeedSequence([self.options.seed, YEARS, number, round(1e6 * year), 0xECC])
        )
        rates = [rate_per_day(k, self.orbit.upsets) * self.space.units[k] * days.get(k, 0.0) for k in STORED]
        checks = min(int(rng.poisson(CHECK_SHARE * sum(rates))), MOST_UPSETS)
        left = {kind: found for kind, found in faults.items() if kind not in STORED}
        if not stored:
            return left
        words = stored_words(program, drawn.corrections, self.space)
        first = 8 * words.coded.data.size
        places = [words.bit_of(fault) for fault in stored] + list(rng.integers(first, words.coded.bits, checks))
        for bit in words.read_after(places).wrong:
            fault = words.fault_of(bit)
            left.setdefault(fault.kind, []).append(fault)
        return left

    def _aged(self, number: int, age_s: float) -> SampledDevice:
        """A chip some time after it was written, with the corrections of the first hour."""
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
