"""How much accuracy a network keeps on a chip, lever by lever: emulated chips through the wire, and simulated chips.

One JSON line a row, appended to --out; rows that are there already are not made again. An emulated row calibrates its
chip (the record is kept in --folder), writes it, waits for the age, reads back, corrects, runs the test images, tunes
on 128 stored training images and runs them again; the seeds of the chips were not used while the levers were built. A
simulated row draws virtual chips from the record of the first seed, fast mode, each tuned to its own answers.

    HIL_DATA=… python benchmarks/gap.py --out benchmarks/results/gap.jsonl [--seeds 1000,1001,1002] [--images 500]
        [--networks resnet20,fmnist_cnn5x5,bundled,net.pt:cifar10] [--levers rounding,output,output+aims+idle]
        [--only emulated]
    HIL_DATA=… python benchmarks/gap.py --out benchmarks/results/ablation.jsonl --only simulated --chips 4 --levers
        rounding,output,rounding+aims,rounding+idle,output+aims,output+idle,rounding+aims+idle,output+aims+idle,output+aims+idle+rewrite
    python benchmarks/gap.py --out benchmarks/results/gap.jsonl --table
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from kept_rows import keep_row, kept_rows

from cim.chip.file import load_chip
from cim.record.calibration import CalibrationRecord
from cim.record.file import load_record, save_record
from hil.calibration.procedure import calibrate
from hil.datasets.image_set import Dataset, load_dataset
from hil.deployment.deploy import BUNDLED_DATA
from hil.deployment.inference import measured_multiply
from hil.deployment.network_source import BUNDLED_NETWORK
from hil.deployment.options import DeployOptions, usual_recipe
from hil.deployment.targets.wired import WiredTarget
from hil.driver.open_chip import open_chip
from hil.driver.samples import INFER, UNTUNED
from hil.prediction.predict import Tuning, predict
from hil.watch import Watch
from mapping.compile import LayoutOptions, compile_network
from mapping.network.architectures import build
from mapping.network.file import NetworkFile, load_network
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.program.training_inputs import training_inputs
from mapping.quantise.weight_scales import ScaleRule
from mapping.recipe.recipe import Recipe, begun_tune, fit_digital, write_cells
from mapping.tune.channel_affine import tune_targets

STORED = 128  # training images, as hil import stores them
AGE_S = 3600.0
LEVERS = ("aims", "idle", "rewrite")  # after the rule of the weight scales
REWRITES = 3


def network_of(name: str) -> tuple[NetworkFile, Dataset]:
    if name == "bundled":
        return load_network(BUNDLED_NETWORK), load_dataset(BUNDLED_DATA, "test")
    if ".pt:" in name:
        path, _, data = name.rpartition(":")
        return load_network(Path(path)), load_dataset(data, "test")
    from safetensors.torch import load_file

    weights, architecture, data = {
        "resnet20": ("cifar10_resnet20_a", "cifar_resnet20_a", "cifar10"),
        "fmnist_cnn5x5": ("fmnist_cnn5x5", "fmnist_cnn5x5", "fashion-mnist"),
    }[name]
    state = load_file(Path(os.environ["HIL_DATA"]) / "models" / f"{weights}.safetensors")
    graph = build(architecture, classes=tuple("0123456789"), state=state)
    training = load_dataset(data, "train", limit=STORED)
    return NetworkFile(graph, 4, 8, training.images), load_dataset(data, "test")


def record_of(seed: int, folder: Path) -> CalibrationRecord:
    """Record of a whole emulated chip, measured once."""
    path = folder / f"lab-128-{seed}.h5"
    if not path.exists():
        with open_chip(f"emulated:lab-128?seed={seed}") as driver:
            save_record(calibrate(driver, tuple(range(driver.description.macros)), age_s=AGE_S), path)
    return load_record(path)


def emulated(program: ConductanceProgram, data: Dataset, seed: int, images: int, folder: Path, aim: bool) -> Any:
    record, options, watch = (
        record_of(seed, folder),
        DeployOptions(age_s=AGE_S, recipe=usual_recipe(without=[] if aim else ["aims"])),
        Watch(),
    )
    program = options.recipe_of(program).prepared(program, record, watch)
    x, y = data.images[:images], data.labels[:images]
    start = time.process_time()
    with open_chip(f"emulated:lab-128?seed={seed}", spec=program.spec) as driver:
        target, recipe = WiredTarget(driver, record, watch, force=True), Recipe(age_s=AGE_S)
        standing = write_cells(recipe, program, target)
        plain = fit_digital(standing, target, recipe.reads, training_inputs(program))
        corrections, written = plain.corrections, time.process_time()
        tune = begun_tune(program, tune_targets(program, program.calibration_images))
        tuned = target.tune(tune, plain).program
        done = time.process_time()
        found = {}
        for name, running, sample in (("untuned", program, UNTUNED), ("tuned", tuned, INFER)):
            chip = measured_multiply(driver, running, corrections)
            found[name] = float((run(running, x, chip, sample=sample, batch=32).argmax(1) == y).mean())
    seconds = {"write_and_correct_cpu_s": round(written - start, 1), "tune_cpu_s": round(done - written, 1)}
    return {**found, **seconds}


def simulated(
    program: ConductanceProgram,
    data: Dataset,
    seed: int,
    images: int,
    folder: Path,
    aim: bool,
    chips: int,
    rewrite: int,
) -> Any:
    record = record_of(seed, folder)
    recipe = usual_recipe(*([f"rewrite={rewrite}"] if rewrite else []), without=[] if aim else ["aims"])
    options = DeployOptions(samples=images, virtual_chips=chips, age_s=AGE_S, seed=seed, recipe=recipe)
    found: dict[str, Any] = {}
    first = Dataset(data.name, data.images[:images], data.labels[:images], data.classes, data.source, data.digest)
    for name, when in (("untuned", Tuning.NEVER), ("tuned", Tuning.EACH)):
        row = predict(program, first, record, options, Watch(), mode="fast", tune_at=when).accuracies[0]
        found[name], found[f"{name}_sd"] = float(row.mean()), float(row.std(ddof=1))
    return found


def rows(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for name in given.networks.split(","):
        for lever in given.levers.split(","):
            for backend in given.only.split(","):
                for seed in given.seeds if backend == "emulated" else given.seeds[:1]:
                    yield {"network": name, "levers": lever, "backend": backend, "seed": seed, "images": given.images}


def table(lines: list[dict[str, Any]]) -> list[str]:
    """A Markdown table: mean over chips by network, levers and backend."""
    head = [
        "| network | levers | backend | chips | images | ideal | untuned | tuned |",
        "|---|---|---|---|---|---|---|---|",
    ]
    kept: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in lines:
        kept.setdefault(tuple(line[k] for k in ("network", "levers", "backend", "images")), []).append(line)
    for (name, levers, backend, images), some in kept.items():
        chips = some[0].get("chips", len(some))
        means = [f"{100 * np.mean([s[k] for s in some]):.1f}" for k in ("ideal", "untuned", "tuned")]
        head.append(f"| {name} | {levers} | {backend} | {chips} | {images} | {' | '.join(means)} |")
    return head


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path("runs/gap"), help="where records of chips are kept")
    parser.add_argument("--seeds", type=lambda s: [int(p) for p in s.split(",")], default=[1000, 1001, 1002])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--chips", type=int, default=8, help="virtual chips of a simulated row")
    parser.add_argument("--networks", default="resnet20,fmnist_cnn5x5,bundled")
    parser.add_argument(
        "--levers", default="rounding,output,output+aims", help=f"a rule of scales, + any of {', '.join(LEVERS)}"
    )
    parser.add_argument("--only", default="emulated,simulated")
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    given = parser.parse_args()
    there = kept_rows(given.out)
    if given.table:
        print("\n".join(table(there)))
        return 0
    given.folder.mkdir(parents=True, exist_ok=True)
    keys = ("network", "levers", "backend", "seed", "images")
    done = {tuple(line[k] for k in keys) for line in there}
    for row in rows(given):
        if tuple(row[k] for k in keys) in done:
            continue
        network, data = network_of(row["network"])
        rule, *levers = row["levers"].split("+")
        if set(levers) - set(LEVERS) or ("rewrite" in levers and row["backend"] == "emulated"):
            parser.error(f"levers {row['levers']!r}: {', '.join(LEVERS)}, and rewrite in simulation only")
        layout = LayoutOptions(averaged="idle" in levers)
        program = compile_network(network, load_chip("lab-128"), options=layout, scale_rule=ScaleRule(rule))
        x, y = data.images[: row["images"]], data.labels[: row["images"]]
        ideal = float((run(program, x, IdealMultiply(program)).argmax(1) == y).mean())
        about = (program, data, row["seed"], row["images"], given.folder, "aim" in row["levers"])
        rewrites = REWRITES if "rewrite" in levers else 0
        found = emulated(*about) if row["backend"] == "emulated" else simulated(*about, given.chips, rewrites)
        more = {"chips": given.chips} if row["backend"] == "simulated" else {}
        keep_row(given.out, {**row, **more, "ideal": ideal, **found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
