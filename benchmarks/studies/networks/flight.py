"""Prediction against emulated flight: accuracy after 1 and 3 years in a harsh orbit, on chips with physics of their
own.

What the belief knows of upset cells comes from a beam test of other emulated chips (``--beam``): cells are read before
and after, as are those of chips beside the beam, and the orbit file gets rate, direction and size of the difference, by
moments:

    λ = −ln(1 − f↓ − f↑) / days      f↓ share of high cells that fell by a level or more, f↑ of low cells that rose
    extreme_share = (f↓ + q) / (f↓ + f↑)      q by low cell, squared share of the way to the highest level that it rose
    high_share = q / (f↓ + q)

Each emulated chip is calibrated, written, left alone for the years, read back, corrected, tuned, and runs the images.
Its accuracy is judged by the test of the verdict (``hil.verdict.statistics``, test P) against virtual chips of its
record that went through the same. All ages past 1e5 s are extrapolation on both sides, by different forms.

The same emulated answers are judged twice: by that belief, and by one that leaves upset cells out. Chips 100 on fly;
chips 900 on were in the beam, 950 on beside it. Done chips stay, so the same command goes on after a stop.

    python benchmarks/studies.py flight --beam                              # writes results/flight_orbit.toml
    python benchmarks/studies.py flight                                     # small network, 20 chips
    python benchmarks/studies.py flight --network eurosat --chips 8
    python benchmarks/studies.py flight --summary
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import operator
import os
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from cim.intervals import one_more_half_width
from cim.record.calibration import CalibrationRecord
from cim.simulator.modes import SimulationMode
from hil.atomic import write_text
from hil.calibration.plan import Budget
from hil.calibration.procedure import calibrate
from hil.datasets.image_set import Dataset, load_dataset
from hil.deployment.deploy import write_whole
from hil.deployment.network_source import program_of
from hil.deployment.options import USUAL_RECIPE, DeployOptions, NetworkOptions
from hil.deployment.targets.wired import ensure_programmed, read_back
from hil.driver.open_chip import open_chip
from hil.payload.orbit import OrbitFile, load_orbit
from hil.payload.radiation.faults import CELLS
from hil.payload.radiation.timeline import DAYS, FIRST_S, YEAR_DOSE, OrbitRow, chosen_images, with_dose
from hil.payload.settings import DAY_S, OrbitSettings
from hil.simulation.virtual_chip import build_chip
from hil.simulation.virtual_target import with_read_noise
from hil.verdict.agreement import correct_answers
from hil.verdict.statistics import compare, look_limits, prediction_test
from hil.watch import Watch
from mapping.layout.place import macro_targets_us
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import run
from mapping.program.training_inputs import training_inputs
from mapping.tune.columns import column_corrections

HERE = Path(__file__).parents[2]
ORBIT, TABLE = HERE / "results" / "flight_orbit.toml", HERE / "results" / "flight.jsonl"
UPSETS_A_DAY = 3e-4  # of a cell: harsh enough that a belief without upsets is seen to be wrong, copies or not
KRAD_A_YEAR = 10.0
YEARS = (1.0, 3.0)
BEAM_SEEDS, CONTROL_SEEDS, BEAM_DAYS = range(900, 903), range(950, 953), 365.25
READS, BEAM_SAMPLE = 8, 0xBEA
CHIP = "lab-128"
FLOWN_RECIPE = USUAL_RECIPE.without("aims")
VIRTUAL_CHIPS, FIRST_SEED = 20, 100
RATIO_DRAWS, RATIO_SEED = 4000, 0xF117


@dataclass(frozen=True, slots=True)
class Flown:
    """One network of the study."""

    network: Path
    data: str
    macros: int
    images: int


NETWORKS = {
    "small": Flown(HERE.parent / "examples/networks/fashion_small.pt", "fashion-mnist", 8, 500),
    "eurosat": Flown(HERE.parent / "examples/searches/eurosat/networks/bedf875d/net.pt", "eurosat", 16, 500),
}


def compiled(name: str) -> ConductanceProgram:
    asked = NETWORKS[name]
    return program_of(asked.network, NetworkOptions(CHIP, asked.macros), Watch())[0]


def flown_orbit() -> OrbitFile:
    """The orbit that the emulated chips fly in: what is struck, not what is believed."""
    shipped = load_orbit("geo")
    upsets = replace(shipped.upsets, cell_per_day=UPSETS_A_DAY)
    return replace(shipped, upsets=upsets, dose=replace(shipped.dose, krad_per_year=KRAD_A_YEAR))


@dataclass(frozen=True, slots=True)
class CellMoves:
    """What cells did in a year: counts of high ones and of those that fell, of low ones and of those that rose; of
    these the sum of the squared share of their way to the highest level."""

    high: int = 0
    fell: int = 0
    low: int = 0
    rose: int = 0
    squares: float = 0.0

    def __add__(self, other: CellMoves) -> CellMoves:
        return CellMoves(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def rates(self) -> NDArray[np.float64]:
        """Share of high cells that fell, of low ones that rose, and squares by low cell."""
        return np.array([self.fell / self.high, self.rose / self.low, self.squares / self.low])


def moved(program: ConductanceProgram, seed: int, upsets: float) -> CellMoves:
    """Cells of one emulated chip, read an hour after they were written and a year later."""
    spec, orbit = program.spec.macro, flown_orbit()
    orbit = replace(orbit, upsets=replace(orbit.upsets, cell_per_day=upsets))
    top, step = spec.levels_us[-1], spec.level_step_us
    with open_chip(flight_address(CHIP, seed, program.spec.macros, orbit), chip=program.spec) as driver:
        ensure_programmed(driver, program, sample=BEAM_SAMPLE, force=True, watch=Watch())
        driver.wait(3600.0)
        before = read_back(driver, program.macros, reads=READS, sample=1, watch=Watch())
        driver.wait(BEAM_DAYS * 86400.0)
        after = read_back(driver, program.macros, reads=READS, sample=2, watch=Watch())
        driver.outputs_off()
    found = CellMoves()
    for slot, macro in enumerate(program.macros):
        targets = macro_targets_us(program, slot)
        cells = np.isfinite(targets)  # written ones
        start = before[macro][cells]
        way, low = after[macro][cells] - start, targets[cells] < (spec.levels_us[0] + top) / 2
        grown = low & (way > step / 2)
        squares = np.clip(way[grown] / np.maximum(top - start[grown], step / 2), 0.0, 1.0) ** 2
        fell = int((~low & (way < -step)).sum())
        found += CellMoves(int((~low).sum()), fell, int(low.sum()), int(grown.sum()), float(squares.sum()))
    return found


def beam(program: ConductanceProgram) -> str:
    """The text of an orbit file whose cells were measured on chips in a beam, beside the same number that were not."""
    struck = functools.reduce(operator.add, (moved(program, seed, UPSETS_A_DAY) for seed in BEAM_SEEDS))
    control = functools.reduce(operator.add, (moved(program, seed, 0.0) for seed in CONTROL_SEEDS))
    fell, rose, squares = struck.rates() - control.rates()
    ends = fell + squares
    seen = (
        f"measured: {len(BEAM_SEEDS)} emulated chips (NOT SILICON) in a beam, {len(CONTROL_SEEDS)} beside it; "
        f"{struck.fell:,} of {struck.high:,} high cells fell ({control.fell:,} of {control.high:,} beside it), "
        f"{struck.rose:,} of {struck.low:,} low ones rose ({control.rose:,} of {control.low:,})"
    )
    fields = {
        "name": ('"beam-tested"', "assumed: name of this description"),
        "cell_per_day": (f"{-np.log1p(-(fell + rose)) / BEAM_DAYS:.3e}", seen),
        "extreme_share": (f"{ends / (fell + rose):.4f}", seen),
        "high_share": (f"{squares / ends:.4f}", seen),
        "krad_per_year": (f"{KRAD_A_YEAR}", "assumed: as the emulated chips have it"),
    }
    lines = ["# Written by: python benchmarks/studies.py flight --beam"]
    for line in (HERE.parent / "hil/payload/orbits/geo.toml").read_text("utf-8").splitlines():
        known = line.split(" = ")[0]
        value, source = fields.get(known, ("", ""))
        lines.append(f'{known} = {{ value = {value}, source = "{source}" }}' if value else line)
    return "\n".join(lines) + "\n"


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
class FlightAnswers:
    """One emulated chip after some years: the record of before, and which images (n,) it got right."""

    seed: int
    year: float
    record: CalibrationRecord
    right: NDArray[np.bool_]


class FlownRow(OrbitRow):
    """Virtual chips that went through what the emulated ones did."""

    def deployed(self, number: int, year: float, images: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Logit codes of virtual chip ``number`` as ``hil deploy --age`` treats a chip: after those years without any
        mending its cells are read, its columns corrected and its channels tuned. Only cells take upsets and dose."""
        since_s = year * DAYS * DAY_S
        chips = self._chips(max(since_s, FIRST_S))
        rng = self._rng(YEAR_DOSE, number, year, 1)
        drawn = chips.uncorrected(number)
        dosed = with_dose(drawn, self.program.spec.macro, self.orbit.dose, year, rng)
        dosed = replace(dosed, columns=drawn.columns)
        _, held = self._struck(self.program, dosed, dict.fromkeys(CELLS, since_s / DAY_S), number, year)
        readings = {s: with_read_noise(c, self.record, chips.recipe.reads, rng) for s, c in held.cells_us.items()}
        corrections = column_corrections(self.program, self.record, readings, chips.inputs or {})
        held = replace(held, corrections=corrections)
        chip = build_chip(
            self.program, self.record, held, seed=chips.noise_seed, number=number, mode=SimulationMode.FAST
        )
        program = self.program
        if self.first_targets is not None:
            program = chip.tuned(program, self.first_targets).program
        return run(program, images, chip)


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
    count = VIRTUAL_CHIPS
    recipe = replace(options.recipe, age_s=flown.year * DAYS * DAY_S)
    believed = replace(options, years=(flown.year,), chips=count, recipe=recipe, scenarios=())
    row = FlownRow(recipe.prepared(program, flown.record, Watch()), flown.record, orbit, believed, Watch())
    simulated = np.stack(
        [correct_answers(row.deployed(n, flown.year, images.images), images.labels) for n in range(count)]
    )
    found = compare(flown.right, simulated)
    test = prediction_test(found, simulated.mean(axis=1), look_limits((len(images),), count))
    half = one_more_half_width(count) * math.sqrt(found.chip_variance)
    low, high = found.simulated - half, found.simulated + half
    return FlownChip(flown.seed, flown.year, found.chip, found.simulated, low, high, test.p_value, test.rejects)


