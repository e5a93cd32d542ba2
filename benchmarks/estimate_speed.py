"""Speed and memory of the cost models, one JSON line each.

    python benchmarks/estimate_speed.py [--rounds 50]

CPU time of one warm estimate (median, ms) of LeNet, VGG-8 and ResNet-18 at 32 x 32 and of ResNet-18 at 224 x 224,
one thread, by the MNSIM 2.0 model and by ``cim.cost`` on lab-128 (placing apart); ``peak_mb`` is what the largest
estimate allocates, ``process_mb`` the process with its imports.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace

from cim.chip.file import load_chip
from cim.cost.network_cost import estimate
from cim.cost.workload import Workload
from cim.mnsim import NETWORKS, estimate_mnsim, load_mnsim
from mapping.workload import placed

CHIP, MACROS = "lab-128", 8000

Model = Callable[[Workload], object]


def mnsim() -> Model:
    config = load_mnsim()
    return lambda workload: estimate_mnsim(workload, config)


def events() -> Model:
    chip = load_chip(CHIP, macros=MACROS)
    return lambda workload: estimate(workload, chip)


MODELS: Mapping[str, Callable[[], Model]] = {"mnsim2": mnsim, "events": events}


def workloads(model: str) -> dict[str, Workload]:
    """As MNSIM has them, or with 8-bit codes and 4-bit weights and placed."""
    sizes = {**dict.fromkeys(NETWORKS, 32), "resnet18_224": 224}
    made = {name: NETWORKS[name.removesuffix("_224")](size) for name, size in sizes.items()}
    if model == "mnsim2":
        return made
    chip = load_chip(CHIP, macros=MACROS)
    return {name: placed(with_bits(work), chip) for name, work in made.items()}


def with_bits(work: Workload) -> Workload:
    """The workload as W4A8."""
    layers = tuple(
        replace(layer, weight_bits=4 if layer.kind.on_cells else 0, input_bits=8, output_bits=8)
        for layer in work.layers
    )
    return replace(work, input_bits=8, layers=layers)


def median_ms(model: Model, workload: Workload, rounds: int) -> float:
    model(workload)
    times = []
    for _ in range(rounds):
        began = time.process_time()
        model(workload)
        times.append(time.process_time() - began)
    return round(statistics.median(times) * 1e3, 3)


def peak_mb(model: Model, workload: Workload) -> float:
    tracemalloc.start()
    model(workload)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return round(peak / 1e6, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    for name, make in MODELS.items():
        model, networks = make(), workloads(name)
        times = {network: median_ms(model, workload, rounds) for network, workload in networks.items()}
        process_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
        peak = peak_mb(model, networks["resnet18_224"])
        print(json.dumps({"model": name, "median_ms": times, "peak_mb": peak, "process_mb": process_mb}))


if __name__ == "__main__":
    main()
