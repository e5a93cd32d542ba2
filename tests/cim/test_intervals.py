"""Intervals: of shares, of means, of one more of a few; one file that all rooms call."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cim.intervals import mean_interval, one_more_half_width, wilson


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998) 857, Table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_those_of_newcombes_table(right: float, n: int, low: float, high: float) -> None:
    assert wilson(right, n) == pytest.approx((low, high), abs=6e-5)


def test_wilson_takes_means_over_repeats_and_refuses_impossible_shares() -> None:
    assert wilson(4.5, 10)[0] < 0.45 < wilson(4.5, 10)[1]
    with pytest.raises(ValueError, match="11 of 10"):
        wilson(11, 10)


def test_the_interval_of_a_mean_is_students() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 12)
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert mean_interval(values) == pytest.approx(expected)


def test_one_more_chip_lies_within_its_interval_in_nineteen_of_twenty_times() -> None:
    chips = np.random.default_rng(2).normal(0.9, 0.01, (20_000, 21))
    seen, more = chips[:, :20], chips[:, 20]
    half = one_more_half_width(20) * seen.std(axis=1, ddof=1)
    assert (np.abs(more - seen.mean(axis=1)) < half).mean() == pytest.approx(0.95, abs=0.006)
    assert one_more_half_width(20, 0.5) == pytest.approx(1.072, abs=1e-3)
