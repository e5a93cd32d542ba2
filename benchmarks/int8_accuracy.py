"""Accuracy in exact integers, 8 bits for weights and activations, beside that in float: pretrained networks by family.

    HIL_DATA=… python benchmarks/int8_accuracy.py [--only resnet20_a,…] [--images 1000] [--out rows.jsonl]
    python benchmarks/int8_accuracy.py --table

Networks whose weights are openly available here: ResNets of two repositories and a plain CNN (``HIL_DATA/models``), the
int8 ResNet-8 of MLPerf Tiny, whose own codes are kept, and two networks of this project. Activation ranges come from
128 training images; scores are of the first test images, those of CIFAR-10 without loss. Scales of weights have the
least rounding error (``--weight-scales rounding``), since no cell is in play. One JSON line a network, resumable.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from exact_matrix import large_enough
from kept_rows import keep_row, kept_rows

from cim.chip.file import load_chip
from hil.datasets.image_set import Dataset, load_dataset
from hil.deployment.deploy import BUNDLED_DATA
from hil.deployment.import_weights import import_network
from hil.deployment.network_source import BUNDLED_NETWORK
from mapping.compile import compile_network
from mapping.network.file import NetworkFile, load_network
from mapping.network.float_run import float_logits
from mapping.program.execute import IdealMultiply, run
from mapping.quantise.weight_scales import ScaleRule

OUT = Path(__file__).parent / "results" / "int8_accuracy.jsonl"
CHIP = "lab-128"
WEIGHTS = {
    "resnet14_b": ("cifar10_resnet14_b", "cifar_resnet14_b", "cifar10"),
    "resnet20_a": ("cifar10_resnet20_a", "cifar_resnet20_a", "cifar10"),
    "resnet32_b": ("cifar10_resnet32_b", "cifar_resnet32_b", "cifar10"),
    "cnn5x5": ("fmnist_cnn5x5", "fmnist_cnn5x5", "fashion-mnist"),
}
FAMILIES = {
    "resnet14_b": "ResNet, 1 x 1 shortcuts",
    "resnet20_a": "ResNet, padded shortcuts",
    "resnet32_b": "ResNet, 1 x 1 shortcuts",
    "cnn5x5": "plain CNN",
    "ic_resnet8": "ResNet of MLPerf Tiny, int8 as published",
    "mobilenet": "MobileNet, depthwise (examples/networks/mobilenet_fmnist.pt)",
    "bundled": "the bundled network",
}


def network_of(name: str) -> tuple[NetworkFile, Dataset, Any]:
    """Network, test images, and the graph of the float column."""
    data = Path(os.environ["HIL_DATA"]) / "models"
    settings: dict[str, Any] = {"data_dir": None, "images": 128, "weight_bits": 8, "activation_bits": 8}
    if name in WEIGHTS:
        weights, architecture, images = WEIGHTS[name]
        network = import_network(
            data / f"{weights}.safetensors", arch=architecture, data=images, mean=None, std=None, **settings
        )
        return network, load_dataset(images, "test"), network.graph
    if name == "ic_resnet8":
        given: dict[str, Any] = {"arch": None, "data": "cifar10", **settings}
        network = import_network(data / "mlperf_tiny" / "ic_resnet8_int8.tflite", mean=None, std=None, **given)
        plain = import_network(
            data / "mlperf_tiny" / "ic_resnet8_float.tflite", mean=(0.0,) * 3, std=(1 / 255,) * 3, **given
        )
        return network, load_dataset("cifar10", "test"), plain.graph
    if name == "mobilenet":
        network = load_network(Path(__file__).parent.parent / "examples" / "networks" / "mobilenet_fmnist.pt")
        return network, load_dataset("fashion-mnist", "test"), network.graph
    network = load_network(BUNDLED_NETWORK)
    return network, load_dataset(BUNDLED_DATA, "test"), network.graph


def row_of(name: str, images: int) -> dict[str, Any]:
    start = time.process_time()
    network, data, graph = network_of(name)
    x, y = data.images[:images], data.labels[:images]
    macros = large_enough(NetworkFile(network.graph, 8, 8, network.calibration_images), CHIP)
    program = compile_network(
        network, load_chip(CHIP, macros=macros), weight_bits=8, activation_bits=8, scale_rule=ScaleRule.ROUNDING
    )
    exact = run(program, x, IdealMultiply(program)).argmax(1)
    plain = np.concatenate([float_logits(graph, x[i : i + 100]) for i in range(0, len(x), 100)]).argmax(1)
    return {
        "network": name,
        "images": len(x),
        "data": data.name,
        "float": int((plain == y).sum()),
        "ideal": int((exact == y).sum()),
        "points": round(100 * float((exact == y).mean() - (plain == y).mean()), 2),
        "cpu_s": round(time.process_time() - start, 1),
    }


def table(lines: list[dict[str, Any]]) -> list[str]:
    found = ["| network | family | images | float | ideal W8A8 | points |", "|---|---|---|---|---|---|"]
    for line in lines:
        family = FAMILIES[line["network"]]
        float_share, ideal_share = (f"{100 * line[k] / line['images']:.1f} %" for k in ("float", "ideal"))
        found.append(
            f"| {line['network']} | {family} | {line['images']} of {line['data']} | {float_share} | {ideal_share} | "
            f"{line['points']:+.2f} |"
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(FAMILIES))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    given = parser.parse_args()
    there = kept_rows(given.out)
    if given.table:
        print("\n".join(table(there)))
        return 0
    done = {(line["network"], line["images"]) for line in there}
    for name in given.only.split(","):
        if (name, given.images) in done:
            continue
        line = row_of(name, given.images)
        keep_row(given.out, line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
