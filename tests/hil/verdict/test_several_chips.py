"""The mean of several chips against that of virtual ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hil.prediction.judge_chips import judge_several
from hil.verdict.survival import lost_on_virtual_chips, survival
from hil.verdict.verdict import Verdict


def scores(mean: float, sigma: float, count: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(count)
    return mean + sigma * (drawn - drawn.mean()) / drawn.std(ddof=1)


def test_two_groups_are_welchs_test() -> None:
    real, virtual = scores(0.860, 0.005, 10, 1), scores(0.863, 0.003, 20, 2)
    found = judge_several([real], [virtual], tolerance=0.01)
    welch = stats.ttest_ind(real, virtual, equal_var=False)
    assert found.p_value == pytest.approx(welch.pvalue)
    assert found.freedom == pytest.approx(welch.df)
    interval = welch.confidence_interval(0.90)
    assert found.interval90 == pytest.approx((interval.low, interval.high))
    assert found.difference == pytest.approx(-0.003)


def test_a_loss_on_other_images_is_a_difference_of_differences() -> None:
    real, floats = scores(0.90, 0.004, 10, 1), scores(0.92, 0.004, 10, 2)
    virtual, own = scores(0.85, 0.004, 10, 3), scores(0.87, 0.004, 10, 4)
    found = judge_several([real, floats], [virtual, own], tolerance=0.01)
    assert found.difference == pytest.approx(0.0, abs=1e-12)
    assert found.standard_error == pytest.approx(0.004 * 0.4**0.5)
    assert found.verdict is Verdict.AGREE


@pytest.mark.parametrize(("moved", "verdict"), [(0.0, "agree"), (0.015, "disagree"), (-0.015, "disagree")])
def test_a_belief_that_is_moved_beyond_the_tolerance_is_seen(moved: float, verdict: str) -> None:
    found = judge_several([scores(0.86, 0.004, 10, 1)], [scores(0.86 + moved, 0.003, 10, 2)], tolerance=0.01)
    assert found.verdict == verdict


def test_runs_that_scatter_too_much_decide_nothing() -> None:
    found = judge_several([scores(0.86, 0.03, 10, 1)], [scores(0.86, 0.003, 10, 2)], tolerance=0.01)
    assert found.verdict is Verdict.INCONCLUSIVE


def test_two_runs_are_too_few_to_know_their_spread() -> None:
    with pytest.raises(ValueError, match="3 finite ones are needed"):
        judge_several([[0.8, 0.9]], [[0.8, 0.9, 0.85]], tolerance=0.01)


def judged(ideal: float, simulated: float, measured: float, *, tolerance: float = 0.01):  # type: ignore[no-untyped-def]
    return survival(ideal=ideal, simulated=simulated, measured=measured, tolerance=tolerance)


def test_a_network_that_keeps_its_accuracy_is_not_said_to_be_lost() -> None:
    assert judged(0.92, 0.915, 0.91) is None


@pytest.mark.parametrize(("loss", "lost"), [(0.05, False), (0.061, True)])
def test_the_loss_has_to_pass_five_points_and_three_tolerances(loss: float, lost: bool) -> None:
    assert (judged(0.9, 0.9, 0.9 - loss, tolerance=0.02) is not None) is lost


def test_a_loss_that_was_simulated_is_called_predicted() -> None:
    found = judged(0.88, 0.30, 0.29)
    assert found is not None
    assert found.predicted
    assert "does not survive" in found.text
    assert "88 → 29 %, simulated 30" in found.text


def test_a_loss_that_was_not_simulated_points_to_the_record() -> None:
    found = judged(0.88, 0.85, 0.29)
    assert found is not None
    assert not found.predicted
    assert "virtual chips keep 85 %" in found.text


def test_a_loss_on_virtual_chips_is_said_where_it_is_much() -> None:
    assert lost_on_virtual_chips(0.92, 0.90) == ""
    assert lost_on_virtual_chips(0.88, 0.0) == "88 points from a perfect chip to these"
