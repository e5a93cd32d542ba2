"""How fast candidates are simulated, and how much of their cost is a sum over operators; one JSON line a case.

    python benchmarks/studies.py search-speed [--networks 400] [--workers 2]
    python benchmarks/studies.py search-speed --scaling

``per_second``: whole networks, uncached, on Dask workers of this machine. ``cpu_ms``: of one here. Of ln EDP, an
additive model is fitted to half of the networks; ``r2`` and ``tau`` are on the other half.

``--scaling``: the same networks of one space on 1 and on 2 workers of this machine, and on a cluster of a scheduler
and two worker processes that were started apart and are joined by their address; ``speedup`` is over one worker.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from search_baselines import explained

from search.choice.additive import kendall_tau
from search.choice.candidate_costs import Simulator, costs
from search.choice.hardware_significance import edp_model
from search.space.file import load_space
from search.space.prune import fitted
from search.space.target import load_target
from search.train.workers import workers

CASES = (
    ("fashion-mnist", "lab-128", None), ("cifar10", "lab-128", None), ("eurosat", "lab-128", None),
    ("cifar10", "lab-128", 16),
    ("fashion-mnist", "mnsim-default", None), ("cifar10", "mnsim-default", None), ("eurosat", "mnsim-default", None),
)  # fmt: skip


@contextmanager
def cluster() -> Iterator[str]:
    """The address of a scheduler with two worker processes."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        file = Path(place) / "scheduler.json"
        for command in (
            ["scheduler", "--port", "0", "--no-dashboard"],
            *[["worker", "--nthreads", "1", "--no-dashboard"]] * 2,
        ):
            module = f"distributed.cli.dask_{command[0]}"
            process = subprocess.Popen(
                [sys.executable, "-m", module, *command[1:], "--host", "127.0.0.1", "--scheduler-file", str(file)],
                stderr=subprocess.DEVNULL, cwd=place,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.terminate)
            while not file.exists():
                time.sleep(0.1)
        yield str(json.loads(file.read_text("utf-8"))["address"])


def scaling(count: int) -> None:
    target = load_target("lab-128")
    space, _ = fitted(load_space("cifar10"), target)
    rng = np.random.default_rng(0)
    networks = [space.decode(space.sample(rng)) for _ in range(count)]

    def rate(client: Any, wanted: int) -> float:
        client.wait_for_workers(wanted)
        Simulator(space, target, client=client)(networks[: 50 * wanted])  # workers import
        begun = time.perf_counter()
        Simulator(space, target, client=client)(networks)
        return count / (time.perf_counter() - begun)

    rates = {}
    for number in (1, 2):
        with workers(number) as client:
            rates[f"{number} of this machine"] = rate(client, number)
    with cluster() as address, workers(address) as client:
        rates["2 of a scheduler"] = rate(client, 2)
    one = rates["1 of this machine"]
    for name, found in rates.items():
        print(json.dumps({"benchmark": "search_speed --scaling", "space": space.name, "target": target.name,
                          "networks": count, "workers": name, "per_second": round(found, 1),
                          "speedup": round(found / one, 2)}))  # fmt: skip


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--networks", type=int, default=400)
    ask.add_argument("--workers", type=int, default=2)
    ask.add_argument("--scaling", action="store_true")
    given = ask.parse_args()
    if given.scaling:
        scaling(3 * given.networks)
        return
    with workers(given.workers) as client:
        for name, target_name, macros in CASES:
            target = load_target(target_name, macros=macros)
            whole = load_space(name)
            space, dropped = fitted(whole, target)
            rng = np.random.default_rng(0)
            genomes = np.array([space.sample(rng) for _ in range(given.networks)])
            networks = [space.decode(genome) for genome in genomes]
            Simulator(space, target, client=client)(networks[:50])  # workers import
            begun = time.perf_counter()
            found = Simulator(space, target, client=client)(networks)
            wall_s = time.perf_counter() - begun
            begun = time.process_time()
            costs(space, target, networks[:50])
            cpu_s = time.process_time() - begun
            half = given.networks // 2
            model = edp_model(space.choices, genomes[:half], found[:half])
            rest = np.log([cost.edp_mj_ms for cost in found[half:]])
            edp = [cost.edp_mj_ms for cost in found]
            print(json.dumps({
                "space": name, "target": target_name, "macros": target.macros,
                "networks": space.size(), "operators_dropped": len(dropped),
                "per_second": round(given.networks / wall_s), "cpu_ms": round(1e3 * cpu_s / 50, 2),
                "feasible_share": round(float(np.mean([cost.feasible for cost in found])), 3),
                "edp_mj_ms": [float(f"{q:.3g}") for q in np.quantile(edp, (0, 0.5, 1))],
                "r2": round(explained(model, genomes[half:], rest), 3),
                "tau": round(kendall_tau(model.predict(genomes[half:])[0], rest), 3),
            }))  # fmt: skip


if __name__ == "__main__":
    main()
