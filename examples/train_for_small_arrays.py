"""Train the networks that ``hil deploy --emulated`` runs on chips too small for the larger one, as ``small-32`` is.

    pip download --no-deps scikit-learn; unzip -p scikit_learn-*.whl "*/digits.csv.gz" > digits.csv.gz
    python examples/train_for_small_arrays.py digits.csv.gz --out hil/datasets/bundled

One thread, some seconds. Two layers each, as plain as they come: no noise of a chip in training. Of the 1,797 digits
the first 797 train and 1,000 score. Yin-Yang is generated (Kriener, Göltz, Petrovici, arXiv:2102.08211).
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from hil.deployment.import_weights import import_network
from mapping.network.file import save_network

SEED = 1
SMALLEST = 8, 7  # hidden units, and the seed from 1 to 8 that is right most often on its training points
DIGITS_TRAINED = 797
YIN_YANG = ("yin", "yang", "dot")
RADIUS, DOT = 0.5, 0.1


def digits(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (1797, 8, 8, 1) of 17 grey levels, and what they show."""
    rows = np.loadtxt(gzip.decompress(path.read_bytes()).decode().splitlines(), delimiter=",")
    images = np.rint(rows[:, :64] * 255 / 16).astype(np.uint8)
    return images.reshape(-1, 8, 8, 1), rows[:, 64].astype(np.int64)


def yin_yang(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points x, y of the sign with 1 − x and 1 − y, (count, 4), as many of each class as chance gives to balanced
    draws; 0: yin, 1: yang, 2: a dot."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 2 * RADIUS, (60 * count, 2))
    xy = xy[np.hypot(*(xy - RADIUS).T) <= RADIUS]
    right, left = (np.hypot(xy[:, 0] - at * RADIUS, xy[:, 1] - RADIUS) for at in (1.5, 0.5))
    yang = (right <= DOT) | ((left > DOT) & (left <= 0.5 * RADIUS)) | ((xy[:, 1] > RADIUS) & (right > 0.5 * RADIUS))
    kinds = np.where((right < DOT) | (left < DOT), 2, yang)
    wanted = rng.integers(3, size=count)
    places = [iter(np.flatnonzero(kinds == kind)) for kind in range(3)]
    at = np.array([next(places[kind]) for kind in wanted])
    return np.column_stack([xy[at], 1 - xy[at]]).astype(np.float32), wanted


def network(inputs: int, hidden: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def trained(model: nn.Module, x: torch.Tensor, labels: NDArray[np.int64], epochs: int, decay: float) -> nn.Module:
    y = torch.from_numpy(labels)
    steps = epochs * -(-len(x) // 50)
    descent = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=decay)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps)
    for _ in range(epochs):
        for at in torch.randperm(len(x)).split(50):
            descent.zero_grad()
            functional.cross_entropy(model(x[at]), y[at]).backward()
            descent.step()
            rate.step()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("digits", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    torch.manual_seed(SEED)
    images, shown = digits(asked.digits)
    points, kinds = yin_yang(3000, SEED)
    tested, kinds_tested = yin_yang(1000, SEED + 1)
    names = np.array([str(k) for k in range(10)])
    first, last = slice(DIGITS_TRAINED), slice(DIGITS_TRAINED, None)
    sets = {
        "digits": ("images", images[first], shown[first], images[last], shown[last], names),
        "yin_yang": ("inputs", points, kinds, tested, kinds_tested, np.array(YIN_YANG)),
    }
    sets["yin_yang_8"] = sets["yin_yang"]
    with tempfile.TemporaryDirectory() as folder:
        for name, (key, train, labels, test, truth, classes) in sets.items():
            hidden, of = 24, name
            if name == "yin_yang_8":
                (hidden, seed), of = SMALLEST, "yin_yang"
                torch.manual_seed(seed)
            for split, samples, what in (("train", train, labels), ("test", test, truth)):
                file = asked.out / f"{of}_{split}.npz"
                np.savez_compressed(file, **{key: samples}, labels=what, classes=classes)
            x = torch.from_numpy(train.astype(np.float32))
            if key == "images":
                x = (x / 255).permute(0, 3, 1, 2)
            model = trained(
                network(x[0].numel(), hidden, len(classes)), x, labels, 60, 1e-2 if key == "images" else 0.0
            )
            exported = torch.export.export(model, (x[:2],), dynamic_shapes=({0: torch.export.Dim("n", min=2)},))
            torch.export.save(exported, source := Path(folder) / f"{name}.pt2")
            plain = {"mean": (0.0,), "std": (1.0,)} if key == "images" else {"mean": None, "std": None}
            file = import_network(
                source,
                arch=None,
                data=str(asked.out / f"{of}_train.npz"),
                weight_bits=4,
                activation_bits=8,
                trust=True,
                **plain,
            )
            save_network(file, asked.out / f"{name}.pt")


if __name__ == "__main__":
    main()
