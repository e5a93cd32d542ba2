"""Is what is promised of one further chip what a deployment on one gives?

Ten networks of one macro (random kernels, a last layer by least squares) are promised an accuracy from the models of
the chip file alone (``hil.prediction.promise``: 8 virtual chips, 500 images), and deployed with the same images on four
chips that nobody has seen: two emulated ones and two of other physics (``foreign_chips``). A deployment is a line of
the results; lines that stand there are not made again.

    python benchmarks/studies.py promises [--out FILE] [--networks 10]
    python benchmarks/studies.py promises --table --out FILE
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from cached_rows import cache_row, cached_rows
from foreign_chips import ROOT, Filaments, Mirrors
from foreign_tunes import CLASSES, SPEC, images
from foreign_tunes import network as network_of

from cim.record.published import nominal_record
from hil.calibration.procedure import calibrate
from hil.datasets.image_set import Dataset
from hil.deployment.deploy import deploy_on
from hil.deployment.options import DeployOptions, usual_recipe
from hil.deployment.scoring import targets_of, task_of
from hil.driver.open_chip import connect
from hil.emulator.address import chip_from_address
from hil.prediction.promise import promised
from hil.transports.in_process import InProcessTransport
from hil.watch import Watch

IMAGES = 500
CHIPS = ("emulated", "filaments", "emulated", "mirrors")
OPTIONS = DeployOptions(
    samples=IMAGES, all_images=True, repeats=2, virtual_chips=10, causes=False, recipe=usual_recipe("tune=64")
)
RESULTS = ROOT / "benchmarks" / "results" / "promises.jsonl"


def rows_of(number: int, done: set[tuple[int, int]], out: Path) -> None:
    """Promise and deployments of one network."""
    program = network_of(seed=100 + number)
    pixels, labels = images(IMAGES, seed=900 + number)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    data = Dataset("patterns", pixels, labels, tuple("abcdefghij"[:CLASSES]), "made", digest)
    task, watch = task_of(program, data, OPTIONS), Watch()
    options = DeployOptions(virtual_chips=8, recipe=OPTIONS.recipe, seed=number)
    record = nominal_record(program.spec, program.macros)
    said = promised(program, record, options, pixels, targets_of(task, data, program.preprocess), task, watch)
    for at, physics in enumerate(CHIPS):
        if (number, at) in done:
            continue
        start_s, seed = time.process_time(), 1000 + 10 * number + at
        kind: Any = {"filaments": Filaments, "mirrors": Mirrors}.get(physics)
        chip = chip_from_address(f"emulated:lab-128?macros=1&seed={seed}") if kind is None else kind(SPEC, seed, 0.1)
        with connect(InProcessTransport(chip, f"{physics} {seed}"), chip=SPEC) as driver:
            report, _ = deploy_on(driver, program, data, record=calibrate(driver, program.macros), options=OPTIONS)
        found = report.decisive.measured.mean
        row = {
            "network": number, "chip": at, "physics": physics, "promised": round(said.mean, 4),
            "low": round(said.low, 4), "high": round(said.high, 4), "measured": round(found, 4),
            "kept": bool(said.low <= found <= said.high),
            "verdict": report.verdict.value, "cpu_s": round(time.process_time() - start_s, 1),
        }  # fmt: skip
        cache_row(out, row)


def table(rows: list[dict[str, Any]]) -> str:
    """Promises kept, by physics and in all; mean error and half width in points."""
    lines = ["| chips | kept | mean error, points | half width, points |", "| --- | ---: | ---: | ---: |"]
    for name, of in (*((p, (p,)) for p in dict.fromkeys(CHIPS)), ("all", CHIPS)):
        here = [r for r in rows if r["physics"] in of]
        if here:
            error = 100 * float(np.mean([r["measured"] - r["promised"] for r in here]))
            half = 50 * float(np.mean([r["high"] - r["low"] for r in here]))
            kept = f"{sum(r['kept'] for r in here)} of {len(here)}"
            lines.append(f"| {name} | {kept} | {error:+.2f} | {half:.1f} |".replace("-", "−").replace("−−−", "---"))
    return "\n".join(lines)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--out", type=Path, default=RESULTS)
    ask.add_argument("--networks", type=int, default=10)
    ask.add_argument("--table", action="store_true")
    given = ask.parse_args()
    rows = cached_rows(given.out)
    if given.table:
        print(table(rows))
        return
    done = {(r["network"], r["chip"]) for r in rows}
    for number in range(given.networks):
        if any((number, at) not in done for at in range(len(CHIPS))):
            rows_of(number, done, given.out)


if __name__ == "__main__":
    main()
