"""Rank model and Pareto search against 6,561 networks whose accuracies are known, without training.

    HIL_DATA=… python benchmarks/studies.py search-tabular [--seeds 10] [--samples 64] [--budget 256] [--networks 8]

Table: NAS-Bench-Macro. Costs: the reference model below, simulated for whole networks. From ``samples``
networks of the table the accuracy is fitted; each method then may simulate ``budget`` networks and reports
``networks`` of them. Volume: (true accuracy over 80 %, ln EDP over the space's range) of those, as a share of
that of the exhaustive front. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from search_baselines import evolution, explained, random_search, top_k_search, volume

from cim.cost.workload import LayerWork, Workload
from search.choice.accuracy import AdditiveAccuracy, fit_accuracy
from search.choice.additive import kendall_tau
from search.choice.candidate_costs import Simulate, costs
from search.choice.front import Front, non_dominated
from search.choice.hardware_significance import Measure, edp_model
from search.choice.macs import macs_column
from search.choice.pareto import Caps, pareto_search
from search.space.architecture import Architecture
from search.space.candidate import CandidateCost
from search.space.file import load_space
from search.space.genes import Space
from search.space.target import ArraySize

TABLE = Path("search") / "nas-bench-macro_cifar10.json.gz"
ARRAY = ArraySize(128, 16)
FLOOR = 80.0  # percent
METHODS = ("pareto", "random", "paper", "frequency", "lift", "ridge", "evolution")


@dataclass(frozen=True, slots=True)
class ReferenceChip:
    """A simple chip, plausible and not calibrated: layers one after the other, no network on the chip.

    128 x 128 arrays; 8-bit weights as differential pairs of four 2-bit cells; inputs bit by bit; eight columns
    share a converter of 1 ns and 2 pJ; 0.05 pJ a driven row, 0.5 pJ an array and cycle, 0.05 pJ a buffered bit.
    """

    macros: int = 1 << 20
    name: str = "reference"
    digest: str = "reference-1"
    array: ArraySize = ARRAY
    input_bits: int = 8
    adc_bits: int = 8

    def cost(self, work: Workload) -> CandidateCost:
        layers = [self._layer(layer) for layer in work.layers if layer.kind.on_cells]
        energy_pj = math.fsum(layer[1] for layer in layers)
        return CandidateCost(
            sum(layer[0] for layer in layers), energy_pj, sum(layer[2] for layer in layers), self.macros
        )

    def _layer(self, layer: LayerWork) -> tuple[float, float, int]:
        """Latency in ns, energy in pJ, arrays."""
        rows, outputs = layer.rows, layer.out_shape[0] // layer.groups
        together = min(self.array.rows // rows, self.array.outputs // outputs)
        if together:
            arrays, reads = math.ceil(layer.groups / together), 1
        else:
            reads = math.ceil(rows / self.array.rows)
            arrays = layer.groups * reads * math.ceil(outputs / self.array.outputs)
        cycles = layer.positions * layer.input_bits
        conversions = 8 * layer.out_shape[0] * reads
        driven = rows * layer.groups * (1 if together else math.ceil(outputs / self.array.outputs))
        buffered = (math.prod(layer.in_shape) + math.prod(layer.out_shape)) * 8
        energy_pj = cycles * (2.0 * conversions + 0.05 * driven + 0.5 * arrays) + 0.05 * buffered
        return 8.0 * cycles, energy_pj, arrays


@dataclass(frozen=True, slots=True, eq=False)
class Tabular:
    """All networks of the table: genomes (6561, 11), accuracies in percent, costs."""

    space: Space
    genomes: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    by_seed: NDArray[np.float64]
    params: NDArray[np.int64]
    costs: tuple[CandidateCost, ...]
    index: dict[Architecture, int]
    macs: NDArray[np.float64]  # of macs_column

    @property
    def edp(self) -> NDArray[np.float64]:
        return np.array([cost.edp_mj_ms for cost in self.costs])

    def simulate(self, macros: int) -> Simulate:
        """Costs by looking them up, on a chip of so many macros."""

        def look(architectures: Sequence[Architecture]) -> list[CandidateCost]:
            found = [self.costs[self.index[a]] for a in architectures]
            return [CandidateCost(c.latency_ns, c.energy_pj, c.macros, macros) for c in found]

        return look

    def model(self, samples: int, seed: int) -> AdditiveAccuracy:
        chosen = np.random.default_rng([seed, 1]).choice(len(self.genomes), samples, replace=False)
        known = self.genomes[chosen], self.accuracy[chosen]
        return fit_accuracy(self.space.choices, *known, kinds=self.space.kinds, macs=self.macs)

    def share(self, networks: Sequence[Architecture], macros: int = 1 << 20) -> float:
        """Volume of networks by their true accuracies, of that of the exhaustive front."""
        fits = np.array([cost.macros <= macros for cost in self.costs])
        points = np.column_stack([-self.accuracy, self.edp])
        index = np.flatnonzero(fits)
        best = index[non_dominated(points[index])]
        return self._volume([self.index[a] for a in networks]) / self._volume(best)

    def _volume(self, index: Sequence[int] | NDArray[np.int64]) -> float:
        edp = self.edp
        return volume([(self.accuracy[i], edp[i]) for i in index], FLOOR, float(edp.min()), float(edp.max()))


def load_table(data: Path) -> Tabular:
    """Read the table and cost every network of it."""
    with gzip.open(data / TABLE) as file:
        table = json.load(file)
    space = load_space(Path(__file__).parent / "nas_bench_macro.toml")
    keys = sorted(table)
    genomes = np.array([[int(c) for c in key] + [0] * 6 for key in keys], np.int64)
    networks = [space.decode(g) for g in genomes]
    return Tabular(
        space,
        genomes,
        np.array([table[k]["mean_acc"] for k in keys]),
        np.array([table[k]["test_acc"] for k in keys]),
        np.array([table[k]["params"] for k in keys], np.int64),
        tuple(costs(space, ReferenceChip(), networks)),
        {network: i for i, network in enumerate(networks)},
        macs_column(space),
    )


def run_method(
    name: str, table: Tabular, accuracy: AdditiveAccuracy, budget: int, seed: int, macros: int = 1 << 20
) -> Front:
    ask = {"budget": budget, "seed": seed, "target": "reference", "caps": Caps(accuracy=FLOOR)}
    simulate = table.simulate(macros)
    match name:
        case "pareto":
            return pareto_search(table.space, accuracy, simulate, **ask)
        case "random":
            return random_search(table.space, accuracy, simulate, **ask)
        case "evolution":
            return evolution(table.space, accuracy, simulate, **ask)
        case "paper":
            return top_k_search(table.space, accuracy, simulate, **ask)
    measure = Measure(name)
    return top_k_search(table.space, accuracy, simulate, **ask, measure=measure, task_share=0.5, by_gene=False)


def ranks(table: Tabular, samples: int, seeds: int) -> dict[str, float]:
    """Kendall tau and regret of the accuracy model over the whole table, mean of seeds."""
    rows = []
    for seed in range(seeds):
        predicted = table.model(samples, seed).predict(table.genomes)
        rows.append(
            (
                kendall_tau(predicted, table.accuracy),
                float(table.accuracy.max() - table.accuracy[int(np.argmax(predicted))]),
            )
        )
    tau, points = np.mean(rows, 0)
    return {"tau": round(float(tau), 3), "regret_points": round(float(points), 3)}


def shares(
    table: Tabular, methods: Sequence[str], samples: int, budget: int, networks: int, seeds: int, macros: int = 1 << 20
) -> dict[str, dict[str, float]]:
    found = {}
    for name in methods:
        rows = []
        for seed in range(seeds):
            front = run_method(name, table, table.model(samples, seed), budget, seed, macros)
            short = front.shortlist(networks)
            assert all(m.cost.feasible for m in short)
            rows.append(table.share([m.architecture for m in short], macros))
        found[name] = {"share": round(float(np.mean(rows)), 3), "sd": round(float(np.std(rows, ddof=1)), 3)}
    return found


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--seeds", type=int, default=10)
    ask.add_argument("--samples", type=int, default=64)
    ask.add_argument("--budget", type=int, default=256)
    ask.add_argument("--networks", type=int, default=8)
    given = ask.parse_args()
    table = load_table(Path(os.environ["HIL_DATA"]))
    half = len(table.genomes) // 2
    order = np.random.default_rng(0).permutation(len(table.genomes))
    some, rest = order[:128], order[half:]
    model = edp_model(table.space.choices, table.genomes[some], [table.costs[i] for i in some])
    fits = {n: round(float(np.mean([c.macros <= n for c in table.costs])), 3) for n in (256, 512, 1024, 2048)}
    print(json.dumps({
        "samples": given.samples, "budget": given.budget, "networks": given.networks, "seeds": given.seeds,
        "rank": {str(n): ranks(table, n, given.seeds) for n in sorted({16, 32, 64, 128, given.samples})},
        "seed_to_seed_tau": round(kendall_tau(table.by_seed[:, 0], table.by_seed[:, 1]), 3),
        "edp_span": round(float(table.edp.max() / table.edp.min()), 1),
        "share_that_fits": fits,
        "additive_ln_edp_r2": round(explained(model, table.genomes[rest], np.log(table.edp[rest])), 3),
        "volume_share": shares(table, METHODS, given.samples, given.budget, given.networks, given.seeds),
        "volume_share_1024_arrays": shares(
            table, ("pareto", "random", "evolution"), given.samples, given.budget, given.networks, given.seeds, 1024
        ),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
