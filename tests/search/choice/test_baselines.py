"""Baselines of a search (search_baselines.py of benchmarks): they keep to the same budget and the same rules."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from search.choice.candidate_costs import Simulator
from search.choice.hardware_significance import Measure
from search.choice.pareto import pareto_search
from search.errors import SpaceError
from search.space.target import ChipTarget

from .test_pareto import CHIP, LARGE_SPACE, SMALL_SPACE, made_up_accuracy

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "studies" / "search"))  # they import each other
from search_baselines import evolution, random_search, resnet20, top_k_search, volume

SEARCHES = {"pareto": pareto_search, "random": random_search, "top-k": top_k_search, "evolution": evolution}


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_keep_to_their_budget_and_report_only_what_fits(name: str) -> None:
    small = ChipTarget(replace(CHIP.chip, macros=26))
    simulate = Simulator(LARGE_SPACE, small)
    found = SEARCHES[name](LARGE_SPACE, made_up_accuracy(LARGE_SPACE), simulate, budget=90, seed=1)
    assert found.members
    assert all(m.cost.feasible for m in found.members)
    assert simulate.simulated <= 90
    assert found.simulations <= 90


def test_a_search_of_a_large_space_finds_more_than_random_networks_do() -> None:
    accuracy = made_up_accuracy(LARGE_SPACE)
    simulate = Simulator(LARGE_SPACE, CHIP)
    fronts = [SEARCHES[name](LARGE_SPACE, accuracy, simulate, budget=200, seed=2) for name in ("pareto", "random")]
    volumes = [volume([(m.accuracy_low, m.cost.edp_mj_ms) for m in f.members], 60, 1e-3, 0.1) for f in fronts]
    assert volumes[0] > 1.02 * volumes[1]


@pytest.mark.parametrize("measure", Measure)
def test_every_measure_of_hardware_significance_can_lead_a_search(measure: Measure) -> None:
    found = top_k_search(
        SMALL_SPACE, made_up_accuracy(SMALL_SPACE), Simulator(SMALL_SPACE, CHIP), budget=96, seed=1, measure=measure
    )
    assert found.method == f"top-k {measure}"
    assert found.members


def test_resnet20_is_one_network_with_bits_to_choose() -> None:
    space, architecture = resnet20(weight_bits=6)
    assert architecture.weight_bits == (6,)
    assert len([layer for layer in space.layers(architecture) if layer.kind.on_cells]) == 22
    with pytest.raises(SpaceError, match="weight bits is 5"):
        resnet20(weight_bits=5)
