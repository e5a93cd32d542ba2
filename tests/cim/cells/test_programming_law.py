"""The law of programming errors: its distributions, its interpolation, its fit, its memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.integrate import quad

from cim.cells.laws.mixture import MIXTURE
from cim.cells.laws.registry import tails
from cim.cells.laws.student import STUDENT
from cim.cells.laws.tail import Tail
from cim.cells.programming_law import Law, ProgrammingLaw, law_at, redraw_law, time_weights
from cim.cells.read_noise import ReadNoise
from cim.cells.tails import log_density
from cim.cells.write_statistics import WriteStatistics, write_statistics
from cim.fit.programming import choose_knots, fit_programming, programming_distance

from ...scripts import benchmark

LEVELS = np.array([2.0, 10.0, 20.0, 30.0, 38.0])
AGES = np.array([1.0, 1e2, 1e4])
QUIET = ReadNoise(LEVELS, np.zeros(5), np.zeros(5))


def one(tail: Tail, skew: float = 0.25, df: float = 2.5) -> Law:
    return Law(np.array(0.2), np.array(1.3), np.array(df), tail, np.array(0.3), 4.0, np.array(skew))


def table(tail: Tail = STUDENT, fresh: float = 0.0) -> ProgrammingLaw:
    """Loc falls by 0.25 µS and scale² grows by 0.5 µS² a decade; all else the same everywhere."""
    ones = np.ones((3, 5))
    decades = np.log10(AGES)[:, None]
    zeros = 0.0 * ones
    return ProgrammingLaw(
        AGES, LEVELS, -0.3 * ones - 0.25 * decades, np.sqrt(1.0 + 0.5 * decades) * ones, 3.0 * ones,
        zeros, zeros, zeros, 0.0, 0.0, 0.0, np.zeros(0),
        tail=tail, skew=-0.2 * ones, wide_share=0.3 * ones, wide_ratio=3.0, memory_fresh_share=fresh,
    )  # fmt: skip


def cells(law: ProgrammingLaw, ages: list[float], n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Targets (n,) and conductances (ages, n) with the law's memory, by a path of its own making."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(LEVELS, n)
    clock = law.clock(np.array(ages))
    walk = np.cumsum(rng.standard_normal((len(ages), n)) * np.sqrt(np.diff(clock, prepend=0.0))[:, None], 0)
    kept = walk / np.sqrt(clock)[:, None]
    fresh = law.memory_fresh_share
    z = np.sqrt(1 - fresh) * kept + np.sqrt(fresh) * rng.standard_normal(kept.shape)
    return targets, np.stack([targets + law_at(law, targets, a).quantile(z[i]) for i, a in enumerate(ages)])


@pytest.mark.parametrize("tail", tails())
def test_density_probability_quantile_and_draws_of_one_law_agree(tail: Tail) -> None:
    law = one(tail)
    values = np.array([0.2, np.log(1.3), 0.25, np.log(2.5), np.log(0.3 / 0.7)])

    def density(x: float) -> float:
        return float(np.exp(log_density(np.array(x), values, np.log(4.0), tail)[0]))

    below = sum(quad(density, *ends, limit=200)[0] for ends in ((-np.inf, 0.2), (0.2, 1.5)))
    assert law.cdf(np.array(1.5)) == pytest.approx(below, abs=1e-6)
    z = np.linspace(-4, 4, 41)
    np.testing.assert_allclose(law.score(law.quantile(z)), z, atol=1e-6)
    np.testing.assert_allclose(law.cdf(law.quantile(z)), stats.norm.cdf(z), atol=1e-8)
    drawn = law.draw((20000,), np.random.default_rng(1))
    assert stats.kstest(law.cdf(drawn), "uniform").pvalue > 0.001


@pytest.mark.parametrize("tail", tails())
def test_slopes_of_the_density_are_its_differences(tail: Tail) -> None:
    x = np.random.default_rng(0).normal(0, 3, 40)
    at = np.array([0.2, 0.3, 0.25, np.log(2.5), -0.7, np.log(4.0)])
    _, slopes = log_density(x, at[:5, None], at[5], tail)
    for k in range(6):
        up, down = at + 1e-6 * np.eye(6)[k], at - 1e-6 * np.eye(6)[k]
        difference = log_density(x, up[:5, None], up[5], tail)[0] - log_density(x, down[:5, None], down[5], tail)[0]
        np.testing.assert_allclose(slopes[k], difference / 2e-6, atol=1e-6)


def test_a_law_without_skew_is_plain_student_and_one_with_many_degrees_is_normal() -> None:
    x = np.linspace(-6, 6, 25)
    np.testing.assert_allclose(one(STUDENT, 0.0).cdf(x), stats.t(2.5, 0.2, 1.3).cdf(x), atol=1e-9)
    np.testing.assert_allclose(one(STUDENT, 0.0, 1e9).cdf(x), stats.norm(0.2, 1.3).cdf(x), atol=1e-6)
    mixed = 0.7 * stats.norm(0.2, 1.3).cdf(x) + 0.3 * stats.norm(0.2, 5.2).cdf(x)
    np.testing.assert_allclose(one(MIXTURE, 0.0).cdf(x), mixed, atol=1e-9)
    above = 1.0 - one(STUDENT, np.log(1.2)).cdf(np.array(0.2))
    assert above == pytest.approx(1.44 / 2.44)  # the example of cim.cells.tails: 59 %


def test_precision_of_student_cells_is_the_weight_of_iterated_least_squares() -> None:
    law = replace(one(STUDENT, skew=0.0), loc_us=np.array(0.0), scale_us=np.array(1.0))
    assert law.precision(np.array(3.0)) == pytest.approx(3.5 / 11.5)


def test_between_ages_the_law_is_a_walk_in_log_time_and_beyond_them_it_goes_on() -> None:
    law = table()
    for age in (1.0, 10.0, 1e3, 1e4, 1e6):
        here = law_at(law, LEVELS, age)
        np.testing.assert_allclose(here.loc_us, -0.3 - 0.25 * np.log10(age), atol=1e-9)
        np.testing.assert_allclose(here.scale_us**2, 1.0 + 0.5 * np.log10(age), atol=1e-9)
    np.testing.assert_allclose(law_at(law, LEVELS, 0.01).loc_us, -0.3)


def test_every_cell_of_a_map_has_the_law_of_its_own_target() -> None:
    law = replace(table(), loc_us=np.sin(LEVELS / 8.0) * np.ones((3, 1)))
    targets = np.random.default_rng(0).choice([1.0, 2.0, 7.5, 10.0, 38.0, 60.0], (6, 5))
    here = law_at(law, targets, 50.0)
    for place, target in np.ndenumerate(targets):
        alone = law_at(law, np.array([target]), 50.0)
        assert here.loc_us[place] == pytest.approx(alone.loc_us[0], rel=1e-12)
        assert here.scale_us[place] == pytest.approx(alone.scale_us[0], rel=1e-12)


def test_a_scale_that_seems_to_shrink_is_not_carried_on_below_its_last_value() -> None:
    law = table()
    law = replace(law, scale_us=law.scale_us[::-1])
    np.testing.assert_allclose(law_at(law, LEVELS, 1e9).scale_us, law.scale_us[-1])


def test_a_short_last_stretch_does_not_set_the_slope_beyond() -> None:
    np.testing.assert_allclose(time_weights(np.array([1.0, 1e3, 2e3]), 1e4), [-0.21, 0, 1.21], atol=0.01)
    np.testing.assert_allclose(time_weights(np.array([1.0, 1e3, 2e3]), 1e1), [2 / 3, 1 / 3, 0], atol=1e-9)
    np.testing.assert_allclose(time_weights(np.array([5.0]), 1e4), [1.0])


def test_between_levels_the_law_is_smooth_and_goes_through_its_table() -> None:
    law = replace(table(), loc_us=np.sin(LEVELS / 8.0) * np.ones((3, 1)))
    np.testing.assert_allclose(law_at(law, LEVELS, 1.0).loc_us, np.sin(LEVELS / 8.0), atol=1e-12)
    fine = np.linspace(2, 38, 500)
    bends = np.diff(law_at(law, fine, 1.0).loc_us, 2)
    assert np.abs(np.diff(bends)).max() < 0.05 * np.abs(bends).max()  # no kink at a level
    assert law_at(law, np.array([-3.0, 99.0]), 1.0).loc_us == pytest.approx(np.sin(LEVELS[[0, -1]] / 8.0))


@pytest.mark.parametrize("tail", tails())
def test_the_fit_finds_the_law_that_made_the_cells_within_its_errors(tail: Tail) -> None:
    law, ages = table(tail), [1.0, 10.0, 100.0, 1e3, 1e4]
    scores = []
    for seed in range(3):
        targets, readings = cells(law, ages, 6000, seed)
        found = fit_programming(
            targets, readings, np.zeros(6000, np.int8), ages_s=ages, reads=[1] * 5, levels_us=LEVELS,
            read_noise=QUIET, knots_s=AGES.tolist(), tail=tail,
        )  # fmt: skip
        scores += [((found.loc_us - law.loc_us) / found.loc_se_us).ravel()]
        scores += [((found.scale_us - law.scale_us) / found.scale_se_us).ravel()]
        scores += [((found.skew - law.skew) / found.skew_se).ravel()]
    flat = np.concatenate(scores)
    assert abs(flat.mean()) < 0.35
    assert 0.7 < flat.std() < 1.3


def test_the_likelihood_of_held_out_cells_chooses_the_tail_that_made_them() -> None:
    for tail in (STUDENT, MIXTURE):
        targets, readings = cells(table(tail), [1.0, 1e4], 20000, 4)
        found = fit_programming(
            targets, readings, np.zeros(20000, np.int8), ages_s=[1.0, 1e4], reads=[1, 1], levels_us=LEVELS,
            read_noise=QUIET,
        )  # fmt: skip
        assert (found.tail is MIXTURE) == (tail is MIXTURE)


def test_reading_noise_is_taken_out_and_memory_is_found() -> None:
    law, ages = table(), [1.0, 10.0, 100.0, 1e3, 1e4]
    targets, true = cells(law, ages, 20000, 5)
    noise = ReadNoise(LEVELS, np.full(5, 1.7), np.zeros(5))
    readings = true + np.random.default_rng(6).normal(0, np.sqrt(1.7 / 4), true.shape)
    found = fit_programming(
        targets, readings, np.zeros(20000, np.int8), ages_s=ages, reads=[4] * 5, levels_us=LEVELS, read_noise=noise
    )
    assert found.memory_fresh_share == 0.0
    for early, late in ((1.0, 1e4), (10.0, 1e3)):
        assert found.correlation(early, late) == pytest.approx(law.correlation(early, late), abs=0.04)
    assert programming_distance(found, targets, true[2], age_s=100.0, reads=1, read_noise=QUIET) < 0.015


def test_without_known_noise_the_part_new_at_every_read_is_found() -> None:
    law, ages = table(fresh=0.2), [1.0, 10.0, 100.0, 1e3, 1e4]
    targets, readings = cells(law, ages, 20000, 7)
    found = fit_programming(
        targets, readings, np.zeros(20000, np.int8), ages_s=ages, reads=[1] * 5, levels_us=LEVELS, read_noise=QUIET
    )
    assert found.memory_fresh_share == pytest.approx(0.2, abs=0.04)
    assert found.correlation(1.0, 1e4) == pytest.approx(law.correlation(1.0, 1e4), abs=0.02)


def test_rounded_readings_are_taken_for_what_they_may_have_been() -> None:
    law = replace(table(), scale_us=0.4 * table().scale_us)
    targets, true = cells(law, [1.0, 1e4], 20000, 8)
    rounded = targets + np.round(true - targets)
    found = fit_programming(
        targets, rounded, np.zeros(20000, np.int8), ages_s=[1.0, 1e4], reads=[1, 1], levels_us=LEVELS,
        read_noise=QUIET, tail=STUDENT, rounding_us=1.0,
    )  # fmt: skip
    np.testing.assert_allclose(found.scale_us / law.scale_us[[0, 2]], 1.0, atol=0.12)
    naive, fair = (
        programming_distance(found, targets, rounded[0], age_s=1.0, reads=1, read_noise=QUIET, rounding_us=step)
        for step in (0.0, 1.0)
    )
    assert fair < 0.01 < naive


def test_a_virtual_chip_moves_means_less_than_loc_and_skew_alone_would() -> None:
    """loc and skew are fitted with opposite errors; a redrawn law keeps that."""
    targets, readings = cells(table(), [1.0, 1e4], 4000, 9)
    law = fit_programming(
        targets, readings, np.zeros(4000, np.int8), ages_s=[1.0, 1e4], reads=[1, 1], levels_us=LEVELS,
        read_noise=QUIET, tail=STUDENT,
    )  # fmt: skip
    drawn = [redraw_law(law, np.random.default_rng(s)) for s in range(200)]
    apart = [redraw_law(replace(law, covariance=np.zeros((0, 0))), np.random.default_rng(s)) for s in range(200)]
    together, independent = (
        np.std([law_at(d, LEVELS, 1.0).quantile(np.zeros(5)) for d in laws], 0).mean() for laws in (drawn, apart)
    )
    assert np.std([d.loc_us for d in drawn], 0) == pytest.approx(law.loc_se_us, rel=0.25)
    assert together < 0.8 * independent


def test_knots_are_few_and_apart() -> None:
    assert choose_knots([0.01, 0.1, 1.0, 4.0, 1e5]) == [0.01, 0.1, 1.0, 1e5]
    assert choose_knots([1.0, 3600.0]) == [1.0, 3600.0]
    assert choose_knots([1.0]) == [1.0]
    assert choose_knots([1.0, 2.0, 4.0]) == [1.0, 4.0]
    assert choose_knots([1.0, 10.0, 20.0]) == [1.0, 20.0]
    many = choose_knots(np.geomspace(1e-3, 1e6, 10).tolist())
    assert (len(many), many[0], many[-1]) == (6, 1e-3, 1e6)


def test_a_short_recalibration_moves_a_law_to_another_chip() -> None:
    law = table()
    other = replace(law, loc_us=0.5 + 1.5 * law.loc_us, scale_us=1.3 * law.scale_us)
    targets, readings = cells(other, [1.0, 100.0], 1500, 10)
    moved = benchmark("device_fit").recalibrate(
        law, targets, readings, ages_s=[1.0, 100.0], reads=[1, 1], read_noise=QUIET
    )
    new_targets, later = cells(other, [1e4], 8000, 11)
    before, after = (
        programming_distance(which, new_targets, later[0], age_s=1e4, reads=1, read_noise=QUIET)
        for which in (law, moved)
    )
    assert after < 0.04 < 0.08 < before


def test_a_law_refuses_tables_of_another_shape_and_impossible_memory() -> None:
    for wrong in ({"skew": np.zeros((1, 5))}, {"wide_share": np.ones((3, 5))}, {"memory_fresh_share": 1.0},
                  {"memory_origin_s": 0.0}, {"covariance": np.eye(3)}):  # fmt: skip
        with pytest.raises(ValueError, match="programming law"):
            replace(table(), **wrong)


def test_memory_has_the_correlation_of_its_example() -> None:
    law = replace(table(), memory_origin_s=1e-3, memory_power=1.0, memory_fresh_share=0.16)
    assert law.correlation(1.0, 1e5) == pytest.approx(0.315)
    assert law.correlation(1e5, 1.0) == pytest.approx(0.315)


SPACED_US = np.linspace(2.0, 40.0, 8)


def test_the_wilson_interval_has_its_known_value() -> None:
    points = np.array([0.5])
    s = WriteStatistics(np.array([1.0]), np.array([1000]), np.array([994]), points, np.ones((1, 1)))
    low, high = s.success_interval()
    assert (low[0], high[0]) == pytest.approx((0.98697, 0.99725), abs=1e-5)


def test_a_level_without_cells_says_nothing() -> None:
    s = write_statistics(np.array([2.0, np.nan]), np.array([True, True]), np.array([3, 4]), SPACED_US)
    assert s.cells.sum() == 1
    assert (s.success_interval()[0][1], s.success_interval()[1][1]) == (0.0, 1.0)


def test_more_cells_reached_than_written_is_refused() -> None:
    with pytest.raises(ValueError, match="more cells"):
        WriteStatistics(np.array([1.0]), np.array([1]), np.array([2]), np.array([0.5]), np.ones((1, 1)))
