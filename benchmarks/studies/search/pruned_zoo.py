"""Architectures of the zoo pruned to half of their EDP on the array of MNSIM: what can be pruned, and what is refused.

    python benchmarks/studies.py pruned-zoo [--names resnet18,vgg11] [--share 0.5] [--images 96]

Weights are seeded, images random: cost and agreement with the float network only. One JSON line a network.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from mapping.network.capture import UnsupportedOperation, capture
from mapping.network.graph import Preprocess
from search.errors import SearchError
from search.pruned.limits import PruningLimits
from search.pruned.make import prune, teacher_of
from search.pruned.plan import PruningPlan
from search.pruned.price import PlanPrices
from search.pruned.refit import FitSettings
from search.space.target import load_target
from search.train.images import Images

sys.path.insert(0, str(Path(__file__).parent.parent / "networks"))
from zoo_networks import CLASSES, ZOO, Network

HELD = 0.25


def pruned_row(network: Network, share: float, count: int) -> dict[str, object]:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    module = (network.small or network.build)().eval()
    preprocess = Preprocess((0.5,) * network.means, (0.25,) * network.means)
    classes = tuple(map(str, range(CLASSES)))
    graph = capture(module, torch.zeros(1, *network.shape), preprocess=preprocess, classes=classes)
    channels, height, width = graph.input_shape
    smooth = rng.integers(0, 256, (count, 1, 1, channels)) + rng.integers(-60, 60, (count, height, width, channels))
    images = Images(np.clip(smooth, 0, 255).astype(np.uint8), np.zeros(count, np.int64))
    fit, held = images.split(HELD, 0)
    teacher = teacher_of(graph)
    price = PlanPrices(teacher, load_target("mnsim-default"))
    before = price(PruningPlan(4, 8))
    best = prune(teacher, fit, held, price, share * before, PruningLimits(), FitSettings(), ways=1)[0]
    return {
        "plan": best.plan.text, "before_mj_ms": round(before, 5), "after_mj_ms": round(best.price, 5),
        "divergence": round(best.answers.divergence, 5),
    }  # fmt: skip


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--names", default="", help="with commas; default: all of the zoo with maps and classes")
    ask.add_argument("--share", type=float, default=0.5, help="of the EDP of W4A8 that stays")
    ask.add_argument("--images", type=int, default=96)
    given = ask.parse_args()
    for name in given.names.split(",") if given.names else ZOO:
        began = time.process_time()
        try:
            row = pruned_row(ZOO[name], given.share, given.images)
        except (SearchError, UnsupportedOperation) as error:
            row = {"refused": str(error).splitlines()[0]}
        except Exception as error:  # what should have been refused by name
            row = {"broken": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps({"network": name, **row, "cpu_s": round(time.process_time() - began, 1)}), flush=True)


if __name__ == "__main__":
    main()
