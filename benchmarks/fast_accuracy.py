"""Accuracy of whole networks in the quick mode beside the exact simulator, over the same virtual chips, tuned or not.

    python benchmarks/fast_accuracy.py [--net NET] [--data NAME] [--chips 20] [--images 1000] [--out FILE]

NET is bundled, resnet20 or fmnist_cnn5x5 (weights of the folder HIL_DATA, trained without a chip in mind), or a net.pt
of the data set NAME. ``--macros`` compiles for so many, with copies on idle cells or in residual slices. One emulated
chip of ``lab-128`` is calibrated, or ``--record`` names the record of one; virtual chips are drawn from its record
as if the network were programmed again, one hour before. Every chip runs the same images in both modes, as compiled
and tuned to its own answers in that mode. Prints one JSON line: mean accuracies (simulated), their
difference with its standard error over chips, CPU times.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from gap import AGE_S, network_of

import hil
from cim.chip.file import load_chip
from cim.record.file import load_record
from hil.calibration.procedure import calibrate
from hil.datasets.image_set import load_dataset
from hil.deployment.options import DeployOptions
from hil.simulation.virtual_chips import VirtualChips
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.layout.lay_out import LayoutOptions
from mapping.network.file import load_network
from mapping.program.training_inputs import training_inputs
from mapping.quantise.weight_scales import ScaleRule
from mapping.tune.aims import aimed, aims_of
from mapping.tune.channel_affine import tune_targets

SEED, CHIP_SEED, TUNE_IMAGES = 7, 301, 128


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--net", default="bundled")
    ask.add_argument("--data", default="fashion-mnist")
    ask.add_argument("--macros", type=int)
    ask.add_argument("--residual-slices", type=int, default=0)
    ask.add_argument("--record", type=Path)
    ask.add_argument("--chips", type=int, default=20)
    ask.add_argument("--images", type=int, default=1000)
    ask.add_argument("--out", type=Path, help="file to append the line to")
    given = ask.parse_args()
    path = Path(given.net)
    network, data = (load_network(path), load_dataset(given.data, "test")) if path.suffix else network_of(given.net)
    images, labels = data.images[: given.images], data.labels[: given.images]
    spec, residual = load_chip("lab-128", macros=given.macros), given.residual_slices
    layout = LayoutOptions(averaged=given.macros is not None and not residual, residual=residual)
    program = compile_network(network, spec, options=layout, scale_rule=ScaleRule.OUTPUT)
    if given.record:
        record = load_record(given.record)
    else:
        address = f"emulated:lab-128?seed={CHIP_SEED}" + (f"&macros={given.macros}" if given.macros else "")
        with hil.open_chip(address, spec=program.spec) as chip:
            record = calibrate(chip, program.macros, age_s=AGE_S)
    program = aimed(program, aims_of(record.programming, program.spec.macro, AGE_S, "benchmark"))
    inputs, targets = training_inputs(program), tune_targets(program, program.calibration_images[:TUNE_IMAGES])
    line: dict[str, Any] = {
        "network": given.net,
        "chips": given.chips,
        "images": len(images),
        "residual_slices": residual,
    }
    line["largest_saturated_share"] = round(max(m.group.saturated_share for m in program.matrices), 4)
    for words, aim in (("untuned", None), ("tuned", targets)):
        right, seconds = {}, {}
        for mode in ("exact", "fast"):
            chips = VirtualChips(
                program,
                record,
                DeployOptions(age_s=AGE_S, read_back_reads=16).recipe_of(program),
                given.chips,
                SEED,
                inputs=inputs,
                mode=mode,
                targets=aim,
            )
            start = time.process_time()
            logits = chips.run(images, 0, Watch())
            seconds[mode] = time.process_time() - start
            right[mode] = 100.0 * (logits.argmax(2) == labels).mean(1)
        difference = right["fast"] - right["exact"]
        line[words] = {
            "accuracy_percent": {name: round(float(values.mean()), 2) for name, values in right.items()},
            "spread_over_chips_points": {name: round(float(values.std(ddof=1)), 2) for name, values in right.items()},
            "difference_points": round(float(difference.mean()), 3),
            "standard_error_points": round(float(difference.std(ddof=1) / np.sqrt(given.chips)), 3),
            "cpu_s": {name: round(value, 1) for name, value in seconds.items()},
        }
    print(json.dumps(line))
    if given.out:
        with given.out.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
