"""The networks of MLPerf Tiny as published: float, ideal, simulated, emulated; one JSON line a row, resumable.

    HIL_DATA=… python benchmarks/studies.py mlperf-tiny [--networks ic_resnet8,…]
        [--backends float,ideal,simulated,emulated] [--arrangements plain,residual]
        [--images 1000] [--chips 20] [--seeds 7] [--out rows.jsonl]
    python benchmarks/studies.py mlperf-tiny --table

``HIL_DATA/models/mlperf_tiny`` holds the TFLite files, float and int8. Int8 files keep their own scales: *ideal* is the
int8 network in exact integers. ResNet-8 is scored by the suite's rule (top-1) on its 200 images of CIFAR-10, most of
which are here as JPEG copies only (field ``lossless``), and on the 1,000 test images that are here without loss.
Speech, wake words and machine sounds are not openly available: those networks get inputs of our own (``own_inputs``),
and rows give how far outputs agree with those of the float network, not an accuracy.

Arrangements of the int8 weights on ``lab-128`` cells:

- ``plain``: three bit slices, column corrections and the tune, as ``hil deploy`` does it;
- ``residual``: four copies of the highest slice, each product with them read eight times (32 in a layer that reads
  pictures), lower slices written to take up what those above missed: ``--residual-slices 4``.

Records of emulated chips are measured once and kept in ``--folder``, with answers to every hundred images.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numpy as np
from cached_rows import cache_row, cached_rows
from exact_matrix import large_enough
from numpy.typing import NDArray

from cim.chip.file import load_chip
from cim.record.calibration import CalibrationRecord
from cim.record.file import load_record, save_record
from hil.calibration.procedure import calibrate
from hil.datasets.image_set import load_dataset
from hil.deployment.deploy import write_whole
from hil.deployment.options import DeployOptions
from hil.deployment.running.whole_run import WholeRun
from hil.driver.open_chip import open_chip
from hil.simulation.virtual_chips import VirtualChips
from hil.watch import Watch
from mapping.compile import CannotMap, compile_network
from mapping.layout.lay_out import LayoutOptions
from mapping.layout.place import Placement
from mapping.network.file import NetworkFile
from mapping.network.float_run import float_logits
from mapping.network.graph import NetworkGraph
from mapping.network.importers import import_graph
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.program.training_inputs import training_inputs
from mapping.quantise.weight_scales import ScaleRule
from mapping.tune.channel_affine import tune_targets

OUT = Path(__file__).parents[2] / "results" / "mlperf_tiny.jsonl"
NETWORKS = ("ic_resnet8", "kws_dscnn", "vww_mobilenet", "ad_autoencoder")
ARRANGEMENTS = {"plain": 0, "residual": 4}  # copies of the highest slice
CHIP = "lab-128"
STORED = 128  # training images in the network
AGE_S = 3600.0
PART = 100  # images after which answers of an emulated chip are kept
OPEN = ExitStack()  # chips, until the end
Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Task:
    """Inputs as pixels: ``training`` for ranges and the tune, ``tests`` by name, with labels where there are any.

    ``lossless``: how many images of each set are not JPEG copies.
    """

    training: Images
    tests: dict[str, tuple[Images, NDArray[np.int64] | None]]
    lossless: dict[str, int]


def models() -> Path:
    return Path(os.environ["HIL_DATA"]) / "models" / "mlperf_tiny"


def suite_images() -> tuple[Images, NDArray[np.int64], int]:
    """The 200 images of the suite in its order, their labels, and how many of them are without loss."""
    places = np.load(models() / "ic_perf_samples_idxs.npy")
    copies = load_dataset("cifar10-jpeg", "test")
    with h5py.File(Path(os.environ["HIL_DATA"]) / "cifar10_test.h5") as file:
        exact = file["lossless/images"][()]
    images = copies.images[places].copy()
    there = places < len(exact)
    images[there] = exact[places[there]]
    return images, copies.labels[places], int(there.sum())


def smooth(rng: np.random.Generator, count: int, height: int, width: int) -> Images:
    """Fields of random waves, most of them long, in the middle half of the range."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    fields = np.zeros((count, height, width))
    for _ in range(24):
        f = rng.gamma(1.5, 2.5, (count, 2)) * rng.choice([-1, 1], (count, 2))
        phase, size = rng.uniform(0, 2 * np.pi, count), rng.standard_normal(count)
        angle = 2 * np.pi * (f[:, 0, None, None] * y + f[:, 1, None, None] * x) + phase[:, None, None]
        fields += size[:, None, None] * np.sin(angle)
    fields /= fields.std(axis=(1, 2), keepdims=True)
    return np.clip(np.rint(128 + 40 * fields), 0, 255).astype(np.uint8)


