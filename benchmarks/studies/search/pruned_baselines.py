"""A search over pruned networks beside random genes, uniform networks and evolution, at equal processor time.

    hil import cifar10_resnet32_a.safetensors --arch cifar_resnet32_a --data cifar10 --images 128 -o r32a.pt
    python benchmarks/studies.py pruned-baselines r32a.pt --data cifar10 --edp 0.065,0.125,0.16 --minutes 60 [--seeds 3]

Nothing is fine-tuned. One JSON line a seed and method. ``hypervolume``: mean over the logarithm of the price, from the
least to the most of the window, of how far the best divergence from the teacher at no more than that price lies below
the reference point of 1 nat, as a natural logarithm; 0 where none is there. A network that two methods of a seed ask
for is measured once, and its time counts in both.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hil.searching.pruned_inputs import PruningInputs, PruningJob, measure_pruned, pruning_inputs
from hil.searching.pruned_search import TAUGHT
from hil.searching.settings import SearchSettings
from search.choice.pruned import drawn, learned, planned, proposed, pruned_front
from search.pruned.genes import CHANNELS, CODES, WEIGHTS
from search.space.genes import Genome
from search.space.significance import Floats

REFERENCE_NATS = 1.0
BEGINS, TOGETHER = 1 / 3, 4  # share of the time before a model is asked; networks that it proposes at once
CHANGED = 3  # genes of a child, at most

Known = dict[tuple[object, ...], tuple[float, float]]  # plan -> logarithm of the divergence, seconds


@dataclass(slots=True)
class Race:
    """One method at work: genomes it measured, their prices and losses, and the processor time that counts."""

    inputs: PruningInputs
    settings: SearchSettings
    known: Known
    budget_s: float
    rng: np.random.Generator
    genomes: list[Genome] = field(default_factory=list)
    prices: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    saved_s: float = 0.0  # of measurements that another method had made
    began_s: float = field(default_factory=time.process_time)

    @property
    def spent_s(self) -> float:
        return time.process_time() - self.began_s + self.saved_s

    def price(self, genome: Genome) -> float:
        return self.inputs.prices(self.inputs.space.plan(genome))

    def inside(self, genome: Genome) -> bool:
        return self.settings.window.holds(self.price(genome))

    def measure(self, genome: Genome) -> None:
        """Measure a network that was not measured yet, unless the time is over."""
        plan = self.inputs.space.plan(genome)
        if self.spent_s >= self.budget_s or any(self.inputs.space.plan(g).key == plan.key for g in self.genomes):
            return
        price = self.inputs.prices(plan)
        if plan.key in self.known:
            self.saved_s += self.known[plan.key][1]
        else:
            found = measure_pruned(PruningJob(plan, price), self.inputs.bench)
            self.known[plan.key] = float(np.log(max(found.divergence, TAUGHT))), found.seconds
        self.genomes.append(genome)
        self.prices.append(price)
        self.losses.append(self.known[plan.key][0])

    @property
    def front(self) -> list[int]:
        return pruned_front(np.array(self.prices), np.array(self.losses))

    def hypervolume(self) -> float:
        window = self.settings.window
        low, high, at, volume, best = np.log(window.least), np.log(window.most), np.log(window.least), 0.0, 0.0
        for i in sorted(range(len(self.prices)), key=lambda i: self.prices[i]):
            price = float(np.clip(np.log(self.prices[i]), low, high))
            volume, at = volume + best * (price - at), price
            best = max(best, np.log(REFERENCE_NATS) - self.losses[i])
        return float((volume + best * (high - at)) / (high - low))


def _genome(row: NDArray[np.int64]) -> Genome:
    return tuple(int(i) for i in row)


def own_search(race: Race) -> None:
    """What hil search run --from does: plans of the pruning, drawn networks, then those that a model proposes."""
    space, settings, price = race.inputs.space, race.settings, race.inputs.prices
    for genome in planned(space, race.inputs.relevance, price, settings.edp, settings.limits):
        race.measure(genome)
    while race.spent_s < BEGINS * race.budget_s:
        for row in drawn(space, price, TOGETHER, settings.window, race.rng):
            race.measure(_genome(row))
    while race.spent_s < race.budget_s:
        model = learned(space, race.inputs.relevance, np.array(race.genomes), np.array(race.losses))
        best, seed = np.array([race.genomes[i] for i in race.front]), int(race.rng.integers(1 << 31))
        for row in proposed(space, model, price, race.genomes, best, TOGETHER, settings.window, seed):
            race.measure(_genome(row))


def random_genes(race: Race) -> None:
    """Every gene drawn by itself, within the window of prices."""
    choices = np.array(race.inputs.space.choices)
    while race.spent_s < race.budget_s:
        genome = _genome(race.rng.integers(0, choices))
        if race.inside(genome):
            race.measure(genome)


def uniform_networks(race: Race) -> None:
    """The same share of every group of channels and the same bits everywhere, in any order; then there are no more."""
    space = race.inputs.space
    values = [
        sorted({v for g in space.genes if g.kind == kind for v in g.values}) for kind in (CHANNELS, WEIGHTS, CODES)
    ]
    every = list(itertools.product(*values))
    for number in race.rng.permutation(len(every)):
        share, weight, code = every[int(number)]
        genome = space.uniform(share, int(weight), int(code))
        if race.inside(genome):
            race.measure(genome)


def evolution(race: Race) -> None:
    """Children of the front, a few genes another value; it begins with drawn networks."""
    choices = np.array(race.inputs.space.choices)
    for row in drawn(race.inputs.space, race.inputs.prices, 2 * TOGETHER, race.settings.window, race.rng):
        race.measure(_genome(row))
    while race.spent_s < race.budget_s:
        child = np.array(race.genomes[int(race.rng.choice(race.front))])
        changed = race.rng.choice(len(choices), int(race.rng.integers(1, CHANGED + 1)), replace=False)
        child[changed] = race.rng.integers(0, choices[changed])
        if race.inside(_genome(child)):
            race.measure(_genome(child))


METHODS: dict[str, Callable[[Race], None]] = {
    "search run --from": own_search, "random genes": random_genes, "uniform": uniform_networks, "evolution": evolution,
}  # fmt: skip


def raced(teacher: Path, settings: SearchSettings, budget_s: float) -> Iterator[dict[str, object]]:
    inputs, known = pruning_inputs(teacher, settings), Known()
    for name, method in METHODS.items():
        race = Race(inputs, settings, known, budget_s, np.random.default_rng([settings.seed, len(name)]))
        method(race)
        front: Floats = np.exp([race.losses[i] for i in race.front])
        yield {
            "seed": settings.seed, "method": name, "networks": len(race.genomes), "cpu_s": round(race.spent_s, 1),
            "hypervolume": round(race.hypervolume(), 4), "front": len(front),
            "least_divergence": float(front.min(initial=np.inf)),
        }  # fmt: skip


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("teacher", type=Path)
    ask.add_argument("--data", required=True)
    ask.add_argument("--costs", default="mnsim-default")
    ask.add_argument("--edp", required=True, help="prices, with commas: the window is from below the least to the most")
    ask.add_argument("--minutes", type=float, default=60.0, help="of processor time, each method and seed")
    ask.add_argument("--seeds", type=int, default=3)
    given = ask.parse_args()
    edp = tuple(map(float, given.edp.split(",")))
    for seed in range(given.seeds):
        settings = SearchSettings(given.data, "", costs=given.costs, pruned=True, edp=edp, seed=seed)
        for row in raced(given.teacher, settings, 60 * given.minutes):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
