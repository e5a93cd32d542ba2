"""Coverage of the interval of an unmeasured chip, over truths that are drawn from the ranges of its chip file.

Truths are hidden: a point of the ranges and one virtual chip of it. The interval is that of ``hil simulate`` for other
virtual chips of the same file, in the fast mode; both see the same images. Simulated: no chip
is asked. Prints one JSON line.

    python benchmarks/belief_coverage.py [--truths 200] [--chips 200] [--seed 1]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from cim.chip.file import chip_text, parse_chip
from cim.chip.spec import ChipSpec
from cim.simulator.modes import SimulationMode
from hil.datasets.image_set import load_dataset
from hil.deployment.deploy import BUNDLED_DATA
from hil.deployment.network_source import BUNDLED_NETWORK
from hil.deployment.options import DeployOptions
from hil.prediction.predict import predict
from hil.prediction.text import Prediction
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.network.file import load_network
from mapping.program.conductance import ConductanceProgram

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truths", type=int, default=200)
    parser.add_argument("--chips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the truths; the next one is the belief's")
    given = parser.parse_args()
    started = time.process_time()
    print(
        json.dumps({**coverage(given.truths, given.chips, given.seed), "cpu_s": round(time.process_time() - started)})
    )


if __name__ == "__main__":
    main()
