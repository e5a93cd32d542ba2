"""Gain of NeuRRAM's ResNet-20 by fine-tuning with the chip in the loop, on virtual chips of ``neurram.toml``.

The published procedure (doi 10.1038/s41586-022-04992-8): a part of the layers is written, training images run through
it, the layers behind are trained on what was measured; then the next part. Here with what ``hil finetune`` does on a
chip (``hil.improvement.finetuning``): GROUPS groups of layers, MEASURED training images, the network's own answers as
the teacher. Lines of channels are fitted as in ``neurram.py``. Each chip goes through it twice, with and without the
training, and both are scored on the same lossless test images. Simulated; GAIN was measured by others.

    HIL_DATA=… python benchmarks/studies.py neurram-finetuned run COPY WORK [--chips 12]   # goes on where it stopped
    python benchmarks/studies.py neurram-finetuned report WORK                            # one JSON line
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from neurram import AGE_S, FITTED_IMAGES, IMAGES, program_of, row_of, with_fitted_lines
from neurram_networks import WRITTEN, network_of, revision_of
from numpy.typing import NDArray

from cim.intervals import one_more_half_width
from cim.simulator.training_errors import array_noise
from hil.datasets.image_set import load_dataset
from hil.improvement.finetuning.progressive import layer_groups
from hil.improvement.finetuning.settings import ON_CHIP
from hil.improvement.finetuning.written_layers import VirtualLayers
from hil.prediction.predict import VirtualRow
from mapping.network.capture import capture
from mapping.network.file import NetworkFile
from mapping.network.graph import Preprocess
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import input_codes
from mapping.program.partial_run import PartialRun
from mapping.program.training_inputs import training_inputs
from mapping.tune.reweighted import only_layers, reweighted, with_steps
from search.train.arrays import aimed
from search.train.downstream import DownstreamLayers, DownstreamRecipe
from search.train.images import Images
from search.train.training import Machine

GAIN = 85.11 - 83.52  # points, of 10,000 images, all layers on the chip
GROUPS, MEASURED, KEPT, EPOCHS = 7, 3000, 400, 2
FIRST_IMAGE = {"test": 0, "train": 1 << 20, "kept": 1 << 21}  # numbers of their noise


def network(copy: Path, program: ConductanceProgram) -> NetworkFile:
    import torch

    graph = capture(
        network_of(copy, WRITTEN),
        torch.zeros(1, 3, 32, 32),
        preprocess=Preprocess((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        classes=tuple("0123456789"),
    )
    return NetworkFile(graph, 8, 4, program.calibration_images)


def through(
    row: VirtualRow, number: int, images: dict[str, NDArray[np.uint8]], behind: DownstreamLayers | None, place: Path
) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
    """Classes that one virtual chip gives the test images, and the groups that were trained; None: none is."""
    plain = running = row.program
    recipe = replace(row.options.recipe_of(plain), age_s=AGE_S)
    chip = VirtualLayers(row.record_of(number), recipe, 0, number)
    values = {name: {"input": input_codes(part, plain.input)} for name, part in images.items()}
    lines = {"input": input_codes(plain.calibration_images[:FITTED_IMAGES], plain.input)}
    done, groups, trained = 0, layer_groups(plain, GROUPS), []
    training = DownstreamRecipe(EPOCHS, ON_CHIP.batch, ON_CHIP.rate, strength=ON_CHIP.strength, seed=number)
    for index, layers in enumerate(groups):
        if behind is not None and index:
            written = [name for group in groups[:index] for name in group]
            found = behind.train(
                written,
                values["train"],
                values["kept"],
                training,
                checkpoint=place / f"{index}",
                key=f"{number} {index}",
            )
            trained.append({"before": round(found.before, 4), "after": round(found.after, 4), "kept": found.kept})
            if found.kept:
                later = [name for name in plain.layers if name not in written]
                plain = reweighted(plain, behind.weights(plain, later))
                running = with_steps(plain, running.steps[:done])
        chip.write(only_layers(plain, layers), training_inputs(plain), index)
        last = layers[-1] if index + 1 < len(groups) else plain.steps[-1].name
        running = with_fitted_lines(running, chip, lines, done, last)
        for name, seen in values.items():
            part = PartialRun(seen, done)
            part.go_on(running, last, chip, sample=FIRST_IMAGE[name])
            values[name] = part.values
        done = part.done
    return values["test"][plain.steps[-1].name].argmax(1), trained


def run_chips(copy: Path, work: Path, chips: int, first: int) -> None:
    work.mkdir(parents=True, exist_ok=True)
    program = program_of(copy, work)
    row, test = row_of(program, chips), load_dataset("cifar10", "test", limit=IMAGES)
    whole = load_dataset("cifar10", "train")
    own, kept = Images(whole.images, whole.labels.astype(np.int64)).split(KEPT / len(whole.labels), 0)
    own = own.spread(MEASURED)
    images = {"test": test.images, "train": own.pixels, "kept": kept.pixels}
    for number in range(first, chips):
        path = work / f"finetuned-{number:03d}.json"
        if path.exists():
            continue
        began, place = time.process_time(), work / f"training-{number:03d}"
        place.mkdir(exist_ok=True)
        noise = aimed(array_noise(program.spec.macro, row.record_of(number), AGE_S))
        behind = DownstreamLayers(network(copy, program), row.program, noise, own, kept, Machine("cpu", 1, "32-true"))
        before, _ = through(row, number, {"test": test.images}, None, place)
        after, trained = through(row, number, images, behind, place)
        answers = {
            "chip": number,
            "before": (before == test.labels).astype(int).tolist(),
            "after": (after == test.labels).astype(int).tolist(),
            "trained": trained,
            "revision": revision_of(copy),
            "cpu_s": round(time.process_time() - began),
        }
        path.write_text(json.dumps(answers))
        print(f"chip {number}: {np.mean(answers['before']):.3f} -> {np.mean(answers['after']):.3f}", flush=True)


def report(work: Path) -> dict[str, Any]:
    rows = [json.loads(path.read_text()) for path in sorted(work.glob("finetuned-*.json"))]
    gains = 100.0 * np.array([np.subtract(row["after"], row["before"]) for row in rows])  # (chips, images)
    of_chips, mean = gains.mean(1), float(gains.mean())
    images_sd = float(gains.mean(0).std(ddof=1) / np.sqrt(gains.shape[1]))
    half = one_more_half_width(len(rows), float(np.hypot(of_chips.std(ddof=1), images_sd)))
    return {
        "what": "finetuned",
        "outside": {"repository": "weierwan/Neurram_48core", "revision": rows[0]["revision"]},
        "date": time.strftime("%Y-%m-%d"),
        "chips": len(rows),
        "images": gains.shape[1],
        "groups": GROUPS,
        "measured_images": MEASURED,
        "epochs": EPOCHS,
        "before": [round(100 * float(np.mean(row["before"])), 1) for row in rows],
        "after": [round(100 * float(np.mean(row["after"])), 1) for row in rows],
        "measured": round(GAIN, 2),
        "predicted": mean,
        "mean_se": float(np.hypot(of_chips.std(ddof=1) / np.sqrt(len(rows)), images_sd)),
        "low": mean - half,
        "high": mean + half,
        "half_width": half,
        "inside": bool(abs(mean - GAIN) <= half),
        "cpu_s": [row["cpu_s"] for row in rows],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("places", nargs="+", type=Path, help="COPY WORK, or WORK of a report")
    parser.add_argument("--chips", type=int, default=12)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    if given.what == "report":
        print(json.dumps(report(given.places[0])))
    else:
        run_chips(*given.places, given.chips, given.first)


if __name__ == "__main__":
    main()
