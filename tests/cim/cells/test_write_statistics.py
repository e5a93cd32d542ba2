"""Statistics of writing: shares of cells that reached their window, with their intervals, by level."""

from __future__ import annotations

import numpy as np
import pytest

from cim.cells.write_statistics import WriteStatistics, write_statistics

LEVELS = np.linspace(2.0, 40.0, 8)


def test_the_wilson_interval_has_its_known_value() -> None:
    points = np.array([0.5])
    s = WriteStatistics(np.array([1.0]), np.array([1000]), np.array([994]), points, np.ones((1, 1)))
    low, high = s.success_interval()
    assert (low[0], high[0]) == pytest.approx((0.98697, 0.99725), abs=1e-5)


def test_a_level_without_cells_says_nothing() -> None:
    s = write_statistics(np.array([2.0, np.nan]), np.array([True, True]), np.array([3, 4]), LEVELS)
    assert s.cells.sum() == 1
    assert np.isnan(s.success[1])
    assert (s.success_interval()[0][1], s.success_interval()[1][1]) == (0.0, 1.0)


def test_more_cells_reached_than_written_is_refused() -> None:
    with pytest.raises(ValueError, match="more cells"):
        WriteStatistics(np.array([1.0]), np.array([1]), np.array([2]), np.array([0.5]), np.ones((1, 1)))
