"""Networks of several tasks, trained under the chip's errors and deployed: float, ideal, simulated, emulated, verdict.

    HIL_DATA=… python benchmarks/studies.py task-studies [--only segmentation,detection,vit,gru]
        [--training 8000] [--epochs N] [--samples 1000] [--seed 7] [--out rows.jsonl]

Each network of ``benchmarks/task_networks.py`` is trained from seed 0, in float, with the errors of ``lab-128`` cells
on its weights: at every step each weight is off by a normal error of the spread that the chip file's law gives a pair
of cells an hour after writing, as a share of the largest weight of its output. It is then deployed at 4-bit weights
and 8-bit activations on an emulated chip as ``hil deploy`` does it. Scores are those of the task's usual metric. One
JSON line a study; studies that are there are not made again.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from cached_rows import cache_row, cached_rows
from numpy.typing import NDArray
from task_networks import STUDIES, Study, scenes, training_data
from torch import nn

from cim.chip.file import load_chip
from cim.record.cell_errors import nominal_errors
from hil.deployment.deploy import DeployOptions, deploy
from mapping.network.capture import capture
from mapping.network.file import NetworkFile, save_network
from mapping.network.graph import Preprocess
from mapping.network.task import TaskKind

OUT = Path(__file__).parents[2] / "results" / "task_studies.jsonl"
CHIP, AGE_S = "lab-128", 3600.0
MEAN, STD = 0.5, 0.25
BATCH, STORED, TEST = 64, 128, 2000


def share_of_errors() -> float:
    """Standard deviation of a pair of cells, as a share of the largest weight."""
    spec = load_chip(CHIP)
    variance = nominal_errors(spec, AGE_S).written_us2
    span = spec.macro.levels_us[-1] - spec.macro.levels_us[0]
    return float(np.sqrt(2 * np.mean(variance)) / span)


def as_input(images: NDArray[np.uint8]) -> torch.Tensor:
    return ((torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 255.0) - MEAN) / STD


def train(study: Study, images: NDArray[np.uint8], targets: dict[str, NDArray[Any]], epochs: int) -> nn.Module:
    """The network after ``epochs`` over the images, every step under another draw of errors."""
    torch.manual_seed(0)
    module, share = study.build(), share_of_errors()
    weights = [p for name, p in module.named_parameters() if p.ndim > 1 and "places" not in name]
    optimiser = torch.optim.AdamW(module.parameters(), study.rate, weight_decay=1e-3)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, study.rate, total_steps=steps)
    rng = np.random.default_rng(0)
    module.train()
    for epoch in range(epochs):
        order, total = rng.permutation(len(images)), 0.0
        for at in range(0, len(images) - BATCH + 1, BATCH):
            chosen = np.sort(order[at : at + BATCH])
            batch = {name: torch.from_numpy(values[chosen]) for name, values in targets.items()}
            with torch.no_grad():
                errors = [share * w.flatten(1).abs().amax(1).view(-1, *(1,) * (w.ndim - 1)) * torch.randn_like(w)
                          for w in weights]  # fmt: skip
                for weight, error in zip(weights, errors, strict=True):
                    weight.add_(error)
            optimiser.zero_grad()
            loss = study.loss(module(as_input(images[chosen])), batch)
            loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for weight, error in zip(weights, errors, strict=True):
                    weight.sub_(error)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1} of {epochs}: loss {total / (steps // epochs):.3f}", file=sys.stderr, flush=True)
    return module.eval()


def row_of(name: str, given: argparse.Namespace) -> dict[str, Any]:
    study = STUDIES[name]
    epochs = given.epochs or study.epochs
    began = time.process_time()
    images, targets = training_data(study, given.training)
    module = train(study, images, targets, epochs)
    trained = time.process_time() - began
    graph = capture(
        module,
        as_input(images[:1]),
        preprocess=Preprocess((MEAN,) * study.means, (STD,) * study.means),
        classes=study.classes,
    )
    if study.task is not TaskKind.CLASSIFY:
        graph = replace(graph, task=study.task)
    stored = np.linspace(0, len(images) - 1, STORED).astype(int)
    with tempfile.TemporaryDirectory() as folder:
        net, data = Path(folder, "net.pt"), study.data
        save_network(NetworkFile(graph, 4, 8, images[stored]), net)
        if not data:
            data = str(Path(folder, "scenes.npz"))
            pictures, wanted = scenes(TEST, study.side, seed=2)
            kept = ("masks",) if study.task is TaskKind.SEGMENT else ("boxes", "box_classes", "box_counts")
            np.savez(data, images=pictures, **{key: wanted[key] for key in kept})  # type: ignore[arg-type]
        options = DeployOptions(samples=given.samples, causes=False, age_s=AGE_S)
        address = f"emulated:{CHIP}?seed={given.seed}&macros={study.macros}"
        report = deploy(net, address, macros=study.macros, data=data, out=Path(folder, "run"), options=options)
    judged = report.decisive
    return {
        "study": name,
        "about": study.about,
        "metric": judged.metric.name,
        "images": judged.n,
        "float": report.float_accuracy,
        "ideal": judged.ideal.mean,
        "simulated": [judged.simulated.mean, judged.simulated.low, judged.simulated.high],
        "emulated": [judged.measured.mean, judged.measured.low, judged.measured.high],
        "verdict": report.verdict.value,
        "tolerance": judged.tolerance,
        "seed": given.seed,
        "training": len(images),
        "epochs": epochs,
        "training_cpu_s": round(trained, 1),
        "cpu_s": round(time.process_time() - began, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(STUDIES))
    parser.add_argument("--training", type=int, default=8000, help="most training images")
    parser.add_argument("--epochs", type=int, default=0, help="default: what each study says")
    parser.add_argument("--samples", type=int, default=1000, help="most images on the chip")
    parser.add_argument("--seed", type=int, default=7, help="of the emulated chip")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    there = cached_rows(given.out)
    done = {(line["study"], line["seed"]) for line in there}
    for name in given.only.split(","):
        if (name, given.seed) in done:
            continue
        line = row_of(name, given)
        cache_row(given.out, line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
