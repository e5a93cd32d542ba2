"""Every law of cells on the measured cells of every technology that is at hand: likelihood and distance, held out.

    python benchmarks/studies.py laws-on-cells --data $HIL_DATA [--radar COPY] [--only levy]

Laws: the one fitted to the other cells of the same set, a Gaussian in levels and log time fitted likewise, and each
published one at the set's own full scale, as whoever has no cells would use it. Sets: ``public_sets`` (Levy B and C,
EMBER 1 and 2 in levels, bakes of the bench) and, from a copy of ``akashlevy/RRAM-RADAR-Tuning`` (no licence: nothing of
it is kept here), its baked cells. Of a bake one later reading is known: published laws are asked at their last age.

``ln_p``: mean log of the probability of a bin of 1/400 of full scale (of a level where readings are levels) around each
held-out reading; more is better. ``ks``: Kolmogorov-Smirnov distance of all held-out readings, each at its place under
the law of its own level; ``floor`` is what a perfect law scores. One line a set in ``results/laws_on_cells.jsonl``;
lines that are there are not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from device_fit import fitted
from numpy.typing import NDArray
from public_sets import SETS, read_bakes, read_cells
from scipy.special import ndtr

from cim.cells.programming_law import law_at
from cim.fit.aged_readings import Readings
from cim.fit.goodness_of_fit import Gaussian, distance
from cim.record.published import PUBLISHED, published_model
from hil.device_fit.measured_tables import QUARTER, by_age, split

ROWS = Path(__file__).parents[2] / "results/laws_on_cells.jsonl"
BINS, LEAST, BAKE_S, MOST_CELLS = 400, 1e-9, 1800.0, 4096
RADAR = {
    "radar-32-levels": "relaxation",
    "radar-3bpc": "readtest3bpc6",
    "radar-2bpc": "readtest2bpc5",
}  # at 80 °C and up
Floats = NDArray[np.float64]
Below = Callable[[Floats], Floats]  # probability below each error


def pairs(before_us: Floats, after_us: Floats) -> Readings:
    """Cells read once before and once after a bake."""
    good = np.isfinite(before_us) & np.isfinite(after_us) & (before_us > 0)
    first, later = before_us[good], after_us[good]
    n = len(first)
    return Readings(
        np.arange(n), first, np.array([BAKE_S]), later[None], np.ones((1, n), np.int64),
        np.zeros((2, 0)), np.zeros(0), np.zeros(n, np.int8), None, 0.0,
    )  # fmt: skip


def all_sets(data: str, radar: Path | None) -> Iterator[tuple[str, Callable[[], Readings], str, int]]:
    """Name, readings, and how cells are held out."""
    for name in ("levy-tech-b", "levy-tech-c", "ember-1", "ember-2"):
        known = SETS[name]
        yield name, (lambda n=name: by_age(read_cells(n, data))), known.held_out, known.block
    for degrees in (110, 130):
        yield f"bench-bake-{degrees}", (lambda d=degrees: pairs(*read_bakes(data)[d])), QUARTER, 1
    for name, file in {} if radar is None else RADAR.items():
        yield name, (lambda f=file: pairs(baked(radar, f, "pre"), baked(radar, f, "post"))), QUARTER, 1


def baked(radar: Path, name: str, when: str) -> Floats:
    """Conductances of a RADAR file of resistances, µS; of a longer file the first pass of 1,024 cells."""
    text = shown(radar, f"exptdata/retention/data/{name}-{when}bake.csv")
    ohm = np.array([float(line) for line in text.split()[:1024]])
    return 1e6 / np.where(ohm > 0, ohm, np.nan)


def shown(repository: Path, path: str) -> str:
    if (repository / path).is_file():
        return (repository / path).read_text()
    command = ["git", "-C", repository, "show", f"HEAD:{path}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def measure(name: str, cells: Readings, held_out: str, block: int) -> dict[str, Any]:
    began = time.process_time()
    test_cells = split(cells.cells, held_out, block)
    fit, test = cells.of(thinned(~test_cells)), cells.of(thinned(test_cells))
    top = float(np.quantile(cells.targets_us, 0.995))
    law, gauss = fitted(fit), Gaussian.of(fit)

    def of_fit(targets: Floats, age: float) -> Below:
        return law_at(law, targets, age).cdf

    def of_gauss(targets: Floats, age: float) -> Below:
        return lambda errors: gauss.below(targets, age, errors)

    laws: dict[str, Callable[[Floats, float], Below]] = {"fitted": of_fit, "gaussian": of_gauss}
    laws |= {name: published(name, top, len(cells.ages_s) == 1) for name in PUBLISHED}
    step = cells.step or top / BINS
    found = {which: scores(of, test, step) for which, of in laws.items()}
    readings = int(np.isfinite(test.readings_us).sum())
    return {
        "set": name, "unit": "levels" if cells.step else "µS", "full_scale": round(top, 1),
        "ages_s": cells.ages_s.tolist(),
        "fitted_cells": len(fit.cells), "held_out_readings": readings, "floor": round(0.8687 / readings**0.5, 4),
        "laws": found, "date": time.strftime("%Y-%m-%d", time.gmtime()), "cpu_s": round(time.process_time() - began, 1),
    }  # fmt: skip


def thinned(kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """At most ``MOST_CELLS`` of the cells, evenly."""
    at = np.flatnonzero(kept)
    chosen = np.zeros(len(kept), np.bool_)
    chosen[at[np.linspace(0, len(at) - 1, min(len(at), MOST_CELLS)).astype(int)]] = True
    return chosen


def published(name: str, top: float, baked_only: bool) -> Callable[[Floats, float], Below]:
    model = published_model(name, top).model

    def of(targets: Floats, age: float) -> Below:
        mean, sigma = model.error(targets, model.ages_s[-1] if baked_only else age)
        return lambda errors: ndtr((errors - mean) / np.maximum(sigma, 1e-6))

    return of


def scores(of: Callable[[Floats, float], Below], test: Readings, step: float) -> dict[str, Any]:
    """Mean log probability of the bins of all readings, and the distance of their places from uniform."""
    logs, places, rng = [], [], np.random.default_rng(1)
    for age, readings in zip(map(float, test.ages_s), test.readings_us, strict=True):
        known = np.isfinite(readings)
        targets, errors = test.targets_us[known], (readings - test.targets_us)[known]
        below = of(targets, age)
        low, high = below(errors - step / 2), below(errors + step / 2)
        logs.append(np.log(np.maximum(high - low, LEAST)))
        places.append(low + (high - low) * rng.random(len(errors)))
    return {"ln_p": round(float(np.concatenate(logs).mean()), 3), "ks": round(distance(np.concatenate(places)), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("HIL_DATA", ""))
    parser.add_argument("--radar", type=Path)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []
    done = {row["set"] for row in rows}
    for name, read, held_out, block in all_sets(given.data, given.radar):
        if name in done or given.only not in name:
            continue
        row = measure(name, read(), held_out, block)
        if name.startswith("radar"):
            row["commit"] = subprocess.run(
                ["git", "-C", given.radar, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
            ).stdout.strip()
        with ROWS.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print(json.dumps(row))


if __name__ == "__main__":
    main()
