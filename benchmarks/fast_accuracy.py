"""Accuracy of whole networks in the quick mode beside the exact simulator, over the same virtual chips.

    python benchmarks/fast_accuracy.py [--net NET.pt] [--chips 20] [--images 1000]

One emulated chip of ``lab-128`` is calibrated; virtual chips are drawn from its record as if the network
were programmed again, one hour before. Every chip runs the same images in both modes. Prints one JSON
line: mean accuracies (simulated), their difference with its standard error over chips, CPU times.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

import hil
from hil.calibration.procedure import calibrate
from hil.datasets.image_set import load_dataset
from hil.deployment.deploy import BUNDLED_NETWORK, program_of
from hil.simulation.virtual_chips import VirtualChips
from hil.watch import Watch
from mapping.program.training_inputs import training_inputs

AGE_S, SEED, CHIP_SEED = 3600.0, 7, 301


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--net", type=Path, default=BUNDLED_NETWORK)
    ask.add_argument("--chips", type=int, default=20)
    ask.add_argument("--images", type=int, default=1000)
    given = ask.parse_args()
    watch = Watch()
    program, _ = program_of(given.net, chip="lab-128", macros=None, trust=False, watch=watch)
    data = load_dataset("fashion-mnist", "test", limit=given.images)
    with hil.open_chip(f"emulated:lab-128?seed={CHIP_SEED}", spec=program.spec) as chip:
        record = calibrate(chip, program.macros, age_s=AGE_S)
    inputs = training_inputs(program)
    right, seconds = {}, {}
    for mode in ("exact", "fast"):
        chips = VirtualChips(program, record, AGE_S, given.chips, SEED, 16, inputs=inputs, mode=mode)
        start = time.process_time()
        logits = chips.run(data.images, 0, watch)
        seconds[mode] = time.process_time() - start
        right[mode] = 100.0 * (logits.argmax(2) == data.labels).mean(1)
    difference = right["fast"] - right["exact"]
    print(json.dumps({
        "network": given.net.name, "chips": given.chips, "images": given.images,
        "accuracy_percent": {name: round(float(values.mean()), 2) for name, values in right.items()},
        "spread_over_chips_points": {name: round(float(values.std(ddof=1)), 2) for name, values in right.items()},
        "difference_points": round(float(difference.mean()), 3),
        "standard_error_points": round(float(difference.std(ddof=1) / np.sqrt(given.chips)), 3),
        "cpu_s": {name: round(value, 1) for name, value in seconds.items()},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
