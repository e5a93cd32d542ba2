from __future__ import annotations

import math

import numpy as np
import pytest

from search.choice.accuracy import fit_accuracy
from search.choice.additive import fit_additive, kendall_tau
from search.choice.hardware_significance import (
    MODES,
    Measure,
    combinations,
    draw_candidates,
    hardware_significance,
)
from search.choice.macs import macs_column
from search.errors import SearchError
from search.space.candidate import CandidateCost
from search.space.file import load_space, parse_space
from search.space.significance import Significance, combined, one_hot

from ..small_spaces import SMALL

CHOICES = (3, 2, 4)
SOME = np.random.default_rng(0).permutation(24)[:14]
EVERY = np.stack(np.unravel_index(np.arange(24), CHOICES), 1).astype(np.int64)
TRUTH = np.array([0.0, 1.0, 3.0, 0.0, -1.0, 0.5, 0.0, 2.0, 1.0])


def cost(edp_mj_ms: float, macros: int = 1) -> CandidateCost:
    return CandidateCost(1e6, edp_mj_ms * 1e9, macros, 10)


def costs_of(values: np.ndarray, macros: int = 1) -> list[CandidateCost]:
    return [cost(math.exp(v), macros) for v in values]


def test_one_hot_marks_each_choice_once() -> None:
    hot = one_hot(CHOICES, EVERY)
    assert hot.shape == (24, 9)
    assert (hot.sum(1) == 3).all()
    assert hot[5].nonzero()[0].tolist() == [0, 4, 6]  # genome (0, 1, 1)


def test_a_sum_over_choices_without_noise_is_found_exactly() -> None:
    values = one_hot(CHOICES, EVERY) @ TRUTH + 7
    model = fit_additive(CHOICES, EVERY[SOME], values[SOME])
    assert model.predict(EVERY)[0] == pytest.approx(values, abs=0.02)


def test_values_without_any_order_give_a_flat_model() -> None:
    values = np.random.default_rng(3).normal(5, 1, 24)
    model = fit_additive(CHOICES, EVERY, values)
    assert np.ptp(model.predict(EVERY)[0]) < np.ptp(values)
    assert model.mean == pytest.approx(5, abs=0.6)


def test_standard_errors_cover_what_they_promise() -> None:
    rng = np.random.default_rng(1)
    truth = one_hot(CHOICES, EVERY) @ TRUTH
    inside = []
    for _ in range(200):
        rows = rng.integers(0, 24, 18)
        mean, error = fit_additive(CHOICES, EVERY[rows], truth[rows] + rng.normal(0, 0.5, 18)).predict(EVERY)
        inside.append(np.abs(mean - truth) < 2 * error)
    assert 0.90 < np.mean(inside) < 0.99


def test_diminishing_returns_are_found_where_there_are_some() -> None:
    rng = np.random.default_rng(2)
    accuracy = 93 - np.exp(2.5 - one_hot(CHOICES, EVERY) @ TRUTH)
    rows = rng.permutation(24)[:14]
    model = fit_accuracy(CHOICES, EVERY[rows], accuracy[rows] + rng.normal(0, 0.1, 14))
    straight = fit_additive(CHOICES, EVERY[rows], accuracy[rows]).predict(EVERY)[0]
    assert kendall_tau(model.predict(EVERY), accuracy) > kendall_tau(straight, accuracy)
    assert accuracy.max() < model.ceiling <= 100
    assert (model.lower(EVERY) < model.predict(EVERY)).all()
    assert (model.lower(EVERY, 2.0) < model.lower(EVERY, 1.0)).all()


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0], [50.0, 60.0, 70.0, 101.0], [50.0, 60.0, math.nan, 70.0]])
def test_accuracies_that_are_too_few_or_none_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="accuracies"):
        fit_accuracy(CHOICES, EVERY[: len(values)], np.array(values))


def test_tau_of_a_perfect_score() -> None:
    truth = np.array([1.0, 4.0, 2.0])
    assert kendall_tau(truth * 3, truth) == pytest.approx(1)
    assert kendall_tau(-truth, truth) == pytest.approx(-1)


