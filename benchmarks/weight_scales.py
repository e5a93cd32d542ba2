"""Accuracy by the rule that chooses weight scales: ideal, and of virtual chips drawn from the chip file's models.

Networks: the bundled one and the two pretrained ones of HIL_DATA (ResNet-20 on lossless CIFAR-10 images,
a CNN on Fashion-MNIST). Every rule compiles the same network for the same chip; virtual chips are
those of ``hil simulate`` one hour after programming. Simulated, not measured. Prints one JSON line.

    HIL_DATA=… python benchmarks/weight_scales.py [--chips 8] [--images 1000] [--weight-bits 4] [--networks bundled]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from cim.chip.file import load_chip
from hil.datasets.image_set import Dataset, load_dataset
from hil.deployment.deploy import BUNDLED_DATA
from hil.deployment.network_source import BUNDLED_NETWORK
from hil.deployment.options import DeployOptions
from hil.prediction.predict import predict
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.network.architectures import build
from mapping.network.file import NetworkFile, load_network
from mapping.program.execute import IdealMultiply, run
from mapping.quantise.weight_scales import ScaleRule

MACROS = 200  # of lab-128, so that 8-bit weights fit too
CALIBRATION_IMAGES = 512


def bundled() -> tuple[NetworkFile, Dataset]:
    return load_network(BUNDLED_NETWORK), load_dataset(BUNDLED_DATA, "test")


def pretrained(weights: str, architecture: str, data: str) -> tuple[NetworkFile, Dataset]:
    from safetensors.torch import load_file

    state = load_file(Path(os.environ["HIL_DATA"]) / "models" / f"{weights}.safetensors")
    graph = build(architecture, classes=tuple("0123456789"), state=state)
    training = load_dataset(data, "train", limit=CALIBRATION_IMAGES)
    return NetworkFile(graph, 4, 8, training.images), load_dataset(data, "test")


NETWORKS: dict[str, Callable[[], tuple[NetworkFile, Dataset]]] = {
    "bundled": bundled,
    "fmnist_cnn5x5": lambda: pretrained("fmnist_cnn5x5", "fmnist_cnn5x5", "fashion-mnist"),
    "cifar10_resnet20_a": lambda: pretrained("cifar10_resnet20_a", "cifar_resnet20_a", "cifar10"),
}


def measure(network: NetworkFile, data: Dataset, rule: ScaleRule, bits: int, chips: int, images: int) -> dict[str, Any]:
    start = time.monotonic()
    program = compile_network(network, load_chip("lab-128", macros=MACROS), weight_bits=bits, scale_rule=rule)
    seconds = time.monotonic() - start
    ideal = run(program, data.images[:images], IdealMultiply(program)).argmax(1) == data.labels[:images]
    options = DeployOptions(samples=images, virtual_chips=chips, age_s=3600.0)
    found = predict(program, data, None, options, Watch(), mode="fast").accuracies[0]
    return {
        "ideal": round(float(ideal.mean()), 4),
        "simulated": round(float(found.mean()), 4),
        "standard_error": round(float(found.std(ddof=1) / np.sqrt(chips)), 4),
        "compile_s": round(seconds, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", type=int, default=8)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--weight-bits", type=int, default=4)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    given = parser.parse_args()
    found = {}
    for name in given.networks.split(","):
        network, data = NETWORKS[name]()
        found[name] = {
            rule.value: measure(network, data, rule, given.weight_bits, given.chips, given.images) for rule in ScaleRule
        }
    print(
        json.dumps(
            {
                "benchmark": "weight_scales",
                "backend": "simulated",
                "chip": "lab-128",
                "weight_bits": given.weight_bits,
                "chips": given.chips,
                "images": given.images,
                "networks": found,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
