"""Search against 6,561 networks whose accuracies are known: the gates, and what holds of every run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.choice.front import write_front

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "studies" / "search"))  # they import each other
import search_tabular as TABULAR

SEEDS, SAMPLES, BUDGET, NETWORKS = 10, 64, 256, 8


@pytest.fixture(scope="module")
def table() -> Any:
    if "HIL_DATA" not in os.environ:
        pytest.skip("HIL_DATA not set: the table of NAS-Bench-Macro is needed")
    return TABULAR.load_table(Path(os.environ["HIL_DATA"]))


@pytest.fixture(scope="module")
def shares(table: Any) -> dict[str, float]:
    found = TABULAR.shares(table, ("pareto", "random", "paper"), SAMPLES, BUDGET, NETWORKS, SEEDS)
    return {name: row["share"] for name, row in found.items()}


def test_the_space_file_of_the_table_counts_the_weights_that_the_table_counts(table: Any) -> None:
    """Parameters of the table hold batch norms (2 a channel) and the classifier's bias besides the weights."""
    from search.space.candidate import workload

    space = table.space
    for index in (0, 1000, 4321, 6560):
        layers = workload(space, space.decode(table.genomes[index])).layers
        cells = [layer for layer in layers if layer.kind.on_cells]
        norms = 2 * sum(layer.out_shape[0] for layer in cells[:-1])
        assert sum(layer.weights for layer in cells) + norms + 10 == table.params[index]


def test_the_costs_span_what_the_reference_model_is_known_for(table: Any) -> None:
    assert table.edp.max() / table.edp.min() == pytest.approx(43, rel=0.02)


def test_sixty_four_trained_networks_rank_all_others_as_well_as_measured(table: Any) -> None:
    found = TABULAR.ranks(table, SAMPLES, SEEDS)
    assert found["tau"] >= 0.85
    assert found["regret_points"] <= 0.20


def test_eight_networks_of_a_search_cover_most_of_what_there_is(shares: dict[str, float]) -> None:
    assert shares["pareto"] >= 0.85
    assert shares["pareto"] >= shares["random"] + 0.05
    assert shares["pareto"] >= shares["paper"] + 0.25


@pytest.mark.parametrize("name", TABULAR.METHODS)
def test_every_reported_network_fits_a_chip_of_few_arrays(table: Any, name: str) -> None:
    found = TABULAR.run_method(name, table, table.model(SAMPLES, 0), BUDGET, 0, 1024)
    assert found.members
    assert all(m.cost.macros <= 1024 for m in found.members)


def test_the_best_network_on_few_arrays_is_nearly_the_best_that_there_is(table: Any) -> None:
    fits = np.array([cost.macros <= 1024 for cost in table.costs])
    best = []
    for seed in range(SEEDS):
        front = TABULAR.run_method("pareto", table, table.model(SAMPLES, seed), BUDGET, seed, 1024)
        best.append(max(table.accuracy[table.index[m.architecture]] for m in front.shortlist(NETWORKS)))
    assert np.mean(best) >= 0.995 * table.accuracy[fits].max()


def test_a_seed_gives_the_same_front_byte_for_byte(table: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        found = TABULAR.run_method("pareto", table, table.model(SAMPLES, 4), BUDGET, 4)
        write_front(tmp_path / name, found)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