def fly_network(name: str, chips: int) -> None:
    """Fly the chips that are missing; every line of the table is one chip, year and belief."""
    asked, belief, truth = NETWORKS[name], load_orbit(ORBIT), flown_orbit()
    program = compiled(name)
    options = OrbitSettings(years=YEARS, chips=chips, year_images=asked.images, recipe=FLOWN_RECIPE)
    without = replace(options, left_out=CELLS)
    images = chosen_images(load_dataset(asked.data, "test"), options)
    done = {row["seed"] for row in rows_of(name)}
    for seed in range(FIRST_SEED, FIRST_SEED + chips):
        if seed in done:
            continue
        rows = []
        for answers in fly_chip(program, images, truth, options, seed, chip=CHIP):
            for known in (options, without):
                one = judge_flight(program, images, belief, known, answers)
                rows.append({"network": name, "images": asked.images, "left_out": list(known.left_out), **asdict(one)})
                print(
                    f"{name} seed {seed} {one.year:g} years {one.accuracy:.3f} in {one.low:.3f} – {one.high:.3f}: "
                    f"{'disagrees' if one.rejects else 'agrees'}{' without upset cells' * bool(known.left_out)}",
                    flush=True,
                )
        kept = TABLE.read_text("utf-8") if TABLE.exists() else ""
        write_text(TABLE, kept + "".join(json.dumps(row) + "\n" for row in rows))