def test_normalising_keeps_how_much_a_gene_matters_unless_asked_not_to() -> None:
    significance = Significance((np.array([0.0, 1.0]), np.array([0.0, 10.0])))
    kept = significance.normalised().values
    assert np.ptp(kept[1]) == pytest.approx(10 * np.ptp(kept[0]))
    assert [np.ptp(v) for v in significance.normalised(by_gene=True).values] == [1, 1]


def test_the_ends_of_alpha_are_the_task_and_the_hardware() -> None:
    task = Significance((np.array([1.0, 0.0]), np.array([0.0, 2.0])))
    hardware = Significance((np.array([0.0, 1.0]), np.array([3.0, 0.0])))
    assert combined(task, hardware, 1.0).best() == task.best() == (0, 1)
    assert combined(task, hardware, 0.0).best() == hardware.best() == (1, 0)
    assert list(MODES) == ["accuracy", "balanced", "efficiency"]
    assert {tuple(g) for g in combinations(task, hardware, (0.0, 1.0)).tolist()} == {(0, 1), (1, 0)}


def test_candidates_are_different_and_half_of_them_follow_the_task() -> None:
    space = load_space("cifar10")
    task = Significance(tuple(np.arange(n, dtype=float) for n in space.choices))
    drawn = draw_candidates(space, task, 200, np.random.default_rng(0))
    assert len(np.unique(drawn, axis=0)) == 200
    uniform = draw_candidates(space, None, 200, np.random.default_rng(0))
    places = len(space.positions)
    last = np.array(space.choices[:places]) - 1
    assert (drawn[:100, :places] == last).mean() > 2 * (uniform[:, :places] == last).mean()
    assert (drawn == draw_candidates(space, task, 200, np.random.default_rng(0))).all()


def test_a_small_space_gives_all_its_networks_and_no_more() -> None:
    space = parse_space(SMALL, "small.toml")
    fewer = load_space("resnet20")
    assert len(draw_candidates(fewer, None, 1000, np.random.default_rng(0))) == fewer.size() < space.size()


@pytest.mark.parametrize("measure", Measure)
def test_every_measure_prefers_what_costs_less(measure: Measure) -> None:
    ln_edp = one_hot(CHOICES, EVERY) @ TRUTH
    found = hardware_significance(CHOICES, EVERY, costs_of(ln_edp), measure, top=6)
    assert found.best() == (0, 1, 1)


def test_lift_does_not_echo_what_candidates_were_made_of_but_frequency_does() -> None:
    rng = np.random.default_rng(0)
    genomes = np.column_stack([rng.choice(2, 400, p=[0.05, 0.95]), rng.integers(0, 2, 400)])
    ln_edp = 0.2 * genomes[:, 0] + 1.0 * genomes[:, 1] + rng.normal(0, 0.01, 400)  # choice 0 is cheaper, and rare
    count = hardware_significance((2, 2), genomes, costs_of(ln_edp), Measure.FREQUENCY, top=150)
    lift = hardware_significance((2, 2), genomes, costs_of(ln_edp), Measure.LIFT, top=150)
    assert count.best() == (1, 0)
    assert lift.best() == (0, 0)


def test_a_task_significance_ranks_networks_that_few_trainings_cannot() -> None:
    rng = np.random.default_rng(3)
    choices = (6, 6, 6)
    every = np.stack(np.unravel_index(np.arange(216), choices), 1)
    truth = rng.normal(0, 0.3, 18)
    accuracy = 95 - np.exp(-(one_hot(choices, every) @ truth - 2))
    rows = rng.permutation(216)[:8]
    task = Significance.of(choices, 5 * truth + rng.normal(0, 0.5, 18))
    alone = fit_accuracy(choices, every[rows], accuracy[rows])
    helped = fit_accuracy(choices, every[rows], accuracy[rows], task)
    assert kendall_tau(helped.predict(every), accuracy) > kendall_tau(alone.predict(every), accuracy) + 0.1


