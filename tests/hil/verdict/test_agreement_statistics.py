"""Closed-form values, known tables and numerical checks of every test behind the verdict."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hil.verdict import statistics as st

LOOKS = {1: (500,), 2: (500, 1000), 3: (500, 1000, 2000), 4: (500, 1000, 2000, 4000), 5: (500, 1000, 2000, 4000, 8000)}
# z of E, z₂ and t (S = 20) of P: the specification's table, whose third decimals carry simulation error
TABLE = {
    1: (1.645, 1.960, 2.093),
    2: (1.870, 2.176, 2.353),
    3: (2.015, 2.310, 2.518),
    4: (2.120, 2.406, 2.641),
    5: (2.201, 2.480, 2.736),
}


@pytest.mark.parametrize("count", LOOKS)
def test_limits_of_one_to_five_looks_are_those_of_the_table(count):
    limits = st.look_limits(LOOKS[count], 20)
    found = (limits.z_equivalence, limits.z_prediction, limits.t_prediction)
    assert found == pytest.approx(TABLE[count], abs=0.007)


def test_limits_hold_over_all_looks_in_a_simulation():
    rng = np.random.default_rng(7)
    steps = np.array([500, 500, 1000]) ** 0.5 * rng.standard_normal((400_000, 3))
    z = np.abs(steps.cumsum(axis=1)) / np.sqrt([500, 1000, 2000])
    limits = st.look_limits(LOOKS[3], 20)
    assert (z.max(axis=1) > limits.z_prediction).mean() == pytest.approx(0.05, abs=0.0012)
    assert (z.max(axis=1) > limits.z_equivalence).mean() == pytest.approx(0.10, abs=0.0016)


def test_two_equal_steps_give_pococks_constant():
    assert st.simultaneous_quantile((0.5, 1.0), 0.05) == pytest.approx(2.178, abs=5e-4)  # Pocock 1977


@pytest.mark.parametrize("chips", [10, 20, 50])
def test_t_limits_have_the_tail_of_the_normal_limit(chips):
    limits = st.look_limits(LOOKS[3], chips)
    assert stats.t.sf(limits.t_prediction, chips - 1) == pytest.approx(stats.norm.sf(limits.z_prediction))


def test_looks_that_do_not_ascend_are_refused():
    with pytest.raises(ValueError, match="ascend"):
        st.look_limits((1000, 500), 20)


def test_looks_are_planned_by_halving():
    assert st.planned_looks(2000) == (500, 1000, 2000)
    assert st.planned_looks(1000) == (500, 1000)
    assert st.planned_looks(999) == (999,)
    assert st.planned_looks(10_000) == (625, 1250, 2500, 5000, 10_000)


def test_comparison_follows_the_formulas_by_hand():
    y = np.array([[1, 1, 0, 1], [1, 0, 0, 1]])
    v = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]])
    c = st.compare(y, v)
    assert c.difference == pytest.approx(0.625 - 0.5)
    assert c.chip_variance == pytest.approx(np.var([0.5, 0.75, 0.25], ddof=1))
    assert c.read_variance == pytest.approx(0.5 / 16)  # one image differs between repeats
    assert c.image_variance == pytest.approx(3 / 3)  # floored: squares sum to 1.06
    assert c.persistent_variance == pytest.approx(0.0625 - 0.03125)
    assert c.standard_error() == pytest.approx((1 / 4 + 0.0625 / 3) ** 0.5)
    assert c.prediction_error == pytest.approx((0.0625 * 4 / 3) ** 0.5)
    within = (0.5 / 2 + 2 * (1 / 3) / 3 + 0) / 4
    assert c.answer_variance == pytest.approx(within)
    assert c.standard_error(4) == pytest.approx((within / 4 + 0.0625 / 3) ** 0.5)  # all images of the set seen


@pytest.mark.parametrize(("chips", "error"), [(20, 0.058), (10, 0.067)])
@pytest.mark.parametrize("image_share", [0.0, 0.5, 0.95])
def test_equivalence_errs_as_promised_however_few_virtual_chips_know_their_mean(chips, error, image_share):
    """A true difference of the tolerance is called equivalent in 5 %, where the normal quantile errs in ``error``."""
    rng = np.random.default_rng(8)
    tolerance, n, whole = 0.01, 1000, 0.002**2
    images, spread = image_share * whole, (1 - image_share) * whole * chips
    runs, found, normal = 40_000, 0, 0
    d = rng.normal(tolerance, whole**0.5, runs)
    v1 = spread * rng.chisquare(chips - 1, runs) / (chips - 1)
    for difference, variance in zip(d, v1, strict=True):
        c = st.Comparison(n, 3, chips, 0.9, 0.9 - difference, difference, images * n, variance, 0.0, 0.0)
        found += st.equivalence_test(c, tolerance, 1.645).holds
        normal += difference + 1.645 * c.standard_error() <= tolerance
    assert found / runs == pytest.approx(0.05, abs=0.004)
    if image_share == 0.0:
        assert normal / runs == pytest.approx(error, abs=0.004)


def test_many_images_and_a_mean_that_is_known_take_the_normal_quantile():
    c = st.Comparison(2000, 3, 20, 0.9, 0.9, 0.0, 0.01, 1e-8, 0.0, 0.0)
    assert c.quantile(1.645) == pytest.approx(1.645, abs=0.002)
    all_chips = st.Comparison(2000, 3, 20, 0.9, 0.9, 0.0, 1e-12, 1e-4, 0.0, 0.0)
    assert all_chips.quantile(1.645) == pytest.approx(stats.t.ppf(stats.norm.cdf(1.645), 19), abs=1e-4)


def test_chips_that_never_differ_keep_a_floor_of_half_an_image():
    c = st.compare(np.ones((2, 400)), np.ones((20, 400)))
    assert c.chip_variance == pytest.approx((0.5 / 400) ** 2)
    assert c.image_variance == pytest.approx(3 / 399)
    z = st.look_limits((400,), 20).z_equivalence
    assert z * (c.image_variance / 400) ** 0.5 == pytest.approx(2.85 / 400, rel=0.005)  # the rule of three


def test_prediction_test_and_its_rank():
    y, v = np.zeros((1, 100)), np.zeros((20, 100))
    y[0, :90] = 1
    for s in range(20):
        v[s, : 80 + s % 5] = 1
    c = st.compare(y, v)
    p = st.prediction_test(c, v.mean(axis=1), st.look_limits((100,), 20))
    spread = np.std([0.80, 0.81, 0.82, 0.83, 0.84] * 4, ddof=1)
    assert p.statistic == pytest.approx(0.08 / (spread * 1.05**0.5))
    assert p.p_rank == pytest.approx(2 / 21)  # beyond all 20 and yet above 5 %
    assert p.rejects
    assert p.limit == pytest.approx(2.093, abs=5e-4)


def test_equivalence_needs_the_whole_interval_inside():
    c = st.compare(np.ones((3, 1000)), np.ones((20, 1000)))
    assert st.equivalence_test(c, 0.01, 1.645).holds
    assert not st.equivalence_test(c, 0.002, 1.645).holds
    shifted = np.ones((20, 1000))
    shifted[:, :50] = 0
    e = st.equivalence_test(st.compare(np.ones((3, 1000)), shifted), 0.01, 1.645)
    assert not e.holds
    assert e.beyond


def spread_of_the_study(n: int) -> st.Comparison:
    """Components of the specification's study at n images: 0.27 points paired, read 0.38, chip 0.22 at n = 1,000."""
    read = 0.0038**2 * 1000 / n
    return st.Comparison(n, 3, 20, 0.88, 0.88, 0.0, 0.0027**2 * 1000, 0.0022**2 + read, read, 0.0)


