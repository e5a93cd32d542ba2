from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from search.choice.accuracy import AdditiveAccuracy, fit_accuracy
from search.choice.candidate_costs import Simulator
from search.choice.front import write_front
from search.choice.genetic import evolve
from search.choice.pareto import Caps, pareto_search
from search.errors import SearchError
from search.space.candidate import workload
from search.space.file import load_space, parse_space
from search.space.genes import Space
from search.space.prune import fitted
from search.space.target import ChipTarget

from ..small_spaces import SMALL

CHIP = ChipTarget(load_chip("lab-128"))


def made_up_accuracy(space: Space) -> AdditiveAccuracy:
    """Networks of more multiplications are better, with diminishing returns."""
    rng = np.random.default_rng(5)
    genomes = np.array([space.sample(rng) for _ in range(48)])
    macs = np.array([workload(space, space.decode(g)).macs for g in genomes])
    return fit_accuracy(space.choices, genomes, 92 - 20 * (macs / macs.mean()) ** -0.5 + rng.normal(0, 0.2, 48))


SMALL_SPACE = parse_space(SMALL, "small.toml")
LARGE_SPACE, _ = fitted(load_space("fashion-mnist"), CHIP)


@pytest.mark.parametrize("space", [SMALL_SPACE, LARGE_SPACE], ids=["enumerated", "NSGA-II"])
def test_a_search_repeats_byte_for_byte_from_its_seed(space: Space, tmp_path: Path) -> None:
    accuracy = made_up_accuracy(space)
    for name in ("a", "b"):
        found = pareto_search(space, accuracy, Simulator(space, CHIP), budget=96, seed=3)
        write_front(tmp_path / name, found)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_caps_are_kept_and_impossible_ones_are_an_error_with_numbers() -> None:
    accuracy = made_up_accuracy(SMALL_SPACE)
    simulate = Simulator(SMALL_SPACE, CHIP)
    free = pareto_search(SMALL_SPACE, accuracy, simulate, budget=96, seed=1)
    cap = float(np.median([m.cost.latency_ns for m in free.members]))
    caps = Caps(latency_ns=cap, accuracy=free.most_efficient.accuracy_low + 0.1)
    found = pareto_search(SMALL_SPACE, accuracy, simulate, budget=96, seed=1, caps=caps)
    assert all(m.cost.latency_ns <= cap and m.accuracy_low >= caps.accuracy for m in found.members)
    with pytest.raises(SearchError, match=r"none of .* simulated networks keeps the caps"):
        pareto_search(SMALL_SPACE, accuracy, simulate, budget=32, seed=1, caps=Caps(energy_pj=1.0))


def test_progress_counts_simulations_up_to_the_budget() -> None:
    said: list[tuple[int, int, str]] = []
    pareto_search(
        SMALL_SPACE, made_up_accuracy(SMALL_SPACE), Simulator(SMALL_SPACE, CHIP), budget=40, seed=1,
        progress=lambda *step: said.append(step),
    )  # fmt: skip
    done = [step[0] for step in said]
    assert done == sorted(done)
    assert said[-1][:2] == (40, 40)


def test_nsga2_finds_the_front_of_a_sum_with_a_constraint() -> None:
    def evaluate(genomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.column_stack([genomes.sum(1), 20 - genomes.sum(1)]), 5.0 - genomes[:, :1]

    start = np.zeros((20, 4), np.int64)
    start[:, 1] = np.arange(20) % 8
    start[:, 2] = np.arange(20) // 8
    found = evolve((8, 8, 8, 8), evaluate, start, objectives=2, constraints=1, generations=20, seed=1)
    assert (found[:, 0] >= 5).all()
    assert len(np.unique(found, axis=0)) == len(found)
    assert (found == evolve((8, 8, 8, 8), evaluate, start, objectives=2, constraints=1, generations=20, seed=1)).all()


def test_a_search_that_was_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    accuracy = made_up_accuracy(LARGE_SPACE)
    whole = pareto_search(LARGE_SPACE, accuracy, Simulator(LARGE_SPACE, CHIP), budget=96, seed=3)

    def stop(done: int, total: int, what: str) -> None:
        if done >= 40:
            raise KeyboardInterrupt

    store = tmp_path / "costs.jsonl"
    with pytest.raises(KeyboardInterrupt):
        pareto_search(
            LARGE_SPACE, accuracy, Simulator(LARGE_SPACE, CHIP, store=store), budget=96, seed=3, progress=stop
        )
    resumed = Simulator(LARGE_SPACE, CHIP, store=store)
    assert resumed.simulated >= 40
    assert pareto_search(LARGE_SPACE, accuracy, resumed, budget=96, seed=3) == whole
