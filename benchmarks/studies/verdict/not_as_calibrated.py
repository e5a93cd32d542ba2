"""Is a chip that moved since its calibration named, and a faithful one not, whatever its physics?

Chips are calibrated, then ``moved_chips.Moved`` puts an effect into their products, and the network is deployed on them
as ``hil deploy`` does. *Faithful* chips are of five physics that neither the simulator nor the emulated chip has: the C
die and four written for such studies (``foreign_chips``, ``further_chips``). *Moved* ones are of four of these and have
one of nine effects in two strengths, of which the weaker moves the accuracy without a tune by 1 to 2 points. What a
run says is a line of the results; lines that stand there are not made again.

    python benchmarks/studies.py not-as-calibrated [--out benchmarks/results/not_as_calibrated.jsonl]
    python benchmarks/studies.py not-as-calibrated --table        # rates, of what stands in the results
    python benchmarks/studies.py not-as-calibrated --dips 20      # a gain that dips during one look, 20 chips of each
    python benchmarks/studies.py not-as-calibrated --dips 20 --each 1   # each chip dips in one of its looks only
    python benchmarks/studies.py not-as-calibrated --dips 0       # its table

*Dips* last as long as one look is measured, so that nothing measured before or after knows of them. Every chip is first
deployed without one, which tells how many looks it has.

``EFFECT_LIMIT`` and ``MISFIT`` of ``hil.verdict.tuning`` were set on the emulated chip, mirrors, filaments and the C
die with seeds below 10; chips of the results have others, and no chip of ``Tandem`` or ``Ratchet`` had been run.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import functools
import hashlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from cached_rows import cache_row, cached_rows, made_by
from foreign_chips import ROOT, Filaments, Mirrors
from foreign_tunes import CLASSES, LASTING_US, SPEC, images, network
from further_chips import Ratchet, Tandem
from moved_chips import Moved

from cim.record.calibration import CalibrationRecord
from hil.calibration.procedure import calibrate
from hil.datasets.image_set import Dataset
from hil.deployment.deploy import deploy_on
from hil.deployment.options import DeployOptions, usual_recipe
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect, open_chip
from hil.server.firmware_build import FirmwareTarget
from hil.server.firmware_launch import running_firmware
from hil.transports.in_process import InProcessTransport
from hil.verdict.agreement import AgreementReport
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram

CHIPS = {"filaments": Filaments, "mirrors": Mirrors, "tandem": Tandem, "ratchet": Ratchet}
DIE = "C die"
FAITHFUL = 8  # chips of each physics
STRENGTHS = {  # weak, strong
    "gains": (0.22, 0.4),
    "all_gains": (0.1, 0.25),
    "falling": (0.18, 0.3),
    "top_plane": (0.05, 0.2),
    "row_groups": (1.15, 1.3),
    "compression": (0.22, 0.5),
    "trading": (0.15, 1.0),
    "dead_zone": (4.0, 6.0),
    "row_leak": (0.1, 0.2),
}
SEEDS = 100  # of the first chip
IMAGES = 500
OPTIONS = DeployOptions(
    samples=IMAGES, all_images=True, repeats=2, virtual_chips=20, causes=False, recipe=usual_recipe("tune=64")
)
RESULTS = ROOT / "benchmarks" / "results" / "not_as_calibrated.jsonl"
DIPS = ROOT / "benchmarks" / "results" / "dips.jsonl"
DIP_OPTIONS = dataclasses.replace(OPTIONS, samples=2000, all_images=False)  # looks at 500, 1,000 and 2,000
SHARES = (0.2, 0.4)
DIPPED = ((0, 0.0), *((look, share) for share in SHARES for look in (1, 2, 3)))  # none, then look and share


def planned() -> list[tuple[str, int, str, float]]:
    """Physics, seed, effect and strength of every chip."""
    faithful = [(physics, SEEDS + k, "", 0.0) for physics in (DIE, *CHIPS) for k in range(FAITHFUL)]
    moved, seed = [], SEEDS + 50
    for effect, strengths in STRENGTHS.items():
        for strength in strengths:
            for k in range(3):
                moved.append((tuple(CHIPS)[(seed + k) % len(CHIPS)], seed + k, effect, strength))
            seed += 3
    every = itertools.zip_longest(faithful, moved)  # both grow alike, however long the study is let run
    return [chip for pair in every for chip in pair if chip is not None]


@contextlib.contextmanager
def opened(physics: str, seed: int, effect: str, strength: float, vectors: int) -> Iterator[tuple[ChipDriver, Any]]:
    """A chip behind its driver, and its role, where that has an effect to begin."""
    if physics == DIE:
        settings = {"telegraph_us": 0.5 + 0.2 * (seed % 10), "line_ohm": 0.2 * (seed % 5)}
        firmware = running_firmware(FirmwareTarget.NATIVE, SPEC, seed=seed, settings=settings, where="127.0.0.1:0")
        with firmware as place, open_chip(place, chip=SPEC) as driver:
            yield driver, None
        return
    role = Moved(CHIPS[physics](SPEC, seed, LASTING_US[seed % len(LASTING_US)]), effect, strength, seed, vectors)
    with connect(InProcessTransport(role, f"{physics} {seed}"), chip=SPEC) as driver:
        yield driver, role


class Looks(Watch):
    """Counts the looks while they are measured, and has a chip dip during one of them; 0: during none."""

    def __init__(self, role: Any, dips: int) -> None:
        super().__init__()
        self.role, self.dips, self.looks = role, dips, 0

    def begin(self, name: str) -> None:
        self.looks += name == "measuring"
        if name == "measuring" and self.looks == self.dips:
            self.role.begin()

    def end(self, name: str) -> None:
        if name == "measuring" and self.dips:
            self.role.end()


@functools.lru_cache(maxsize=1)
def calibrated(physics: str, seed: int, macros: int) -> tuple[Any, CalibrationRecord]:
    """A chip as its calibration left it, to be copied, and its record."""
    chip = CHIPS[physics](SPEC, seed, LASTING_US[seed % len(LASTING_US)])
    with connect(InProcessTransport(Moved(chip, "", 0.0, seed, 1), f"{physics} {seed}"), chip=SPEC) as driver:
        return chip, calibrate(driver, macros)


def dipped(program: ConductanceProgram, physics: str, seed: int, look: int, share: float) -> dict[str, Any]:
    """One chip whose gains fall by ``share`` while look ``look`` is measured."""
    start_s, data = time.process_time(), patterns(DIP_OPTIONS.samples)
    chip, record = calibrated(physics, seed, program.macros)
    shared = {id(part): part for part in (chip.spec, chip.hang)}
    role = Moved(copy.deepcopy(chip, shared), "dip" if look else "", share, seed, 1)
    with connect(InProcessTransport(role, f"{physics} {seed}"), chip=SPEC) as driver:
        watch = Looks(role, look)
        report, _ = deploy_on(driver, program, data, record=record, options=DIP_OPTIONS, watch=watch)
    j, found = report.decisive, report.as_calibrated
    assert found is not None
    return {
        "physics": physics, "seed": seed, "look": look, "share": share, "reached": watch.looks >= look,
        "verdict": report.verdict.value, "named": not found.holds, "exit": int(report.exit_code),
        "headline": report.headline, "evidence": found.evidence, "images": j.n, "looks": watch.looks,
        "effects_in_looks": [round(look.effect, 3) for look in found.looks],
        "measured": round(100 * j.measured.mean, 2), "simulated": round(100 * j.simulated.mean, 2),
        "cpu_s": round(time.process_time() - start_s, 1),
    }  # fmt: skip


def dip_table(rows: list[dict[str, Any]]) -> str:
    """Verdicts of dips by look and share, of chips that reached the look."""
    lines = [
        "| dip | chips | agree, as calibrated | agree, named | disagree | inconclusive, named | inconclusive |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for look, share in DIPPED:
        here = [r for r in rows if (r["look"], r["share"]) == (look, share) and r["reached"]]
        counts = [len(here)]
        for verdict, named in (
            ("agree", False), ("agree", True), ("disagree", None), ("inconclusive", True), ("inconclusive", False),
        ):  # fmt: skip
            counts.append(sum(r["verdict"] == verdict and named in (None, r["named"]) for r in here))
        name = f"{100 * share:.0f} %, look {look}" if look else "none"
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def patterns(count: int) -> Dataset:
    pixels, labels = images(count, seed=5)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return Dataset("patterns", pixels, labels, tuple("abcdefghij"[:CLASSES]), "made", digest)


def deployed(
    program: ConductanceProgram, physics: str, seed: int, effect: str, strength: float
) -> tuple[AgreementReport, float]:
    """The report of one chip, and the CPU seconds that it took."""
    start_s, data = time.process_time(), patterns(IMAGES)
    two_passes = 2 * IMAGES * vectors_of(program)
    with opened(physics, seed, effect, strength, two_passes) as (driver, role):
        record = calibrate(driver, program.macros)
        if role is not None:
            role.begin()
        report, _ = deploy_on(driver, program, data, record=record, options=OPTIONS)
    return report, time.process_time() - start_s


def vectors_of(program: ConductanceProgram) -> int:
    """Vectors that one image sends through all tiles."""
    windows = [(step.group.window, len(step.group.tiles)) for step in program.matrices]
    return sum(tiles * (1 if w is None else w.out_height * w.out_width) for w, tiles in windows)


def row(program: ConductanceProgram, physics: str, seed: int, effect: str, strength: float) -> dict[str, Any]:
    report, cpu_s = deployed(program, physics, seed, effect, strength)
    found, before, after = report.as_calibrated, report.untuned, report.tuned_alike
    assert found is not None
    assert before is not None
    assert after is not None
    assert report.tune is not None
    return {
        "physics": physics, "seed": seed, "effect": effect, "strength": strength,
        "named": not found.holds, "verdict": report.verdict.value, "headline": report.headline,
        "evidence": found.evidence,
        "untuned": round(100 * before.measured.mean, 2), "untuned_simulated": round(100 * before.simulated.mean, 2),
        "tuned": round(100 * after.measured.mean, 2), "tuned_simulated": round(100 * after.simulated.mean, 2),
        "effects_of_tune": [round(layer.effect or 0.0, 3) for layer in report.tune.layers],
        "effects_at_end": [round(layer.effect, 3) for layer in found.layers],
        "cpu_s": round(cpu_s, 1),
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Rates of faithful chips by physics, of moved ones by effect and strength."""
    lines = [
        "| chips | named | verdict after the tune | untuned, measured − simulated | tuned |",
        "| --- | ---: | --- | ---: | ---: |",
    ]

    def line(name: str, here: list[dict[str, Any]]) -> None:
        verdicts = ", ".join(
            f"{sum(r['verdict'] == v for r in here)} {v}" for v in sorted({r["verdict"] for r in here})
        )
        apart = [[r[k] - r[f"{k}_simulated"] for r in here] for k in ("untuned", "tuned")]
        spans = " | ".join(f"{min(a):+.1f} … {max(a):+.1f}".replace("-", "−") for a in apart)
        lines.append(f"| {name} | {sum(r['named'] for r in here)} of {len(here)} | {verdicts} | {spans} |")

    for physics in dict.fromkeys(r["physics"] for r in rows if not r["effect"]):
        line(f"faithful: {physics}", [r for r in rows if r["physics"] == physics and not r["effect"]])
    for effect, strength in dict.fromkeys((r["effect"], r["strength"]) for r in rows if r["effect"]):
        line(f"{effect} {strength:g}", [r for r in rows if (r["effect"], r["strength"]) == (effect, strength)])
    for name, moved in (("all faithful", False), ("all moved", True)):
        line(name, [r for r in rows if bool(r["effect"]) == moved])
    return "\n".join(lines)