def own_inputs(name: str, shape: tuple[int, int, int], count: int, seed: int) -> Images:
    """Inputs for the networks whose data are not here: tiles of EuroSAT, enlarged, for the wake words; else smooth
    random fields (time by coefficient, or frames by mel bands)."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    if name == "vww_mobilenet":
        tiles = load_dataset("eurosat", "train" if seed else "test", limit=count).images
        rows, columns = np.arange(height) * tiles.shape[1] // height, np.arange(width) * tiles.shape[2] // width
        return np.ascontiguousarray(tiles[:, rows][:, :, columns])
    if name == "ad_autoencoder":
        return smooth(rng, count, 5, 128).reshape(count, height, width, channels)
    return smooth(rng, count, height, width)[..., None]


@cache
def task_of(name: str, shape: tuple[int, int, int]) -> Task:
    if name == "ic_resnet8":
        training, test = load_dataset("cifar10", "train"), load_dataset("cifar10", "test")
        chosen = np.linspace(0, len(training) - 1, STORED).astype(int)
        images, labels, lossless = suite_images()
        tests = {"suite-200": (images, labels), "lossless-1000": (test.images, test.labels)}
        return Task(training.images[chosen], tests, {"suite-200": lossless, "lossless-1000": len(test)})
    return Task(own_inputs(name, shape, STORED, 1), {"own": (own_inputs(name, shape, 200, 0), None)}, {"own": 0})


@cache
def graphs(name: str) -> tuple[NetworkGraph, NetworkGraph]:
    """Float and int8 network with the same preprocessing: that of the int8 file, whose pixels are its codes."""
    classes = tuple("0123456789") if name == "ic_resnet8" else ()
    exact = import_graph(models() / f"{name}_int8.tflite", classes=classes)
    plain = import_graph(models() / f"{name}_float.tflite", classes=classes, preprocess=exact.preprocess)
    return plain, exact


@cache
def compiled(name: str, arrangement: str) -> ConductanceProgram:
    graph = graphs(name)[1]
    file = NetworkFile(graph, 8, 8, task_of(name, graph.input_shape).training)
    copies = ARRANGEMENTS[arrangement]
    macros = -(-large_enough(file, CHIP) * (2 + max(1, copies)) // 3)  # three slices: the highest so often
    layout = LayoutOptions(placement=Placement.SPREAD, residual=copies)

    def on(count: int) -> ConductanceProgram:
        return compile_network(file, load_chip(CHIP, macros=count), scale_rule=ScaleRule.ROUNDING, options=layout)

    try:
        return on(macros)
    except CannotMap as error:  # tiles that share no macro take more
        return on(error.macros_needed)


def record_of(program: ConductanceProgram, seed: int, folder: Path) -> CalibrationRecord:
    """Record of the macros of an emulated chip that the program takes, measured once."""
    path = folder / f"{CHIP}-{program.spec.macros}-{len(program.macros)}-{seed}.h5"
    if not path.exists():
        with open_chip(address(program, seed)) as driver:
            save_record(calibrate(driver, program.macros, age_s=AGE_S), path)
    return load_record(path)


def address(program: ConductanceProgram, seed: int) -> str:
    return f"emulated:{CHIP}?seed={seed}&macros={program.spec.macros}"


@cache
def written(network: str, arrangement: str, seed: int, folder: Path) -> WholeRun:
    """An emulated chip that holds the network, corrected and tuned as ``hil deploy`` does it; open until the end."""
    program = compiled(network, arrangement)
    record, watch = record_of(program, seed, folder), Watch()
    options = DeployOptions(age_s=AGE_S, repeats=1, causes=False)
    program = options.recipe_of(program).prepared(program, record, watch)
    inputs = training_inputs(program)
    driver = OPEN.enter_context(open_chip(address(program, seed), chip=program.spec))
    targets, first = tune_targets(program, program.calibration_images), program.calibration_images[:2]
    return write_whole(driver, program, record, inputs, targets, first, options, watch, force=True)


def emulated(row: dict[str, Any], images: Images, folder: Path) -> Any:
    """Logit codes through the wire of an emulated chip, kept in the folder by the hundred."""
    about = (row["network"], row["arrangement"], row["seed"])
    parts = []
    for first in range(0, len(images), PART):
        name = f"{'-'.join(map(str, about))}-{row['inputs']}-{first}-{len(images[first : first + PART])}.npy"
        if not (folder / name).exists():
            np.save(folder / name, written(*about, folder).measure(images[first : first + PART], first, Watch())[0])
        parts.append(np.load(folder / name, allow_pickle=False))
    return np.concatenate(parts)


def simulated(program: ConductanceProgram, images: Images, chips: int, seed: int, folder: Path) -> Any:
    """Logit codes of virtual chips, drawn from the record of one emulated chip: one after the other."""
    record = record_of(program, seed, folder)
    recipe = DeployOptions(age_s=AGE_S).recipe_of(program)
    program = recipe.prepared(program, record, Watch())
    virtual = VirtualChips(
        program, record, recipe, chips, 0,
        inputs=training_inputs(program), mode="fast",
        targets=tune_targets(program, program.calibration_images),
    )  # fmt: skip
    for number in range(chips):
        chip = virtual.chip(number)
        yield run(virtual.running(number, chip), images, chip)


def scores(logits: NDArray[Any], labels: NDArray[np.int64] | None, reference: NDArray[Any]) -> dict[str, float]:
    """Accuracy where there are labels; how far outputs agree with those of the float network, whatever their scale."""
    a, b = (x - x.mean(0) for x in (logits.astype(np.float64), reference.astype(np.float64)))
    found = {"correlation": round(float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())), 4)}
    if logits.shape[1] <= 12:
        found["same_top"] = round(float((logits.argmax(1) == reference.argmax(1)).mean()), 4)
    if labels is not None:
        found["right"] = int((logits.argmax(1) == labels).sum())
        found["accuracy"] = round(found["right"] / len(labels), 4)
    return found


def answers(row: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """The result of one row."""
    plain, exact = graphs(row["network"])
    task = task_of(row["network"], exact.input_shape)
    images, labels = task.tests[row["inputs"]]
    images, labels = images[: row["images"]], None if labels is None else labels[: row["images"]]
    reference = float_logits(plain, images).reshape(len(images), -1)
    if row["backend"] == "float":
        return scores(reference, labels, reference) | {"lossless": task.lossless[row["inputs"]]}
    program = compiled(row["network"], row["arrangement"])
    if row["backend"] == "ideal":
        return scores(run(program, images, IdealMultiply(program)), labels, reference)
    if row["backend"] == "emulated":
        logits = emulated(row, images, given.folder)
        return scores(logits, labels, reference) | {"macros_used": len(program.macros)}
    chips = simulated(program, images, row["chips"], given.seeds[0], given.folder)
    every = [scores(logits, labels, reference) for logits in chips]
    means = {name: round(float(np.mean([one[name] for one in every])), 4) for name in every[0]}
    worst = "accuracy" if labels is not None else "correlation"
    return means | {"lowest": min(one[worst] for one in every), "highest": max(one[worst] for one in every)}


def rows(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for network in given.networks.split(","):
        for inputs, (images, _) in task_of(network, graphs(network)[1].input_shape).tests.items():
            if given.inputs and inputs not in given.inputs.split(","):
                continue
            one = {"network": network, "inputs": inputs, "images": min(given.images, len(images))}
            for backend in given.backends.split(","):
                if backend in ("float", "ideal"):
                    yield {**one, "backend": backend, "arrangement": "plain"}
                    continue
                for arrangement in given.arrangements.split(","):
                    if backend == "simulated":
                        yield {**one, "backend": backend, "arrangement": arrangement, "chips": given.chips}
                        continue
                    for seed in given.seeds:
                        yield {**one, "backend": backend, "arrangement": arrangement, "seed": seed}


def table(lines: list[dict[str, Any]]) -> list[str]:
    found = [
        "| network | inputs | backend | arrangement | chips | right | accuracy | same top | correlation with float |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        accuracy = f"{line['accuracy']:.1%}" if "accuracy" in line else ""
        top = f"{line['same_top']:.1%}" if "same_top" in line else ""
        found.append(
            f"| {line['network']} | {line['images']} of {line['inputs']} | {line['backend']} | {line['arrangement']} | "
            f"{line.get('chips', 1)} | {line.get('right', '')} | {accuracy} | {top} | {line['correlation']:.3f} |"
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--folder", type=Path, default=Path("runs/mlperf_tiny"), help="where records of chips are kept")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--inputs", default="", help="suite-200,lossless-1000,own; default: all of a network")
    parser.add_argument("--backends", default="float,ideal,simulated,emulated")
    parser.add_argument("--arrangements", default="residual", help=f"of {', '.join(ARRANGEMENTS)}")
    parser.add_argument("--images", type=int, default=1000, help="most images of a row")
    parser.add_argument("--chips", type=int, default=20, help="virtual chips of a simulated row")
    parser.add_argument("--seeds", type=lambda s: [int(p) for p in s.split(",")], default=[7], help="emulated chips")
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    given = parser.parse_args()
    there = cached_rows(given.out)
    if given.table:
        print("\n".join(table(there)))
        return 0
    given.folder.mkdir(parents=True, exist_ok=True)
    keys = ("network", "inputs", "images", "backend", "arrangement", "chips", "seed")
    done = {tuple(line.get(k) for k in keys) for line in there}
    with OPEN:
        for row in rows(given):
            if tuple(row.get(k) for k in keys) in done:
                continue
            start = time.process_time()
            line = row | answers(row, given) | {"cpu_s": round(time.process_time() - start, 1)}
            cache_row(given.out, line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
