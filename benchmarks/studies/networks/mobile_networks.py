"""Networks with depthwise layers, trained plainly on CIFAR-10: a depthwise-separable one and one of inverted residuals.

    HIL_DATA=… python benchmarks/studies.py mobile-networks separable [--epochs 8,5] [--out separable.pt]
    HIL_DATA=… python benchmarks/studies.py mobile-networks inverted

Trained on the 50,000 training images (JPEG copies, cut and mirrored at random) by SGD with cycles of the rate, in
single precision, with nothing known of bits or chips; an interrupted training goes on from its last whole epoch, which
``separable.0.state`` holds. 512 training images are stored for calibration, evenly taken. The net.pt is for W4A8.
Prints one JSON line: parameters, and accuracy in float on the JPEG and on the lossless test images.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hil.datasets.image_set import load_dataset
from mapping.network.capture import capture
from mapping.network.file import NetworkFile, save_network
from mapping.network.float_run import float_logits
from mapping.network.graph import Preprocess

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
STORED = 512
BATCH = 128


def convolution(
    inputs: int, outputs: int, size: int, stride: int, groups: int, active: type[nn.Module] | None
) -> list[nn.Module]:
    made = [nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]
    return made if active is None else [*made, active()]


def separable() -> nn.Module:
    """Plain 3 x 3, then five pairs of a depthwise 3 x 3 and a 1 x 1 convolution, as in MobileNetV1."""
    layers, inputs = convolution(3, 24, 3, 1, 1, nn.ReLU), 24
    for outputs, stride in ((48, 1), (96, 2), (96, 1), (192, 2), (192, 1)):
        layers += convolution(inputs, inputs, 3, stride, inputs, nn.ReLU)
        layers += convolution(inputs, outputs, 1, 1, 1, nn.ReLU)
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


class Inverted(nn.Module):
    """Wide in the middle, narrow and linear at its ends, which are added where they match (MobileNetV2)."""

    def __init__(self, inputs: int, outputs: int, stride: int, factor: int) -> None:
        super().__init__()
        middle = inputs * factor
        self.adds = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            *(convolution(inputs, middle, 1, 1, 1, nn.ReLU6) if factor > 1 else ()),
            *convolution(middle, middle, 3, stride, middle, nn.ReLU6),
            *convolution(middle, outputs, 1, 1, 1, None),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(x)
        return x + out if self.adds else out


def inverted() -> nn.Module:
    blocks = ((16, 24, 2, 4), (24, 24, 1, 6), (24, 48, 2, 6), (48, 48, 1, 6))
    return nn.Sequential(
        *convolution(3, 16, 3, 1, 1, nn.ReLU6),
        *(Inverted(*block) for block in blocks),
        *convolution(48, 192, 1, 1, 1, nn.ReLU6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(192, 10),
    )


NETWORKS = {"separable": separable, "inverted": inverted}


def as_input(images: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32) / 255
    x = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    return x.contiguous(memory_format=torch.channels_last)


def moved(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images of a batch moved by up to 2 pixels and mirrored at random."""
    wide = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    out = np.empty_like(images)
    for i, (y, x, mirror) in enumerate(rng.integers(0, (5, 5, 2), (len(images), 3))):
        cut = wide[i, y : y + 32, x : x + 32]
        out[i] = cut[:, ::-1] if mirror else cut
    return out


def train(
    net: nn.Module, images: np.ndarray, labels: np.ndarray, epochs: int, rate: float, seed: int, at: Path
) -> None:
    """Train, and keep what is trained in ``at`` after each epoch; a state that stands there is gone on with."""
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = len(images) // BATCH
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * steps, pct_start=0.25)
    parts, done = {"net": net, "optimiser": optimiser, "cycle": cycle}, 0
    if at.exists():
        state = torch.load(at, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        rng.bit_generator.state, done = json.loads(state["rng"]), state["done"]
    net.train()
    for epoch in range(done, epochs):
        order, total = rng.permutation(len(images)), 0.0
        for step in range(steps):
            took = order[step * BATCH : (step + 1) * BATCH]
            loss = nn.functional.cross_entropy(net(as_input(moved(images[took], rng))), torch.from_numpy(labels[took]))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            cycle.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1} of {epochs}: loss {total / steps:.3f}", file=sys.stderr, flush=True)
        state = {name: part.state_dict() for name, part in parts.items()}
        torch.save({**state, "rng": json.dumps(rng.bit_generator.state), "done": epoch + 1}, at)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument(
        "--epochs", default="8,5", help="of each cycle of the rate, whose peak is half of the one before"
    )
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="default: NETWORK.pt")
    given = parser.parse_args()
    start = time.process_time()
    torch.manual_seed(given.seed)
    data = load_dataset("cifar10-jpeg", "train")
    net = NETWORKS[given.network]().to(memory_format=torch.channels_last)
    out = given.out or Path(f"{given.network}.pt")
    labels = data.labels.astype(np.int64)
    for cycle, epochs in enumerate(map(int, given.epochs.split(","))):
        state = out.with_suffix(f".{cycle}.state")
        train(net, data.images, labels, epochs, given.rate / 2**cycle, given.seed + cycle, state)
    preprocess = Preprocess(mean=MEAN, std=STD)
    graph = capture(net.eval(), torch.zeros(1, 3, 32, 32), preprocess=preprocess, classes=data.classes)
    kept = slice(None, None, len(data.images) // STORED)
    save_network(NetworkFile(graph, 4, 8, data.images[kept][:STORED], labels[kept][:STORED]), out)
    found = {}
    for name in ("cifar10-jpeg", "cifar10"):
        test = load_dataset(name, "test")
        answers = np.concatenate(
            [float_logits(graph, test.images[i : i + 500]).argmax(1) for i in range(0, len(test.images), 500)]
        )
        found[name] = {"images": len(answers), "float": round(float((answers == test.labels).mean()), 4)}
    size = sum(p.numel() for p in net.parameters())
    print(
        json.dumps(
            {
                "benchmark": "mobile_networks",
                "network": given.network,
                "parameters": size,
                "epochs": given.epochs,
                "accuracy": found,
                "cpu_s": round(time.process_time() - start),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