def rows_of(name: str) -> list[dict[str, Any]]:
    if not TABLE.exists():
        return []
    return [row for row in map(json.loads, TABLE.read_text("utf-8").splitlines()) if row["network"] == name]


def summary(name: str) -> list[str]:
    """Lines of the flight of a network, with and without what the belief leaves out."""
    lines = []
    for left in ((), CELLS):
        rows = [row for row in rows_of(name) if tuple(row["left_out"]) == left]
        for year in YEARS if rows else ():
            chips = tuple(FlownChip(**{f: row[f] for f in FlownChip.__slots__}) for row in rows if row["year"] == year)
            inside, disagree = sum(c.inside for c in chips), sum(c.rejects for c in chips)
            found = f"{inside} of {len(chips)} chips in their band, {disagree} disagree, {rows[0]['images']} images"
            lines.append(f"{name}{', without upset cells' * bool(left)}: {found}; {spread_line(chips)}")
    return lines


def spread_line(chips: tuple[FlownChip, ...]) -> str:
    """Widths of the bands beside the 5–95 % spread of emulated chips, and standard deviations of both kinds."""
    low, high = np.percentile([c.accuracy for c in chips], [5, 95])
    widths, exact = np.array([c.high - c.low for c in chips]), exact_width_ratio(len(chips), VIRTUAL_CHIPS)
    ratio = f"{widths.mean() / (high - low):.2f}" if high > low else "no spread,"
    virtual = widths.mean() / 2 / one_more_half_width(VIRTUAL_CHIPS)
    return (
        f"{chips[0].year:g} years: bands {ratio} times the spread ({exact[0]:.2f} – {exact[2]:.2f} for an exact "
        f"belief), standard deviation {100 * np.std([c.accuracy for c in chips], ddof=1):.2f} points of emulated "
        f"chips, {100 * virtual:.2f} of virtual ones"
    )


