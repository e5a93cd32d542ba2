"""Emulated flight: what the belief about an orbit predicts, against emulated chips with radiation physics of their own.

Each emulated chip is calibrated, written, left alone for the years, read back, corrected, tuned, and runs the images.
Its accuracy is judged by the test of the verdict (``hil.verdict.statistics``, test P) against virtual chips of its
record that went through the same (``OrbitRow.deployed``). All ages past 1e5 s are extrapolation on both sides, by
different forms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
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
from hil.payload.radiation.timeline import DAYS, MEASURED_S, OrbitRow, chosen_images
from hil.payload.settings import DAY_S, OrbitSettings
from hil.verdict.agreement import correct_answers
from hil.verdict.statistics import compare, look_limits, prediction_test
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.training_inputs import training_inputs

FORMAT = "hil.flight/2.0"


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
    options: OrbitSettings

    def of_year(self, year: float) -> tuple[FlownChip, ...]:
        return tuple(chip for chip in self.flown if chip.year == year)

    def to_json(self) -> dict[str, Any]:
        years = [
            {
                "year": year,
                "extrapolated": year * DAYS * DAY_S > MEASURED_S,
                "chips": len(self.of_year(year)),
                "inside": sum(c.inside for c in self.of_year(year)),
                "disagree": sum(c.rejects for c in self.of_year(year)),
                "flown": [asdict(c) | {"inside": c.inside} for c in self.of_year(year)],
            }
            for year in self.options.years
        ]
        return {
            "format": FORMAT,
            "orbit": self.orbit,
            "images": self.options.year_images,
            "virtual_chips": self.options.virtual_chips,
            "left_out": [str(kind) for kind in self.options.left_out],
            "recipe": self.options.recipe.to_json(),
            "years": years,
        }

    @property
    def disagrees(self) -> bool:
        """Whether more than one chip in ten is judged to disagree."""
        return 10 * sum(chip.rejects for chip in self.flown) > len(self.flown)

    def summary(self) -> Summary:
        """Chips in their bands by year, and every chip."""
        disagree, inside = sum(c.rejects for c in self.flown), sum(c.inside for c in self.flown)
        by_year = [(year, self.of_year(year)) for year in self.options.years]
        years = tuple(
            (f"{year:g}", f"{sum(c.inside for c in chips)} of {len(chips)}", f"{sum(c.rejects for c in chips)}")
            for year, chips in by_year
        )
        chips = tuple(
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
        note = (
            f"Of the same {self.options.year_images:,} images; predicted: mean of {self.options.virtual_chips} virtual "
            "chips."
        )
        facts = [Fact("Recipe", str(self.options.recipe) or "nothing, as compiled")]
        if self.options.left_out:
            facts.append(Fact("Left out", f"the belief leaves out {', '.join(self.options.left_out)}"))
        return Summary(
            f"flight of {self.options.chips} chips in {self.orbit}",
            "EMULATED, NOT SILICON · nothing was measured on silicon",
            Headline(
                Tone.BAD if self.disagrees else Tone.GOOD,
                "NOT PREDICTED" if self.disagrees else "PREDICTED",
                f"{inside} of {len(self.flown)} chips in their band, {disagree} judged to disagree",
            ),
            (
                Table("Years", ("years", "in their band", "disagree"), years),
                Table("Chips", ("seed", "years", "emulated", "predicted", "band", "p", ""), chips, note),
                *facts,
                Fact("Mind", "all of it extrapolation"),
            ),
        )


@dataclass(frozen=True)
class FlightAnswers:
    """One emulated chip after some years: the record of before, and which images (n,) it got right."""

    seed: int
    year: float
    record: CalibrationRecord
    right: NDArray[np.bool_]


def fly(
    program: ConductanceProgram, data: Dataset, orbit: OrbitFile, options: OrbitSettings, watch: Watch, *, chip: str
) -> FlightReport:
    """Fly every emulated chip to every year, and judge each.

    Args:
        chip: name or path of the chip file, for the address of the emulated chips.

    Raises:
        hil.errors.HilError: as a deployment.
    """
    part, flown = chosen_images(data, options), []
    with watch.stage("flying"):
        for number in range(options.chips):
            for answers in fly_chip(program, part, orbit, options, options.first_seed + number, chip=chip):
                flown.append(judge_flight(program, part, orbit, options, answers))
                watch.step(len(flown), options.chips * len(options.years), "emulated chips and years")
    return FlightReport(tuple(flown), orbit.name, options)


def flight_address(chip: str, seed: int, macros: int, orbit: OrbitFile) -> str:
    """The address of an emulated chip in an orbit."""
    radiation = f"upsets={orbit.upsets.cell_per_day!r}&dose_krad_per_year={orbit.dose.krad_per_year!r}"
    return f"emulated:{chip}?seed={seed}&macros={macros}&{radiation}"


def fly_chip(
    program: ConductanceProgram, images: Dataset, orbit: OrbitFile, options: OrbitSettings, seed: int, *, chip: str
) -> Iterator[FlightAnswers]:
    """Fly one emulated chip, new from its maker for each of the years: cells that were written before relax less.

    Args:
        images: of ``chosen_images``.
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
    program: ConductanceProgram, images: Dataset, orbit: OrbitFile, options: OrbitSettings, flown: FlightAnswers
) -> FlownChip:
    """Set one emulated chip against virtual chips of its record that went through the same."""
    count = options.virtual_chips
    recipe = replace(options.recipe, age_s=flown.year * DAYS * DAY_S)
    believed = replace(options, years=(flown.year,), chips=count, recipe=recipe, scenarios=())
    row = OrbitRow(recipe.prepared(program, flown.record, Watch()), flown.record, orbit, believed, Watch())
    simulated = np.stack(
        [correct_answers(row.deployed(n, flown.year, images.images), images.labels) for n in range(count)]
    )
    found = compare(flown.right, simulated)
    test = prediction_test(found, simulated.mean(axis=1), look_limits((len(images),), count))
    half = one_more_half_width(count) * math.sqrt(found.chip_variance)
    low, high = found.simulated - half, found.simulated + half
    return FlownChip(flown.seed, flown.year, found.chip, found.simulated, low, high, test.p_value, test.rejects)
