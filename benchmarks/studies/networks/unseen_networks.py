"""Networks that no test and no other study has: does any lose more than a point from float to ideal without a word?

    HIL_DATA=… python benchmarks/studies.py unseen-networks [--networks mixnet_s,…] [--images 1000] [--macros N]

Small architectures of timm for CIFAR-10, each with weights of a seed. Statistics of batch norms are those of 2,000
training images (JPEG copies), the last layer is a ridge regression of their labels on what the network gives: margins
are thin, so that ideal loses its answers before a trained network would. Compiled as ``hil compile`` does by default,
W4A8, 512 stored training images. One JSON line each: right answers of lossless test images in float and ideal, in
percent, and what the first lines of a command say (``told``, null: nothing).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import timm
import torch
from exact_matrix import large_enough
from mobile_networks import MEAN, STD, as_input
from torch import nn

from cim.chip.file import load_chip
from hil.datasets.image_set import load_dataset
from hil.deployment.options import DeployOptions
from mapping.compile import compile_network
from mapping.network.capture import capture
from mapping.network.file import NetworkFile
from mapping.network.float_run import float_logits
from mapping.network.graph import Preprocess
from mapping.program.execute import IdealMultiply, run
from mapping.scale_choice import judged_by_float

NETWORKS = (
    "repghostnet_050", "regnetx_002", "semnasnet_075", "mixnet_s", "mobilenetv1_100",
    "cs3darknet_focus_s", "hgnetv2_b0", "repvit_m0_9", "gernet_s", "resnet14t",
)  # fmt: skip
TRAINED, STORED, BATCH = 2000, 512, 50
RIDGE = 0.1  # of the mean square of a feature


def trained(name: str, images: np.ndarray, labels: np.ndarray, classes: int) -> nn.Module:
    """The architecture with weights of a seed, statistics of these images, and a last layer fitted to their labels."""
    torch.manual_seed(0)
    net = timm.create_model(name, pretrained=False, num_classes=classes)
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean over all batches
    batches = [as_input(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
    with torch.no_grad():
        net.train()
        for batch in batches:
            net(batch)
        net.eval()
        features = torch.cat([net.forward_head(net.forward_features(b), pre_logits=True) for b in batches]).double()
        middle = features.mean(0)
        about = features - middle
        wanted = nn.functional.one_hot(torch.from_numpy(labels), classes).double() - 1.0 / classes
        square = about.T @ about
        ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=torch.float64)
        weight = torch.linalg.solve(square + ridge, about.T @ wanted).T
        head = net.get_classifier()
        if not isinstance(head, nn.Linear | nn.Conv2d):  # of more than one layer
            net.head = head = nn.Linear(len(middle), classes)
        head.weight.copy_(weight.reshape(head.weight.shape))
        head.bias.copy_(-(weight @ middle))
    return net


def measure(name: str, images: int, macros: int | None) -> dict[str, object]:
    start = time.process_time()
    train, test = load_dataset("cifar10-jpeg", "train"), load_dataset("cifar10", "test")
    labels = train.labels.astype(np.int64)
    net = trained(name, train.images[:TRAINED], labels[:TRAINED], len(train.classes))
    graph = capture(net, torch.zeros(1, 3, 32, 32), preprocess=Preprocess(MEAN, STD), classes=train.classes)
    stored = slice(TRAINED, TRAINED + STORED)
    network = NetworkFile(graph, 4, 8, train.images[stored], labels[stored])
    chip = load_chip("lab-128", macros=macros or large_enough(network, "lab-128"))
    program, kept = judged_by_float(network, partial(compile_network, network, chip, options=DeployOptions().layout))
    x, y, ideal = test.images[:images], test.labels[:images], IdealMultiply(program)
    batches = [x[i : i + BATCH] for i in range(0, len(x), BATCH)]
    found = {
        "float": np.concatenate([float_logits(graph, batch) for batch in batches]),
        "ideal": np.concatenate([run(program, batch, ideal) for batch in batches]),
    }
    return {
        "bits": f"W{program.weight_bits}A{program.activation_bits}",
        "images": len(x),
        **{of: round(100 * float((logits.argmax(1) == y).mean()), 2) for of, logits in found.items()},
        "same_answer": round(100 * float((found["float"].argmax(1) == found["ideal"].argmax(1)).mean()), 2),
        "told": kept.line if kept.much else None,
        "macros": len(program.macros),
        "cpu_s": round(time.process_time() - start, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--macros", type=int, default=None)
    given = parser.parse_args()
    for name in given.networks.split(","):
        line = {"benchmark": "unseen_networks", "network": name, **measure(name, given.images, given.macros)}
        print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
