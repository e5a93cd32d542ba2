"""NeuRRAM's own table of accuracy under weight noise, reproduced from its trained networks: 28 numbers, one JSON line.

COPY is a copy of ``weierwan/Neurram_48core``, which has no licence: nothing of it is in this tree. Networks that were
trained under noise of 0 to 0.30 are tested under 0 to 0.15, on the first 1,000 lossless test images, many draws each;
their spreadsheet has one draw on 10,000 images. Plain floating point: no chip, real or virtual, is in it.

    HIL_DATA=… python benchmarks/studies.py neurram-noise COPY WORK [--draws 20]  # 12 CPU min; resumes
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
import torch
from neurram_networks import TRAINED_AT, Resnet20, network_of, revision_of, trained_at
from numpy.typing import NDArray
from torch import nn

from hil.datasets.image_set import load_dataset

IMAGES = 1000
TESTED_AT = (0.0, 0.05, 0.10, 0.15)
PUBLISHED = (  # percent of 10,000 images: rows trained at, columns tested at
    (87.25, 69.28, 25.68, 12.21),
    (88.13, 86.21, 79.04, 61.59),
    (88.19, 87.08, 83.83, 77.23),
    (87.58, 86.95, 85.20, 81.37),
    (87.56, 86.97, 85.61, 83.26),
    (86.48, 86.22, 85.48, 83.66),
    (85.95, 85.90, 84.98, 83.55),
)


def accuracy_under_noise(
    network: Resnet20, noise: float, images: torch.Tensor, labels: NDArray[np.int64], rng: torch.Generator
) -> float:
    """With Gaussian noise on kernels and biases before normalisation, relative to the largest weight of the layer."""
    held = [(m, m.weight.data, m.bias) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    kept = [(layer, weight.clone(), None if bias is None else bias.data.clone()) for layer, weight, bias in held]
    for layer, weight, bias in kept:
        size = noise * float(weight.abs().max())
        layer.weight.data = weight + size * torch.randn(weight.shape, generator=rng)
        if layer.bias is not None and bias is not None:
            layer.bias.data = bias + size * torch.randn(bias.shape, generator=rng)
    with torch.no_grad():
        classes = torch.cat([network(part).argmax(1) for part in images.split(125)])
    for layer, weight, bias in kept:
        layer.weight.data = weight
        if layer.bias is not None and bias is not None:
            layer.bias.data = bias
    return float((classes.numpy() == labels).mean())


def noise_table(copy: Path, work: Path, draws: int) -> dict[str, Any]:
    """Each of the 28 numbers beside the mean of our draws, in standard errors of images and of one draw of theirs."""
    work.mkdir(parents=True, exist_ok=True)
    data = load_dataset("cifar10", "test", limit=IMAGES)
    pixels = torch.tensor(data.images).permute(0, 3, 1, 2).float() / 255.0
    places = [(row, column) for row in range(len(TRAINED_AT)) for column in range(len(TESTED_AT))]

    def file_of(row: int, column: int) -> Path:
        return work / f"noise-{TRAINED_AT[row]:.2f}-{TESTED_AT[column]:.2f}.json"

    def seen_of(row: int, column: int) -> list[float]:
        path = file_of(row, column)
        return json.loads(path.read_text()) if path.exists() else []

    for draw in range(draws):  # all numbers with one draw first: a run that is broken off says something of each
        for row in range(len(TRAINED_AT)):
            network = None
            for column, tested in enumerate(TESTED_AT):
                seen = seen_of(row, column)
                if len(seen) > draw or (draw and not tested):
                    continue
                network = network or network_of(copy, trained_at(TRAINED_AT[row]))
                rng = torch.Generator().manual_seed(1000 * draw + 100 * row + column)
                seen.append(accuracy_under_noise(network, tested, pixels, data.labels, rng))
                file_of(row, column).write_text(json.dumps(seen))
    cells = []
    for row, column in places:
        trained, tested, seen = TRAINED_AT[row], TESTED_AT[column], seen_of(row, column)
        values = 100.0 * np.array(seen)
        share = values.mean() / 100.0
        images_se = 100.0 * np.sqrt(share * (1.0 - share) * (1.0 / IMAGES - 1.0 / 10_000))
        own = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        draws_sd = np.sqrt(max(own**2, 0.0) * (1.0 + 1.0 / len(values)))  # one draw on their side, ours on ours
        off = (values.mean() - PUBLISHED[row][column]) / np.hypot(images_se, draws_sd)
        cells.append(
            {
                "trained": trained,
                "tested": tested,
                "published": PUBLISHED[row][column],
                "ours": round(float(values.mean()), 2),
                "sd_of_draws": round(own, 2),
                "draws": len(values),
                "standard_errors": round(float(off), 2),
            }
        )
        print(json.dumps(cells[-1]), flush=True)
    away = np.abs([cell["standard_errors"] for cell in cells])
    return {
        "outside": {"repository": "weierwan/Neurram_48core", "revision": revision_of(copy)},
        "date": time.strftime("%Y-%m-%d"),
        "within_2": int((away <= 2).sum()),
        "beyond_3": int((away > 3).sum()),
        "cells": cells,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs=2, type=Path, help="COPY WORK")
    parser.add_argument("--draws", type=int, default=20)
    given = parser.parse_args()
    print(json.dumps(noise_table(*given.places, given.draws)))


if __name__ == "__main__":
    main()