def test_power_and_planning_give_the_numbers_of_the_study():
    chances = [float(st.chance_to_agree(spread_of_the_study(n), 0.01, 1.645, images=n)) for n in (500, 1000, 2000)]
    assert chances == pytest.approx([0.48, 0.85, 0.97], abs=0.07)
    c = spread_of_the_study(1000)
    enough = st.images_enough(c, 0.01, 1.645)
    assert enough is not None
    around = st.chance_to_agree(c, 0.01, 1.645, images=[enough - 1, enough])
    assert around[0] < 0.9 <= around[1]
    limits = st.look_limits((1000,), 20)
    assert st.smallest_gap(c, limits) == pytest.approx((2.093 + 1.645) * (c.chip_variance * 1.05) ** 0.5, rel=1e-3)


def test_no_number_of_images_is_enough_when_the_readback_is_too_coarse():
    coarse = st.Comparison(1000, 3, 20, 0.88, 0.88, 0.0, 0.007, 0.008**2, 0.002**2, 0.0)
    assert st.images_enough(coarse, 0.01, 1.645) is None
    assert float(st.chance_to_agree(coarse, 0.001, 1.645, images=1000)) == 0.0


def test_chance_to_agree_falls_with_the_gap():
    c = spread_of_the_study(1000)
    chances = [float(st.chance_to_agree(c, 0.01, 1.645, images=1000, gap=g)) for g in (0.0, 0.004, 0.01)]
    assert chances[0] > chances[1] > chances[2]


def test_discordance_counts_pairs():
    y, v = np.array([[1, 1, 0], [1, 0, 0]]), np.array([[1, 1, 1]])
    assert st.discordance(y, v) == pytest.approx((0 + 0.5 + 1) / 3)
    assert st.repeat_discordance(y) == pytest.approx(1 / 3)
    assert st.repeat_discordance(y[:1]) is None


def test_mcnemar_is_the_exact_binomial_test_of_majorities():
    y, v = np.zeros((3, 20)), np.zeros((5, 20))
    y[:2, :9] = 1  # two of three repeats: right
    v[:3, 9:11] = 1
    found = st.mcnemar(y, v)
    assert (found.chip_only, found.simulator_only) == (9, 2)
    assert found.p_value == pytest.approx(2 * stats.binom.cdf(2, 11, 0.5))
    assert st.mcnemar(y, y).p_value == 1.0


def test_a_falling_accuracy_is_seen_as_a_trend_and_noise_is_not():
    rng = np.random.default_rng(3)
    chance = np.array([0.95, 0.92, 0.89])[:, None]
    falling = st.repeat_trend(rng.random((3, 2000)) < chance)
    assert falling is not None
    assert falling.seen
    assert falling.per_repeat == pytest.approx(-0.03, abs=0.01)
    steady = [st.repeat_trend(rng.random((3, 500)) < 0.9) for _ in range(200)]
    assert sum(t is not None and t.seen for t in steady) <= 8
    assert st.repeat_trend(np.ones((1, 10))) is None
