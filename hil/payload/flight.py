"""Emulated flight: what the belief about an orbit predicts, against emulated chips with radiation physics of their own.

Each emulated chip is calibrated, written, left alone for the years, read back, corrected, tuned, and runs the images.
Its accuracy is judged by the test of the verdict (``hil.verdict.statistics``, test P) against virtual chips of its
record that went through the same (``OrbitRow.deployed``). All ages past 1e5 s are extrapolation on both sides, by
different forms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.intervals import one_more_half_width
from cim.record.calibration import CalibrationRecord
from hil.calibration.plan import Budget
from hil.calibration.procedure import calibrate
from hil.datasets.image_set import Dataset
from hil.deployment.deploy import write_whole
from hil.deployment.options import DeployOptions
from hil.driver.open_chip import open_chip
from hil.pages.summary import Fact, Headline, Summary, Tone
from hil.pages.tables import Table
from hil.payload.orbit import OrbitFile
from hil.payload.radiation.timeline import DAYS, MEASURED_S, YEAR_ORDER, OrbitRow
from hil.payload.settings import DAY_S, FlightOptions, TimelineOptions
from hil.verdict.agreement import correct_answers
from hil.verdict.statistics import compare, look_limits, prediction_test
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.training_inputs import training_inputs

FORMAT = "hil.flight/1.0"
RATIO_DRAWS, RATIO_SEED = 4000, 0xF117


@dataclass(frozen=True, slots=True)
class FlownChip:
    """One emulated chip after some years: its accuracy, the band predicted for it (95 % of one chip), the test."""

    seed: int
    year: float
    accuracy: float
    predicted: float
    low: float
    high: float
    p_value: float
    rejects: bool

    @property
    def inside(self) -> bool:
        return self.low <= self.accuracy <= self.high


@dataclass(frozen=True)
class FlightReport:
    """All chips of one flight."""

    flown: tuple[FlownChip, ...]
    orbit: str
    options: FlightOptions

    def of_year(self, year: float) -> tuple[FlownChip, ...]:
        return tuple(chip for chip in self.flown if chip.year == year)

    def width_ratio(self, year: float) -> float | None:
        """Mean width of the bands over the 5–95 % spread of the emulated chips; None without a spread."""
        chips = self.of_year(year)
        low, high = np.percentile([c.accuracy for c in chips], [5, 95])
        return float(np.mean([c.high - c.low for c in chips]) / (high - low)) if high > low else None

    def spreads(self, year: float) -> tuple[float, float] | None:
        """Standard deviations of accuracy, fractions: among the emulated chips, and mean of their virtual ones.

        None for a single emulated chip.
        """
        chips = self.of_year(year)
        if len(chips) < 2:
            return None
        half = one_more_half_width(self.options.virtual_chips)
        return (
            float(np.std([c.accuracy for c in chips], ddof=1)),
            float(np.mean([(c.high - c.low) / 2 / half for c in chips])),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "orbit": self.orbit,
            "images": self.options.images,
            "virtual_chips": self.options.virtual_chips,
            "left_out": [str(kind) for kind in self.options.left_out],
            "recipe": self.options.recipe.to_json(),
            "years": [
                {
                    "year": year,
                    "extrapolated": year * DAYS * DAY_S > MEASURED_S,
                    "chips": len(self.of_year(year)),
                    "inside": sum(c.inside for c in self.of_year(year)),
                    "disagree": sum(c.rejects for c in self.of_year(year)),
                    "width_ratio": self.width_ratio(year),
                    "exact_width_ratio": exact_width_ratio(len(self.of_year(year)), self.options.virtual_chips),
                    "standard_deviations": self.spreads(year),
                    "flown": [
                        {name: getattr(c, name) for name in FlownChip.__slots__} | {"inside": c.inside}
                        for c in self.of_year(year)
                    ],
                }
                for year in self.options.years
            ],
        }

    def summary(self) -> Summary:
        """Chips in their bands by year, and every chip."""
        disagree = sum(chip.rejects for chip in self.flown)
        inside = sum(chip.inside for chip in self.flown)
        tone = Tone.BAD if 10 * disagree > len(self.flown) else Tone.GOOD
        facts = [Fact("Recipe", str(self.options.recipe) or "nothing, as compiled")]
        if self.options.left_out:
            facts.append(Fact("Left out", f"the belief leaves out {', '.join(self.options.left_out)}"))
        return Summary(
            f"flight of {self.options.chips} chips in {self.orbit}",
            "EMULATED, NOT SILICON · nothing was measured on silicon",
            Headline(
                tone,
                "PREDICTED" if tone is Tone.GOOD else "NOT PREDICTED",
                f"{inside} of {len(self.flown)} chips in their band, {disagree} judged to disagree",
            ),
            (self._years(), *self._spread_facts(), self._chips(), *facts, Fact("Mind", "all of it extrapolation")),
        )

    def _years(self) -> Table:
        rows = []
        for year in self.options.years:
            chips, ratio = self.of_year(year), self.width_ratio(year)
            wide = "no spread to compare" if ratio is None else f"{ratio:.2f} times the chips' 5–95 % spread"
            inside, disagree = sum(c.inside for c in chips), sum(c.rejects for c in chips)
            rows.append((f"{year:g}", f"{inside} of {len(chips)}", f"{disagree}", wide))
        return Table("Years", ("years", "in their band", "disagree", "bands"), tuple(rows))

    def _spread_facts(self) -> list[Fact]:
        facts = []
        for year in self.options.years:
            exact, spreads = exact_width_ratio(len(self.of_year(year)), self.options.virtual_chips), self.spreads(year)
            if spreads is not None and exact is not None:
                text = (
                    f"standard deviation {100 * spreads[0]:.2f} points of emulated chips, {100 * spreads[1]:.2f} of "
                    f"virtual ones; bands of an exact belief {exact[1]:.2f} times ({exact[0]:.2f} – {exact[2]:.2f})"
                )
                facts.append(Fact(f"{year:g} years", text))
        return facts

    def _chips(self) -> Table:
        rows = tuple(
            (
                f"{c.seed}",
                f"{c.year:g}",
                f"{100 * c.accuracy:.2f} %",
                f"{100 * c.predicted:.2f} %",
                f"{100 * c.low:.2f} … {100 * c.high:.2f}",
                f"{c.p_value:.3f}",
                "" if c.inside else "OUTSIDE",
            )
            for c in self.flown
        )
        images, chips = self.options.images, self.options.virtual_chips
        note = f"Of the same {images:,} images; predicted: mean of {chips} virtual chips."
        return Table("Chips", ("seed", "years", "emulated", "predicted", "band", "p", ""), rows, note)


def exact_width_ratio(chips: int, virtual_chips: int) -> tuple[float, float, float] | None:
    """5th percentile, median and 95th of ``FlightReport.width_ratio`` where the belief is exact; None for one chip.

    Emulated and virtual chips are then of one normal law. What is left is chance: few chips show less than their
    5–95 % spread, few virtual ones make a wide band. Example: 20 and 20 chips, 1.50.
    """
    if chips < 2:
        return None
    rng = np.random.default_rng(RATIO_SEED)
    low, high = np.percentile(rng.standard_normal((RATIO_DRAWS, chips)), [5, 95], axis=1)
    freedom = virtual_chips - 1
    deviations = np.sqrt(rng.chisquare(freedom, (RATIO_DRAWS, chips)) / freedom).mean(axis=1)
    found = np.percentile(2 * one_more_half_width(virtual_chips) * deviations / (high - low), [5, 50, 95])
    return float(found[0]), float(found[1]), float(found[2])


@dataclass(frozen=True)
class FlightAnswers:
    """One emulated chip after some years: the record of before, and which images (n,) it got right."""

    seed: int
    year: float
    record: CalibrationRecord
    right: NDArray[np.bool_]


def fly(
    program: ConductanceProgram, data: Dataset, orbit: OrbitFile, options: FlightOptions, watch: Watch, *, chip: str
) -> FlightReport:
    """Fly every emulated chip to every year, and judge each.

    Args:
        chip: name or path of the chip file, for the address of the emulated chips.

    Raises:
        hil.errors.HilError: as a deployment.
    """
    part = flight_images(data, options)
    flown = []
    with watch.stage("flying"):
        for number in range(options.chips):
            for answers in fly_chip(program, part, orbit, options, options.first_seed + number, chip=chip):
                flown.append(judge_flight(program, part, orbit, options, answers))
                watch.step(len(flown), options.chips * len(options.years), "emulated chips and years")
    return FlightReport(tuple(flown), orbit.name, options)


def flight_images(data: Dataset, options: FlightOptions) -> Dataset:
    """The images that every chip runs."""
    order = np.random.default_rng(np.random.SeedSequence([options.seed, YEAR_ORDER])).permutation(len(data))
    chosen = order[: options.images]
    return replace(data, images=data.images[chosen], labels=data.labels[chosen])


def flight_address(chip: str, seed: int, macros: int, orbit: OrbitFile) -> str:
    """The address of an emulated chip in an orbit."""
    radiation = f"upsets={orbit.upsets.cell_per_day!r}&dose_krad_per_year={orbit.dose.krad_per_year!r}"
    return f"emulated:{chip}?seed={seed}&macros={macros}&{radiation}"


def fly_chip(
    program: ConductanceProgram, images: Dataset, orbit: OrbitFile, options: FlightOptions, seed: int, *, chip: str
) -> Iterator[FlightAnswers]:
    """Fly one emulated chip, new from its maker for each of the years: cells that were written before relax less.

    Args:
        images: of ``flight_images``.
    """
    quiet, inputs = Watch(), training_inputs(program)
    for year in options.years:
        age_s, recipe = year * DAYS * DAY_S, options.recipe
        treatment = DeployOptions(age_s=age_s, seed=options.seed, causes=False, repeats=1, recipe=recipe)
        with open_chip(flight_address(chip, seed, program.spec.macros, orbit), chip=program.spec) as driver:
            record = calibrate(driver, program.macros, seed=options.seed, budget=Budget.QUICK, watch=quiet)
            targets, first = recipe.targets(program, quiet), images.images[:2]
            run = write_whole(driver, program, record, inputs, targets, first, treatment, quiet, force=True)
            right = correct_answers(run.measure(images.images, 0, quiet), images.labels)
            driver.outputs_off()
        yield FlightAnswers(seed, year, record, right)


def judge_flight(
    program: ConductanceProgram, images: Dataset, orbit: OrbitFile, options: FlightOptions, flown: FlightAnswers
) -> FlownChip:
    """Set one emulated chip against virtual chips of its record that went through the same."""
    count = options.virtual_chips
    recipe = replace(options.recipe, age_s=flown.year * DAYS * DAY_S)
    believed = TimelineOptions(
        (flown.year,), count, len(images), seed=options.seed, left_out=options.left_out, recipe=recipe, scenarios=()
    )
    row = OrbitRow(recipe.prepared(program, flown.record, Watch()), flown.record, orbit, believed, Watch())
    simulated = np.stack(
        [correct_answers(row.deployed(n, flown.year, images.images), images.labels) for n in range(count)]
    )
    found = compare(flown.right, simulated)
    test = prediction_test(found, simulated.mean(axis=1), look_limits((len(images),), count))
    half = one_more_half_width(count) * math.sqrt(found.chip_variance)
    low, high = found.simulated - half, found.simulated + half
    return FlownChip(flown.seed, flown.year, found.chip, found.simulated, low, high, test.p_value, test.rejects)
