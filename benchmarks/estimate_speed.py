"""Speed and memory of the cost models, one JSON line each.

    python benchmarks/estimate_speed.py [--rounds 50]

CPU time of one warm estimate (median, ms) of LeNet, VGG-8 and ResNet-18 at 32 x 32 and of ResNet-18 at 224 x 224,
one thread; ``peak_mb`` is what the largest estimate allocates, ``process_mb`` the process with its imports.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping

from cim.mnsim import NETWORKS, estimate_mnsim, load_mnsim
from cim.workload import Workload

Model = Callable[[Workload], object]


def mnsim() -> Model:
    config = load_mnsim()
    return lambda workload: estimate_mnsim(workload, config)


MODELS: Mapping[str, Callable[[], Model]] = {"mnsim2": mnsim}


def workloads() -> dict[str, Workload]:
    return {**{name: make() for name, make in NETWORKS.items()}, "resnet18_224": NETWORKS["resnet18"](224)}


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
        model, networks = make(), workloads()
        times = {network: median_ms(model, workload, rounds) for network, workload in networks.items()}
        process_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
        peak = peak_mb(model, networks["resnet18_224"])
        print(json.dumps({"model": name, "median_ms": times, "peak_mb": peak, "process_mb": process_mb}))


if __name__ == "__main__":
    main()