def test_a_task_significance_that_says_the_opposite_is_left_out() -> None:
    accuracy = 95 - np.exp(-(one_hot(CHOICES, EVERY) @ TRUTH))
    opposite = Significance.of(CHOICES, -TRUTH)
    alone = fit_accuracy(CHOICES, EVERY[SOME], accuracy[SOME])
    other = fit_accuracy(CHOICES, EVERY[SOME], accuracy[SOME], opposite)
    assert other.predict(EVERY) == pytest.approx(alone.predict(EVERY))


def test_what_is_learnt_of_an_operator_in_one_place_holds_in_part_for_the_others() -> None:
    rng = np.random.default_rng(5)
    choices = (4,) * 6
    kinds = np.tile(np.eye(4), (6, 1))
    gain, inside = [], []
    for _ in range(20):
        truth = kinds @ rng.normal(0, 0.5, 4) + rng.normal(0, 0.1, 24)
        few, others = rng.integers(0, 4, (10, 6)), rng.integers(0, 4, (300, 6))
        values = one_hot(choices, few) @ truth + rng.normal(0, 0.1, 10)
        wanted = one_hot(choices, others) @ truth
        alone, shared = (fit_additive(choices, few, values, k).predict(others) for k in ((), (kinds,)))
        gain.append(kendall_tau(shared[0], wanted) - kendall_tau(alone[0], wanted))
        inside.append(np.abs(shared[0] - wanted) < 2 * shared[1])
    assert np.mean(gain) > 0.15
    assert np.mean(inside) > 0.9


def test_operators_with_nothing_in_common_between_places_lose_little_by_it() -> None:
    rng = np.random.default_rng(6)
    choices = (4,) * 6
    kinds = np.tile(np.eye(4), (6, 1))
    loss = []
    for _ in range(20):
        truth = rng.normal(0, 0.5, 24)
        some, others = rng.integers(0, 4, (40, 6)), rng.integers(0, 4, (300, 6))
        values = one_hot(choices, some) @ truth + rng.normal(0, 0.1, 40)
        wanted = one_hot(choices, others) @ truth
        alone, shared = (fit_additive(choices, some, values, k).predict(others)[0] for k in ((), (kinds,)))
        loss.append(kendall_tau(alone, wanted) - kendall_tau(shared, wanted))
    assert np.mean(loss) < 0.01


def gain_of_multiplications(trained: int, worth: float) -> float:
    """Kendall tau that ``macs`` add, mean of ten spaces where multiplications are worth so much, and all else 0.2."""
    space, gain = load_space("fashion-mnist"), []
    macs = macs_column(space)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        some, others = (draw_candidates(space, None, n, rng) for n in (trained, 300))
        truth = worth * macs[:, 0] + rng.normal(0, 0.2, len(macs))
        fitted, wanted = (90 - np.exp(-one_hot(space.choices, g) @ truth) for g in (some, others))
        alone, helped = (fit_accuracy(space.choices, some, fitted, macs=m).predict(others) for m in (None, macs))
        gain.append(kendall_tau(helped, wanted) - kendall_tau(alone, wanted))
    return float(np.mean(gain))


def test_what_larger_networks_gain_is_learnt_from_few_of_them() -> None:
    assert gain_of_multiplications(12, worth=1.0) > 0.15


def test_multiplications_that_say_nothing_take_little_away() -> None:
    assert gain_of_multiplications(40, worth=0.0) > -0.02


def test_a_task_significance_that_repeats_the_multiplications_is_worth_no_more_than_they_are() -> None:
    space = load_space("fashion-mnist")
    large = macs_column(space)
    few, others = (draw_candidates(space, None, n, np.random.default_rng(n)) for n in (16, 300))
    accuracy = 90 - np.exp(-one_hot(space.choices, few) @ large[:, 0])
    repeats = Significance.of(space.choices, 3 * large[:, 0])
    alone, both = (fit_accuracy(space.choices, few, accuracy, task, macs=large) for task in (None, repeats))
    assert both.predict(others) == pytest.approx(alone.predict(others))


def test_no_candidate_that_fits_is_an_error_with_numbers() -> None:
    with pytest.raises(SearchError, match="none of 24 candidates fits 10 macros; the smallest needs 12"):
        hardware_significance(CHOICES, EVERY, costs_of(np.ones(24), macros=12), Measure.LIFT)
