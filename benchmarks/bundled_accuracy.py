"""Accuracy of the bundled network: float, ideal, and measured on twenty emulated chips as they come.

Each chip is calibrated, programmed, aged one hour, read back, corrected, and runs the test images once,
all through the in-process wire. Float and ideal use all 10,000 Fashion-MNIST test images when they are
on the machine (Debian package or HIL_DATA), else the 2,000 bundled ones. Prints one JSON line.

    python benchmarks/bundled_accuracy.py [--chips 20] [--images 10000] [--net net.pt]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import hil
from hil.calibration.procedure import calibrate
from hil.datasets.image_set import Dataset, load_dataset
from hil.deployment.deploy import BUNDLED_DATA, program_of
from hil.deployment.inference import measured_multiply
from hil.deployment.network_source import BUNDLED_NETWORK
from hil.deployment.options import DeployOptions
from hil.deployment.targets.wired import program_chip, read_back
from hil.driver.samples import INFER, PROGRAM, READ_BEFORE
from hil.errors import FileError
from hil.watch import Watch
from mapping.network.float_run import float_logits
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import load_program, save_program
from mapping.program.training_inputs import training_inputs
from mapping.tune.columns import column_corrections

FIRST_SEED = 200  # not those of any other study


def test_images(limit: int) -> Dataset:
    try:
        return load_dataset("fashion-mnist", "test", limit=limit)
    except FileError:
        return load_dataset(BUNDLED_DATA, "test", limit=limit)


def measured_accuracy(seed: int, program_path: str, images: int) -> float:
    """Accuracy of one emulated chip at the default age."""
    program, data, watch, options = load_program(program_path), test_images(images), Watch(), DeployOptions()
    with hil.open_chip(f"emulated:lab-128?seed={seed}", spec=program.spec) as chip:
        record = calibrate(chip, program.macros, age_s=options.age_s)
        program_chip(chip, program, sample=PROGRAM, watch=watch)
        chip.wait(options.age_s)
        readings = read_back(chip, program.macros, reads=options.read_back_reads, sample=READ_BEFORE, watch=watch)
        corrections = column_corrections(program, record, readings, training_inputs(program))
        logits = run(program, data.images, measured_multiply(chip, program, corrections), sample=INFER)
    return float((logits.argmax(1) == data.labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--chips", type=int, default=20)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--net", type=Path, default=BUNDLED_NETWORK)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    program, graph = program_of(options.net, chip="lab-128", macros=None, trust=False, watch=Watch())
    data = test_images(10_000)
    ideal = run(program, data.images, IdealMultiply(program)).argmax(1) == data.labels
    floats = None if graph is None else float_logits(graph, data.images).argmax(1) == data.labels
    seeds = range(FIRST_SEED, FIRST_SEED + options.chips)
    count = len(seeds)
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(options.workers) as pool:
        path = str(Path(folder) / "program.h5")
        save_program(program, path)
        chips = list(pool.map(measured_accuracy, seeds, [path] * count, [options.images] * count))
    print(
        json.dumps(
            {
                "benchmark": "bundled_accuracy",
                "backend": "emulated",
                "images": len(data),
                "float": None if floats is None else round(float(floats.mean()), 4),
                "ideal": round(float(ideal.mean()), 4),
                "measured": {
                    "images": min(options.images, len(data)),
                    "chips": len(chips),
                    "mean": round(float(np.mean(chips)), 4),
                    "lowest": round(min(chips), 4),
                    "highest": round(max(chips), 4),
                },
                "macros": len(program.macros),
            }
        )
    )


if __name__ == "__main__":
    main()
