"""Coverage of the interval of an unmeasured chip, over truths that are drawn from the ranges of its chip file.

Truths are hidden: a point of the ranges and one virtual chip of it. The interval is that of ``hil simulate`` for other
virtual chips of the same file, in the fast mode; both see the same images. Simulated: no chip
is asked. Prints one JSON line.

``measured``: the same before and after measuring. Of each truth a record is made as a calibration without errors would
leave it (columns, stuck cells, laws and noise), and its cells are read back as a deployment reads them. Intervals of
``--after`` virtual chips are held against the truth's score: of the record alone, as if it were written again, and of
this chip as it was read. As many further truths lie outside one range; counted is who is named, and as what. All are
tuned. Truths that are done stand in FILE, one a line, and are not done again.

    python benchmarks/studies.py belief-coverage [--truths 200] [--chips 200] [--seed 1]  # 50 CPU s
    python benchmarks/studies.py belief-coverage --measured FILE [--truths 40] [--after 20] [--seed 1]  # 2 CPU minutes
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from cim.cells.programming_law import redraw_law
from cim.chip.file import chip_text, parse_chip
from cim.chip.spec import ChipSpec, ModelSpec
from cim.record.calibration import CalibrationRecord
from cim.record.ignorance import measured_models, unmeasured_record
from cim.simulator.modes import SimulationMode
from hil.datasets.image_set import load_dataset
from hil.deployment.network_source import BUNDLED_DATA, BUNDLED_NETWORK
from hil.deployment.options import DeployOptions
from hil.prediction.predict import UNMEASURED, points_of, predict
from hil.prediction.shares import Shrunk
from hil.prediction.text import Distribution, Prediction
from hil.simulation.virtual_chip import SampledDevice, build_chip
from hil.simulation.virtual_chips import VirtualChips
from hil.simulation.virtual_target import VirtualTarget
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.network.file import load_network
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import run
from mapping.program.training_inputs import training_inputs
from mapping.recipe.recipe import fit_digital, write_cells

RANGES = {  # of lab-128 for this benchmark; made up, wide enough to matter
    "cell_error_factor": (0.5, 3.0),
    "conversion_noise_codes": (0.2, 1.5),
    "read_variance_us2": (0.5, 5.0),
    "wire_ohm": (0.2, 3.0),
    "stuck_low_share": (0.0, 0.06),
    "column_gain_sigma": (0.0, 0.1),
    "inl_codes": (0.0, 1.5),
}
SAMPLES = 500
OUTSIDE = (1.5, 3.0)  # times the highest value of its range, of a truth outside


def unsure(text: str) -> str:
    """A chip file with those ranges."""
    start = text.index("[models]")
    head, models = text[:start], text[start:]
    for name, (low, high) in RANGES.items():
        middle, ends = (low + high) / 2, f"range = [{low}, {high}]"
        entry = f'{name} = {{ value = {middle}, {ends}, source = "assumed: benchmark" }}'
        pattern = re.compile(rf"^{name} = .*$", re.MULTILINE)
        section = models[: models.index("\n[")]
        models = pattern.sub(entry, models, count=1) if pattern.search(section) else f"[models]\n{entry}" + models[8:]
    return head + models


def program_of(spec: ChipSpec) -> ConductanceProgram:
    return compile_network(load_network(BUNDLED_NETWORK), spec)


def predicted(program: ConductanceProgram, chips: int, seed: int, mode: SimulationMode) -> Prediction:
    options = DeployOptions(samples=SAMPLES, virtual_chips=chips, seed=seed, all_images=True)
    return predict(program, load_dataset(BUNDLED_DATA, "test"), None, options, Watch(), mode=mode)


def coverage(truths: int, chips: int, seed: int) -> dict[str, Any]:
    text, _ = chip_text("lab-128")
    program = program_of(parse_chip(unsure(text), "unsure.toml"))
    hidden = predicted(program, truths, seed, SimulationMode.FAST).chips
    belief = predicted(program, chips, seed + 1, SimulationMode.FAST)
    low, high = belief.one_chip(0)
    spread = float(np.subtract(*np.quantile(hidden, (0.975, 0.025))))
    parts = belief.shares_at(0)
    return {
        "truths": truths,
        "seed": seed,
        "chips": chips,
        "inside": int(((hidden >= low) & (hidden <= high)).sum()),
        "low": low,
        "high": high,
        "width_by_spread": (high - low) / spread,
        "shares": None if parts is None else parts.to_json(),
        "truth_sd": float(hidden.std(ddof=1)),
        "hidden": hidden.tolist(),
        "believed": belief.chips.tolist(),
    }


def measured(file: Path, truths: int, chips: int, after: int, seed: int) -> dict[str, Any]:
    """Intervals before and after a calibration without errors, over hidden truths; and who is named outside a range."""
    text, _ = chip_text("lab-128")
    program = program_of(parse_chip(unsure(text), "unsure.toml"))
    about = program.spec.models
    options = DeployOptions(samples=SAMPLES, virtual_chips=truths, seed=seed, all_images=True)
    points = points_of(program.spec, options)
    if points is None or about is None:
        raise ValueError("a chip file without ranges")
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    if len(done) < truths:
        low, high = predicted(program, chips, seed + 1, SimulationMode.FAST).one_chip(0)
        data = load_dataset(BUNDLED_DATA, "test")
        images, labels = data.images[:SAMPLES], data.labels[:SAMPLES]
        for number in range(len(done), truths):
            like = points.models(about, number)
            record = _record(program, like, seed, number)
            truth, such, this = scores(program, record, after, [seed, number], images, labels)
            row = {"truth": truth, "before": [low, high], "again": list(such), "as_read": list(this)}
            done.append(row)
            with file.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
    rows = done[:truths]
    before = rows[0]["before"][1] - rows[0]["before"][0]
    found: dict[str, Any] = {"truths": truths, "seed": seed, "before": rows[0]["before"]}
    for which in ("again", "as_read"):
        widths = np.array([row[which][1] - row[which][0] for row in rows]) / before
        found[which] = {
            "inside": sum(row[which][0] <= row["truth"] <= row[which][1] for row in rows),
            "width_by_before": {"median": float(np.median(widths)), "highest": float(widths.max())},
            "at_most_a_third": int((widths <= 1 / 3).sum()),
        }
    far = [list(RANGES)[number % len(RANGES)] for number in range(truths)]
    named = []
    for number in range(truths):
        like = points.models(about, number)
        times = np.random.default_rng([seed, number]).uniform(*OUTSIDE)
        off: dict[str, Any] = {far[number]: RANGES[far[number]][1] * times}
        named.append([_outside(program, m, seed, number) for m in (like, replace(like, **off))])
    return {
        **found,
        "named_though_inside": sum(bool(inside) for inside, _ in named),
        "outside_named": sum(value in outside for value, (_, outside) in zip(far, named, strict=True)),
        "outside_named_alone": sum([value] == outside for value, (_, outside) in zip(far, named, strict=True)),
    }


def scores(
    program: ConductanceProgram,
    record: CalibrationRecord,
    after: int,
    seeds: list[int],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """Score of a hidden chip of ``record``, and the intervals of it written again and of it as it was read back."""
    seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
    options = DeployOptions(samples=len(images), virtual_chips=after, seed=seed, all_images=True)
    recipe = options.recipe_of(program)
    program = recipe.prepared(program, record, Watch())
    inputs, rng = training_inputs(program), np.random.default_rng(seeds)
    law = redraw_law(record.programming, rng)
    target = VirtualTarget(record, law, rng, temperature_c=record.temperature_c)
    written = fit_digital(write_cells(recipe, program, target), target, recipe.reads, inputs)
    mode = SimulationMode.FAST
    targets = recipe.targets(program, Watch())
    again = VirtualChips(program, record, recipe, after, seed + 1, inputs=inputs, mode=mode, targets=targets)
    hidden = SampledDevice(
        target.cells_us, target.columns, written.corrections, again.lasting_us(after, target.cells_us)
    )
    chip = build_chip(program, record, hidden, seed=seed, number=0, mode=mode)
    readings = {slot: np.asarray(seen, np.float32) for slot, seen in written.readings_us.items()}
    this = VirtualChips(
        program, record, recipe, after, seed + 2,
        corrections=written.corrections, readings_us=readings, mode=mode, targets=targets,
    )  # fmt: skip
    tuned = program if targets is None else chip.tuned(program, targets).program

    def interval(row: VirtualChips) -> tuple[float, float]:
        right = row.run(images, 0, Watch()).argmax(-1) == labels
        return Distribution(right.mean(1), len(images)).one_chip

    return float((run(tuned, images, chip).argmax(-1) == labels).mean()), interval(again), interval(this)


def _record(program: ConductanceProgram, like: ModelSpec, seed: int, number: int) -> CalibrationRecord:
    """What a calibration without errors finds of hidden truth ``number``; the seeds are those of ``hil simulate``."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, UNMEASURED, number]))
    return unmeasured_record(program.spec, program.macros, like, rng)


def _outside(program: ConductanceProgram, like: ModelSpec, seed: int, number: int) -> list[str]:
    """Values that a calibration without errors finds outside their range."""
    found = measured_models(_record(program, like, seed, number), program.spec)
    return list(Shrunk(RANGES, found, (0.0, 1.0)).outside)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truths", type=int, help="200, or 40 that are measured")
    parser.add_argument("--chips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the truths; the next one is the belief's")
    parser.add_argument("--measured", type=Path, help="before and after measuring, truths in this file")
    parser.add_argument("--after", type=int, default=20, help="virtual chips of each record")
    given = parser.parse_args()
    started = time.process_time()
    if given.measured:
        found = measured(given.measured, given.truths or 40, given.chips, given.after, given.seed)
    else:
        found = coverage(given.truths or 200, given.chips, given.seed)
    print(json.dumps({"date": time.strftime("%Y-%m-%d"), **found, "cpu_s": round(time.process_time() - started)}))


if __name__ == "__main__":
    main()