def exact_width_ratio(chips: int, virtual_chips: int) -> tuple[float, float, float]:
    """5th percentile, median and 95th of bands' mean width over the chips' 5–95 % spread where the belief is exact.

    Emulated and virtual chips are then of one normal law. What is left is chance: few chips show less than their
    5–95 % spread, few virtual ones make a wide band. Example: 20 and 20 chips, 1.50.
    """
    rng = np.random.default_rng(RATIO_SEED)
    low, high = np.percentile(rng.standard_normal((RATIO_DRAWS, chips)), [5, 95], axis=1)
    freedom = virtual_chips - 1
    deviations = np.sqrt(rng.chisquare(freedom, (RATIO_DRAWS, chips)) / freedom).mean(axis=1)
    found = np.percentile(2 * one_more_half_width(virtual_chips) * deviations / (high - low), [5, 50, 95])
    return float(found[0]), float(found[1]), float(found[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=list(NETWORKS), default="small")
    parser.add_argument("--chips", type=int, default=20)
    parser.add_argument("--beam", action="store_true", help="measure upset cells and write the orbit file")
    parser.add_argument("--summary", action="store_true", help="print what is there")
    asked = parser.parse_args()
    if asked.beam:
        write_text(ORBIT, beam(compiled("small")))
        print(ORBIT.read_text("utf-8"))
        return
    if not asked.summary:
        fly_network(asked.network, asked.chips)
    for name in NETWORKS:
        print("\n".join(summary(name)))


if __name__ == "__main__":
    main()