def make_dips(chips: int, each: int) -> None:
    """Complete the dips of so many chips of each physics, in ``each`` of their looks, and print their table.

    The looks of a chip are those that fewest chips dipped in before.
    """
    rows, program = cached_rows(DIPS), network()

    def row_of(physics: str, seed: int, look: int, share: float) -> dict[str, Any]:
        wanted = (physics, seed, look, share)
        for row in rows:
            if (row["physics"], row["seed"], row["look"], row["share"]) == wanted:
                return row
        rows.append({**dipped(program, *wanted), **made_by()})
        cache_row(DIPS, rows[-1])
        return rows[-1]

    for seed, physics in itertools.product(range(SEEDS + 200, SEEDS + 200 + chips), CHIPS):
        looks = range(1, row_of(physics, seed, 0, 0.0)["looks"] + 1)
        had = {look: sum(r["look"] == look and r["reached"] for r in rows) for look in looks}
        done = {r["look"] for r in rows if (r["physics"], r["seed"]) == (physics, seed) and r["look"] in looks}
        fewest = sorted(set(looks) - done, key=lambda look: had[look])
        for look in sorted(done) + fewest[: max(each - len(done), 0)]:
            for share in SHARES:
                row_of(physics, seed, look, share)
    print(dip_table(rows))


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--out", type=Path, default=RESULTS)
    ask.add_argument("--table", action="store_true")
    ask.add_argument("--dips", type=int, metavar="CHIPS")
    ask.add_argument(
        "--each", type=int, default=3, metavar="LOOKS", help="looks that each chip dips in, one after another"
    )
    given = ask.parse_args()
    if given.dips is not None:
        make_dips(given.dips, given.each)
        return
    rows = cached_rows(given.out)
    if given.table:
        print(table(rows))
        return
    program, done = network(), {(r["physics"], r["seed"], r["effect"], r["strength"]) for r in rows}
    for chip in planned():
        if chip not in done:
            cache_row(given.out, row(program, *chip))


if __name__ == "__main__":
    main()
