"""The device model on measured RRAM cells that it has not seen: left out by name without HIL_DATA."""

from __future__ import annotations

import os

import numpy as np
import pytest

from cim.cells.history import CellHistory
from cim.cells.read_noise import ReadNoise
from cim.fit.aged_readings import Readings

from ...scripts import benchmark

STUDY = benchmark("device_fit")
fitted, distance, gaussian = STUDY.fitted, STUDY.ks, STUDY.gaussian_bins


def measured(name: str) -> Readings:
    """Cells of a public set by age; skips the test that asks where there are no data."""
    if not os.environ.get("HIL_DATA"):
        pytest.skip(f"HIL_DATA not set: {name} is not here")
    cells: Readings = STUDY.measured(name, os.environ["HIL_DATA"])
    return cells


def at(cells: Readings, age_s: float) -> int:
    return int(np.argmin(np.abs(np.log(cells.ages_s / age_s))))


def test_cells_at_odd_addresses_follow_the_law_of_the_even_ones_at_every_age() -> None:
    cells = measured("levy-tech-c")
    odd = cells.cells % 2 == 1
    seen, test = cells.of(~odd), cells.of(odd)
    law = fitted(seen)
    assert len(law.ages_s) < len(cells.ages_s)
    for age_s in (0.01, 0.1, 1.0, 1e5):
        found = distance(law, test, at(cells, age_s))
        assert found <= 0.02, f"{age_s} s: {found:.4f}"
        assert found < 0.5 * gaussian(seen, test, at(cells, age_s))


@pytest.mark.parametrize(("name", "ages_s"), [("levy-tech-b", [1e4]), ("ember-1", [1e4, 1e5]), ("ember-2", [1e4, 1e5])])
def test_a_law_fitted_up_to_1000_s_predicts_later_ages_better_than_a_gaussian(name: str, ages_s: list[float]) -> None:
    cells = measured(name)
    early = cells.until(STUDY.UNTIL_S)
    law = fitted(early)
    assert law.ages_s[-1] < STUDY.UNTIL_S
    for age_s in ages_s:
        age = at(cells, age_s)
        assert age >= len(early.ages_s)
        assert distance(law, cells, age) < 0.75 * gaussian(early, cells, age, len(early.ages_s))


def test_a_cell_that_moved_early_moves_later_as_often_as_measured_ones_do() -> None:
    cells = measured("levy-tech-c")
    law = fitted(cells)
    first, last = at(cells, 1.0), at(cells, 1e5)
    errors = cells.readings_us - cells.targets_us
    array = CellHistory(cells.targets_us, law, np.random.default_rng(0))
    simulated = np.stack([array.read(float(cells.ages_s[a])) for a in (first, last)]) - cells.targets_us
    real = np.corrcoef(errors[first], errors[last])[0, 1]
    assert real == pytest.approx(0.35, abs=0.01)
    assert np.corrcoef(*simulated)[0, 1] == pytest.approx(real, abs=0.05)


def test_a_law_does_not_transfer_to_another_chip_for_free_and_a_short_recalibration_helps() -> None:
    law, second = fitted(measured("ember-1")), measured("ember-2")
    words = second.cells // 16
    some = np.isin(words, np.random.default_rng(0).choice(np.unique(words), 50, replace=False))
    part, rest = second.of(some).until(STUDY.UNTIL_S), second.of(~some)
    moved = STUDY.recalibrate(
        law,
        part.targets_us,
        part.readings_us,
        ages_s=part.ages_s.tolist(),
        reads=[1] * len(part.ages_s),
        read_noise=ReadNoise(law.levels_us, 0.0 * law.levels_us, 0.0 * law.levels_us),
        rounding_us=part.step,
    )
    age = at(second, 1e5)
    assert distance(law, rest, age) > 0.1
    assert distance(moved, rest, age) < 0.6 * distance(law, rest, age)
