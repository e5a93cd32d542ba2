"""Prediction against emulated flight: accuracy after 1 and 3 years in a harsh orbit, on chips with physics of their
own.

What the belief knows of upset cells comes from a beam test of other emulated chips (``--beam``): cells are read before
and after, and the orbit file gets rate, direction and size of what they did, by moments:

    λ = −ln(1 − f↓ − f↑) / days      f↓ share of high cells that fell by half a level or more, f↑ of low cells that rose
    extreme_share = (f↓ + f↑ q) / (f↓ + f↑)      q mean square of the way up, of the whole way to the highest level
    high_share = f↑ q / (f↓ + f↑ q)

The same emulated answers are judged twice: by that belief, and by one that leaves upset cells out. Chips 100 on fly;
chips 900 on were in the beam. Done chips stay, so the same command goes on after a stop.

    python benchmarks/flight.py --beam                              # writes results/flight_orbit.toml
    python benchmarks/flight.py                                     # small network, 20 chips
    python benchmarks/flight.py --network eurosat --chips 8
    python benchmarks/flight.py --summary
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from hil.atomic import write_text
from hil.datasets.image_set import load_dataset
from hil.deployment.deploy import program_of
from hil.deployment.programming import ensure_programmed, read_back
from hil.driver.open_chip import open_chip
from hil.mission.flight import (
    FlightOptions,
    FlightReport,
    FlownChip,
    flight_address,
    flight_images,
    fly_chip,
    judge_flight,
)
from hil.mission.orbit import OrbitFile, load_orbit
from hil.mission.radiation.timeline import CELLS
from hil.watch import Watch
from mapping.layout.place import macro_targets_us
from mapping.program.conductance import ConductanceProgram

HERE = Path(__file__).parent
ORBIT, TABLE = HERE / "results" / "flight_orbit.toml", HERE / "results" / "flight.jsonl"
UPSETS_A_DAY = 2e-4  # of a cell: harsh enough that a belief without upsets is seen to be wrong
KRAD_A_YEAR = 10.0
YEARS = (1.0, 3.0)
BEAM_SEEDS, BEAM_DAYS = range(900, 905), 365.25
READS, BEAM_SAMPLE = 8, 0xBEA
CHIP = "lab-128"


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
    return program_of(asked.network, chip=CHIP, macros=asked.macros, trust=False, watch=Watch())[0]


def flown_orbit() -> OrbitFile:
    """The orbit that the emulated chips fly in: what is struck, not what is believed."""
    shipped = load_orbit("geo")
    upsets = replace(shipped.upsets, cell_per_day=UPSETS_A_DAY)
    return replace(shipped, upsets=upsets, dose=replace(shipped.dose, krad_per_year=KRAD_A_YEAR))


def beam(program: ConductanceProgram) -> str:
    """The text of an orbit file whose cells were measured on chips in a beam."""
    spec, orbit = program.spec.macro, flown_orbit()
    high = spec.levels_us[-1]
    middle, half_step = (spec.levels_us[0] + high) / 2, spec.level_step_us / 2
    ups: list[np.ndarray] = []
    down = [0, 0]  # cells that fell, of those that could
    up = [0, 0]
    for seed in BEAM_SEEDS:
        with open_chip(flight_address(CHIP, seed, program.spec.macros, orbit), spec=program.spec) as driver:
            ensure_programmed(driver, program, sample=BEAM_SAMPLE, force=True, watch=Watch())
            driver.wait(3600.0)
            before = read_back(driver, program.macros, reads=READS, sample=1, watch=Watch())
            driver.wait(BEAM_DAYS * 86400.0)
            after = read_back(driver, program.macros, reads=READS, sample=2, watch=Watch())
            driver.outputs_off()
        for slot, macro in enumerate(program.macros):
            targets = macro_targets_us(program, slot)
            cells = np.isfinite(targets)  # written ones
            moved, start, lower = (after[macro] - before[macro])[cells], before[macro][cells], targets[cells] < middle
            grown = lower & (moved > half_step)
            down = [down[0] + int((~lower & (moved < -2 * half_step)).sum()), down[1] + int((~lower).sum())]
            up = [up[0] + int(grown.sum()), up[1] + int(lower.sum())]
            ups.append(np.clip(moved[grown] / np.maximum(high - start[grown], half_step), 0.0, 1.0) ** 2)
    fell, rose, way = down[0] / down[1], up[0] / up[1], float(np.concatenate(ups).mean())
    rate = -np.log1p(-(fell + rose)) / BEAM_DAYS
    ends = fell + rose * way
    text = (HERE.parent / "hil/mission/orbits/geo.toml").read_text("utf-8")
    seen = (
        f"measured: {len(BEAM_SEEDS)} emulated chips (NOT SILICON) in a beam; {down[0]:,} of {down[1]:,} high cells "
        f"fell, {up[0]:,} of {up[1]:,} low ones rose"
    )
    for field, value, source in (
        ("name", '"beam-tested"', "assumed: name of this description"),
        ("cell_per_day", f"{rate:.3e}", seen),
        ("extreme_share", f"{ends / (fell + rose):.4f}", f"{seen}; mean square of the way up {way:.3f}"),
        ("high_share", f"{rose * way / ends:.4f}", seen),
        ("krad_per_year", f"{KRAD_A_YEAR}", "assumed: as the emulated chips have it"),
    ):
        lines = [
            f'{field} = {{ value = {value}, source = "{source}" }}' if is_field(line, field) else line
            for line in text.splitlines()
        ]
        text = "\n".join(lines) + "\n"
    return f"# Written by: python benchmarks/flight.py --beam\n{text}"


def is_field(line: str, field: str) -> bool:
    return line.startswith(f"{field} =")


def fly_network(name: str, chips: int) -> None:
    """Fly the chips that are missing; every line of the table is one chip, year and belief."""
    asked, belief, truth = NETWORKS[name], load_orbit(ORBIT), flown_orbit()
    program = compiled(name)
    options = FlightOptions(YEARS, chips, asked.images, 20)
    without = replace(options, left_out=CELLS)
    images = flight_images(load_dataset(asked.data, "test"), options)
    done = {row["seed"] for row in rows_of(name)}
    for seed in range(options.first_seed, options.first_seed + chips):
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
        if rows:
            chips = tuple(FlownChip(**{f: row[f] for f in FlownChip.__slots__}) for row in rows)
            asked = FlightOptions(YEARS, len(chips) // len(YEARS), rows[0]["images"], left_out=left)
            report = FlightReport(chips, "beam-tested", asked)
            lines += [f"{name}:", *(line for line in report.lines() if not line.startswith("  seed"))]
    return lines


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
